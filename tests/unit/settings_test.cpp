// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::vector<std::string> chosen(const std::string& text, const DiskDescription& disk = {}) {
  const auto rules = parse_settings(text, "f");
  EXPECT_TRUE(rules) << rules.error().what;
  return rules ? choose_options(*rules, disk).arguments : std::vector<std::string>{"(error)"};
}

std::string refused(const std::string& text) {
  const auto rules = parse_settings(text, "f");
  return rules ? "accepted" : rules.error().what;
}

std::vector<std::string> defaults(const std::string& text) {
  const auto rules = parse_defaults(text, "f");
  EXPECT_TRUE(rules) << rules.error().what;
  return rules ? choose_options(*rules, {}).arguments : std::vector<std::string>{"(error)"};
}

std::string defaults_refused(const std::string& text) {
  const auto rules = parse_defaults(text, "f");
  return rules ? "accepted" : rules.error().what;
}

TEST(Settings, NothingIsNothing) {
  EXPECT_THAT(chosen(""), IsEmpty());
  EXPECT_THAT(chosen("# a comment\n\n  \t\n[disk]\n"), IsEmpty());
}

TEST(Settings, OptionsHaveTapdisksNames) {
  EXPECT_THAT(chosen("[disk]\nengine = libaio\n  direct=off  \npersistent-grants = yes\n"
                     "no-discard = no\ncopy = 4kb\r\n"),
              ElementsAre("--engine=libaio", "--direct=off", "--persistent-grants",
                          "--no-discard=no", "--copy=4kb"));
}

TEST(Settings, ADiskMustMatchAllOfASection) {
  const std::string text = "[disk]\nguest = web*\nvdev = xvd[ab]\npath = /dev/vg0/*\ntype = zc\n"
                           "engine = libaio\n";
  const DiskDescription disk{"web1", "xvda", "/dev/vg0/root", "/dev/dm-1", false};
  EXPECT_THAT(chosen(text, disk), ElementsAre("--engine=libaio"));
  DiskDescription other = disk;
  other.guest = "db";
  EXPECT_THAT(chosen(text, other), IsEmpty());
  other = disk;
  other.vdev = "xvdc";
  EXPECT_THAT(chosen(text, other), IsEmpty());
  other = disk;
  other.path = "/srv/a";
  EXPECT_THAT(chosen(text, other), IsEmpty());
  other.image = "/dev/vg0/root";  // where it leads to
  EXPECT_THAT(chosen(text, other), ElementsAre("--engine=libaio"));
  other = disk;
  other.grants = true;
  EXPECT_THAT(chosen(text, other), IsEmpty());
}

TEST(Settings, LaterSectionsWinOptionByOption) {
  EXPECT_THAT(chosen("[disk]\nengine = libaio\ndirect = off\nno-discard = yes\n"
                     "[disk]\nengine = io_uring\nno-discard = no\n"),
              ElementsAre("--direct=off", "--engine=io_uring", "--no-discard=no"));
}

TEST(Settings, WhatIsWrongIsNamedWithFileAndLine) {
  EXPECT_EQ(refused("engine = libaio\n"), "f:1: settings begin with a line [disk]");
  EXPECT_EQ(refused("\n[disks]\n"), "f:2: there is no section [disks], only [disk]");
  EXPECT_EQ(refused("[disk]\nengin = libaio\n"), "f:2: there is no setting 'engin'");
  EXPECT_EQ(refused("[disk]\nvm = x\n"), "f:2: there is no setting 'vm'");
  EXPECT_EQ(refused("[disk]\nimage = /etc/shadow\n"), "f:2: there is no setting 'image'");
  EXPECT_EQ(refused("[disk]\nengine\n"), "f:2: neither [disk] nor KEY = VALUE");
  EXPECT_EQ(refused("[disk]\nengine =\n"), "f:2: 'engine' has no value");
  EXPECT_EQ(refused("[disk]\nno-discard = true\n"),
            "f:2: no-discard: 'true' is neither yes nor no");
  EXPECT_THAT(refused("[disk]\nengine = posix\n"), StartsWith("f:2: --engine: "));
  EXPECT_THAT(refused("[disk]\npoll-us = -1\n"), StartsWith("f:2: "));
  EXPECT_EQ(refused("[disk]\ntype = phy\n"), "f:2: type: 'phy' is neither zc nor gnt");
  EXPECT_EQ(refused("[disk]\npath = /a\npath = /b\n"),
            "f:3: a second 'path'; it takes a [disk] of its own");
  EXPECT_EQ(refused("[disk]\npath = /m\xfcller\n"), "f:2: not a line of text in UTF-8");
  EXPECT_EQ(refused(std::string("[disk]\n\0\n", 9)), "f:2: not a line of text in UTF-8");
}

TEST(Settings, WhatMeansNothingWithoutTheModuleIsIgnored) {
  const auto rules = parse_settings("[disk]\ndata-path = submit\nengine = libaio\n", "f");
  ASSERT_TRUE(rules);
  DiskDescription disk;
  disk.grants = true;
  const ChosenOptions options = choose_options(*rules, disk);
  EXPECT_THAT(options.arguments, ElementsAre("--engine=libaio"));
  EXPECT_THAT(options.ignored, ElementsAre("f:2: data-path means nothing for a tap:gnt: disk"));
}

TEST(Settings, DefaultsOfEarlierTimes) {
  EXPECT_THAT(defaults("# none\n"), IsEmpty());
  EXPECT_THAT(defaults("TAPDISK_OPTIONS=\n"), IsEmpty());
  EXPECT_THAT(defaults("TAPDISK_OPTIONS=''\n"), IsEmpty());
  EXPECT_THAT(defaults("TAPDISK_OPTIONS=\"--engine libaio  --no-discard\" # all\n"),
              ElementsAre("--engine=libaio", "--no-discard"));
  EXPECT_THAT(defaults("TAPDISK_OPTIONS='--direct=off'\n"), ElementsAre("--direct=off"));
  EXPECT_THAT(defaults("TAPDISK_OPTIONS=--no-discard\n"), ElementsAre("--no-discard"));
  EXPECT_THAT(defaults("TAPDISK_OPTIONS=--no-discard\nTAPDISK_OPTIONS=--direct=on\n"),
              ElementsAre("--direct=on"));
}

TEST(Settings, DefaultsThatTakeAShellAreRefusedWithAHint) {
  for (const char* text :
       {"TAPDISK_OPTIONS=\"$OTHER\"\n", "TAPDISK_OPTIONS=\"`x`\"\n", "exit 0\n",
        "[[ $image == x ]] && TAPDISK_OPTIONS=--no-discard\n", "TAPDISK_OPTIONS='--a\n",
        "TAPDISK_OPTIONS=--direct off\n", "TAPDISK_OPTIONS='a'b\n", "args=()\n",
        "TAPDISK_OPTIONS=a;b\n", "export TAPDISK_OPTIONS=a\n"})
    EXPECT_THAT(defaults_refused(text), HasSubstr("see blktap.conf(5)")) << text;
  EXPECT_EQ(defaults_refused("\nTAPDISK_OPTIONS=--vm=x\n"), "f:2: there is no setting 'vm'");
  EXPECT_EQ(defaults_refused("TAPDISK_OPTIONS=--bogus\n"), "f:1: there is no setting 'bogus'");
  EXPECT_EQ(defaults_refused("TAPDISK_OPTIONS=--engine\n"), "f:1: --engine has no value");
  EXPECT_EQ(defaults_refused("TAPDISK_OPTIONS=bogus\n"),
            "f:1: 'bogus' is not an option of tapdisk");
}

TEST(Settings, FilesAreReadInOrder) {
  const testing::TempDirectory etc;
  EXPECT_THAT(*read_settings(etc.path()), IsEmpty());
  etc.text("default/blktap", "TAPDISK_OPTIONS='--engine io_uring --direct off'\n");
  etc.text("blktap/20.conf", "[disk]\nengine = libaio\n");
  etc.text("blktap/10.conf", "[disk]\nengine = auto\nno-discard = yes\n");
  etc.text("blktap/.30.conf", "nonsense\n");
  etc.text("blktap/30.conf~", "nonsense\n");
  const auto rules = read_settings(etc.path());
  ASSERT_TRUE(rules) << rules.error().what;
  EXPECT_THAT(choose_options(*rules, {}).arguments,
              ElementsAre("--direct=off", "--no-discard", "--engine=libaio"));
  const std::string bad = etc.text("blktap/40.conf", "[disk]\nx = 1\n");
  EXPECT_EQ(read_settings(etc.path()).error().what, bad + ":2: there is no setting 'x'");
}

}  // namespace
}  // namespace tapdisk
