// SPDX-License-Identifier: GPL-2.0-only
// A pause of a disk of which only the rest matters here.
#include "server/pause.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "server/control.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class PauseTest : public ::testing::Test {
 protected:
  bool comes_to(Pause::State state) {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (pause->state() != state && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(1ms);
    return pause->state() == state;
  }
  bool is_released() {
    const auto deadline = std::chrono::steady_clock::now() + 5s;
    while (held && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(1ms);
    return !held;
  }

  std::atomic<bool> held{false};
  std::atomic<bool> rests{true};
  std::atomic<int> syncs{0};
  std::atomic<int> syncs_while_served{0};
  std::atomic<int> sync_error{0};
  std::atomic<bool> distrusted{false};
  std::optional<Pause> pause{std::in_place, PausedDisk{
      [this] { held = true; }, [this] { held = false; },
      [this] { return held && rests; },
      [this] {
        syncs++;
        syncs_while_served += !held;
        return sync_error ? Result<void>{Error{sync_error, "a.img: cannot be synced"}}
                          : Result<void>{};
      },
      [this] { distrusted = held.load(); }}};
};

TEST_F(PauseTest, LastsUntilItIsEnded) {
  ASSERT_TRUE(pause->begin(60s));
  ASSERT_TRUE(comes_to(Pause::State::kPaused));
  EXPECT_TRUE(held);
  EXPECT_FALSE(distrusted);
  EXPECT_EQ(pause->begin(60s).error().code, EALREADY);
  std::this_thread::sleep_for(20ms);
  EXPECT_TRUE(held);
  const auto ended = pause->end();
  ASSERT_TRUE(ended);
  EXPECT_GE(*ended, 20ms);
  EXPECT_TRUE(is_released());
  ASSERT_TRUE(comes_to(Pause::State::kNone));
  ASSERT_TRUE(pause->begin(60s)) << "once more";
  EXPECT_TRUE(comes_to(Pause::State::kPaused));
}

// Or a script would keep a snapshot of a disk that went on meanwhile.
TEST_F(PauseTest, IsEndedOnce) {
  for (int round = 0; round < 50; round++) {
    ASSERT_TRUE(pause->begin(60s));
    ASSERT_TRUE(comes_to(Pause::State::kPaused));
    ASSERT_TRUE(pause->end());
    const auto again = pause->end();
    ASSERT_FALSE(again);
    EXPECT_THAT(again.error().what, HasSubstr("was ended"));
    ASSERT_TRUE(comes_to(Pause::State::kNone));
  }
}

// Not before nothing is under way; but there may be much to sync, for which no guest waits.
TEST_F(PauseTest, IsSyncedWhileTheGuestIsServedAndWhenItIsNot) {
  rests = false;
  ASSERT_TRUE(pause->begin(60s));
  std::this_thread::sleep_for(30ms);
  EXPECT_EQ(pause->state(), Pause::State::kBegins);
  EXPECT_EQ(syncs, 1);
  EXPECT_EQ(syncs_while_served, 1);
  rests = true;
  EXPECT_TRUE(comes_to(Pause::State::kPaused));
  EXPECT_EQ(syncs, 2);
  EXPECT_EQ(syncs_while_served, 1);
}

TEST_F(PauseTest, IsGivenUpWhileItBegins) {
  rests = false;
  ASSERT_TRUE(pause->begin(60s));
  EXPECT_THAT(pause->end().error().what, HasSubstr("did not rest yet"));
  EXPECT_TRUE(comes_to(Pause::State::kNone));
  EXPECT_TRUE(is_released());
  EXPECT_EQ(syncs, syncs_while_served);
}

// Whoever ends it has to learn that the disk has changed meanwhile.
TEST_F(PauseTest, IsOverAfterItsTimeAndSaysSo) {
  ASSERT_TRUE(pause->begin(20ms));
  ASSERT_TRUE(comes_to(Pause::State::kNone));
  EXPECT_TRUE(is_released());
  const auto ended = pause->end();
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().what, HasSubstr("over after 20 ms"));
}

TEST_F(PauseTest, IsNoneWhereTheImageIsNotSynced) {
  sync_error = EIO;
  ASSERT_TRUE(pause->begin(60s));
  ASSERT_TRUE(comes_to(Pause::State::kNone));
  EXPECT_TRUE(is_released());
  EXPECT_EQ(syncs, 1) << "the second try would say nothing of what is lost";
  EXPECT_TRUE(distrusted);
  EXPECT_THAT(pause->why(), HasSubstr("a.img: cannot be synced"));
}

TEST_F(PauseTest, EndsWithWhoMadeIt) {
  ASSERT_TRUE(pause->begin(60s));
  ASSERT_TRUE(comes_to(Pause::State::kPaused));
  pause.reset();
  EXPECT_FALSE(held);
}

// What a client of the control socket says, and is told.
class PauseByLines : public PauseTest {
 protected:
  nlohmann::json say(std::string_view line) {
    ControlHooks hooks;
    hooks.pause = &*pause;
    return nlohmann::json::parse(answer_line(line, hooks));
  }
};

TEST_F(PauseByLines, BeginsAndEnds) {
  EXPECT_EQ(say(R"({"cmd":"pause","seconds":60})")["ok"], true);
  ASSERT_TRUE(comes_to(Pause::State::kPaused));
  EXPECT_EQ(say(R"({"cmd":"paused"})")["paused"], true);
  const auto again = say(R"({"cmd":"pause","seconds":60})");
  EXPECT_EQ(again["ok"], false);
  EXPECT_THAT(again["error"].get<std::string>(), HasSubstr("already"));
  EXPECT_GE(say(R"({"cmd":"resume"})")["ms"], 0);
  ASSERT_TRUE(comes_to(Pause::State::kNone));
  EXPECT_EQ(say(R"({"cmd":"paused"})")["ok"], false);
  EXPECT_EQ(say(R"({"cmd":"resume"})")["ok"], false);
}

TEST_F(PauseByLines, TellsThatItHasNotGotSoFar) {
  rests = false;
  EXPECT_EQ(say(R"({"cmd":"pause","seconds":60})")["ok"], true);
  const auto begins = say(R"({"cmd":"paused"})");
  EXPECT_EQ(begins["ok"], true);
  EXPECT_EQ(begins["paused"], false);
}

TEST_F(PauseByLines, TakesOnlyATimeThatEnds) {
  for (const char* seconds : {"0", "3601", "-1", "1.5", "\"60\"", "null", "18446744073709551616"})
    EXPECT_EQ(say(fmt::format(R"({{"cmd":"pause","seconds":{}}})", seconds))["ok"], false)
        << seconds;
  EXPECT_EQ(say(R"({"cmd":"pause"})")["ok"], false);
  EXPECT_EQ(pause->state(), Pause::State::kNone);
}

}  // namespace
}  // namespace tapdisk
