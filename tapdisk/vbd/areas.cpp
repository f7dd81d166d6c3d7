// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/areas.hpp"

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
  const std::uint64_t slot_bytes = attach.slot_bytes;
  return attach.depth >= 1 && attach.depth <= BLKTAP_DEPTH_MAX &&
         std::has_single_bit(attach.depth) && attach.max_segs >= 1 &&
         attach.max_segs <= BLKTAP_SEGS_MAX && attach.commands >= attach.depth &&
         attach.commands <= BLKTAP_COMMANDS && std::has_single_bit(attach.commands) &&
         slot_bytes >= std::uint64_t{attach.max_segs} * RING_PAGE_SIZE &&
         attach.window_bytes / attach.depth >= slot_bytes &&
         fits(attach.requests_at, attach.depth * sizeof(blktap_req), attach.descriptors_bytes) &&
         fits(attach.segments_at, std::size_t{attach.depth} * attach.max_segs * sizeof(blktap_seg),
              attach.descriptors_bytes) &&
         fits(attach.commands_at, attach.commands * sizeof(blktap_cmd), attach.commands_bytes);
}

Areas::Areas(const blktap_attach& attach, const AreaPointers& pointers) noexcept
    : attach_(attach), at_(pointers), requests_{0, attach.depth} {}

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

bool Areas::parse(const blktap_req& req, Request& request) noexcept {
  constexpr std::array kVerbs = {RequestVerb::kRead, RequestVerb::kWrite, RequestVerb::kFlush,
                                 RequestVerb::kBarrier};
  static_assert(BLKTAP_OP_READ == 0 && BLKTAP_OP_WRITE == 1 && BLKTAP_OP_FLUSH == 2 &&
                BLKTAP_OP_BARRIER == 3);
  const std::uint64_t sectors = req.bytes / kSectorSize;
  if (req.op >= kVerbs.size() || req.slot >= attach_.depth || req.nr_segs > attach_.max_segs ||
      req.sector > attach_.sectors || sectors > attach_.sectors - req.sector ||
      req.bytes % attach_.sector_size || req.sector % (attach_.sector_size / kSectorSize))
    return false;
  request.verb = kVerbs[req.op];
  request.slot = req.slot;
  request.generation = req.generation;
  request.sector = req.sector;
  request.bytes = req.bytes;
  return gather(req, request);
}

// Turns the slot's segments into ranges of the window.
bool Areas::gather(const blktap_req& req, Request& request) noexcept {
  const std::byte* row = at_.descriptors + attach_.segments_at +
                         std::size_t{req.slot} * attach_.max_segs * sizeof(blktap_seg);
  std::byte* window = req.op == BLKTAP_OP_READ ? at_.window_rw : at_.window_ro;
  std::byte* page = window + std::size_t{req.slot} * attach_.slot_bytes;
  auto& ranges = ranges_[req.slot];
  unsigned count = 0;
  std::uint32_t bytes = 0;

  for (unsigned i = 0; i < req.nr_segs; i++, page += RING_PAGE_SIZE) {
    blktap_seg seg;
    ring_copy_in(&seg, row + i * sizeof(seg), sizeof(seg));
    if (seg.length == 0 || seg.offset + seg.length > RING_PAGE_SIZE) return false;
    bytes += seg.length;
    std::byte* start = page + seg.offset;
    if (count && static_cast<std::byte*>(ranges[count - 1].iov_base) +
                         ranges[count - 1].iov_len == start)
      ranges[count - 1].iov_len += seg.length;
    else
      ranges[count++] = iovec{start, seg.length};
  }
  request.data = std::span{ranges.data(), count};
  const bool may_be_empty =
      request.verb == RequestVerb::kFlush || request.verb == RequestVerb::kBarrier;
  return bytes == req.bytes && (bytes || may_be_empty);
}

void Areas::reply(const Reply& reply) noexcept {
  blktap_cmd command{};
  command.verb = BLKTAP_CMD_COMPLETE;
  command.slot = reply.slot;
  command.generation = reply.generation;
  command.result = reply.result;
  std::memcpy(at_.commands + attach_.commands_at +
                  (produced_ & (attach_.commands - 1)) * sizeof(command),
              &command, sizeof(command));
  // The module, which reads the index first, sees the command whole.
  ring_store_release_u32(&user_head(at_).cmd_prod, ++produced_);
}

std::uint32_t Areas::state() const noexcept { return ring_load_u32(&kernel_head(at_).state); }

}  // namespace tapdisk
