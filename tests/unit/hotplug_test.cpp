// SPDX-License-Identifier: GPL-2.0-only
//
// The hotplug program against a made-up xenstore, systemd and /sys: that each failure gives its
// message and leaves nothing behind.
#include "hotplug/hotplug.hpp"

#include "tests/support/hotplug_world.hpp"
#include "tests/unit/lock_program.hpp"

namespace tapdisk {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class HotplugTest : public testing::HotplugWorld {
 protected:
  void fails_to_start(int code = EIO, const std::string& why = "tapdisk did not start (failed)") {
    unit.on_start = [=] { return Error{code, why}; };
  }
};

TEST_F(HotplugTest, AddConnects) {
  expect_attached();
  EXPECT_EQ(stored("physical-device-path"), image);
  EXPECT_EQ(stored("physical-device"), "");
  const DiskRecord disk = record();
  EXPECT_EQ(disk.vbd, "vbd-3-51712");
  EXPECT_EQ(disk.backend, kBackend);
  EXPECT_EQ(disk.image, image);
  EXPECT_THAT(disk.identity, HasSubstr("file:"));
  EXPECT_EQ(disk.vm, kVm);
  EXPECT_FALSE(disk.read_only || disk.cdrom || disk.removable || disk.grants);
  EXPECT_THAT(disk.options, IsEmpty());
  struct stat status {};
  ASSERT_EQ(::stat(record_file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(HotplugTest, AddTwiceStartsOnce) {
  expect_attached();
  unit.calls.clear();
  EXPECT_EQ(add(), 0);
  expect_not_started();
}

TEST_F(HotplugTest, ReadOnlyCdromRemovableAndDefaults) {
  key("mode", "r");
  key("device-type", "cdrom");
  key("removable", "1");
  ::chmod(image.c_str(), 0444);
  directory.text("etc/default/blktap", "TAPDISK_OPTIONS=\"--engine libaio\"\n");
  expect_attached();
  const DiskRecord disk = record();
  EXPECT_TRUE(disk.read_only && disk.cdrom && disk.removable);
  EXPECT_THAT(disk.options, ElementsAre("--engine=libaio"));
}

TEST_F(HotplugTest, SettingsChooseDisks) {
  directory.text("etc/blktap/a.conf", "[disk]\nguest = gue*\nvdev = xvda\npath = */disk.img\n"
                                      "no-discard = yes\n[disk]\nguest = other\ndirect = off\n");
  expect_attached();
  EXPECT_THAT(record().options, ElementsAre("--no-discard"));
}

TEST_F(HotplugTest, ABadSettingIsNamedAndNothingIsStarted) {
  const std::string file = directory.text("etc/blktap/a.conf", "[disk]\nengin = libaio\n");
  expect_refused(file + ":2: there is no setting 'engin'");
  expect_not_started();
}

TEST_F(HotplugTest, ASettingWithoutMeaningIsIgnoredWithAWarning) {
  grants = true;
  bind("", bus_id);
  const std::string file =
      directory.text("etc/default/blktap", "TAPDISK_OPTIONS='--poll-us 50 --engine libaio'\n");
  expect_attached();
  EXPECT_THAT(record().options, ElementsAre("--engine=libaio"));
  EXPECT_THAT(said, Contains(file + ":1: poll-us means nothing for a tap:gnt: disk"));
}

TEST_F(HotplugTest, TheImageMayHaveAnyNameInUtf8) {
  for (const std::string name :
       {"a b,c:d\\x41 \xc3\xbc \"'$(true)=%s%n.img", "tab\there.img", " blank ", "-v"}) {
    const std::string odd = directory.text("img/" + name, "data\n");
    const std::string link = root() + "/img/link to " + name;
    std::filesystem::create_symlink(odd, link);
    key("params", link);
    again();
    expect_attached();
    EXPECT_EQ(stored("physical-device-path"), odd);
    EXPECT_EQ(record().image, link);
  }
}

TEST_F(HotplugTest, Vbd3ParamsHaveAFormat) {
  backend = "backend/vbd3/3/51712";
  bind("blktap", "vbd3-3-51712");
  for (const char* name : {"state", "mode", "online"})
    xenstore.values[backend + "/" + name] = stored(name).empty() ? "2" : stored(name);
  xenstore.values[backend + "/state"] = "2";
  xenstore.values[backend + "/params"] = "aio:" + image;
  expect_attached();
  EXPECT_EQ(record().image, image);
  EXPECT_EQ(record().backend, backend);
}

TEST_F(HotplugTest, TheOwnerOfAStubDomainIsItsTarget) {
  xenstore.values["/local/domain/3/target"] = "2";
  xenstore.values["/local/domain/2/vm"] = "/vm/22222222-0000-0000-0000-000000000000-1";
  expect_attached();
  EXPECT_EQ(record().vm, "22222222-0000-0000-0000-000000000000");
}

TEST_F(HotplugTest, TheOwnerWhereItCannotBeReadIsOfThisHost) {
  xenstore.remove("/local/domain/3/vm");
  expect_attached();
  EXPECT_EQ(record().vm, "domain-" + first_line("/etc/machine-id") + "-3");
}

TEST_F(HotplugTest, TheOwnerOfALocalAttachIsDom0) {
  EXPECT_EQ(owner_of(*Store::open(), "0"), "00000000-0000-0000-0000-000000000000");
}

TEST_F(HotplugTest, TheFrontendMayConnectMeanwhile) {
  unit.on_start = [&] { key("state", "4"); return Result<void>{}; };
  expect_attached();
}

TEST_F(HotplugTest, AFrontendMayCloseOnceBeforeItStarts) {
  for (const char* state : {"5", "6"}) {
    key("state", state);
    again();
    unit.on_start = [&] { key("state", "2"); return Result<void>{}; };
    expect_attached();
    key("state", "2");
    again();
    unit.on_start = [&] { key("state", state); return Result<void>{}; };
    expect_attached();
  }
}

TEST_F(HotplugTest, AVbdThatClosesAndIsNotOnlineIsGoing) {
  key("state", "6");
  key("online", "0");
  expect_refused("vbd-3-51712 is not waiting for a disk (state 6)");
  expect_not_started();
}

TEST_F(HotplugTest, AVbdOfXenBlkbackIsTakenOver) {
  bind("vbd", bus_id);
  on_write = [&](const std::string& file) {
    if (file.ends_with("drivers/vbd/unbind")) bind("blktap", bus_id);
  };
  expect_attached();
  EXPECT_THAT(wrote, ElementsAre("unbind vbd-3-51712"));
}

TEST_F(HotplugTest, AVbdThatStaysWithXenBlkback) {
  bind("vbd", bus_id);
  expect_refused("vbd-3-51712 is bound to xen-blkback; load blktap first");
  EXPECT_THAT(wrote, ElementsAre("unbind vbd-3-51712", "bind vbd-3-51712"));
  expect_not_started();
}

TEST_F(HotplugTest, AModuleThatDoesNotLoad) {
  bind("vbd", bus_id);
  on_run = [](const auto&) { return 1; };
  EXPECT_EQ(add(), 1);
  EXPECT_THAT(stored("hotplug-error"), HasSubstr("blktap.ko does not load; is it installed for "));
  expect_not_started();
}

TEST_F(HotplugTest, AVbdWithoutADriver) {
  bind("", bus_id);
  expect_refused("vbd-3-51712 is not served by blktap.ko (driver: none)");
}

TEST_F(HotplugTest, AVbdGoneBeforeAddIsNotBroughtBack) {
  xenstore.remove("backend");
  EXPECT_EQ(add(), 1);
  EXPECT_EQ(stored("hotplug-error"), "");
  EXPECT_THAT(xenstore.values, Not(Contains(::testing::Key(HasSubstr("backend")))));
  expect_not_started();
}

// Between the look and the writing.
TEST_F(HotplugTest, AVbdThatGoesWhileItIsToldIsNotBroughtBack) {
  xenstore.before_end = [&] { xenstore.remove("backend"); };
  EXPECT_EQ(add(), 1);
  EXPECT_THAT(xenstore.values, Not(Contains(::testing::Key(HasSubstr("backend")))));
  expect_nothing_left();
  SetUp();
  unit.state = "";
  fails_to_start();
  xenstore.before_end = [&] { xenstore.remove("backend"); };
  EXPECT_EQ(add(), 1);
  EXPECT_THAT(xenstore.values, Not(Contains(::testing::Key(HasSubstr("backend")))));
}

TEST_F(HotplugTest, WhatHappensWhileItIsToldIsSeen) {
  xenstore.before_end = [&] { key("state", "4"); };
  expect_attached();
  xenstore.before_end = [&] { key("state", "5"), key("online", "0"); };
  key("hotplug-status", "");
  key("state", "2");
  unit.state = "";
  expect_refused("vbd-3-51712 went away while its tapdisk started (state 5)");
}

TEST_F(HotplugTest, NoSystemd) {
  unit.there = false;
  expect_refused("tap:zc: disks need systemd, which is not running");
}

TEST_F(HotplugTest, TapdiskSaysWhyItDidNotStart) {
  fails_to_start();
  unit.words.status = image + ": Structure needs cleaning";
  expect_refused(image + ": Structure needs cleaning");
}

TEST_F(HotplugTest, TheJournalSaysWhy) {
  fails_to_start();
  unit.words.journal = "terminate called";
  expect_refused(image + ": terminate called");
}

TEST_F(HotplugTest, ATapdiskThatIsNeverReady) {
  fails_to_start();
  unit.words.result = "timeout";
  unit.words.journal = "Started";
  expect_refused(image + ": tapdisk was not ready in time");
}

TEST_F(HotplugTest, OnlySystemdSaysWhy) {
  fails_to_start();
  expect_refused(image + ": tapdisk did not start (failed)");
}

TEST_F(HotplugTest, ALongMessageKeepsItsBeginningAndItsReason) {
  const std::string path = "/" + std::string(4000, 'x');
  key("params", path);
  EXPECT_EQ(add(), 1);
  EXPECT_THAT(stored("hotplug-error"), StartsWith("/xxxx"));
  EXPECT_THAT(stored("hotplug-error"), EndsWith("xx: File name too long"));
}

TEST_F(HotplugTest, AnImageInUseByAnotherGuest) {
  fails_to_start();
  unit.words.status = image + ": in use by vbd-2-51728 (guest the other)";
  expect_refused(image + ": in use by vbd-2-51728 (guest the other)");
}

// Which tapdisk may not look for.
TEST_F(HotplugTest, AnImageInUseByAProgram) {
  fails_to_start();
  unit.words.status = image + ": in use by another program, which lets nobody write";
  expect_refused(unit.words.status);
  again();
  const testing::Program backup{image, {{F_OFD_SETLK, F_RDLCK, 201, 1}}};
  ASSERT_TRUE(backup.locked());
  EXPECT_EQ(add(), 1);
  EXPECT_THAT(stored("hotplug-error"), StartsWith(image + ": in use by " + backup.name()));
  EXPECT_THAT(stored("hotplug-error"), EndsWith("), which lets nobody write"));
  // It is in no reader's way: another one was, and has gone.
  key("mode", "r");
  again();
  expect_refused(unit.words.status);
}

TEST_F(HotplugTest, TheVbdGoesAwayWhileTapdiskStarts) {
  unit.on_start = [&] {
    key("state", "5");
    key("online", "0");
    return Result<void>{};
  };
  expect_refused("vbd-3-51712 went away while its tapdisk started (state 5)");
}

TEST_F(HotplugTest, AXenstoreThatCannotBeWritten) {
  unit.on_start = [&] { xenstore.refuses_writes = true; return Result<void>{}; };
  EXPECT_EQ(add(), 1);
  expect_nothing_left();
}

TEST_F(HotplugTest, AnInterruptUndoes) {
  fails_to_start(EINTR, "interrupted");
  expect_refused("interrupted");
}

TEST_F(HotplugTest, AnOldTapdiskThatDoesNotDie) {
  unit.state = "active";
  unit.deaf = unit.undead = true;
  EXPECT_EQ(add(), 1);
  EXPECT_EQ(stored("hotplug-error"), "an earlier tapdisk of vbd-3-51712 does not end");
  expect_not_started();
}

TEST_F(HotplugTest, AnOldTapdiskIsReplaced) {
  unit.state = "active";
  expect_attached();
  EXPECT_THAT(unit.calls, ElementsAre("terminate", "start"));
}

TEST_F(HotplugTest, ATapdiskThatDoesNotAttach) {
  std::filesystem::remove_all(root() + "/sys/class");
  expect_refused("tapdisk has started, but does not serve vbd-3-51712");
}

TEST(HotplugNames, ComeFromXenstoresPath) {
  const auto vbd = parse_backend("/local/domain/5/backend/vbd3/32751/51712");
  ASSERT_TRUE(vbd);
  EXPECT_EQ(vbd->name, "vbd-32751-51712");
  EXPECT_EQ(vbd->bus_id, "vbd3-32751-51712");
  EXPECT_EQ(vbd->unit, "blktap-tapdisk@vbd-32751-51712.service");
  EXPECT_EQ(vbd->siblings, "/local/domain/5/backend");
  for (const char* path : {"", "backend/vif/3/0", "backend/vbd/3", "backend/vbd/3/0/", "vbd/3/0",
                           "xbackend/vbd/3/0", "backend/vbd/3/a", "backend/vbd/-3/0"})
    EXPECT_FALSE(parse_backend(path)) << path;
  EXPECT_EQ(parse_vbd("vbd-3-51712")->backend, "backend/vbd/3/51712");
  for (const char* name : {"", "vbd", "vbd-3", "vif-3-0", "vbd-3-0/../x"})
    EXPECT_FALSE(parse_vbd(name)) << name;
}

TEST(HotplugMessages, AreShortenedInTheMiddle) {
  EXPECT_EQ(shorten("short", 3900), "short");
  const std::string text = shorten(std::string(5000, 'a') + ": reason", 1000);
  EXPECT_LE(text.size(), 1000u);
  EXPECT_THAT(text, EndsWith("aa: reason"));
  EXPECT_THAT(text, HasSubstr("aa ... aa"));
}

}  // namespace
}  // namespace tapdisk
