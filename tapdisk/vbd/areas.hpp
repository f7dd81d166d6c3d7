// SPDX-License-Identifier: GPL-2.0-only
//
// The shared areas of one vbd, and the reading and writing of what lies in them. Makes no system
// calls: the areas may be the module's or a test's.
#pragma once

#include <array>
#include <cstdint>

#include "base/limits.hpp"
#include "base/result.hpp"
#include "ring/blktap_abi.h"
#include "ring/ring.h"
#include "vbd/request.hpp"

namespace tapdisk {

// Where the areas lie in this process.
struct AreaPointers {
  const std::byte* descriptors = nullptr;
  std::byte* commands = nullptr;
  std::byte* window_rw = nullptr;
  std::byte* window_ro = nullptr;
};

// Whether the layout that the module answered to an attach keeps within the bounds of the ABI,
// so that no position computed from it lies outside an area.
bool layout_is_sound(const blktap_attach& attach) noexcept;

class Areas {
 public:
  // `attach` is sound.
  Areas(const blktap_attach& attach, const AreaPointers& pointers) noexcept;

  // Takes the next announced request. The descriptor is copied once, and the copy is judged; one
  // that breaks the ABI is an error, because the slot it is about cannot be trusted either.
  Result<bool> next(Request& request) noexcept;

  // Writes a COMPLETE command and publishes it.
  void reply(const Reply& reply) noexcept;

  std::uint32_t state() const noexcept;

 private:
  bool parse(const blktap_req& req, Request& request) noexcept;
  bool gather(const blktap_req& req, Request& request) noexcept;

  blktap_attach attach_;
  AreaPointers at_;
  ring_consumer requests_;
  std::uint32_t produced_ = 0;  // commands
  // The ranges of each slot's data: contiguous segments are one range.
  std::array<std::array<iovec, kSegsMax>, kSlotsMax> ranges_{};
};

}  // namespace tapdisk
