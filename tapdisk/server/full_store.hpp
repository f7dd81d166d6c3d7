// SPDX-License-Identifier: GPL-2.0-only
//
// What becomes of writes for which the store has no room: they fail, or wait until it has some. One
// for all queues of an image, for any thread.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>
#include <utility>

#include "base/limits.hpp"

namespace tapdisk {

enum class WhenFull {
  kReport,  // the guest is told
  kHold,    // the guest waits
};

class FullStore {
 public:
  using Clock = std::chrono::steady_clock;
  using Write = void (*)(const std::string& line);

  // `path` names the image. `write` gets finished lines. `period`: how often what waits is tried.
  FullStore(std::string path, WhenFull when, Write write,
            std::chrono::milliseconds period = std::chrono::milliseconds{kFullPeriodMs})
      : path_(std::move(path)), when_(when), write_(write), period_(period) {}

  // Whether a write that ended with `result` is to wait.
  bool holds(int result) const noexcept {
    return when_ == WhenFull::kHold && (result == -ENOSPC || result == -EDQUOT);
  }

  std::chrono::milliseconds period() const noexcept { return period_; }

  // One more write waits, or one fewer.
  void waits(Clock::time_point now);
  void goes_on(Clock::time_point now);

  std::size_t waiting() const;

 private:
  const std::string path_;
  const WhenFull when_;
  const Write write_;
  const std::chrono::milliseconds period_;
  mutable std::mutex mutex_;  // taken only where there is no room
  std::size_t waiting_ = 0;
  Clock::time_point since_{};
};

}  // namespace tapdisk
