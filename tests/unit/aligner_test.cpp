// SPDX-License-Identifier: GPL-2.0-only
// Disks with sectors of 512 bytes on a file system of a device with blocks of 4096.
#include "image/aligner.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "tests/support/mounted.hpp"
#include "tests/support/open_image.hpp"

namespace tapdisk {
namespace {

using testing::Mounted;
using testing::TempDirectory;

constexpr std::uint64_t kBytes = 1 << 20;

// One queue: an engine, and a view of the image.
class QueueOf final : private ImageClient {
 public:
  explicit QueueOf(const OpenImage& image)
      : engine_(*make_engine(EngineKind::kAuto)), view_(*image.view(*engine_)) {}
  Image& image() { return *view_; }

  // 0 or -errno.
  int run(ImageVerb verb, std::uint64_t sector, std::vector<iovec> ranges) {
    ImageOp op;
    op.verb = verb;
    op.sector = sector;
    for (const iovec& range : ranges) op.bytes += range.iov_len;
    op.data = ranges;
    op.client = this;
    over_ = false;
    view_->start(op);
    EXPECT_FALSE(over_) << "ended inside of start()";
    for (int turns = 0; !over_ && turns < 10'000; turns++) engine_->turn(-1);
    EXPECT_TRUE(over_);
    return op.result;
  }

 private:
  void op_finished(ImageOp&) noexcept override { over_ = true; }

  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Image> view_;
  bool over_ = false;
};

class AlignerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!native.works()) GTEST_SKIP() << "no loop devices with blocks of 4096 bytes here";
    options.path = native.path() / "a.img";
    std::ofstream{options.path} << std::string(kBytes, 'o');
  }
  std::unique_ptr<OpenImage> open() {
    auto image = open_image("raw", options);
    if (!image) throw std::runtime_error{image.error().what};
    return std::move(*image);
  }
  std::string content() const {
    std::ifstream file{options.path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  TempDirectory directory;
  Mounted native{directory, "ext4", "mkfs.ext4 -q -b 4096", 16 << 20, 4096};
  ImageOptions options;
  alignas(4096) std::array<std::byte, 512 << 10> memory{};
};

TEST_F(AlignerTest, AFilesDiskHasSectorsOf512WhateverItLiesOn) {
  const auto image = open();
  EXPECT_TRUE(image->info().direct);
  EXPECT_EQ(image->info().sector_size, 512u);
  EXPECT_EQ(image->info().unit, 4096u);
  EXPECT_EQ(image->info().physical_sector_size, 4096u);
  EXPECT_EQ(image->info().sectors, kBytes / 512);
  ASSERT_EQ(image->extents().size(), 1u);
  EXPECT_FALSE(image->extents()[0].writable) << "who writes must know of the other queues";
  QueueOf queue{*image};
  EXPECT_TRUE(queue.image().place(ImageVerb::kRead, 0, 4096));
  EXPECT_FALSE(queue.image().place(ImageVerb::kWrite, 0, 4096));
}

TEST_F(AlignerTest, WithTheOptionItHasWhatTheStorageHas) {
  options.sector_size = 4096;
  const auto image = open();
  EXPECT_TRUE(image->info().direct);
  EXPECT_EQ(image->info().sector_size, 4096u);
  EXPECT_TRUE(image->extents().at(0).writable);
  QueueOf queue{*image};
  EXPECT_TRUE(queue.image().place(ImageVerb::kWrite, 0, 4096));
}

TEST_F(AlignerTest, ADiskOfLargerBlocksNeedsNoStorageOfLargerBlocks) {
  options.path = directory.file("b.img", kBytes + 512);
  options.sector_size = 4096;
  const auto image = open();
  EXPECT_EQ(image->info().sector_size, 4096u);
  EXPECT_EQ(image->info().physical_sector_size, 4096u);
  EXPECT_EQ(image->info().sectors, kBytes / 512) << "whole blocks";
  EXPECT_TRUE(image->extents().at(0).writable);
}

TEST_F(AlignerTest, AWriteOfAPartLeavesTheRest) {
  const auto image = open();
  QueueOf queue{*image};
  memory.fill(std::byte{'n'});
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 9, {{memory.data(), 512}}), 0);
  // From the middle of a unit to the middle of another, through several buffers.
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 35, {{memory.data(), 200 << 10}}), 0);
  // Whole units of the image, of pieces that are none in memory.
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 800, {{memory.data() + 512, 1536},
                                               {memory.data() + 8192, 2560}}), 0);
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 2047, {{memory.data(), 512}}), 0);
  std::string expected(kBytes, 'o');
  const auto written = [&](std::size_t sector, std::size_t bytes) {
    std::fill_n(expected.begin() + static_cast<std::ptrdiff_t>(sector * 512), bytes, 'n');
  };
  written(9, 512);
  written(35, 200 << 10);
  written(800, 4096);
  written(2047, 512);
  EXPECT_TRUE(content() == expected);
  EXPECT_EQ(queue.image().bytes_realigned(), 512u + (200 << 10) + 4096 + 512);

  memory.fill(std::byte{0});
  EXPECT_EQ(queue.run(ImageVerb::kRead, 3, {{memory.data() + 1024, 100 << 10},
                                            {memory.data() + (300 << 10), 512}}), 0);
  EXPECT_EQ(std::memcmp(memory.data() + 1024, &expected[3 * 512], 100 << 10), 0);
  EXPECT_EQ(std::memcmp(memory.data() + (300 << 10), &expected[203 * 512], 512), 0);
}

TEST_F(AlignerTest, PagesThatAreTakenAwayAreAnErrorOfTheRequest) {
  const auto image = open();
  QueueOf queue{*image};
  ASSERT_EQ(::mprotect(memory.data(), 4096, PROT_NONE), 0);
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 1, {{memory.data(), 512}}), -EFAULT);
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 8, {{memory.data() + 512, 512},
                                             {memory.data() + 4096, 3584}}), -EFAULT);
  EXPECT_EQ(queue.run(ImageVerb::kRead, 1, {{memory.data(), 512}}), -EFAULT);
  ASSERT_EQ(::mprotect(memory.data(), 4096, PROT_READ | PROT_WRITE), 0);
  EXPECT_EQ(queue.run(ImageVerb::kWrite, 1, {{memory.data(), 512}}), 0);
}

// Sectors of the same units, and whole units between them, from four threads at once.
TEST_F(AlignerTest, QueuesLoseNothingToEachOther) {
  constexpr unsigned kThreads = 4;
  constexpr unsigned kUnits = 4;
  constexpr unsigned kRounds = 120;
  const auto image = open();
  std::vector<std::thread> threads;
  for (unsigned thread = 0; thread < kThreads; thread++)
    threads.emplace_back([&, thread] {
      QueueOf queue{*image};
      alignas(4096) std::array<char, 4096> mine;
      for (unsigned round = 0; round < kRounds; round++) {
        mine.fill(static_cast<char>('a' + (thread * 7 + round) % 26));
        const std::uint64_t unit = round % kUnits;
        EXPECT_EQ(queue.run(ImageVerb::kWrite, unit * 8 + thread * 2, {{mine.data(), 1024}}), 0);
      }
    });
  for (std::thread& thread : threads) thread.join();
  const std::string found = content();
  for (unsigned unit = 0; unit < kUnits; unit++)
    for (unsigned thread = 0; thread < kThreads; thread++) {
      const unsigned last = kRounds - kUnits + unit;
      EXPECT_EQ(found.substr(unit * 4096 + thread * 1024, 1024),
                std::string(1024, static_cast<char>('a' + (thread * 7 + last) % 26)));
    }
}

}  // namespace
}  // namespace tapdisk
