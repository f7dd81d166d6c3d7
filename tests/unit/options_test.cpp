// SPDX-License-Identifier: GPL-2.0-only
#include "server/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>

#include "base/disk_record.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using testing::TempDirectory;

Options good(std::vector<std::string> arguments) {
  const auto parsed = parse_options(std::move(arguments));
  if (!parsed) {
    ADD_FAILURE() << parsed.error().what;
    return {};
  }
  return std::get<Options>(*parsed);
}

std::string bad(std::vector<std::string> arguments) {
  const auto parsed = parse_options(std::move(arguments));
  return parsed ? "accepted" : parsed.error().what;
}

TEST(Options, DefaultsAreTheSensibleOnes) {
  const Options options = good({"--vbd", "vbd-3-51712", "--image", "/srv/a.img"});
  EXPECT_EQ(options.attach.vbd, "vbd-3-51712");
  EXPECT_EQ(options.image.path, "/srv/a.img");
  EXPECT_FALSE(options.image.read_only);
  EXPECT_EQ(options.engine, EngineKind::kAuto);
  EXPECT_EQ(options.path, DataPath::kAuto);
  EXPECT_EQ(options.image.direct, Direct::kAuto);
  EXPECT_TRUE(options.attach.prefault);
  EXPECT_EQ(options.attach.copy_bytes, 0u);
  EXPECT_EQ(options.attach.poll_us, 0u);
  EXPECT_EQ(options.attach.keep_ms, 60'000u);
  EXPECT_TRUE(options.image.discard);
  EXPECT_EQ(options.image.sector_size, 0u);
  EXPECT_FALSE(options.attach.cdrom);
  EXPECT_FALSE(options.attach.removable);
  EXPECT_EQ(options.control, "/run/blktap/vbd-3-51712.sock");
  EXPECT_EQ(options.image.lock.vbd, "vbd-3-51712");
  EXPECT_EQ(options.image.lock.locking, Locking::kOn);
  EXPECT_FALSE(options.image.lock.shares);
}

TEST(Options, EachIsUnderstood) {
  const Options options =
      good({"--vbd", "vbd-0-268441856", "--image", "/x", "--read-only", "--engine", "libaio",
            "--direct", "off", "--vm", "0b9e", "--window", "fault", "--control", "/tmp/c",
            "--cdrom", "--removable", "--no-discard", "--foreground-log", "--data-path", "window",
            "--copy", "64k", "--poll-us", "50", "--keep", "5", "--sector-size", "4096",
            "--lock", "auto", "--shared"});
  EXPECT_TRUE(options.image.read_only);
  EXPECT_EQ(options.engine, EngineKind::kAio);
  EXPECT_EQ(options.path, DataPath::kWindow);
  EXPECT_EQ(options.image.sector_size, 4096u);
  EXPECT_EQ(options.image.direct, Direct::kOff);
  EXPECT_EQ(options.image.lock.vm, "0b9e");
  EXPECT_EQ(options.image.lock.locking, Locking::kAuto);
  EXPECT_TRUE(options.image.lock.shares);
  EXPECT_FALSE(options.attach.prefault);
  EXPECT_FALSE(options.image.discard);
  EXPECT_EQ(options.control, "/tmp/c");
  EXPECT_TRUE(options.attach.cdrom);
  EXPECT_TRUE(options.attach.removable);
  EXPECT_TRUE(options.foreground_log);
  EXPECT_EQ(options.attach.copy_bytes, 65536u);
  EXPECT_EQ(options.attach.poll_us, 50u);
  EXPECT_EQ(options.attach.keep_ms, 5000u);
}

TEST(Options, AProfileIsWhatWasNotSaid) {
  const auto with = [](std::vector<std::string> more) {
    std::vector<std::string> arguments{"--vbd", "vbd-1-2", "--image", "/x"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Options options = good(arguments);
    return std::pair{options.attach.persistent, options.attach.copy_bytes};
  };
  EXPECT_EQ(with({}), (std::pair{true, 0u}));
  EXPECT_EQ(with({"--profile", "fast"}), with({}));
  EXPECT_EQ(with({"--profile", "zero-copy"}), (std::pair{false, 0u}));
  EXPECT_EQ(with({"--profile", "copy"}), (std::pair{true, 1u << 20}));
  EXPECT_EQ(with({"--no-persistent-grants"}), (std::pair{false, 0u}));
  EXPECT_EQ(with({"--persistent-grants", "--profile", "zero-copy"}), (std::pair{true, 0u}));
  EXPECT_EQ(with({"--copy", "4k", "--profile", "zero-copy"}), (std::pair{false, 4096u}));
  EXPECT_EQ(with({"--profile", "copy", "--copy", "0"}), (std::pair{true, 0u}));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", "/x", "--profile", "slow"}),
              HasSubstr("zero-copy"));
}

TEST(Options, WatchingNeedsTheModuleAndHasABound) {
  EXPECT_NE(bad({"--vbd", "vbd-1-2", "--image", "/x", "--poll-us", "50", "--source", "grants"})
                .find("--poll-us: there is no module"), std::string::npos);
  EXPECT_NE(bad({"--vbd", "vbd-1-2", "--image", "/x", "--keep", "3601"}).find("--keep"),
            std::string::npos);
  EXPECT_NE(bad({"--vbd", "vbd-1-2", "--image", "/x", "--poll-us", "10001"}).find("--poll-us"),
            std::string::npos);
}

TEST(Options, SubmittingNeedsTheModule) {
  EXPECT_FALSE(good({"--vbd", "vbd-1-2", "--image", "/x"}).attach.submits);
  for (const char* path : {"submit", "mix"}) {
    EXPECT_TRUE(good({"--vbd", "vbd-1-2", "--image", "/x", "--data-path", path}).attach.submits);
    EXPECT_NE(bad({"--vbd", "vbd-1-2", "--image", "/x", "--data-path", path, "--source",
                   "grants"}).find("--data-path: there is no module"), std::string::npos);
  }
}

TEST(Options, ARecordIsTakenVerbatim) {
  const TempDirectory directory;
  const std::string file = directory.path() / "vbd-1-2.json";
  DiskRecord record;
  record.vbd = "vbd-1-2";
  record.backend = "backend/vbd/1/2";
  record.identity = "file:8.1:5:0";
  record.image = "/srv/ two  words \"quoted\" 'x' \\n @\u00fc#=[a]";
  record.read_only = true;
  record.options = {"--engine=libaio"};
  ASSERT_TRUE(write_record(file, record));
  const Options options = good({"@" + file});
  EXPECT_EQ(options.image.path, record.image);
  EXPECT_EQ(options.image.identity, record.identity);
  EXPECT_EQ(options.backend, record.backend);
  EXPECT_EQ(options.record, file);
  EXPECT_TRUE(options.image.read_only);
  EXPECT_FALSE(options.attach.grants);
  EXPECT_EQ(options.engine, EngineKind::kAio);
  record.cdrom = record.removable = record.grants = true;
  record.image = "-weird";
  ASSERT_TRUE(write_record(file, record));
  EXPECT_TRUE(good({"@" + file}).attach.grants);
  EXPECT_EQ(good({"@" + file}).image.path, "-weird");
}

TEST(Options, WhatIsNoRecordIsRefused) {
  const TempDirectory directory;
  for (const char* text : {"", "{}", "[]", "--vbd\nvbd-1-2\n", "{\"vbd\": 1}"}) {
    const std::string file = directory.text("a.json", text);
    EXPECT_EQ(bad({"@" + file}), file + ": not the record of a disk");
  }
  DiskRecord record;
  record.image = "/m\xfcller";
  EXPECT_FALSE(write_record(directory.path() / "b.json", record));
  EXPECT_FALSE(read_record(directory.path() / "b.json"));
}

// Each option that there is: 1 for a setting, 2 for one that means something with the module only.
TEST(Options, SettingsAreTheAdministrators) {
  const std::map<std::string, int> settings{
      {"engine", 1},    {"direct", 1},  {"sector-size", 1},       {"no-discard", 1},
      {"lock", 1},      {"shared", 1},  {"data-path", 2},         {"window", 2},
      {"profile", 2},   {"copy", 2},    {"persistent-grants", 2}, {"no-persistent-grants", 2},
      {"poll-us", 2},   {"keep", 2},    {"when-full", 1},           {"confine", 2}};
  const auto parsed = parse_options({"--help"});
  ASSERT_TRUE(parsed);
  const std::string help = std::get<Answer>(*parsed).text;
  static const std::regex kOption{"--([a-z][a-z-]*)"};
  std::map<std::string, int> found;
  for (std::sregex_iterator at{help.begin(), help.end(), kOption}, end; at != end; ++at)
    if (const auto setting = find_setting(at->str(1)))
      found[at->str(1)] = setting->needs_module ? 2 : 1;
  EXPECT_EQ(found, settings);
  EXPECT_FALSE(find_setting("bogus"));
  EXPECT_FALSE(find_setting(""));
  EXPECT_TRUE(find_setting("no-discard")->is_flag);
  EXPECT_TRUE(find_setting("no-persistent-grants")->is_flag);
  EXPECT_FALSE(find_setting("engine")->is_flag);
  EXPECT_TRUE(check_setting("engine", "libaio"));
  EXPECT_FALSE(check_setting("engine", "x"));
}

TEST(Options, AFlagMayBeTakenBack) {
  const auto with = [](std::vector<std::string> more) {
    more.insert(more.begin(), {"--vbd=vbd-1-2", "--image=/x"});
    return good(more);
  };
  EXPECT_FALSE(with({"--persistent-grants=no"}).attach.persistent);
  EXPECT_TRUE(with({"--profile=zero-copy", "--no-persistent-grants=no"}).attach.persistent);
  EXPECT_TRUE(with({"--no-persistent-grants", "--persistent-grants"}).attach.persistent);
  EXPECT_TRUE(with({"--no-discard=no"}).image.discard);
  EXPECT_FALSE(with({"--shared=no"}).image.lock.shares);
}

TEST(Options, AnEmptyPathIsNoImage) {
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image="}), HasSubstr("--image"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", ""}), HasSubstr("--image"));
}

TEST(Options, AMissingRecordIsNamed) {
  EXPECT_EQ(bad({"@/nonexistent/a.json"}), "/nonexistent/a.json: No such file or directory");
}

TEST(Options, WrongUsageIsExplained) {
  EXPECT_THAT(bad({}), HasSubstr("--vbd"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2"}), HasSubstr("--image"));
  EXPECT_THAT(bad({"--vbd", "../etc", "--image", "/x"}), HasSubstr("vbd-DOMAIN-DEVICE"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", "/x", "--engine", "posix"}),
              HasSubstr("io_uring"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", "/x", "--direct", "1"}), HasSubstr("auto"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", "/x", "--bogus"}), HasSubstr("--bogus"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", "/x", "stray"}), HasSubstr("stray"));
}

TEST(Options, HelpAndVersionAreAnswers) {
  const auto help = parse_options({"--help"});
  ASSERT_TRUE(help);
  EXPECT_THAT(std::get<Answer>(*help).text, HasSubstr("--image"));
  const auto version = parse_options({"--version"});
  ASSERT_TRUE(version);
  EXPECT_THAT(std::get<Answer>(*version).text, HasSubstr("tapdisk "));
}

TEST(Options, VbdNamesAreExact) {
  EXPECT_TRUE(is_vbd_name("vbd-0-0"));
  EXPECT_TRUE(is_vbd_name("vbd-32751-4294967295"));
  for (const char* name : {"", "vbd", "vbd-1", "vbd-1-", "vbd--1-2", "vbd-1-2/", "vbd-1-2\n",
                           "xvbd-1-2", "vbd-123456-1", "vbd-a-b", "vbd-1-2-3"})
    EXPECT_FALSE(is_vbd_name(name)) << name;
}

}  // namespace
}  // namespace tapdisk
