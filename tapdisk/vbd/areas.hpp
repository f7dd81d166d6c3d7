// SPDX-License-Identifier: GPL-2.0-only
//
// The shared areas of one queue, and the reading and writing of what lies in them. Makes no system
// calls: the areas may be the module's or a test's.
#pragma once

#include <array>
#include <cstdint>

#include "base/capacity.hpp"
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
  std::byte* copies = nullptr;  // `pages` of the layout; null: nothing is copied
};

// Whether the layout that the module answered to an attach keeps within the bounds of the ABI,
// so that no position computed from it lies outside an area.
bool layout_is_sound(const blktap_attach& attach) noexcept;

class Areas {
 public:
  // `attach` is sound; `capacity`, of the disk, outlives this and may grow.
  Areas(const blktap_attach& attach, const AreaPointers& pointers,
        const Capacity& capacity) noexcept;

  // Takes the next announced request. The descriptor is copied once, and the copy is judged; one
  // that breaks the ABI is an error, because the slot it is about cannot be trusted either.
  Result<bool> next(Request& request) noexcept;

  // Writes a command and publishes it.
  void reply(const Reply& reply) noexcept;

  std::uint32_t state() const noexcept;

 private:
  // A run of the segment table that belongs to a slot until its reply.
  struct Run {
    std::uint16_t first = 0;
    std::uint16_t count = 0;
    bool open = false;  // announced and not answered
  };

  bool parse(const blktap_req& req, Request& request) noexcept;
  bool parse_discard(const blktap_req& req, Request& request) const noexcept;
  bool parse_data(const blktap_req& req, Request& request) noexcept;
  bool gather(const blktap_req& req, Request& request) noexcept;
  bool may_name(std::uint32_t page) const noexcept;
  std::byte* place_of(const blktap_req& req, std::uint32_t page) const noexcept;
  bool is_in_disk(std::uint64_t sector, std::uint64_t sectors) const noexcept;
  void take_run(const blktap_req& req) noexcept;
  void release_run(Slot slot) noexcept;

  blktap_attach attach_;
  AreaPointers at_;
  const Capacity& capacity_;
  ring_consumer requests_;
  std::uint32_t produced_ = 0;  // commands
  // The ranges of each request's data lie where its run of the segment table does: no two requests
  // share entries, and no run has more ranges than segments.
  std::array<iovec, kPagesMax> ranges_{};
  std::array<Run, kSlotsMax> runs_{};
  std::array<bool, kPagesMax> taken_{};  // entries of the runs
};

}  // namespace tapdisk
