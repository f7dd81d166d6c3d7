// SPDX-License-Identifier: GPL-2.0-only
//
// How large a disk is, in sectors of 512 B. It may grow while data threads look at it.
#pragma once

#include <atomic>
#include <cstdint>

namespace tapdisk {

class Capacity {
 public:
  Capacity(std::uint64_t sectors = 0) noexcept : sectors_(sectors) {}
  Capacity(const Capacity& other) noexcept : sectors_(std::uint64_t{other}) {}
  Capacity& operator=(const Capacity& other) noexcept {
    if (this != &other) sectors_.store(other, std::memory_order_relaxed);
    return *this;
  }
  ~Capacity() = default;

  operator std::uint64_t() const noexcept { return sectors_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> sectors_;
};

}  // namespace tapdisk
