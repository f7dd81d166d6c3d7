// SPDX-License-Identifier: GPL-2.0-only
//
// How the hotplug program takes a disk away, and what it does where a tapdisk has ended.
#include "hotplug/hotplug.hpp"
#include "tests/support/hotplug_world.hpp"

namespace tapdisk {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

using HotplugRemoveTest = testing::HotplugWorld;

TEST_F(HotplugRemoveTest, RemoveStops) {
  expect_attached();
  unit.calls.clear();
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
  EXPECT_THAT(unit.calls, ElementsAre("terminate"));
}

TEST_F(HotplugRemoveTest, RemoveOnlyWaitsWhereTapdiskLeavesByItself) {
  expect_attached();
  unit.calls.clear();
  directory.text("sys/class/blktap/vbd-3-51712/state", "closed\n");
  unit.on_wait = [&] {
    ::unlink(record_file().c_str());
    unit.state = "inactive";
  };
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
  EXPECT_THAT(unit.calls, IsEmpty());
}

TEST_F(HotplugRemoveTest, RemoveStopsATapdiskThatShouldHaveLeft) {
  expect_attached();
  unit.calls.clear();
  directory.text("sys/class/blktap/vbd-3-51712/state", "closed\n");
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
  EXPECT_THAT(unit.calls, ElementsAre("terminate"));
}

TEST_F(HotplugRemoveTest, RemoveOfNothing) {
  xenstore.values.clear();
  std::filesystem::remove_all(root() + "/run");
  EXPECT_EQ(remove(), 0);
  EXPECT_THAT(unit.calls, IsEmpty());
}

TEST_F(HotplugRemoveTest, RemoveForgetsAFailedUnit) {
  directory.text("run/blktap/vbd-3-51712.json", "{}");
  unit.state = "failed";
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
  EXPECT_THAT(unit.calls, ElementsAre("forget_failure"));
}

TEST_F(HotplugRemoveTest, RemoveTellsWhatDoesNotLeaveAndKillsWhatDoesNotDrain) {
  expect_attached();
  unit.calls.clear();
  unit.deaf = true;
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
  EXPECT_THAT(unit.calls, ElementsAre("terminate", "kill", "forget_failure"));
}

TEST_F(HotplugRemoveTest, RemoveSaysThatATapdiskCannotBeKilled) {
  expect_attached();
  unit.deaf = unit.undead = true;
  EXPECT_EQ(remove(), 1);
  EXPECT_THAT(said, Contains("tapdisk cannot be killed"));
}

// Its vbd may get another.
TEST_F(HotplugRemoveTest, ATapdiskThatWasKilled) {
  expect_attached();
  unit.state = "failed";
  EXPECT_EQ(run(&Hotplug::left), 0);
  EXPECT_TRUE(std::filesystem::exists(record_file())) << "the next one has no record";
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
}

TEST_F(HotplugRemoveTest, ATapdiskThatWasKilledAndNobodyComes) {
  expect_attached();
  unit.state = "inactive";
  xenstore.remove("backend");
  std::filesystem::remove_all(root() + "/sys/class/blktap/vbd-3-51712");
  EXPECT_EQ(run(&Hotplug::left), 0);
  expect_nothing_left();
}

}  // namespace
}  // namespace tapdisk
