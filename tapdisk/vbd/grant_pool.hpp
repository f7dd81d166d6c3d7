// SPDX-License-Identifier: GPL-2.0-only
//
// Memory for the data of requests that is copied: pages, of which each request has a run.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <utility>

#include "base/limits.hpp"
#include "base/resource.hpp"
#include "base/result.hpp"
#include "ring/types.h"

namespace tapdisk {

class PagePool {
 public:
  static Result<PagePool> make() {
    // Pages are there when they are first used; those that were used are used first.
    void* const base = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return system_error("memory for the guest's data", errno);
    return PagePool{Mapping{base, kBytes}};
  }

  // The first page of the lowest run that is free; any for a run of none. Nothing: there is none.
  std::optional<unsigned> take(unsigned count) noexcept {
    if (count == 0) return 0;
    unsigned free = 0;
    for (unsigned page = 0; page < kPagesMax; page++) {
      free = taken_[page] ? 0 : free + 1;
      if (free < count) continue;
      const unsigned first = page + 1 - count;
      std::fill_n(taken_.begin() + first, count, true);
      return first;
    }
    return std::nullopt;
  }
  void give_back(unsigned first, unsigned count) noexcept {
    std::fill_n(taken_.begin() + first, count, false);
  }
  std::byte* at(unsigned page) const noexcept {
    return memory_.at(std::size_t{page} * RING_PAGE_SIZE);
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{kPagesMax} * RING_PAGE_SIZE;
  explicit PagePool(Mapping memory) noexcept : memory_(std::move(memory)) {}

  Mapping memory_;
  std::array<bool, kPagesMax> taken_{};
};

}  // namespace tapdisk
