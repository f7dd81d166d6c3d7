// SPDX-License-Identifier: GPL-2.0-only
// What tapdisk reads from and writes to the shared areas.
#include "vbd/areas.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/support/fake_module.hpp"

namespace tapdisk {
namespace {

using testing::FakeModule;

class AreasTest : public ::testing::Test {
 protected:
  // Announces `bad` as it is and takes it.
  Result<bool> take(const blktap_req& bad) {
    module.publish(bad);
    return areas.next(request);
  }
  // One page, in entry 17 of the table.
  blktap_req good() {
    module.set_segments(17, std::array{blktap_seg{3, 0, 4096}});
    blktap_req req{};
    req.slot = 5;
    req.first_seg = 17;
    req.nr_segs = 1;
    req.bytes = 4096;
    req.generation = 9;
    return req;
  }
  blktap_req good_discard() {
    blktap_req req{};
    req.op = BLKTAP_OP_DISCARD;
    req.slot = 6;
    req.sector = 8;
    req.discard_sectors = 2040;
    return req;
  }
  template <class Change>
  bool refused(blktap_req req, Change&& change) {
    change(req);
    const auto taken = take(req);
    return !taken && taken.error().code == EPROTO;
  }

  FakeModule module{2048};
  Areas areas{module.attach(), module.pointers(), module.capacity};
  Request request;
};

TEST_F(AreasTest, NothingAnnouncedIsNothing) {
  const auto taken = areas.next(request);
  ASSERT_TRUE(taken);
  EXPECT_FALSE(*taken);
}

TEST_F(AreasTest, ARequestKeepsItsNumbers) {
  const std::array segs{blktap_seg{0, 512, 1024}};
  ASSERT_TRUE(module.announce(3, BLKTAP_OP_WRITE, 77, segs));
  const auto taken = areas.next(request);
  ASSERT_TRUE(taken && *taken);
  EXPECT_EQ(request.verb, RequestVerb::kWrite);
  EXPECT_EQ(request.slot, 3);
  EXPECT_EQ(request.generation, module.generation(3));
  EXPECT_EQ(request.sector, 77u);
  EXPECT_EQ(request.bytes, 1024u);
  ASSERT_EQ(request.data.size(), 1u);
  EXPECT_EQ(request.data[0].iov_base, module.page(3, false) + 512);
  EXPECT_EQ(request.data[0].iov_len, 1024u);
}

TEST_F(AreasTest, ReadsAndWritesHaveTheirOwnWindow) {
  const std::array segs{blktap_seg{0, 0, 4096}};
  ASSERT_TRUE(module.announce(0, BLKTAP_OP_READ, 0, segs));
  ASSERT_TRUE(module.announce(1, BLKTAP_OP_BARRIER, 0, segs));
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.data[0].iov_base, module.page(0, true));
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.data[0].iov_base, module.page(1, false));
}

TEST_F(AreasTest, WholePagesAreOneRange) {
  std::array<blktap_seg, BLKTAP_SEGS_MAX> segs;
  segs.fill(blktap_seg{0, 0, 4096});
  ASSERT_TRUE(module.announce(255, BLKTAP_OP_READ, 0, segs));
  ASSERT_TRUE(*areas.next(request));
  ASSERT_EQ(request.data.size(), 1u);
  EXPECT_EQ(request.data[0].iov_len, BLKTAP_SEGS_MAX * 4096u);
}

TEST_F(AreasTest, GapsSplitRanges) {
  const std::array segs{blktap_seg{0, 1024, 3072}, blktap_seg{0, 0, 4096}, blktap_seg{0, 0, 512},
                        blktap_seg{0, 512, 512}};
  ASSERT_TRUE(module.announce(0, BLKTAP_OP_READ, 0, segs));
  ASSERT_TRUE(*areas.next(request));
  ASSERT_EQ(request.data.size(), 2u);
  EXPECT_EQ(request.data[0].iov_base, module.page(0, true) + 1024);
  EXPECT_EQ(request.data[0].iov_len, 3072u + 4096 + 512);
  EXPECT_EQ(request.data[1].iov_base, module.page(0, true, 3) + 512);
  EXPECT_EQ(request.bytes, 3072u + 4096 + 512 + 512);
}

// The table says which page, not the place in the table.
TEST_F(AreasTest, PagesMayLieAnywhereInTheWindow) {
  module.set_segments(1021, std::array{blktap_seg{1023, 0, 4096}, blktap_seg{0, 0, 4096},
                                       blktap_seg{1, 0, 512}});
  blktap_req req{};
  req.first_seg = 1021;
  req.nr_segs = 3;
  req.bytes = 8704;
  ASSERT_TRUE(*take(req));
  ASSERT_EQ(request.data.size(), 2u);
  EXPECT_EQ(request.data[0].iov_base, module.window(true, 1023));
  EXPECT_EQ(request.data[0].iov_len, 4096u);
  EXPECT_EQ(request.data[1].iov_base, module.window(true, 0));
  EXPECT_EQ(request.data[1].iov_len, 4608u);
}

TEST_F(AreasTest, RequestsKeepTheirRangesApart) {
  const std::array gap{blktap_seg{0, 0, 512}, blktap_seg{0, 0, 512}};
  std::array<std::span<iovec>, BLKTAP_DEPTH_MAX> ranges;
  for (Slot slot = 0; slot < BLKTAP_DEPTH_MAX; slot++) {
    ASSERT_TRUE(module.announce(slot, BLKTAP_OP_READ, 0, gap));
    ASSERT_TRUE(*areas.next(request));
    ranges[slot] = request.data;
  }
  for (Slot slot = 0; slot < BLKTAP_DEPTH_MAX; slot++) {
    ASSERT_EQ(ranges[slot].size(), 2u);
    EXPECT_EQ(ranges[slot][0].iov_base, module.page(slot, true, 0));
    EXPECT_EQ(ranges[slot][1].iov_base, module.page(slot, true, 1));
  }
}

TEST_F(AreasTest, AFlushMayHaveNoData) {
  ASSERT_TRUE(module.announce(0, BLKTAP_OP_FLUSH, 0, {}));
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.verb, RequestVerb::kFlush);
  EXPECT_TRUE(request.data.empty());
}

TEST_F(AreasTest, ADiscardIsARangeWithoutData) {
  module.announce_discard(200, 8, 2040);
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.verb, RequestVerb::kDiscard);
  EXPECT_EQ(request.slot, 200);
  EXPECT_EQ(request.sector, 8u);
  EXPECT_EQ(request.bytes, 2040u * 512);
  EXPECT_TRUE(request.data.empty());
  EXPECT_FALSE(request.secure);
}

TEST_F(AreasTest, TheRingGoesRound) {
  const std::array segs{blktap_seg{0, 0, 512}};
  for (unsigned i = 0; i < 1000; i++) {
    const Slot slot = static_cast<Slot>(i % 32);
    ASSERT_TRUE(module.announce(slot, BLKTAP_OP_READ, i, segs));
    ASSERT_TRUE(*areas.next(request));
    EXPECT_EQ(request.sector, i);
    areas.reply({slot, request.generation, i % 2 ? -EIO : 0});
    int seen = 1;
    module.take_commands([&](Slot answered, int result) {
      EXPECT_EQ(answered, slot);
      seen = result;
    });
    EXPECT_EQ(seen, i % 2 ? -EIO : 0);
  }
}

TEST_F(AreasTest, ALyingIndexIsABreach) {
  module.head().req_prod = BLKTAP_DEPTH_MAX + 1;
  EXPECT_EQ(areas.next(request).error().code, EPROTO);
}

TEST_F(AreasTest, ADescriptorThatBreaksTheAbiIsABreach) {
  const auto bad = [&](auto&& change) { return refused(good(), change); };
  EXPECT_TRUE(bad([](blktap_req& req) { req.op = 5; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.flags = 1; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.flags = 2; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.slot = 256; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.nr_segs = 257; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.nr_segs = 0; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.first_seg = 1024; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.first_seg = 1023; req.nr_segs = 2; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.first_seg = 65535; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.bytes = 512; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.bytes = 4096 + 1; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.sector = 2048 - 7; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.sector = ~0ull; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.bytes = 0; }));
  EXPECT_TRUE(*take(good()));
}

TEST_F(AreasTest, ADiscardThatBreaksTheAbiIsABreach) {
  const auto bad = [&](auto&& change) { return refused(good_discard(), change); };
  EXPECT_TRUE(bad([](blktap_req& req) { req.flags = BLKTAP_REQ_SECURE; }));  // not agreed
  EXPECT_TRUE(bad([](blktap_req& req) { req.flags = 2; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.bytes = 512; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.nr_segs = 1; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.discard_sectors = 0; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.discard_sectors = 2041; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.discard_sectors = ~0ull; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.discard_sectors = 1ull << 55; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.sector = 2049; }));
  EXPECT_TRUE(bad([](blktap_req& req) { req.sector = ~0ull - 7; }));
  EXPECT_TRUE(*take(good_discard()));
}

TEST_F(AreasTest, WhatTheDiskWasNotToHaveIsABreach) {
  const auto refused_by = [&](std::uint32_t flags, blktap_req req) {
    blktap_attach attach = module.attach();
    attach.disk_flags_out = flags;
    FakeModule other{2048};
    Areas strict{attach, other.pointers(), other.capacity};
    other.set_segments(17, std::array{blktap_seg{3, 0, 4096}});
    other.publish(req);
    return !strict.next(request);
  };
  const std::uint32_t flags = module.attach().disk_flags_out;
  blktap_req write = good();
  write.op = BLKTAP_OP_WRITE;
  blktap_req barrier = good();
  barrier.op = BLKTAP_OP_BARRIER;
  blktap_req secure = good_discard();
  secure.flags = BLKTAP_REQ_SECURE;
  EXPECT_FALSE(refused_by(flags, write));
  EXPECT_TRUE(refused_by(flags | BLKTAP_DISK_READ_ONLY, write));
  EXPECT_TRUE(refused_by(flags | BLKTAP_DISK_READ_ONLY, barrier));
  EXPECT_FALSE(refused_by(flags | BLKTAP_DISK_READ_ONLY, good()));
  EXPECT_FALSE(refused_by(flags, good_discard()));
  EXPECT_TRUE(refused_by(flags | BLKTAP_DISK_READ_ONLY, good_discard()));
  EXPECT_TRUE(refused_by(flags & ~BLKTAP_DISK_DISCARD, good_discard()));
  EXPECT_TRUE(refused_by(flags, secure));
  EXPECT_FALSE(refused_by(flags | BLKTAP_DISK_SECURE, secure));
  EXPECT_TRUE(request.secure);
}

// Areas whose module lets tapdisk submit.
class SubmittableAreasTest : public AreasTest {
 protected:
  static blktap_attach with_submit(blktap_attach attach) {
    attach.features |= BLKTAP_FEATURE_SUBMIT;
    return attach;
  }

  bool taken(std::uint8_t op, std::uint8_t flags) {
    blktap_req req = good();
    req.op = op;
    req.flags = flags;
    module.publish(req);
    const auto result = submitting.next(request);
    if (result) submitting.reply({5, 9, 0});
    return result && *result;
  }

  Areas submitting{with_submit(module.attach()), module.pointers(), module.capacity};
};

TEST_F(SubmittableAreasTest, ReadsAndWritesMayBe) {
  EXPECT_TRUE(taken(BLKTAP_OP_READ, BLKTAP_REQ_SUBMITTABLE));
  EXPECT_TRUE(request.submittable);
  EXPECT_TRUE(taken(BLKTAP_OP_WRITE, BLKTAP_REQ_SUBMITTABLE));
  EXPECT_TRUE(request.submittable);
  EXPECT_TRUE(taken(BLKTAP_OP_WRITE, 0));
  EXPECT_FALSE(request.submittable);
}

TEST_F(SubmittableAreasTest, WhatAnotherTapdiskHadIsSaidToBe) {
  EXPECT_TRUE(taken(BLKTAP_OP_WRITE, BLKTAP_REQ_SUBMITTABLE | BLKTAP_REQ_REPLAYED));
  EXPECT_TRUE(request.submittable);
  EXPECT_TRUE(taken(BLKTAP_OP_READ, BLKTAP_REQ_REPLAYED));
  EXPECT_TRUE(taken(BLKTAP_OP_FLUSH, BLKTAP_REQ_REPLAYED));
  EXPECT_FALSE(taken(BLKTAP_OP_FLUSH, BLKTAP_REQ_REPLAYED | BLKTAP_REQ_SECURE));
}

TEST_F(SubmittableAreasTest, NothingElseMay) {
  EXPECT_FALSE(taken(BLKTAP_OP_FLUSH, BLKTAP_REQ_SUBMITTABLE));
  EXPECT_FALSE(taken(BLKTAP_OP_BARRIER, BLKTAP_REQ_SUBMITTABLE));
  EXPECT_FALSE(taken(BLKTAP_OP_DISCARD, BLKTAP_REQ_SUBMITTABLE));
  EXPECT_FALSE(taken(BLKTAP_OP_READ, BLKTAP_REQ_SUBMITTABLE | BLKTAP_REQ_SECURE));
}

TEST_F(AreasTest, ASubmittableRequestThatNobodyAskedForIsABreach) {
  EXPECT_TRUE(refused(good(), [](blktap_req& req) { req.flags = BLKTAP_REQ_SUBMITTABLE; }));
}

TEST_F(SubmittableAreasTest, ASubmissionSaysWhere) {
  module.submits = true;
  ASSERT_TRUE(module.announce(3, BLKTAP_OP_WRITE, 77, std::array{blktap_seg{0, 512, 1024}}));
  ASSERT_TRUE(*submitting.next(request));
  submitting.reply(Pending{request}.submit({42, 77 * 512}));
  module.take_commands([](Slot slot, int) { EXPECT_EQ(slot, 3); });
  ASSERT_EQ(module.submitted.size(), 1u);
  EXPECT_EQ(module.submitted[0].fd, 42);
  EXPECT_EQ(module.submitted[0].offset, 77u * 512);
}

// The answer to one would take the other's pages away.
TEST_F(AreasTest, ARunThatAnotherRequestHasIsABreach) {
  ASSERT_TRUE(*take(good()));
  EXPECT_TRUE(refused(good(), [](blktap_req& req) { req.slot = 7; }));
  EXPECT_TRUE(refused(good(), [](blktap_req& req) { req.first_seg = 18; }));  // the slot
  areas.reply({5, 9, 0});
  EXPECT_TRUE(*take(good()));
}

TEST_F(AreasTest, ASegmentOutsideItsPageIsABreach) {
  const auto bad = [&](blktap_seg seg) {
    blktap_req req = good();
    module.set_segments(17, std::array{seg});
    req.bytes = seg.length;
    return !take(req);
  };
  EXPECT_TRUE(bad({0, 512, 4096}));
  EXPECT_TRUE(bad({0, 65024, 512}));
  EXPECT_TRUE(bad({0, 0, 0}));
  EXPECT_TRUE(bad({0, 1, 512}));
  EXPECT_TRUE(bad({1024, 0, 512}));
  EXPECT_TRUE(bad({~0u, 0, 512}));
  EXPECT_FALSE(bad({1023, 3584, 512}));
}

TEST_F(AreasTest, BlocksOf4096AreChecked) {
  FakeModule large{2048, 4096};
  Areas blocks{large.attach(), large.pointers(), large.capacity};
  const std::array segs{blktap_seg{0, 0, 4096}};
  ASSERT_TRUE(large.announce(0, BLKTAP_OP_READ, 8, segs));
  EXPECT_TRUE(*blocks.next(request));
  large.announce_discard(3, 8, 16);
  EXPECT_TRUE(*blocks.next(request));
  ASSERT_TRUE(large.announce(1, BLKTAP_OP_READ, 9, segs));
  EXPECT_FALSE(blocks.next(request));
  ASSERT_TRUE(large.announce(2, BLKTAP_OP_READ, 8, std::array{blktap_seg{0, 512, 512},
                                                             blktap_seg{0, 0, 3584}}));
  EXPECT_FALSE(blocks.next(request));
  large.announce_discard(4, 8, 15);
  EXPECT_FALSE(blocks.next(request));
}

TEST_F(AreasTest, TheModulesStateIsSeen) {
  EXPECT_EQ(areas.state(), BLKTAP_STATE_CONNECTED);
  module.head().state = BLKTAP_STATE_CLOSING;
  EXPECT_EQ(areas.state(), BLKTAP_STATE_CLOSING);
}

TEST(LayoutIsSound, RefusesWhatWouldLeadOutsideAnArea) {
  FakeModule module{2048};
  const blktap_attach sound = module.attach();
  EXPECT_TRUE(layout_is_sound(sound));
  const auto refused = [&](auto&& change) {
    blktap_attach bad = sound;
    change(bad);
    return !layout_is_sound(bad);
  };
  EXPECT_TRUE(refused([](blktap_attach& a) { a.queues = 0; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.queues = 17; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.queue = 1; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.depth = 0; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.depth = 31; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.depth = 512; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.max_segs = 0; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.max_segs = 257; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.pages = 255; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.pages = 1025; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.commands = 128; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.commands = 512; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.window_bytes -= 1; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.window_pages = a.pages - 1; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.window_pages += 1; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.requests_at = 0; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.requests_at = a.descriptors_bytes - 64; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.segments_at = ~0u - 7; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.segments_at += 64; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.commands_at = a.commands_bytes; }));
}

TEST(LayoutIsSound, TheDiskIsWhatWasAskedForOrLess) {
  FakeModule module{2048};
  const auto accepted = [&](std::uint32_t asked, std::uint32_t agreed) {
    blktap_attach attach = module.attach();
    attach.disk_flags = asked;
    attach.disk_flags_out = agreed;
    return layout_is_sound(attach);
  };
  EXPECT_TRUE(accepted(BLKTAP_DISK_FLUSH, BLKTAP_DISK_FLUSH | BLKTAP_DISK_READ_ONLY));
  EXPECT_TRUE(accepted(BLKTAP_DISK_DISCARD | BLKTAP_DISK_SECURE, BLKTAP_DISK_DISCARD));
  EXPECT_TRUE(accepted(BLKTAP_DISK_DISCARD, 0));
  EXPECT_TRUE(accepted(BLKTAP_DISK_PERSISTENT, 0));
  EXPECT_FALSE(accepted(0, BLKTAP_DISK_PERSISTENT));
  EXPECT_FALSE(accepted(BLKTAP_DISK_READ_ONLY, 0));
  EXPECT_FALSE(accepted(0, BLKTAP_DISK_DISCARD));
  EXPECT_FALSE(accepted(BLKTAP_DISK_DISCARD, BLKTAP_DISK_DISCARD | BLKTAP_DISK_SECURE));
  EXPECT_FALSE(accepted(BLKTAP_DISK_FLUSH, 0));
}

}  // namespace
}  // namespace tapdisk
