// SPDX-License-Identifier: GPL-2.0-only
#include "server/full_store.hpp"

#include <fmt/format.h>

namespace tapdisk {

void FullStore::waits(Clock::time_point now) {
  const std::lock_guard lock{mutex_};
  if (waiting_++) return;
  since_ = now;
  write_(fmt::format("{}: its storage is full: what the guest writes waits until there is room, or "
                     "for tap-ctl give-up", path_));
}

void FullStore::goes_on(Clock::time_point now) {
  const std::lock_guard lock{mutex_};
  if (--waiting_) return;
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now - since_);
  write_(fmt::format("{}: no write waits for room any more, after {} s", path_, seconds.count()));
}

std::size_t FullStore::waiting() const {
  const std::lock_guard lock{mutex_};
  return waiting_;
}

}  // namespace tapdisk
