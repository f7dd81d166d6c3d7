// SPDX-License-Identifier: GPL-2.0-only
// What the program tells of its health, and that it makes room for another one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tapctl/places.hpp"
#include "tests/unit/process_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;

class ProcessWatchTest : public testing::ProcessTest {};

TEST_F(ProcessWatchTest, SaysThatItIsAliveWhileItSleeps) {
  serve("", {"WATCHDOG_USEC=300000", "FAKE_REQUESTS=10"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  for (int i = 0; i < 10; i++) EXPECT_EQ(next_message(), "WATCHDOG=1") << log();
}

// No other process would fare better.
TEST_F(ProcessWatchTest, StorageThatStallsIsNoHang) {
  serve("--engine\nlibaio\n", {"WATCHDOG_USEC=300000", "FAKE_REQUESTS=10", "FAKE_STALL=1"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  for (int i = 0; i < 500 && log().find("stalls") == std::string::npos; i++) ::usleep(20'000);
  EXPECT_THAT(log(), HasSubstr("fake device: stalls"));
  for (int i = 0; i < 10; i++) EXPECT_EQ(next_message(), "WATCHDOG=1") << log();
}

TEST_F(ProcessWatchTest, DoesNotLeaveAGuestThatNobodyElseWouldServe) {
  serve("--keep\n0\n", {"FAKE_REQUESTS=10"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  const Places places{directory.path(), directory.path()};
  const Result<std::string> answer = ask_tapdisk(places, "vbd-1-2", R"({"cmd":"leave"})");
  ASSERT_TRUE(answer) << answer.error().what;
  EXPECT_THAT(*answer, HasSubstr("\"ok\":false"));
  EXPECT_THAT(*answer, HasSubstr("--keep 0"));
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), 0);
}

}  // namespace
}  // namespace tapdisk
