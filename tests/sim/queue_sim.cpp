// SPDX-License-Identifier: GPL-2.0-only
// The queue against a guest that asks anything at any time and a disk that is as lazy as it may
// be: a sync makes durable what was finished before it started, and nothing else. Time is a count
// of events; what happens next, and whether it fails, is the dice's.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <vector>

#include "tests/sim/seeds.hpp"
#include "vbd/queue.hpp"

namespace tapdisk {
namespace {

using testing::Dice;

class QueueSim {
 public:
  explicit QueueSim(std::uint64_t seed) : dice_(seed) {
    faults_ = dice_.percent(30) ? dice_.below(5) : 0;
    depth_ = static_cast<Slot>(1 + dice_.below(dice_.percent(70) ? 32 : kSlotsMax));
    flush_percent_ = dice_.below(40);
    barrier_percent_ = dice_.below(20);
  }

  void run() {
    const unsigned kRequests = 300 + depth_;
    while (!::testing::Test::HasFailure() && (arrived_ < kRequests || busy())) {
      if (arrived_ < kRequests && free_slot() && dice_.percent(50))
        arrive();
      else if (busy())
        finish_something();
    }
    perform(queue_.step(Drain{}));
    EXPECT_TRUE(drained_);
  }

 private:
  // What the simulation knows of a request.
  struct Life {
    RequestVerb verb = RequestVerb::kRead;
    bool has_data = false;
    bool owed = false;
    bool data_running = false;
    bool data_done = false;
    unsigned order = 0;        // of arrival
    std::set<unsigned> before;  // writes answered when it arrived
  };

  bool busy() const { return !running_.empty() || sync_running_; }

  bool free_slot() {
    for (Slot slot = 0; slot < depth_; slot++)
      if (!lives_[slot].owed) return true;
    return false;
  }

  void arrive() {
    Slot slot = static_cast<Slot>(dice_.below(depth_));
    while (lives_[slot].owed) slot = static_cast<Slot>((slot + 1) % depth_);
    Life& life = lives_[slot] = Life{};
    life.owed = true;
    life.order = arrived_++;
    life.before = answered_writes_;
    life.verb = dice_.percent(flush_percent_)     ? RequestVerb::kFlush
                : dice_.percent(barrier_percent_) ? RequestVerb::kBarrier
                : dice_.percent(50)               ? RequestVerb::kWrite
                                                  : RequestVerb::kRead;
    if (life.verb == RequestVerb::kWrite && dice_.percent(10)) life.verb = RequestVerb::kDiscard;
    life.has_data = (life.verb != RequestVerb::kFlush && life.verb != RequestVerb::kBarrier) ||
                    dice_.percent(30);
    Request request;
    request.verb = life.verb;
    request.slot = slot;
    request.bytes = life.has_data ? 4096 : 0;
    perform(queue_.step(Arrived{Pending{request}}));
  }

  void finish_something() {
    const unsigned choice = dice_.below(static_cast<unsigned>(running_.size()) + sync_running_);
    const int result = dice_.percent(faults_) ? -EIO : 0;
    if (choice == running_.size()) return finish_sync(result);
    const Slot slot = running_[choice];
    running_.erase(running_.begin() + choice);
    Life& life = lives_[slot];
    life.data_running = false;
    life.data_done = result == 0;
    if (life.verb != RequestVerb::kRead && result == 0) finished_writes_.insert(life.order);
    perform(queue_.step(DataDone{slot, result}));
  }

  void finish_sync(int result) {
    sync_running_ = false;
    if (result)
      sync_failed_ = true;
    else
      durable_.insert(sync_covers_.begin(), sync_covers_.end());
    perform(queue_.step(SyncDone{result}));
  }

  void perform(const Actions& actions) {
    for (const Action& action : actions) std::visit([this](const auto& a) { on(a); }, action);
  }

  void on(const StartData& action) {
    Life& life = lives_[action.slot];
    ASSERT_TRUE(life.owed && life.has_data && !life.data_running);
    ASSERT_FALSE(sync_failed_ && life.verb != RequestVerb::kRead);
    // Nothing overtakes a barrier, and a barrier overtakes nothing.
    for (const Life& other : lives_) {
      if (!other.owed || &other == &life) continue;
      const bool earlier = other.order < life.order;
      ASSERT_FALSE(earlier && other.verb == RequestVerb::kBarrier);
      ASSERT_FALSE(earlier && life.verb == RequestVerb::kBarrier);
    }
    if (life.verb == RequestVerb::kFlush || life.verb == RequestVerb::kBarrier) {
      ASSERT_TRUE(is_durable(life.before));
    }
    life.data_running = true;
    running_.push_back(action.slot);
  }

  void on(const StartSync&) {
    ASSERT_FALSE(sync_running_);
    ASSERT_FALSE(sync_failed_);
    sync_running_ = true;
    sync_covers_ = finished_writes_;
  }

  void on(const SendReply& action) {
    Life& life = lives_[action.reply.slot];
    ASSERT_TRUE(life.owed && !life.data_running);
    life.owed = false;
    if (action.reply.result) return;
    ASSERT_FALSE(sync_failed_ && life.verb != RequestVerb::kRead);
    ASSERT_EQ(life.data_done, life.has_data);
    if (life.verb == RequestVerb::kFlush || life.verb == RequestVerb::kBarrier) {
      ASSERT_TRUE(is_durable(life.before));
    }
    if (life.verb == RequestVerb::kBarrier && life.has_data) {
      ASSERT_TRUE(durable_.contains(life.order));
    }
    if (finished_writes_.contains(life.order)) answered_writes_.insert(life.order);
  }

  void on(const Drained&) {
    ASSERT_FALSE(busy());
    drained_ = true;
  }

  bool is_durable(const std::set<unsigned>& writes) const {
    return std::includes(durable_.begin(), durable_.end(), writes.begin(), writes.end());
  }

  Dice dice_;
  unsigned faults_;  // percent
  Slot depth_;
  unsigned flush_percent_;
  unsigned barrier_percent_;

  Queue queue_;
  std::array<Life, kSlotsMax> lives_;
  std::vector<Slot> running_;
  bool sync_running_ = false;
  bool sync_failed_ = false;
  bool drained_ = false;
  unsigned arrived_ = 0;
  // Writes, by order of arrival.
  std::set<unsigned> finished_writes_;
  std::set<unsigned> answered_writes_;
  std::set<unsigned> sync_covers_;
  std::set<unsigned> durable_;
};

TEST(QueueSim, KeepsItsPromisesWhateverHappens) {
  testing::for_each_seed(1500, [](std::uint64_t seed) { QueueSim{seed}.run(); });
}

}  // namespace
}  // namespace tapdisk
