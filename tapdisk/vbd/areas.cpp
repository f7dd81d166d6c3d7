// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/areas.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace tapdisk {
namespace {

constexpr std::uint64_t kHeadBytes = sizeof(blktap_kernel_head);

bool fits(std::uint64_t at, std::uint64_t bytes, std::uint64_t area) noexcept {
  return at >= kHeadBytes && at % alignof(blktap_req) == 0 && at <= area && bytes <= area - at;
}

const blktap_kernel_head& kernel_head(const AreaPointers& at) noexcept {
  return *reinterpret_cast<const blktap_kernel_head*>(at.descriptors);
}

blktap_user_head& user_head(const AreaPointers& at) noexcept {
  return *reinterpret_cast<blktap_user_head*>(at.commands);
}

}  // namespace

bool layout_is_sound(const blktap_attach& attach) noexcept {
  const std::uint32_t asked = attach.disk_flags;
  const std::uint32_t agreed = attach.disk_flags_out;
  constexpr std::uint32_t kMayVary =
      BLKTAP_DISK_READ_ONLY | BLKTAP_DISK_DISCARD | BLKTAP_DISK_SECURE | BLKTAP_DISK_PERSISTENT;
  return attach.queues >= 1 && attach.queues <= BLKTAP_QUEUES_MAX &&
         attach.queue < attach.queues && attach.depth >= 1 && attach.depth <= BLKTAP_DEPTH_MAX &&
         std::has_single_bit(attach.depth) && attach.max_segs >= 1 &&
         attach.max_segs <= BLKTAP_SEGS_MAX && attach.max_segs <= attach.pages &&
         attach.pages <= BLKTAP_PAGES && attach.commands >= attach.depth &&
         attach.commands <= BLKTAP_COMMANDS && std::has_single_bit(attach.commands) &&
         attach.window_pages >= attach.pages && attach.window_pages <= BLKTAP_WINDOW_PAGES &&
         attach.window_bytes >= std::uint64_t{attach.window_pages} * RING_PAGE_SIZE &&
         ((asked ^ agreed) & ~kMayVary) == 0 && (asked & BLKTAP_DISK_READ_ONLY & ~agreed) == 0 &&
         (agreed & ~asked & (kMayVary & ~BLKTAP_DISK_READ_ONLY)) == 0 &&
         fits(attach.requests_at, attach.depth * sizeof(blktap_req), attach.descriptors_bytes) &&
         fits(attach.segments_at, attach.pages * sizeof(blktap_seg), attach.descriptors_bytes) &&
         fits(attach.commands_at, attach.commands * sizeof(blktap_cmd), attach.commands_bytes);
}

Areas::Areas(const blktap_attach& attach, const AreaPointers& pointers,
             const Capacity& capacity) noexcept
    : attach_(attach),
      at_(pointers),
      capacity_(capacity),
      requests_{0, attach.depth} {}

Result<bool> Areas::next(Request& request) noexcept {
  const int available = ring_available(&requests_, &kernel_head(at_).req_prod);
  if (available < 0) return plain_error("module", "the request ring's index is a lie", EPROTO);
  if (available == 0) return false;

  blktap_req req;
  ring_copy_in(&req, at_.descriptors + attach_.requests_at +
                         ring_position(&requests_) * sizeof(blktap_req), sizeof(req));
  requests_.seen++;
  if (!parse(req, request)) return plain_error("module", "announced a bad request", EPROTO);
  return true;
}

// Whether the range is whole blocks of the disk. Subtracting keeps a huge number from wrapping.
bool Areas::is_in_disk(std::uint64_t sector, std::uint64_t sectors) const noexcept {
  const std::uint64_t end = capacity_;
  return (sector | sectors) % (attach_.sector_size / kSectorSize) == 0 && sector <= end &&
         sectors <= end - sector;
}

bool Areas::parse(const blktap_req& req, Request& request) noexcept {
  constexpr std::array kVerbs = {RequestVerb::kRead, RequestVerb::kWrite, RequestVerb::kFlush,
                                 RequestVerb::kBarrier, RequestVerb::kDiscard};
  static_assert(BLKTAP_OP_READ == 0 && BLKTAP_OP_WRITE == 1 && BLKTAP_OP_FLUSH == 2 &&
                BLKTAP_OP_BARRIER == 3 && BLKTAP_OP_DISCARD == 4);
  if (req.op >= kVerbs.size() || req.slot >= attach_.depth || runs_[req.slot].open) return false;
  request = Request{};
  request.verb = kVerbs[req.op];
  request.slot = req.slot;
  request.generation = req.generation;
  request.sector = req.sector;
  const bool good =
      req.op == BLKTAP_OP_DISCARD ? parse_discard(req, request) : parse_data(req, request);
  if (good) take_run(req);
  return good;
}

bool Areas::parse_discard(const blktap_req& req, Request& request) const noexcept {
  const std::uint32_t disk = attach_.disk_flags_out;
  request.secure = req.flags & BLKTAP_REQ_SECURE;
  request.bytes = req.discard_sectors * kSectorSize;
  return (req.flags & ~(BLKTAP_REQ_SECURE | BLKTAP_REQ_REPLAYED)) == 0 && req.bytes == 0 &&
         req.nr_segs == 0 &&
         (disk & BLKTAP_DISK_DISCARD) && !(disk & BLKTAP_DISK_READ_ONLY) &&
         (!request.secure || (disk & BLKTAP_DISK_SECURE)) && req.discard_sectors != 0 &&
         is_in_disk(req.sector, req.discard_sectors);
}

bool Areas::parse_data(const blktap_req& req, Request& request) noexcept {
  const bool may_be_empty = req.op == BLKTAP_OP_FLUSH || req.op == BLKTAP_OP_BARRIER;
  const bool writes = req.op != BLKTAP_OP_READ && req.bytes;
  request.bytes = req.bytes;
  request.submittable = req.flags & BLKTAP_REQ_SUBMITTABLE;
  return (req.flags & ~(BLKTAP_REQ_SUBMITTABLE | BLKTAP_REQ_REPLAYED)) == 0 &&
         (req.bytes || may_be_empty) &&
         !(request.submittable &&
           (may_be_empty || !(attach_.features & BLKTAP_FEATURE_SUBMIT))) &&
         !(writes && (attach_.disk_flags_out & BLKTAP_DISK_READ_ONLY)) &&
         req.bytes % kSectorSize == 0 && is_in_disk(req.sector, req.bytes / kSectorSize) &&
         req.nr_segs <= attach_.max_segs && gather(req, request);
}

// Whether it is one that was agreed on: a request's own, a persistent grant's, or a copy.
bool Areas::may_name(std::uint32_t page) const noexcept {
  if (page < attach_.pages) return true;
  if (page < attach_.window_pages) return attach_.disk_flags_out & BLKTAP_DISK_PERSISTENT;
  return at_.copies && page - attach_.window_pages < attach_.pages;
}

std::byte* Areas::place_of(const blktap_req& req, std::uint32_t page) const noexcept {
  if (page >= attach_.window_pages)
    return at_.copies + std::size_t{page - attach_.window_pages} * RING_PAGE_SIZE;
  const bool persistent = page >= attach_.pages;
  return (req.op == BLKTAP_OP_READ || persistent ? at_.window_rw : at_.window_ro) +
         std::size_t{page} * RING_PAGE_SIZE;
}

// Turns the run of segments into ranges of the windows, or of the copies.
bool Areas::gather(const blktap_req& req, Request& request) noexcept {
  if (req.nr_segs == 0) return req.bytes == 0;
  if (req.first_seg >= attach_.pages || req.nr_segs > attach_.pages - req.first_seg) return false;
  const std::byte* entry =
      at_.descriptors + attach_.segments_at + std::size_t{req.first_seg} * sizeof(blktap_seg);
  iovec* const ranges = &ranges_[req.first_seg];
  const std::uint32_t in_block = attach_.sector_size - 1;
  unsigned count = 0;
  std::uint32_t bytes = 0;

  for (unsigned i = 0; i < req.nr_segs; i++, entry += sizeof(blktap_seg)) {
    if (taken_[req.first_seg + i]) return false;
    blktap_seg seg;
    ring_copy_in(&seg, entry, sizeof(seg));
    if (!may_name(seg.page) || seg.length == 0 ||
        std::uint32_t{seg.offset} + seg.length > RING_PAGE_SIZE ||
        ((std::uint32_t{seg.offset} | seg.length) & in_block))
      return false;
    bytes += seg.length;
    std::byte* start = place_of(req, seg.page) + seg.offset;
    if (count && static_cast<std::byte*>(ranges[count - 1].iov_base) +
                         ranges[count - 1].iov_len == start)
      ranges[count - 1].iov_len += seg.length;
    else
      ranges[count++] = iovec{start, seg.length};
  }
  request.data = std::span{ranges, count};
  return bytes == req.bytes;
}

// An entry that two requests had would let the answer to one take the other's pages away.
void Areas::take_run(const blktap_req& req) noexcept {
  const std::uint16_t first = req.nr_segs ? req.first_seg : std::uint16_t{0};
  runs_[req.slot] = Run{first, req.nr_segs, true};
  std::fill_n(taken_.begin() + first, req.nr_segs, true);
}

void Areas::release_run(Slot slot) noexcept {
  Run& run = runs_[slot];
  std::fill_n(taken_.begin() + run.first, run.count, false);
  run = Run{};
}

void Areas::reply(const Reply& reply) noexcept {
  release_run(reply.slot);
  blktap_cmd command{};
  command.verb = reply.submitted ? BLKTAP_CMD_SUBMIT : BLKTAP_CMD_COMPLETE;
  command.slot = reply.slot;
  command.generation = reply.generation;
  command.result = reply.result;
  if (reply.submitted) {
    command.fd = reply.submitted->fd;
    command.offset = reply.submitted->offset;
  }
  std::memcpy(at_.commands + attach_.commands_at +
                  (produced_ & (attach_.commands - 1)) * sizeof(command),
              &command, sizeof(command));
  // The module, which reads the index first, sees the command whole.
  ring_store_release_u32(&user_head(at_).cmd_prod, ++produced_);
}

std::uint32_t Areas::state() const noexcept { return ring_load_u32(&kernel_head(at_).state); }

}  // namespace tapdisk
