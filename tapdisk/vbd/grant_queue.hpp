// SPDX-License-Identifier: GPL-2.0-only
//
// Requests of a guest whose rings are mapped here, and whose data is copied by its grants. All of
// its rings are one queue: they share the slots and the memory for data.
#pragma once

#include <array>
#include <vector>

#include "base/limits.hpp"
#include "base/static_vector.hpp"
#include "ring/blkif_decode.h"
#include "vbd/grant_copies.hpp"
#include "vbd/grant_pool.hpp"
#include "vbd/guest_ring.hpp"
#include "vbd/request.hpp"
#include "vbd/source.hpp"

namespace tapdisk {

class GrantQueue {
 public:
  // `grants` and `disk` outlive the queue; the disk may grow.
  GrantQueue(xengntdev_handle* grants, PagePool pool, const blkif_disk& disk,
             SourceCounters& counters) noexcept;

  void connect(std::uint32_t domain, std::vector<GuestRing> rings) noexcept;
  // Requests that are under way get no answer any more.
  void disconnect() noexcept;
  bool idle() const noexcept { return in_use_ == 0; }

  // Takes what is on the rings. False: whoever asks next sends an event. The error is that of a
  // ring that must not be read any more.
  Result<bool> take() noexcept;
  bool next(Request& request) noexcept;
  bool has_next() const noexcept { return !ready_.empty(); }

  void reply(const Reply& reply) noexcept { replies_.push_back(reply); }
  bool has_replies() const noexcept { return !replies_.empty(); }
  // Gives the guest its data and its answers.
  void hand_over() noexcept;

 private:
  // A request from its arrival to its answer.
  struct Taken {
    blkif_request request;
    std::uint16_t ring = 0;
    std::uint16_t connection = 0;  // the one it came by: there may be another by now
    std::uint16_t first = 0;       // of its run of pages, and of segments
    iovec data{};
  };
  using Slots = StaticVector<Slot, kSlotsMax>;

  Result<bool> take_round() noexcept;
  bool take_one(unsigned number, Slots& fresh) noexcept;
  void fetch_data(const Slots& fresh) noexcept;
  void add_copies(Slot slot) noexcept;
  void refuse(GuestRing& ring, const blkif_request& request, std::int16_t status) noexcept;
  void release(Slot slot) noexcept;

  xengntdev_handle* grants_;
  PagePool pool_;
  const blkif_disk& disk_;
  SourceCounters& counters_;
  std::uint32_t domain_ = 0;
  std::vector<GuestRing> rings_;
  std::uint16_t connection_ = 0;
  unsigned first_ring_ = 0;  // which is looked at first
  bool starved_ = false;     // of slots or of pages
  unsigned in_use_ = 0;      // slots
  std::array<Taken, kSlotsMax> taken_;
  std::array<blkif_segment, kPagesMax> segments_;
  StaticQueue<Slot, kSlotsMax> free_;
  StaticQueue<Slot, kSlotsMax> ready_;
  StaticVector<Reply, kSlotsMax> replies_;
  GrantCopies copies_;
};

}  // namespace tapdisk
