// SPDX-License-Identifier: GPL-2.0-only
// Dialogues with the queue.
#include "vbd/queue.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

namespace tapdisk {

void PrintTo(const Action& action, std::ostream* out) {
  if (const auto* data = std::get_if<StartData>(&action)) *out << "StartData{" << data->slot << "}";
  if (std::get_if<StartSync>(&action)) *out << "StartSync";
  if (const auto* send = std::get_if<SendReply>(&action))
    *out << "SendReply{" << send->reply.slot << ", " << send->reply.result << "}";
  if (std::get_if<Drained>(&action)) *out << "Drained";
}

namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr std::uint32_t kGeneration = 7;

std::vector<Action> list(const Actions& actions) { return {actions.begin(), actions.end()}; }

Action ok(Slot slot) { return SendReply{Reply{slot, kGeneration, 0}}; }
Action error(Slot slot, int result) { return SendReply{Reply{slot, kGeneration, result}}; }

class QueueTest : public ::testing::Test {
 protected:
  std::vector<Action> arrive(RequestVerb verb, Slot slot, std::uint32_t bytes = 4096) {
    Request request;
    request.verb = verb;
    request.slot = slot;
    request.generation = kGeneration;
    request.bytes = bytes;
    return list(queue.step(Arrived{Pending{request}}));
  }
  std::vector<Action> read(Slot slot) { return arrive(RequestVerb::kRead, slot); }
  std::vector<Action> write(Slot slot) { return arrive(RequestVerb::kWrite, slot); }
  std::vector<Action> flush(Slot slot) { return arrive(RequestVerb::kFlush, slot, 0); }
  std::vector<Action> barrier(Slot slot) { return arrive(RequestVerb::kBarrier, slot); }
  std::vector<Action> done(Slot slot, int result = 0) {
    return list(queue.step(DataDone{slot, result}));
  }
  std::vector<Action> synced(int result = 0) { return list(queue.step(SyncDone{result})); }
  std::vector<Action> drain() { return list(queue.step(Drain{})); }

  Queue queue;
};

TEST_F(QueueTest, PlainRequestsRunAtOnceAndFinishInAnyOrder) {
  EXPECT_THAT(write(0), ElementsAre(StartData{0}));
  EXPECT_THAT(read(1), ElementsAre(StartData{1}));
  EXPECT_THAT(done(1), ElementsAre(ok(1)));
  EXPECT_THAT(done(0), ElementsAre(ok(0)));
}

TEST_F(QueueTest, AnErrorIsTheReply) {
  EXPECT_THAT(read(3), ElementsAre(StartData{3}));
  EXPECT_THAT(done(3, -EIO), ElementsAre(error(3, -EIO)));
}

TEST_F(QueueTest, ADiscardRunsLikeAWrite) {
  EXPECT_THAT(write(0), ElementsAre(StartData{0}));
  EXPECT_THAT(arrive(RequestVerb::kDiscard, 255, 1 << 20), ElementsAre(StartData{255}));
  EXPECT_THAT(barrier(1), IsEmpty());
  EXPECT_THAT(arrive(RequestVerb::kDiscard, 2), IsEmpty());
  EXPECT_THAT(done(0), ElementsAre(ok(0)));
  EXPECT_THAT(done(255, -EOPNOTSUPP), ElementsAre(error(255, -EOPNOTSUPP), StartSync{}));
}

TEST_F(QueueTest, AFlushIsAnsweredOnlyAfterItsSync) {
  EXPECT_THAT(flush(0), ElementsAre(StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(ok(0)));
}

TEST_F(QueueTest, AFlushDoesNotWaitForWritesInFlight) {
  write(0);
  EXPECT_THAT(flush(1), ElementsAre(StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(ok(1)));
  EXPECT_THAT(done(0), ElementsAre(ok(0)));
}

TEST_F(QueueTest, PlainRequestsPassAFlush) {
  flush(0);
  EXPECT_THAT(write(1), ElementsAre(StartData{1}));
  EXPECT_THAT(done(1), ElementsAre(ok(1)));
}

TEST_F(QueueTest, AFlushThatArrivesDuringASyncNeedsTheNextOne) {
  write(0);
  EXPECT_THAT(flush(1), ElementsAre(StartSync{}));
  EXPECT_THAT(done(0), ElementsAre(ok(0)));  // after the sync began: it may not cover this
  EXPECT_THAT(flush(2), IsEmpty());
  EXPECT_THAT(synced(), ElementsAre(StartSync{}, ok(1)));
  EXPECT_THAT(synced(), ElementsAre(ok(2)));
}

TEST_F(QueueTest, FlushesThatWaitShareOneSync) {
  flush(0);
  EXPECT_THAT(flush(1), IsEmpty());
  EXPECT_THAT(flush(2), IsEmpty());
  EXPECT_THAT(synced(), ElementsAre(StartSync{}, ok(0)));
  EXPECT_THAT(synced(), ElementsAre(ok(1), ok(2)));
}

TEST_F(QueueTest, TheDataOfAFlushIsWrittenAfterTheSync) {
  EXPECT_THAT(arrive(RequestVerb::kFlush, 0, 4096), ElementsAre(StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(StartData{0}));
  EXPECT_THAT(done(0), ElementsAre(ok(0)));
}

TEST_F(QueueTest, AfterAFailedSyncEveryFlushFails) {
  flush(0);
  flush(1);
  EXPECT_THAT(synced(-EIO), ElementsAre(error(0, -EIO), error(1, -EIO)));
  EXPECT_THAT(flush(2), ElementsAre(error(2, -EIO)));
  EXPECT_THAT(barrier(3), ElementsAre(error(3, -EIO)));
}

TEST_F(QueueTest, AfterAFailedSyncNothingChangesTheDisk) {
  flush(0);
  synced(-EIO);
  EXPECT_THAT(write(1), ElementsAre(error(1, -EIO)));
  EXPECT_THAT(arrive(RequestVerb::kDiscard, 2), ElementsAre(error(2, -EIO)));
  EXPECT_THAT(read(3), ElementsAre(StartData{3}));
  EXPECT_THAT(done(3), ElementsAre(ok(3)));
}

TEST_F(QueueTest, WhatIsUnderWayWhenASyncFailsFailsToo) {
  write(0);
  arrive(RequestVerb::kDiscard, 1);
  read(2);
  arrive(RequestVerb::kFlush, 3);
  EXPECT_THAT(synced(), ElementsAre(StartData{3}));
  flush(4);
  EXPECT_THAT(synced(-EIO), ElementsAre(error(4, -EIO)));
  EXPECT_THAT(done(0), ElementsAre(error(0, -EIO)));
  EXPECT_THAT(done(1, -ENOSPC), ElementsAre(error(1, -ENOSPC)));
  EXPECT_THAT(done(2), ElementsAre(ok(2)));
  EXPECT_THAT(done(3), ElementsAre(error(3, -EIO)));
}

TEST_F(QueueTest, WritesHeldByABarrierFailWhenItsSyncDoes) {
  barrier(0);
  write(1);
  read(2);
  EXPECT_THAT(synced(-EIO), ElementsAre(error(0, -EIO), error(1, -EIO), StartData{2}));
}

TEST_F(QueueTest, ABarrierWaitsForEverythingBefore) {
  write(0);
  flush(1);
  EXPECT_THAT(barrier(2), IsEmpty());
  EXPECT_THAT(done(0), ElementsAre(ok(0)));
  EXPECT_THAT(synced(), ElementsAre(ok(1), StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(StartData{2}));
  EXPECT_THAT(done(2), ElementsAre(StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(ok(2)));
}

TEST_F(QueueTest, ABarrierHoldsEverythingAfter) {
  EXPECT_THAT(barrier(0), ElementsAre(StartSync{}));
  EXPECT_THAT(read(1), IsEmpty());
  EXPECT_THAT(flush(2), IsEmpty());
  EXPECT_THAT(synced(), ElementsAre(StartData{0}));
  EXPECT_THAT(done(0), ElementsAre(StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(ok(0), StartData{1}, StartSync{}));
}

TEST_F(QueueTest, ABarrierWithoutDataIsAFlushInOrder) {
  write(0);
  EXPECT_THAT(arrive(RequestVerb::kBarrier, 1, 0), IsEmpty());
  EXPECT_THAT(write(2), IsEmpty());
  EXPECT_THAT(done(0), ElementsAre(ok(0), StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(ok(1), StartData{2}));
}

TEST_F(QueueTest, BarriersGoOneAfterTheOther) {
  arrive(RequestVerb::kBarrier, 0, 0);
  arrive(RequestVerb::kBarrier, 1, 0);
  write(2);
  EXPECT_THAT(synced(), ElementsAre(ok(0), StartSync{}));
  EXPECT_THAT(synced(), ElementsAre(ok(1), StartData{2}));
}

TEST_F(QueueTest, AFailedBarrierLetsTheOthersGo) {
  barrier(0);
  write(1);
  synced();
  EXPECT_THAT(done(0, -ENOSPC), ElementsAre(error(0, -ENOSPC), StartData{1}));
}

TEST_F(QueueTest, AFailedSyncDoesNotWriteTheBarriersData) {
  barrier(0);
  read(1);
  EXPECT_THAT(synced(-EIO), ElementsAre(error(0, -EIO), StartData{1}));
}

TEST_F(QueueTest, HeldBarriersAllFailAfterAFailedSync) {
  for (Slot slot = 0; slot < kSlotsMax; slot++) arrive(RequestVerb::kBarrier, slot, 0);
  std::vector<Action> all;
  for (Slot slot = 0; slot < kSlotsMax; slot++) all.push_back(error(slot, -EIO));
  EXPECT_THAT(synced(-EIO), ElementsAreArray(all));
}

TEST_F(QueueTest, AFullQueueBehindABarrierGoesOnInOrder) {
  arrive(RequestVerb::kBarrier, 0, 0);
  for (Slot slot = 1; slot < kSlotsMax; slot++) EXPECT_THAT(write(slot), IsEmpty());
  std::vector<Action> all{ok(0)};
  for (Slot slot = 1; slot < kSlotsMax; slot++) all.emplace_back(StartData{slot});
  EXPECT_THAT(synced(), ElementsAreArray(all));
}

TEST_F(QueueTest, DrainSaysWhenNothingIsLeft) {
  write(0);
  EXPECT_THAT(drain(), IsEmpty());
  EXPECT_THAT(done(0), ElementsAre(ok(0), Drained{}));
  EXPECT_THAT(write(1), ElementsAre(StartData{1}));
  EXPECT_THAT(done(1), ElementsAre(ok(1), Drained{}));
}

TEST_F(QueueTest, DrainOfAnIdleQueueIsDoneAtOnce) { EXPECT_THAT(drain(), ElementsAre(Drained{})); }

TEST_F(QueueTest, ASlotThatIsStillOwedAnAnswerIsNotGivenAgain) {
  write(0);
  EXPECT_DEATH(write(0), "internal error");
}

TEST_F(QueueTest, DataThatWasNotStartedCannotBeDone) {
  flush(0);
  EXPECT_DEATH(done(0), "internal error");
}

TEST(Pending, IsAnsweredOnce) {
  Pending pending{Request{}};
  std::move(pending).answer(0);
  EXPECT_DEATH(std::move(pending).answer(0), "internal error");
}

}  // namespace
}  // namespace tapdisk
