// SPDX-License-Identifier: GPL-2.0-only
// A queue that is held: for a pause of its disk.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>

#include "tests/unit/server_fixture.hpp"

namespace tapdisk {
namespace {

using testing::kPage;

// Is made and runs in a thread of its own, for a guest that always wants more.
class HeldServer : public testing::ServerFixture {
 protected:
  void SetUp() override {
    std::promise<void> made;
    runner = std::thread{[this, &made] {
      ServerFixture::SetUp();
      script();
      made.set_value();
      outcome = server->run();
      ended = true;
    }};
    made.get_future().get();
  }
  void script() {
    guest.depth = 8;
    guest.at_end = nullptr;
    for (std::uint64_t i = 0; i < 20; i++) guest.wishes.push_back({BLKTAP_OP_WRITE, i * 8, kPage});
    guest.check = [this](Slot, std::size_t i) {
      guest.wishes.push_back({BLKTAP_OP_WRITE, i % 200 * 8, kPage});
    };
  }
  void TearDown() override {
    server->stop();
    runner.join();
    EXPECT_TRUE(outcome);
  }
  template <class Condition>
  static bool soon(Condition&& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{5};
    while (!condition() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    return condition();
  }
  bool comes_to_rest() {
    return soon([this] { return server->rests(); });
  }
  std::uint64_t taken() const { return source.counters().requests.get(); }

  std::thread runner;
  std::atomic<bool> ended{false};
  Result<void> outcome;
};

INSTANTIATE_TEST_SUITE_P(Engines, HeldServer, testing::kEngines, testing::engine_name);

TEST_P(HeldServer, FinishesWhatItOwnsAndTakesNoMore) {
  for (int round = 0; round < 20; round++) {
    server->hold();
    ASSERT_TRUE(comes_to_rest());
    const std::uint64_t before = taken();
    EXPECT_EQ(source.counters().replies.get(), before) << "something is under way";
    source.wake();  // the guest has more
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
    EXPECT_EQ(taken(), before);
    EXPECT_TRUE(server->sleeps());
    server->release();
    ASSERT_TRUE(soon([&] { return taken() > before; })) << "it does not go on";
    ASSERT_FALSE(server->rests());
  }
}

TEST_P(HeldServer, SleepsWhileItRests) {
  server->hold();
  ASSERT_TRUE(comes_to_rest());
  std::this_thread::sleep_for(std::chrono::milliseconds{10});
  const std::uint64_t before = server->counters().turns.get();
  std::this_thread::sleep_for(std::chrono::milliseconds{30});
  EXPECT_EQ(server->counters().turns.get(), before);
}

// TearDown() has it stopped.
TEST_P(HeldServer, IsStoppedAllTheSame) {
  server->hold();
  ASSERT_TRUE(comes_to_rest());
}

TEST_P(HeldServer, LearnsThatItsVbdIsGone) {
  server->hold();
  ASSERT_TRUE(comes_to_rest());
  source.remove();
  ASSERT_TRUE(soon([this] { return ended.load(); }));
  EXPECT_TRUE(server->vbd_is_gone());
}

}  // namespace
}  // namespace tapdisk
