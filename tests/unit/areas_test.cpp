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
  // Announces `request` as it is and takes it.
  Result<bool> take(const blktap_req& bad) {
    module.publish(bad);
    return areas.next(request);
  }
  blktap_req good() {
    const std::array segs{blktap_seg{0, 4096}};
    module.set_segments(5, segs);
    blktap_req req{};
    req.slot = 5;
    req.nr_segs = 1;
    req.bytes = 4096;
    req.generation = 9;
    return req;
  }

  FakeModule module{2048};
  Areas areas{module.attach(), module.pointers()};
  Request request;
};

TEST_F(AreasTest, NothingAnnouncedIsNothing) {
  const auto taken = areas.next(request);
  ASSERT_TRUE(taken);
  EXPECT_FALSE(*taken);
}

TEST_F(AreasTest, ARequestKeepsItsNumbers) {
  const std::array segs{blktap_seg{512, 1024}};
  const blktap_req sent = module.announce(3, BLKTAP_OP_WRITE, 77, segs);
  const auto taken = areas.next(request);
  ASSERT_TRUE(taken && *taken);
  EXPECT_EQ(request.verb, RequestVerb::kWrite);
  EXPECT_EQ(request.slot, 3);
  EXPECT_EQ(request.generation, sent.generation);
  EXPECT_EQ(request.sector, 77u);
  EXPECT_EQ(request.bytes, 1024u);
  ASSERT_EQ(request.data.size(), 1u);
  EXPECT_EQ(request.data[0].iov_base, module.page(3, false) + 512);
  EXPECT_EQ(request.data[0].iov_len, 1024u);
}

TEST_F(AreasTest, ReadsAndWritesHaveTheirOwnWindow) {
  const std::array segs{blktap_seg{0, 4096}};
  module.announce(0, BLKTAP_OP_READ, 0, segs);
  module.announce(1, BLKTAP_OP_BARRIER, 0, segs);
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.data[0].iov_base, module.page(0, true));
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.data[0].iov_base, module.page(1, false));
}

TEST_F(AreasTest, WholePagesAreOneRange) {
  std::array<blktap_seg, BLKTAP_SEGS_MAX> segs;
  segs.fill(blktap_seg{0, 4096});
  module.announce(31, BLKTAP_OP_READ, 0, segs);
  ASSERT_TRUE(*areas.next(request));
  ASSERT_EQ(request.data.size(), 1u);
  EXPECT_EQ(request.data[0].iov_len, BLKTAP_SEGS_MAX * 4096u);
}

TEST_F(AreasTest, GapsSplitRanges) {
  const std::array segs{blktap_seg{1024, 3072}, blktap_seg{0, 4096}, blktap_seg{0, 512},
                        blktap_seg{512, 512}};
  module.announce(0, BLKTAP_OP_READ, 0, segs);
  ASSERT_TRUE(*areas.next(request));
  ASSERT_EQ(request.data.size(), 2u);
  EXPECT_EQ(request.data[0].iov_base, module.page(0, true) + 1024);
  EXPECT_EQ(request.data[0].iov_len, 3072u + 4096 + 512);
  EXPECT_EQ(request.data[1].iov_base, module.page(0, true, 3) + 512);
  EXPECT_EQ(request.bytes, 3072u + 4096 + 512 + 512);
}

TEST_F(AreasTest, AFlushMayHaveNoData) {
  module.announce(0, BLKTAP_OP_FLUSH, 0, {});
  ASSERT_TRUE(*areas.next(request));
  EXPECT_EQ(request.verb, RequestVerb::kFlush);
  EXPECT_TRUE(request.data.empty());
}

TEST_F(AreasTest, TheRingGoesRound) {
  const std::array segs{blktap_seg{0, 512}};
  for (unsigned i = 0; i < 1000; i++) {
    const Slot slot = static_cast<Slot>(i % 32);
    module.announce(slot, BLKTAP_OP_READ, i, segs);
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
  ASSERT_TRUE(*take(good()));
  const auto refused = [&](auto&& change) {
    blktap_req bad = good();
    change(bad);
    const auto taken = take(bad);
    return !taken && taken.error().code == EPROTO;
  };
  EXPECT_TRUE(refused([](blktap_req& req) { req.op = 4; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.slot = 32; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.nr_segs = 12; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.nr_segs = 0; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.bytes = 512; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.bytes = 4096 + 1; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.sector = 2048 - 7; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.sector = ~0ull; }));
  EXPECT_TRUE(refused([](blktap_req& req) { req.bytes = 0; }));
}

TEST_F(AreasTest, ASegmentOutsideItsPageIsABreach) {
  const auto refused = [&](blktap_seg seg) {
    blktap_req bad = good();
    module.set_segments(5, std::array{seg});
    bad.bytes = seg.length;
    return !take(bad);
  };
  EXPECT_TRUE(refused({512, 4096}));
  EXPECT_TRUE(refused({65024, 512}));
  EXPECT_TRUE(refused({0, 0}));
}

TEST_F(AreasTest, BlocksOf4096AreChecked) {
  FakeModule large{2048, 4096};
  Areas blocks{large.attach(), large.pointers()};
  const std::array segs{blktap_seg{0, 4096}};
  large.announce(0, BLKTAP_OP_READ, 8, segs);
  EXPECT_TRUE(*blocks.next(request));
  large.announce(1, BLKTAP_OP_READ, 9, segs);
  EXPECT_FALSE(blocks.next(request));
}

TEST_F(AreasTest, TheModulesStateIsSeen) {
  EXPECT_EQ(areas.state(), BLKTAP_STATE_CONNECTED);
  module.head().state = BLKTAP_STATE_CLOSING;
  EXPECT_EQ(areas.state(), BLKTAP_STATE_CLOSING);
}

TEST(LayoutIsSound, RefusesWhatWouldLeadOutsideAnArea) {
  const blktap_attach sound = FakeModule{2048}.attach();
  EXPECT_TRUE(layout_is_sound(sound));
  const auto refused = [&](auto&& change) {
    blktap_attach bad = sound;
    change(bad);
    return !layout_is_sound(bad);
  };
  EXPECT_TRUE(refused([](blktap_attach& a) { a.depth = 0; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.depth = 31; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.depth = 64; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.max_segs = 12; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.commands = 16; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.commands = 128; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.slot_bytes = 4096; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.window_bytes /= 2; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.requests_at = 0; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.requests_at = a.descriptors_bytes - 64; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.segments_at = ~0u - 7; }));
  EXPECT_TRUE(refused([](blktap_attach& a) { a.commands_at = a.commands_bytes; }));
}

}  // namespace
}  // namespace tapdisk
