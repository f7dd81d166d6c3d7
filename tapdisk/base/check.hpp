// SPDX-License-Identifier: GPL-2.0-only
//
// An assertion that stays on in production: a programmer's error stops the process before it
// can reach the guest's data.
#pragma once

namespace tapdisk {

[[noreturn]] void check_failed(const char* file, int line) noexcept;

// The place of the call is found by the compiler.
inline void check(bool condition, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) noexcept {
  if (!condition) [[unlikely]] check_failed(file, line);
}

}  // namespace tapdisk
