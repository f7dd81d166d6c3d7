// SPDX-License-Identifier: GPL-2.0-only
// What the kernel's answers mean for an Io.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <vector>

#include "base/limits.hpp"
#include "io/engine.hpp"

namespace tapdisk {
namespace {

TEST(AdvanceIo, ConsumesRangesAcrossTheirBorders) {
  std::array<std::byte, 4096> memory{};
  std::array ranges{iovec{memory.data(), 512}, iovec{memory.data() + 1024, 1024},
                    iovec{memory.data() + 3072, 512}};
  Io io;
  io.offset = 4096;
  io.data = ranges;
  io.left = 2048;
  EXPECT_EQ(advance_io(io, 1024), IoProgress::kAgain);
  EXPECT_EQ(io.offset, 5120u);
  EXPECT_EQ(io.left, 1024u);
  ASSERT_EQ(io.data.size(), 2u);
  EXPECT_EQ(io.data[0].iov_base, memory.data() + 1536);
  EXPECT_EQ(io.data[0].iov_len, 512u);
  EXPECT_EQ(advance_io(io, 512), IoProgress::kAgain);
  ASSERT_EQ(io.data.size(), 1u);
  EXPECT_EQ(advance_io(io, 512), IoProgress::kFinished);
  EXPECT_EQ(io.result, 0);
}

TEST(AdvanceIo, APartOfASectorIsMovedAgain) {
  std::array<std::byte, 2048> memory{};
  std::array ranges{iovec{memory.data(), 2048}};
  Io io;
  io.data = ranges;
  io.left = 2048;
  EXPECT_EQ(advance_io(io, 700), IoProgress::kAgain);
  EXPECT_EQ(io.offset, 512u);
  EXPECT_EQ(advance_io(io, 100), IoProgress::kFinished);
  EXPECT_EQ(io.result, -ENODATA);
}

TEST(AdvanceIo, TheRangesAreWhatTheyWereAtTheEnd) {
  std::array<std::byte, 4096> memory{};
  const auto expect_untouched = [&](const std::array<iovec, 2>& ranges) {
    EXPECT_EQ(ranges[0].iov_base, memory.data());
    EXPECT_EQ(ranges[0].iov_len, 2048u);
    EXPECT_EQ(ranges[1].iov_base, memory.data() + 2048);
    EXPECT_EQ(ranges[1].iov_len, 2048u);
  };
  // Fails in the first range, and in the second; is done.
  for (const std::vector<long>& results :
       {std::vector<long>{512, 512, -EIO}, {512, 2048, 512, -ENOSPC}, {1024, 2560, 512}}) {
    std::array ranges{iovec{memory.data(), 2048}, iovec{memory.data() + 2048, 2048}};
    Io io;
    io.verb = IoVerb::kWrite;
    io.data = ranges;
    io.left = 4096;
    IoProgress progress = IoProgress::kAgain;
    for (const long result : results) progress = advance_io(io, result);
    ASSERT_EQ(progress, IoProgress::kFinished);
    expect_untouched(ranges);
  }
}

TEST(AdvanceIo, NothingIsLostWhenTheKernelSaysLater) {
  Io io;
  io.left = 512;
  EXPECT_EQ(advance_io(io, -EAGAIN), IoProgress::kLater);
  EXPECT_EQ(advance_io(io, -ECANCELED), IoProgress::kLater);
  EXPECT_EQ(advance_io(io, -ENOMEM), IoProgress::kLater);
  EXPECT_EQ(advance_io(io, -EINTR), IoProgress::kAgain);
  EXPECT_EQ(io.left, 512u);
}

TEST(AdvanceIo, WantOfMemoryThatDoesNotEndIsAnError) {
  Io io;
  io.left = 512;
  for (int round = 0; round < 2; round++) {
    for (unsigned i = 0; i < kStarvedMax; i++)
      ASSERT_EQ(advance_io(io, -ENOMEM), IoProgress::kLater);
    EXPECT_EQ(advance_io(io, -ENOMEM), IoProgress::kFinished);
    EXPECT_EQ(io.result, -ENOMEM);
  }
}

TEST(AdvanceIo, ASyncThatFailedHasFailed) {
  Io io;
  io.verb = IoVerb::kSync;
  EXPECT_EQ(advance_io(io, -ENOMEM), IoProgress::kFinished);
  EXPECT_EQ(io.result, -ENOMEM);
}

}  // namespace
}  // namespace tapdisk
