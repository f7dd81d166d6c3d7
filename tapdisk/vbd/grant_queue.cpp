// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/grant_queue.hpp"

#include <cerrno>
#include <cstring>
#include <optional>

namespace tapdisk {
namespace {

// How often one call of take() looks at the rings.
constexpr int kRoundsMax = 4;

RequestVerb verb_of(const blkif_request& request) noexcept {
  switch (request.op) {
    case BLKIF_OP_READ: return RequestVerb::kRead;
    case BLKIF_OP_WRITE: return RequestVerb::kWrite;
    case BLKIF_OP_FLUSH_DISKCACHE: return RequestVerb::kFlush;
    case BLKIF_OP_WRITE_BARRIER: return RequestVerb::kBarrier;
    default: return RequestVerb::kDiscard;
  }
}

}  // namespace

GrantQueue::GrantQueue(xengntdev_handle* grants, PagePool pool, const blkif_disk& disk,
                       SourceCounters& counters) noexcept
    : grants_(grants), pool_(std::move(pool)), disk_(disk), counters_(counters) {
  for (Slot slot = 0; slot < kSlotsMax; slot++) free_.push(slot);
}

void GrantQueue::connect(std::uint32_t domain, std::vector<GuestRing> rings) noexcept {
  domain_ = domain;
  rings_ = std::move(rings);
  first_ring_ = 0;
}

void GrantQueue::disconnect() noexcept {
  rings_.clear();
  connection_++;
}

Result<bool> GrantQueue::take() noexcept {
  Result<bool> more = true;
  for (int round = 0; more && *more && round < kRoundsMax; round++) more = take_round();
  return more;
}

Result<bool> GrantQueue::take_round() noexcept {
  const auto rings = static_cast<unsigned>(rings_.size());
  starved_ = false;
  bool lied = false;
  Slots fresh;
  for (unsigned i = 0; i < rings; i++) {
    // Each is the first in its turn: what there is too little of is everybody's.
    const unsigned number = (first_ring_ + i) % rings;
    int waiting = rings_[number].waiting();
    lied |= waiting < 0;
    while (waiting-- > 0 && take_one(number, fresh)) {}
  }
  first_ring_ = rings ? (first_ring_ + 1) % rings : 0;
  fetch_data(fresh);
  if (lied) return plain_error("ring", "the frontend's request index runs past its ring", EPROTO);
  bool more = false;
  for (GuestRing& ring : rings_) {
    ring.publish();  // what was refused
    more |= ring.arm();
  }
  // Without slots or pages: the next answer gives some back, and whoever gives it looks here.
  return more && !starved_;
}

// False: there is no room for it. It stays on the ring.
bool GrantQueue::take_one(unsigned number, Slots& fresh) noexcept {
  GuestRing& ring = rings_[number];
  if (free_.empty()) {
    starved_ = true;
    return false;
  }
  blkif_entry entry;
  ring.peek(entry);
  const Slot slot = free_.pop();
  Taken& taken = taken_[slot];
  const blkif_verdict verdict = blkif_decode(&taken.request, &ring.abi(), &entry, &disk_);
  if (verdict != BLKIF_VALID) {
    free_.push(slot);
    ring.skip();
    refuse(ring, taken.request, blkif_refusal(verdict));
    return true;
  }
  const std::optional<unsigned> first = pool_.take(taken.request.nr_segs);
  if (!first) {
    starved_ = true;
    free_.push(slot);
    return false;
  }
  ring.skip();
  taken.ring = static_cast<std::uint16_t>(number);
  taken.connection = connection_;
  taken.first = static_cast<std::uint16_t>(*first);
  if (!taken.request.indirect)
    std::memcpy(&segments_[*first], blkif_direct_segments(&ring.abi(), &entry),
                taken.request.nr_segs * sizeof(blkif_wire_segment));
  in_use_++;
  fresh.push_back(slot);
  return true;
}

void GrantQueue::refuse(GuestRing& ring, const blkif_request& request,
                        std::int16_t status) noexcept {
  counters_.refused.add();
  ring.answer(request.id, request.op, status);
}

// Takes private copies of segments that are in pages of their own, judges all, and copies what is
// to be written. One call for each of the two, whatever there is.
void GrantQueue::fetch_data(const Slots& fresh) noexcept {
  std::array<std::int16_t, kSlotsMax> status{};
  const auto failed = [&](Slot slot) { status[slot] = BLKIF_RSP_ERROR; };
  for (const Slot slot : fresh) {
    const Taken& taken = taken_[slot];
    if (!taken.request.indirect) continue;
    const auto bytes = taken.request.nr_segs * sizeof(blkif_wire_segment);
    copies_.add_in(slot, GuestData{domain_, taken.request.descriptors, 0},
                   &segments_[taken.first], static_cast<std::uint16_t>(bytes));
  }
  copies_.carry_out(grants_, failed);

  for (const Slot slot : fresh) {
    if (status[slot]) continue;
    Taken& taken = taken_[slot];
    blkif_segment* const segments = &segments_[taken.first];
    const blkif_verdict verdict = blkif_decode_segments(&taken.request, segments, segments, &disk_);
    if (verdict != BLKIF_VALID) status[slot] = blkif_refusal(verdict);
    else if (blkif_op_writes(taken.request.op)) add_copies(slot);
  }
  counters_.bytes_copied.add(copies_.carry_out(grants_, failed));

  for (const Slot slot : fresh) {
    if (status[slot] == BLKIF_RSP_OKAY) {
      ready_.push(slot);
    } else {
      refuse(rings_[taken_[slot].ring], taken_[slot].request, status[slot]);
      release(slot);
    }
  }
}

// The request's data, which lies together here, to or from the guest's pieces of it.
void GrantQueue::add_copies(Slot slot) noexcept {
  const Taken& taken = taken_[slot];
  std::byte* at = pool_.at(taken.first);
  for (unsigned i = 0; i < taken.request.nr_segs; i++) {
    const blkif_segment& segment = segments_[taken.first + i];
    const GuestData guest{domain_, segment.gref, segment.offset};
    if (blkif_op_writes(taken.request.op)) copies_.add_in(slot, guest, at, segment.length);
    else copies_.add_out(slot, at, guest, segment.length);
    at += segment.length;
  }
}

void GrantQueue::release(Slot slot) noexcept {
  pool_.give_back(taken_[slot].first, taken_[slot].request.nr_segs);
  free_.push(slot);
  in_use_--;
}

bool GrantQueue::next(Request& request) noexcept {
  if (ready_.empty()) return false;
  const Slot slot = ready_.pop();
  Taken& taken = taken_[slot];
  request = Request{};
  request.verb = verb_of(taken.request);
  request.slot = slot;
  request.sector = taken.request.sector;
  request.bytes = taken.request.op == BLKIF_OP_DISCARD
                      ? taken.request.discard_sectors * kSectorSize : taken.request.bytes;
  request.secure = taken.request.secure;
  taken.data = iovec{pool_.at(taken.first), taken.request.bytes};
  if (taken.request.bytes) request.data = std::span{&taken.data, 1};
  return true;
}

void GrantQueue::hand_over() noexcept {
  if (replies_.empty()) return;
  std::array<std::int16_t, kSlotsMax> status{};
  for (const Reply& reply : replies_) {
    const Taken& taken = taken_[reply.slot];
    status[reply.slot] = blkif_status(taken.request.op, reply.result);
    if (taken.connection == connection_ && taken.request.op == BLKIF_OP_READ && reply.result == 0)
      add_copies(reply.slot);
  }
  counters_.bytes_copied.add(
      copies_.carry_out(grants_, [&](Slot slot) { status[slot] = BLKIF_RSP_ERROR; }));
  for (const Reply& reply : replies_) {
    const Taken& taken = taken_[reply.slot];
    if (taken.connection == connection_)
      rings_[taken.ring].answer(taken.request.id, taken.request.op, status[reply.slot]);
    release(reply.slot);
  }
  replies_.clear();
  for (GuestRing& ring : rings_) ring.publish();
}

}  // namespace tapdisk
