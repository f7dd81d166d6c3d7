// SPDX-License-Identifier: GPL-2.0-only
#include "base/check.hpp"

#include <cstdlib>

#include "base/log.hpp"

namespace tapdisk {

void check_failed(const char* file, int line) noexcept {
  log::error("internal error at {}:{}", file, line);
  std::abort();
}

}  // namespace tapdisk
