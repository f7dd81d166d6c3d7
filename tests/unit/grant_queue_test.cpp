// SPDX-License-Identifier: GPL-2.0-only
//
// Requests without the module, from a guest that is an array of pages: the calls of libxengnttab
// and libxenevtchn are answered here.
#include "vbd/grant_queue.hpp"

extern "C" {
#include <xenevtchn.h>
#include <xengnttab.h>
}

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

namespace {

using Page = std::array<std::uint8_t, RING_PAGE_SIZE>;

// What the guest has granted. Pages that are mapped together lie together.
struct World {
  alignas(8) std::array<Page, 512> pages{};
  std::map<std::uint32_t, unsigned> granted;  // reference to page
  int notified = 0;
  int mapped = 0;

  std::uint8_t* page(std::uint32_t ref) {
    const auto found = granted.find(ref);
    return found == granted.end() ? nullptr : pages[found->second].data();
  }
};
World* world;

bool copy_one(xengnttab_grant_copy_segment& copy) {
  const bool out = copy.flags & 2;
  const auto& guest = out ? copy.dest.foreign : copy.source.foreign;
  std::uint8_t* const page = world->page(guest.ref);
  if (!page || guest.offset + copy.len > int{RING_PAGE_SIZE}) return false;
  if (out) std::memcpy(page + guest.offset, copy.source.virt, copy.len);
  else std::memcpy(copy.dest.virt, page + guest.offset, copy.len);
  return true;
}

}  // namespace

extern "C" {

void* xengnttab_map_domain_grant_refs(xengnttab_handle*, std::uint32_t, std::uint32_t,
                                      std::uint32_t* refs, int) {
  world->mapped++;
  return world->page(refs[0]);
}
int xengnttab_unmap(xengnttab_handle*, void*, std::uint32_t) {
  world->mapped--;
  return 0;
}
int xengnttab_grant_copy(xengnttab_handle*, std::uint32_t count,
                         xengnttab_grant_copy_segment_t* copies) {
  for (std::uint32_t i = 0; i < count; i++)
    copies[i].status = static_cast<std::int16_t>(copy_one(copies[i]) ? 0 : -3);
  return 0;
}
xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle*, std::uint32_t,
                                                     evtchn_port_t port) {
  return static_cast<xenevtchn_port_or_error_t>(port);
}
int xenevtchn_unbind(xenevtchn_handle*, evtchn_port_t) { return 0; }
int xenevtchn_notify(xenevtchn_handle*, evtchn_port_t) {
  world->notified++;
  return 0;
}

}  // extern "C"

namespace tapdisk {
namespace {

constexpr std::uint64_t kSectors = 1u << 20;

class GrantQueueTest : public ::testing::Test {
 protected:
  // A frontend's end of a ring of one page.
  class Frontend {
   public:
    explicit Frontend(blkif_sring& ring) : ring_(ring) {
      ring_.req_event = ring_.rsp_event = 1;
    }

    void send(const blkif_wire_request_native& request) { put(&request, sizeof(request)); }
    void send(const blkif_wire_indirect_native& request) { put(&request, sizeof(request)); }
    void lie() { ring_.req_prod += 1000; }

    // The next answer's status; 99: there is none.
    int status() {
      if (taken_ == ring_.rsp_prod) return 99;
      blkif_wire_response_native answer;
      std::memcpy(&answer, entry(taken_++), sizeof(answer));
      last_id = answer.id;
      return answer.status;
    }

    std::uint64_t last_id = 0;

   private:
    std::uint8_t* entry(std::uint32_t index) {
      return reinterpret_cast<std::uint8_t*>(&ring_ + 1) +
             (index % blkif_ring_entries(&blkif_abi_native, RING_PAGE_SIZE)) *
                 blkif_abi_native.entry_bytes;
    }
    void put(const void* request, std::size_t bytes) {
      std::memcpy(entry(ring_.req_prod++), request, bytes);
    }

    blkif_sring& ring_;
    std::uint32_t taken_ = 0;
  };

  GrantQueueTest() { world = &guest; }
  ~GrantQueueTest() override {
    queue.disconnect();
    EXPECT_EQ(guest.mapped, 0);
  }

  // Pages 0 and 1 are rings, the others data with the reference 100 + number.
  void connect(unsigned rings = 1) {
    std::vector<GuestRing> connected;
    connected.reserve(rings);
    for (unsigned i = 0; i < rings; i++) {
      guest.granted[i] = i;
      auto ring = GuestRing::connect(nullptr, nullptr, 7, RingKeys{{i}, i}, blkif_abi_native);
      ASSERT_TRUE(ring);
      connected.push_back(std::move(*ring));
      frontends.emplace_back(*reinterpret_cast<blkif_sring*>(guest.pages[i].data()));
    }
    for (unsigned page = 2; page < guest.pages.size(); page++) guest.granted[100 + page] = page;
    queue.connect(7, std::move(connected));
  }

  static blkif_wire_request_native request(std::uint8_t op, std::uint64_t id, unsigned segments) {
    blkif_wire_request_native request{};
    request.operation = op;
    request.id = id;
    request.nr_segments = static_cast<std::uint8_t>(segments);
    for (unsigned i = 0; i < segments; i++) request.seg[i] = {102 + i, 0, 7, 0};
    return request;
  }

  std::vector<Request> take() {
    const auto more = queue.take();
    EXPECT_TRUE(more);
    return taken();
  }
  std::vector<Request> taken() {
    std::vector<Request> all;
    for (Request next; queue.next(next);) all.push_back(next);
    return all;
  }
  void answer(const Request& request, int result = 0) {
    queue.reply(Reply{request.slot, 0, result});
    queue.hand_over();
  }
  static std::uint8_t* data(const Request& request) {
    return static_cast<std::uint8_t*>(request.data[0].iov_base);
  }

  World guest;
  blkif_disk disk{kSectors, 512, kSegsMax, false, true, false};
  SourceCounters counters;
  GrantQueue queue{nullptr, *PagePool::make(), disk, counters};
  std::vector<Frontend> frontends;
};

TEST_F(GrantQueueTest, WrittenDataLiesTogether) {
  connect();
  auto write = request(BLKIF_OP_WRITE, 11, 2);
  write.sector_number = 5;
  write.seg[0] = {102, 6, 7, 0};
  write.seg[1] = {103, 0, 0, 0};
  guest.pages[2].fill(0xaa);
  guest.pages[3].fill(0xbb);
  frontends[0].send(write);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].verb, RequestVerb::kWrite);
  EXPECT_EQ(requests[0].sector, 5u);
  ASSERT_EQ(requests[0].bytes, 1536u);
  ASSERT_EQ(requests[0].data.size(), 1u);
  EXPECT_TRUE(std::all_of(data(requests[0]), data(requests[0]) + 1024,
                          [](std::uint8_t byte) { return byte == 0xaa; }));
  EXPECT_TRUE(std::all_of(data(requests[0]) + 1024, data(requests[0]) + 1536,
                          [](std::uint8_t byte) { return byte == 0xbb; }));
  EXPECT_EQ(frontends[0].status(), 99) << "too early";
  answer(requests[0]);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_OKAY);
  EXPECT_EQ(frontends[0].last_id, 11u);
  EXPECT_EQ(counters.bytes_copied.get(), 1536u);
  EXPECT_EQ(guest.notified, 1);
  EXPECT_TRUE(queue.idle());
}

TEST_F(GrantQueueTest, ReadDataIsTheGuestsBeforeTheAnswerIs) {
  connect();
  frontends[0].send(request(BLKIF_OP_READ, 1, 2));
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1u);
  std::memset(data(requests[0]), 0xcd, requests[0].bytes);
  answer(requests[0]);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_OKAY);
  EXPECT_EQ(guest.pages[2][0], 0xcd);
  EXPECT_EQ(guest.pages[3][4095], 0xcd);
}

TEST_F(GrantQueueTest, AFailureCopiesNothing) {
  connect();
  frontends[0].send(request(BLKIF_OP_READ, 1, 1));
  answer(take().at(0), -EIO);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_ERROR);
  EXPECT_EQ(counters.bytes_copied.get(), 0u);
}

TEST_F(GrantQueueTest, AFailedFlushIsNotWhatAGuestTakesForNone) {
  connect();
  for (const std::uint8_t op : {BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER})
    for (const int result : {-EIO, -EOPNOTSUPP}) {
      frontends[0].send(request(op, 1, 0));
      answer(take().at(0), result);
      EXPECT_EQ(frontends[0].status(), BLKIF_RSP_SYNC_ERROR);
    }
  frontends[0].send(request(BLKIF_OP_WRITE, 2, 1));
  answer(take().at(0), -EOPNOTSUPP);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_ERROR);
}

TEST_F(GrantQueueTest, AGrantThatIsNoneFailsItsRequestOnly) {
  connect();
  auto bad = request(BLKIF_OP_WRITE, 1, 2);
  bad.seg[1].gref = 99;
  frontends[0].send(bad);
  frontends[0].send(request(BLKIF_OP_WRITE, 2, 1));
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_ERROR);
  EXPECT_EQ(frontends[0].last_id, 1u);

  auto read = request(BLKIF_OP_READ, 3, 1);
  read.seg[0].gref = 99;
  frontends[0].send(read);
  for (const Request& one : take()) answer(one);
  answer(requests[0]);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_ERROR) << "found when its data is handed over";
  EXPECT_EQ(frontends[0].last_id, 3u);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_OKAY);
  EXPECT_TRUE(queue.idle());
}

TEST_F(GrantQueueTest, InvalidRequestsAreAnsweredAtOnce) {
  connect();
  auto past = request(BLKIF_OP_READ, 1, 1);
  past.sector_number = kSectors;
  frontends[0].send(past);
  frontends[0].send(request(77, 2, 1));
  EXPECT_TRUE(take().empty());
  // The segments are judged last.
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_EOPNOTSUPP);
  EXPECT_EQ(frontends[0].last_id, 2u);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_ERROR);
  EXPECT_EQ(frontends[0].last_id, 1u);
  EXPECT_EQ(counters.refused.get(), 2u);
  EXPECT_TRUE(queue.idle());
}

blkif_wire_indirect_native indirect_write(World& guest, std::uint64_t id, unsigned segments) {
  for (unsigned i = 0; i < segments; i++) {
    const blkif_wire_segment segment{102 + 1 + i, 0, 7, 0};
    std::memcpy(guest.pages[2].data() + i * sizeof(segment), &segment, sizeof(segment));
  }
  blkif_wire_indirect_native request{};
  request.operation = BLKIF_OP_INDIRECT;
  request.indirect_op = BLKIF_OP_WRITE;
  request.nr_segments = static_cast<std::uint16_t>(segments);
  request.id = id;
  request.indirect_grefs[0] = 102;
  return request;
}

TEST_F(GrantQueueTest, IndirectRequestsOfAnySize) {
  connect();
  guest.pages[3 + 255].fill(0x5a);
  frontends[0].send(indirect_write(guest, 1, kSegsMax));
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(requests[0].bytes, std::uint64_t{kSegsMax} * RING_PAGE_SIZE);
  EXPECT_EQ(data(requests[0])[requests[0].bytes - 1], 0x5a);
  answer(requests[0]);
  EXPECT_EQ(frontends[0].status(), BLKIF_RSP_OKAY);
}

TEST_F(GrantQueueTest, WhatFindsNoRoomStaysOnTheRing) {
  connect();
  const unsigned fit = kPagesMax / kSegsMax;
  for (unsigned id = 0; id < fit + 2; id++) frontends[0].send(indirect_write(guest, id, kSegsMax));
  const auto first = take();
  ASSERT_EQ(first.size(), fit);
  EXPECT_TRUE(take().empty());
  answer(first[0]);
  EXPECT_EQ(take().size(), 1u);
  answer(first[1]);
  EXPECT_EQ(take().size(), 1u);
}

TEST_F(GrantQueueTest, OfARingThatLiesTheOthersRequestsEnd) {
  connect(2);
  frontends[0].send(request(BLKIF_OP_READ, 1, 1));
  frontends[1].lie();
  const auto outcome = queue.take();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, EPROTO);
  const auto requests = taken();
  ASSERT_EQ(requests.size(), 1u);
  queue.disconnect();
  EXPECT_FALSE(queue.idle());
  answer(requests[0]);
  EXPECT_TRUE(queue.idle());
}

TEST_F(GrantQueueTest, AnAnswerOfAnEarlierConnectionGoesNowhere) {
  connect();
  frontends[0].send(request(BLKIF_OP_READ, 1, 1));
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1u);
  queue.disconnect();
  guest.pages[0].fill(0);
  frontends.clear();
  connect();
  std::memset(data(requests[0]), 0xcd, requests[0].bytes);
  answer(requests[0]);
  EXPECT_EQ(frontends[0].status(), 99);
  EXPECT_EQ(guest.pages[2][0], 0);
  EXPECT_TRUE(queue.idle());
}

}  // namespace
}  // namespace tapdisk
