// SPDX-License-Identifier: GPL-2.0-only
//
// What the hotplug program makes of an image: which it refuses, and why; and disks without the
// module.
#include "hotplug/driver.hpp"
#include "hotplug/in_use.hpp"
#include "tests/support/hotplug_world.hpp"

namespace tapdisk {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class HotplugImageTest : public testing::HotplugWorld {
 protected:
  void refuses(const std::string& params, const std::string& why) {
    key("params", params);
    expect_refused(why);
    expect_not_started();
  }
  void loop_of(const std::string& file, const std::string& read_only) {
    directory.text("sys/block/loop7/loop/backing_file", file + "\n");
    directory.text("sys/block/loop7/ro", read_only + "\n");
    std::filesystem::create_directories(root() + "/sys/block/loop8");
  }
  void another_guest(const std::string& kind, const std::string& name, const std::string& value,
                     const std::string& mode) {
    xenstore.values["/local/domain/7/vm"] = "/vm/77777777-0000-0000-0000-000000000000";
    xenstore.values["/local/domain/7/name"] = "seven";
    xenstore.values["backend/" + kind + "/7/832/" + name] = value;
    xenstore.values["backend/" + kind + "/7/832/mode"] = mode;
  }
};

TEST_F(HotplugImageTest, Paths) {
  refuses(root() + "/img/none", root() + "/img/none: No such file or directory");
  refuses(root() + "/img", root() + "/img: Is a directory");
  refuses("/dev/null", "/dev/null: neither a regular file nor a block device");
  refuses(image + "/x", image + "/x: Not a directory");
  refuses("disk.img", "disk.img: not an absolute path");
  refuses(root() + "/a\nb", root() + "/a?b: newline in the path");
  refuses(image + "\n", image + "?: newline in the path");
  refuses("", ": not an absolute path");
  std::filesystem::create_symlink("b", root() + "/img/a");
  std::filesystem::create_symlink("a", root() + "/img/b");
  refuses(root() + "/img/a", root() + "/img/a: Too many levels of symbolic links");
}

TEST_F(HotplugImageTest, NoPath) {
  xenstore.remove(std::string{kBackend} + "/params");
  expect_refused("no image path given");
}

TEST_F(HotplugImageTest, ANewlineBehindALink) {
  directory.text("img/a\nb", "");
  std::filesystem::create_symlink("a\nb", root() + "/img/link");
  refuses(root() + "/img/link", root() + "/img/link: newline in the path it leads to");
}

// It exists, and could be served; libxl could not keep it.
TEST_F(HotplugImageTest, ANameThatIsNotUtf8) {
  for (const char* name :
       {"m\xfcller.img", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xc3"})
    refuses(directory.text(std::string{"img/"} + name, "data\n"),
            root() + "/img/" + name + ": the name is not UTF-8, which libxl needs; rename it, or "
                                      "attach a link to it");
}

TEST_F(HotplugImageTest, Permissions) {
  ::chmod(image.c_str(), 0444);
  refuses(image, image + ": Permission denied (disk is 'w', image is read-only)");
  ::chmod(image.c_str(), 0);
  refuses(image, image + ": Permission denied");
}

TEST_F(HotplugImageTest, LoopDevices) {
  const std::string message = image + ": in use by this host as /dev/loop7 (losetup --list)";
  loop_of(image, "1");
  refuses(image, message);
  key("mode", "r");
  loop_of(image, "0");
  refuses(image, message);
  loop_of(image, "1");
  again();
  expect_attached();
  loop_of(root() + "/img/other.img", "0");
  key("mode", "w");
  again();
  expect_attached();
}

TEST_F(HotplugImageTest, ADeviceOfXenBlkback) {
  device_as_image();
  another_guest("vbd", "physical-device", "7:fa", "w");
  refuses(image, image + ": in use by vbd-7-832 (guest seven)");
  another_guest("vbd", "physical-device", "7:fa", "r");
  refuses(image, image + ": in use by vbd-7-832 (guest seven)");
  key("mode", "r");
  again();
  expect_attached();
  another_guest("vbd", "physical-device", "7:fab", "w");
  key("mode", "w");
  again();
  expect_attached();
  EXPECT_EQ(stored("physical-device"), "7:fa");
}

// Its locks are the last word: it may be shared.
TEST_F(HotplugImageTest, ADeviceOfAnotherTapdisk) {
  device_as_image();
  another_guest("vbd", "physical-device", "7:fa", "w");
  std::filesystem::create_directories(root() + "/sys/class/blktap/vbd-7-832");
  expect_attached();
}

TEST_F(HotplugImageTest, ADeviceOfTheSameGuestBeforeItsReboot) {
  device_as_image();
  another_guest("vbd", "physical-device", "7:fa", "w");
  xenstore.values["/local/domain/7/vm"] = std::string{"/vm/"} + kVm + "-1";
  expect_attached();
}

TEST_F(HotplugImageTest, AnImageOfQemu) {
  std::filesystem::create_symlink("disk.img", root() + "/img/link");
  another_guest("qdisk", "params", "aio:" + root() + "/img/link", "w");
  refuses(image, image + ": in use by qdisk-7-832 (guest seven)");
  another_guest("qdisk", "params", "aio:" + root() + "/img/other.img", "w");
  again();
  expect_attached();
}

class HotplugGrantsTest : public testing::HotplugWorld {
 protected:
  HotplugGrantsTest() { grants = true; }
  void SetUp() override {
    HotplugWorld::SetUp();
    bind("", bus_id);
  }
};

TEST_F(HotplugGrantsTest, NoDriverKeepsTheVbd) {
  bind("vbd", bus_id);
  on_write = [&](const std::string&) { bind("", bus_id); };
  expect_attached();
  EXPECT_THAT(wrote, ElementsAre("unbind vbd-3-51712"));
  EXPECT_TRUE(record().grants);
}

// xen-blkback would open it, where it gets the vbd to close it.
TEST_F(HotplugGrantsTest, ADeviceIsNotNamedToXenBlkback) {
  device_as_image();
  expect_attached();
  EXPECT_EQ(stored("physical-device-path"), image);
  EXPECT_EQ(stored("physical-device"), "");
}

TEST_F(HotplugGrantsTest, ADriverThatStays) {
  bind("vbd", bus_id);
  expect_refused("vbd-3-51712 is bound to vbd, which does not let it go");
  expect_not_started();
}

// What its unit does last would take the new one's record away, and bind the vbd.
TEST_F(HotplugGrantsTest, AnEarlierTapdiskIsStoppedFirst) {
  bind("vbd", bus_id);
  unit.state = "active";
  std::string state = "not released";
  on_write = [&](const std::string&) {
    state = unit.state;
    bind("", bus_id);
  };
  expect_attached();
  EXPECT_EQ(state, "inactive");
}

TEST_F(HotplugGrantsTest, AFailureGivesTheVbdBack) {
  ::unlink(image.c_str());
  expect_refused(image + ": No such file or directory");
  EXPECT_THAT(wrote, ElementsAre("bind vbd-3-51712"));
}

TEST_F(HotplugGrantsTest, DevicesOfXenAreLoadedWhereTheyAreMissing) {
  std::vector<std::string> ran;
  on_run = [&](const auto& command) { return ran = command, 0; };
  expect_attached();
  EXPECT_THAT(ran, ElementsAre("modprobe", "-a", "xen-gntdev", "xen-evtchn"));
  ran.clear();
  directory.text("dev/xen/gntdev", "");
  directory.text("dev/xen/evtchn", "");
  key("hotplug-status", "");
  unit.state = "";
  expect_attached();
  EXPECT_THAT(ran, IsEmpty());
}

TEST_F(HotplugGrantsTest, ATapdiskThatEndedLeavesAVbdThatCanBeClosed) {
  std::filesystem::remove_all(root() + "/sys/class");
  key("state", "4");
  directory.text("run/blktap/vbd-3-51712.json", "");
  directory.text("run/blktap/vbd-3-51712.sock", "");
  EXPECT_EQ(run(&Hotplug::left), 0);
  EXPECT_THAT(wrote, ElementsAre("bind vbd-3-51712"));
  EXPECT_EQ(remove(), 0);
  expect_nothing_left();
}

TEST_F(HotplugGrantsTest, ATapdiskThatEndedWhenAllWasClosed) {
  std::filesystem::remove_all(root() + "/sys/class");
  for (const char* state : {"6", ""}) {
    key("state", state);
    EXPECT_EQ(run(&Hotplug::left), 0);
  }
  EXPECT_THAT(wrote, IsEmpty());
}

}  // namespace
}  // namespace tapdisk
