// SPDX-License-Identifier: GPL-2.0-only
#include "server/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
            "--copy", "64k", "--poll-us", "50", "--sector-size", "4096",
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

TEST(Options, AFileOfArgumentsIsTakenVerbatim) {
  const TempDirectory directory;
  const std::string file = directory.text(
      "a.args",
      "--vbd\nvbd-1-2\n--image\n/srv/ two  words \"quoted\" 'x' \\n @\xff#\n--read-only\n");
  const Options options = good({"@" + file});
  EXPECT_EQ(options.image.path, "/srv/ two  words \"quoted\" 'x' \\n @\xff#");
  EXPECT_EQ(options.file, file);
  EXPECT_TRUE(options.image.read_only);
}

TEST(Options, AValueMayLookLikeAnOption) {
  const TempDirectory directory;
  const std::string file = directory.text("a.args", "--vbd\nvbd-1-2\n--image=-weird\n");
  EXPECT_EQ(good({"@" + file}).image.path, "-weird");
}

TEST(Options, AnEmptyPathIsNoImage) {
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image="}), HasSubstr("--image"));
  EXPECT_THAT(bad({"--vbd", "vbd-1-2", "--image", ""}), HasSubstr("--image"));
}

TEST(Options, AMissingFileOfArgumentsIsNamed) {
  EXPECT_EQ(bad({"@/nonexistent/a.args"}), "/nonexistent/a.args: No such file or directory");
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
