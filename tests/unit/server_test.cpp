// SPDX-License-Identifier: GPL-2.0-only
// What one queue does for its guest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "base/syscall.hpp"
#include "tests/unit/server_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::ElementsAre;
using testing::FakeGuest;
using testing::FakeSource;
using testing::kPage;
using testing::ScriptedGuest;
using testing::Wish;

class ServerTest : public testing::ServerFixture {};

INSTANTIATE_TEST_SUITE_P(Engines, ServerTest, testing::kEngines, testing::engine_name);

TEST_P(ServerTest, AGuestReadsWhatItWrote) {
  guest.wishes = {
      {BLKTAP_OP_WRITE, 8, kPage}, {BLKTAP_OP_FLUSH, 0, {}}, {BLKTAP_OP_READ, 8, kPage}};
  guest.prepare = [&](Slot slot, const Wish& wish) {
    if (wish.op == BLKTAP_OP_WRITE) std::memset(module.page(slot, false), 'w', 4096);
  };
  guest.check = [&](Slot slot, std::size_t n) {
    if (n == 2) {
      EXPECT_EQ(module.page(slot, true)[4095], std::byte{'w'});
    }
  };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0));
  EXPECT_EQ(server->counters().syncs.get(), 1u);
  EXPECT_EQ(server->counters().bytes_written.get(), 4096u);
}

TEST_P(ServerTest, ItSleepsOnlyWhereItMayHaveToWait) {
  guest.wishes = {{BLKTAP_OP_WRITE, 8, kPage}, {BLKTAP_OP_READ, 8, kPage}};
  unsigned awake = 0, asleep = 0;
  source.at_next = [&] { awake += !server->sleeps(); };
  guest.prepare = [&](Slot, const Wish&) { asleep += server->sleeps(); };  // in the doorbell
  EXPECT_TRUE(server->sleeps());
  EXPECT_TRUE(server->run());
  EXPECT_TRUE(server->sleeps());
  EXPECT_GE(awake, 2u);
  EXPECT_EQ(asleep, 2u);
}

// The module moves the data of reads and writes; all else is done here.
TEST_P(ServerTest, WhatIsSubmittableIsSubmitted) {
  module.submits = true;
  module.attach().features |= BLKTAP_FEATURE_SUBMIT;
  FakeSource submitting{module, guest};
  Server server{submitting, *image, *engine, errors, full};
  guest.at_end = [&] { submitting.remove(); };
  guest.wishes = {
      {BLKTAP_OP_WRITE, 8, kPage}, {BLKTAP_OP_FLUSH, 0, {}}, {BLKTAP_OP_READ, 16, kPage}};
  EXPECT_TRUE(server.run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0));
  ASSERT_EQ(module.submitted.size(), 2u);
  EXPECT_EQ(module.submitted[0].offset, 8u * 512);
  EXPECT_EQ(module.submitted[1].offset, 16u * 512);
  struct stat there {};
  struct stat image_file {};
  ASSERT_EQ(::fstat(module.submitted[0].fd, &there), 0);
  ASSERT_EQ(::stat(path.c_str(), &image_file), 0);
  EXPECT_EQ(there.st_ino, image_file.st_ino);
  EXPECT_EQ(server.counters().submits.get(), 2u);
  EXPECT_EQ(server.counters().reads.get() + server.counters().writes.get(), 0u);
  EXPECT_EQ(server.counters().syncs.get(), 1u);
}

TEST_P(ServerTest, AGuestDiscardsWhatItWrote) {
  guest.wishes = {{BLKTAP_OP_WRITE, 8, kPage},
                  {BLKTAP_OP_DISCARD, 0, {}, 2048},
                  {BLKTAP_OP_READ, 8, kPage}};
  guest.prepare = [&](Slot slot, const Wish& wish) {
    if (wish.op == BLKTAP_OP_WRITE) std::memset(module.page(slot, false), 'w', 4096);
    if (wish.op == BLKTAP_OP_READ) std::memset(module.page(slot, true), 'r', 4096);
  };
  guest.check = [&](Slot slot, std::size_t n) {
    if (n == 2) {
      EXPECT_EQ(module.page(slot, true)[4095], std::byte{0});
    }
  };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0));
  EXPECT_EQ(server->counters().discards.get(), 1u);
  EXPECT_EQ(server->counters().bytes_discarded.get(), 1u << 20);
}

TEST_P(ServerTest, ManyDiscardsAtOnceAreAllAnswered) {
  guest.depth = BLKTAP_DEPTH_MAX;
  for (std::uint64_t i = 0; i < 1000; i++)
    guest.wishes.push_back({BLKTAP_OP_DISCARD, i * 2, {}, 2});
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ::testing::SizeIs(1000));
  EXPECT_THAT(guest.results, ::testing::Each(0));
}

TEST_P(ServerTest, ARequestOf256SegmentsIsOneIo) {
  const std::vector<blktap_seg> segments(BLKTAP_SEGS_MAX, blktap_seg{0, 0, 2048});
  guest.wishes = {{BLKTAP_OP_WRITE, 16, segments}, {BLKTAP_OP_READ, 16, segments}};
  guest.prepare = [&](Slot slot, const Wish& wish) {
    for (unsigned i = 0; i < BLKTAP_SEGS_MAX && wish.op == BLKTAP_OP_WRITE; i++)
      std::memset(module.page(slot, false, i), static_cast<int>(i), 2048);
  };
  guest.check = [&](Slot slot, std::size_t n) {
    for (unsigned i = 0; i < BLKTAP_SEGS_MAX && n == 1; i++)
      ASSERT_EQ(module.page(slot, true, i)[2047], std::byte(i));
  };
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0));
  EXPECT_EQ(server->counters().bytes_read.get(), 512u << 10);
}

TEST_P(ServerTest, TheVbdGoingAwayEndsIt) {
  source.remove();
  EXPECT_TRUE(server->run());
  EXPECT_TRUE(server->vbd_is_gone());
}

TEST_P(ServerTest, TheVbdGoingAwayWithIoInFlightEndsItToo) {
  guest.depth = 32;
  for (std::uint64_t i = 0; i < 32; i++)
    guest.wishes.push_back({BLKTAP_OP_READ, i * 8, kPage});
  struct Killer final : FakeGuest {
    void answered(Slot, int) override {}
    void rung() override {
      inner->rung();
      source->remove();
    }
    ScriptedGuest* inner = nullptr;
    FakeSource* source = nullptr;
  } killer;
  FakeSource doomed{module, killer};
  killer.inner = &guest;
  killer.source = &doomed;
  guest.at_end = nullptr;
  Server other{doomed, *image, *engine, errors, full};
  EXPECT_TRUE(other.run());
  EXPECT_EQ(other.counters().reads.get(), 32u);
}

// What it owns is answered; what the guest asks for later stays on the guest's ring.
TEST_P(ServerTest, StopDrainsFirst) {
  guest.depth = 32;
  for (std::uint64_t i = 0; i < 100; i++)
    guest.wishes.push_back({BLKTAP_OP_WRITE, i * 8, kPage});
  guest.at_end = nullptr;
  guest.prepare = [&](Slot, const Wish&) { server->stop(); };
  EXPECT_TRUE(server->run());
  EXPECT_EQ(guest.results.size(), source.counters().requests.get());
  EXPECT_GE(guest.results.size(), 32u);
  EXPECT_LT(guest.results.size(), 100u);
  EXPECT_THAT(guest.results, ::testing::Each(0));
}

TEST_P(ServerTest, StopFromAnotherThreadWakesAnIdleServer) {
  guest.at_end = nullptr;
  std::thread stopper{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{30});
    server->stop();
  }};
  EXPECT_TRUE(server->run());
  EXPECT_FALSE(server->vbd_is_gone());
  stopper.join();
}

TEST_P(ServerTest, AModuleThatIsNotUnderstoodEndsIt) {
  source.break_protocol();
  const Result<void> outcome = server->run();
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code, EPROTO);
}

TEST_P(ServerTest, AnIoErrorIsAnsweredAndSaidOnce) {
  std::filesystem::resize_file(path, 4096);
  guest.wishes = {{BLKTAP_OP_READ, 1024, kPage}, {BLKTAP_OP_READ, 1032, kPage},
                  {BLKTAP_OP_READ, 0, kPage}};
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(-ENODATA, -ENODATA, 0));
  EXPECT_THAT(logged, ElementsAre(path + ": reading 4096 bytes at byte 524288: No data available"));
  EXPECT_EQ(server->counters().errors.get(), 2u);
}

TEST_P(ServerTest, BarriersKeepTheirOrder) {
  guest.depth = 8;
  guest.wishes = {{BLKTAP_OP_WRITE, 0, kPage}, {BLKTAP_OP_BARRIER, 8, kPage},
                  {BLKTAP_OP_READ, 0, kPage}, {BLKTAP_OP_BARRIER, 0, {}},
                  {BLKTAP_OP_READ, 8, kPage}};
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ElementsAre(0, 0, 0, 0, 0));
  EXPECT_EQ(server->counters().syncs.get(), 3u);
}

// Depth one: the cost that cannot be shared with anybody.
TEST_P(ServerTest, ARequestAtDepthOneCostsFewSystemCalls) {
  constexpr unsigned kCount = 500;
  for (std::uint64_t i = 0; i < kCount; i++)
    guest.wishes.push_back({BLKTAP_OP_READ, i % 256 * 8, kPage});
  EXPECT_TRUE(server->run());
  const double rings = static_cast<double>(source.counters().rings.get()) / kCount;
  const double calls = static_cast<double>(engine->counters().calls.get()) / kCount;
  RecordProperty("doorbells", std::to_string(rings));
  RecordProperty("engine_calls", std::to_string(calls));
  // This guest is ready with its next request inside the doorbell, so that one does for both.
  EXPECT_LE(rings, 1.05);
  EXPECT_LE(calls, GetParam() == EngineKind::kUring ? 1.05 : 2.05);
}

TEST_P(ServerTest, AQueueThatIsFullSharesThem) {
  constexpr unsigned kCount = 3200;
  guest.depth = 32;
  for (std::uint64_t i = 0; i < kCount; i++)
    guest.wishes.push_back({BLKTAP_OP_READ, i % 256 * 8, kPage});
  EXPECT_TRUE(server->run());
  EXPECT_THAT(guest.results, ::testing::SizeIs(kCount));
  EXPECT_LT(source.counters().rings.get(), kCount);
  RecordProperty("doorbells_per_request",
                 std::to_string(static_cast<double>(source.counters().rings.get()) / kCount));
}

TEST_P(ServerTest, SleepsOnlyWithTheDoorbellArmed) {
  guest.wishes = {{BLKTAP_OP_READ, 0, kPage}};
  EXPECT_TRUE(server->run());
  EXPECT_TRUE(source.armed);
}

}  // namespace
}  // namespace tapdisk
