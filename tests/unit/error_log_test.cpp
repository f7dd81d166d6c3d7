// SPDX-License-Identifier: GPL-2.0-only
#include "server/error_log.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace tapdisk {
namespace {

using ::testing::ElementsAre;
using std::chrono::seconds;

std::vector<std::string> lines;

class ErrorLogTest : public ::testing::Test {
 protected:
  void SetUp() override { lines.clear(); }
  void report(ImageVerb verb, int result, seconds at) {
    ImageOp op;
    op.verb = verb;
    op.sector = 8;
    op.bytes = 512;
    op.result = result;
    log.report(op, ErrorLog::Clock::time_point{seconds{1000}} + at);
  }
  ErrorLog log{"/a", [](const std::string& line) { lines.push_back(line); }};
};

TEST_F(ErrorLogTest, TheFirstOfEachKindIsSaid) {
  report(ImageVerb::kRead, -EIO, seconds{0});
  report(ImageVerb::kWrite, -EIO, seconds{0});
  report(ImageVerb::kWrite, -ENOSPC, seconds{0});
  report(ImageVerb::kSync, -EIO, seconds{0});
  report(ImageVerb::kDiscard, -EOPNOTSUPP, seconds{0});
  EXPECT_THAT(lines,
              ElementsAre("/a: reading 512 bytes at byte 4096: Input/output error",
                          "/a: writing 512 bytes at byte 4096: Input/output error",
                          "/a: writing 512 bytes at byte 4096: No space left on device",
                          "/a: flushing (every flush and write fails from now on): "
                          "Input/output error",
                          "/a: discarding 512 bytes at byte 4096: Operation not supported"));
}

TEST_F(ErrorLogTest, TheSameAgainIsCountedForAMinute) {
  for (int i = 0; i < 60; i++) report(ImageVerb::kRead, -EIO, seconds{i});
  EXPECT_EQ(lines.size(), 1u);
  report(ImageVerb::kRead, -EIO, seconds{60});
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1],
            "/a: reading 512 bytes at byte 4096: Input/output error (and 59 more times)");
}

TEST_F(ErrorLogTest, TheNumberOfKindsIsBounded) {
  for (int code = 1; code < 100; code++) report(ImageVerb::kRead, -code, seconds{0});
  EXPECT_LE(lines.size(), 32u);
}

}  // namespace
}  // namespace tapdisk
