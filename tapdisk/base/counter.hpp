// SPDX-License-Identifier: GPL-2.0-only
//
// A number that one thread counts up and any thread may read. No locked instruction: with a
// single writer a plain load and store do.
#pragma once

#include <atomic>
#include <cstdint>

namespace tapdisk {

class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace tapdisk
