// SPDX-License-Identifier: GPL-2.0-only
// Discards, on real files and devices, with both engines.
#include "image/discard.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <thread>
#include <vector>

#include "base/syscall.hpp"
#include "tests/support/loop_device.hpp"
#include "tests/support/open_image.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::LoopDevice;
using testing::TempDirectory;
using testing::ViewedImage;

constexpr std::uint64_t kBytes = 1 << 20;

struct Waiter final : ImageClient {
  void op_finished(ImageOp& op) noexcept override {
    finished++;
    EXPECT_EQ(std::this_thread::get_id(), thread);
    if (op.result) result = op.result;
  }
  std::thread::id thread = std::this_thread::get_id();
  unsigned finished = 0;
  int result = 0;
};

class DiscardTest : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    auto made = make_engine(GetParam());
    ASSERT_TRUE(made) << made.error().what;
    engine = std::move(*made);
  }

  Result<ViewedImage> open(const std::string& path, bool read_only = false, bool discard = true) {
    ImageOptions options;
    options.path = path;
    options.read_only = read_only;
    options.discard = discard;
    return testing::open_raw(options, *engine);
  }

  std::string full_file(const TempDirectory& in) {
    return in.text("full.img", std::string(kBytes, 'x'));
  }

  void start(Image& image, ImageOp& op, std::uint64_t sector, std::uint64_t bytes) {
    op.verb = ImageVerb::kDiscard;
    op.sector = sector;
    op.bytes = bytes;
    op.client = &waiter;
    image.start(op);
  }
  void finish(unsigned count) {
    for (int turns = 0; waiter.finished < count && turns < 10'000; turns++) engine->turn(-1);
    ASSERT_EQ(waiter.finished, count);
  }
  int discard(Image& image, std::uint64_t sector, std::uint64_t bytes) {
    ImageOp op;
    waiter.finished = 0;
    waiter.result = 0;
    start(image, op, sector, bytes);
    finish(1);
    return op.result;
  }

  static std::string content(const std::string& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
  }
  static blkcnt_t blocks(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_blocks;
  }

  TempDirectory directory;
  std::unique_ptr<Engine> engine;
  Waiter waiter;
};

INSTANTIATE_TEST_SUITE_P(Engines, DiscardTest, ::testing::Values(EngineKind::kUring,
                                                                 EngineKind::kAio),
                         [](const auto& info) {
                           return info.param == EngineKind::kUring ? "io_uring" : "libaio";
                         });

TEST_P(DiscardTest, AFileGetsAHoleAndKeepsItsSize) {
  const std::string path = full_file(directory);
  auto image = open(path);
  ASSERT_TRUE(image) << image.error().what;
  ASSERT_TRUE((*image)->info().discard.offered);
  EXPECT_FALSE((*image)->info().discard.secure);
  EXPECT_GE((*image)->info().discard.granularity, (*image)->info().sector_size);
  const blkcnt_t before = blocks(path);
  EXPECT_EQ(discard(**image, 256, 256 << 10), 0);
  EXPECT_LE(blocks(path), before - 512);
  const std::string now = content(path);
  ASSERT_EQ(now.size(), kBytes);
  EXPECT_EQ(std::ranges::count(now.substr(128 << 10, 256 << 10), '\0'), 256 << 10);
  EXPECT_EQ(std::ranges::count(now, 'x'), static_cast<long>(kBytes - (256 << 10)));
}

TEST_P(DiscardTest, EdgesThatAreNoWholeBlocksLoseNothingElse) {
  const TempDirectory shm{"/dev/shm"};
  for (const std::string& path : {full_file(directory), full_file(shm)}) {
    auto image = open(path);
    ASSERT_TRUE(image) << image.error().what;
    const std::uint64_t block = (*image)->info().sector_size;
    const std::uint64_t bytes = 16384 - block;
    EXPECT_EQ(discard(**image, block / 512, bytes), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(std::ranges::count(content(path), 'x')), kBytes - bytes);
  }
}

TEST_P(DiscardTest, TheWholeDiskAtOnce) {
  const std::string path = full_file(directory);
  auto image = open(path);
  ASSERT_TRUE(image);
  EXPECT_EQ(discard(**image, 0, kBytes), 0);
  EXPECT_EQ(content(path), std::string(kBytes, '\0'));
}

TEST_P(DiscardTest, AsManyAsThereAreSlotsAreAllDone) {
  const std::string path = full_file(directory);
  auto image = open(path);
  ASSERT_TRUE(image);
  std::vector<ImageOp> ops(kSlotsMax);
  for (unsigned i = 0; i < kSlotsMax; i++) start(**image, ops[i], i * 8, 4096);
  EXPECT_EQ(waiter.finished, 0u);  // never from inside start()
  finish(kSlotsMax);
  EXPECT_EQ(waiter.result, 0);
  EXPECT_EQ(content(path), std::string(kBytes, '\0'));
}

// Who leaves with discards unfinished waits for one of them at most, and no longer hears of any.
TEST_P(DiscardTest, TheViewMayGoBeforeTheyAreDone) {
  std::vector<ImageOp> ops(kSlotsMax);
  auto image = open(full_file(directory));
  ASSERT_TRUE(image);
  for (unsigned i = 0; i < kSlotsMax; i++) start(**image, ops[i], i * 8, 4096);
  image->view.reset();
  EXPECT_EQ(waiter.finished, 0u);
}

TEST_P(DiscardTest, AskingWhetherChangesNothing) {
  const std::string path = full_file(directory);
  struct stat before {};
  ASSERT_EQ(::stat(path.c_str(), &before), 0);
  { ASSERT_TRUE(open(path)); }
  EXPECT_EQ(blocks(path), before.st_blocks);
  EXPECT_EQ(content(path), std::string(kBytes, 'x'));
}

TEST_P(DiscardTest, IsNotOfferedWhereItMustNotBe) {
  const std::string path = full_file(directory);
  {
    auto read_only = open(path, true);
    ASSERT_TRUE(read_only);
    EXPECT_FALSE((*read_only)->info().discard.offered);
  }
  auto without = open(path, false, false);
  ASSERT_TRUE(without);
  EXPECT_FALSE((*without)->info().discard.offered);
  EXPECT_EQ((*without)->info().discard.granularity, 0u);
  EXPECT_DEATH(discard(**without, 0, 4096), "internal error");
}

TEST_P(DiscardTest, TheChokePointHoldsForDiscardsToo) {
  auto image = open(full_file(directory));
  ASSERT_TRUE(image);
  EXPECT_DEATH(discard(**image, 2040, 8192), "internal error");
  EXPECT_DEATH(discard(**image, 0, 0), "internal error");
  EXPECT_DEATH(discard(**image, 0, 100), "internal error");
  ImageOp op;
  op.secure = true;
  EXPECT_DEATH(start(**image, op, 0, 4096), "internal error");
}

// A file that cannot have holes any more: what the store says is what the guest gets.
TEST_P(DiscardTest, TheRealErrnoComesOut) {
  const std::string path = full_file(directory);
  auto fd = open_file(path, O_RDONLY);
  ASSERT_TRUE(fd);
  ImageInfo info;
  info.physical_sector_size = 4096;
  EXPECT_FALSE(find_discard(fd->get(), info).offered);

  struct Client final : DiscardClient {
    void discard_finished(ImageOp&, int result) noexcept override { answer = result; }
    int answer = 1;
  } client;
  auto discarder = Discarder::open(fd->get(), *engine, client);
  ASSERT_TRUE(discarder) << discarder.error().what;
  ImageOp op;
  op.bytes = 4096;
  (*discarder)->start(op);
  for (int turns = 0; client.answer == 1 && turns < 1000; turns++) engine->turn(-1);
  EXPECT_EQ(client.answer, -EBADF);
}

TEST_P(DiscardTest, ABlockDeviceForgets) {
  const std::string back = full_file(directory);
  const LoopDevice loop{back, 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  auto image = open(loop.path());
  ASSERT_TRUE(image) << image.error().what;
  if (!(*image)->info().discard.offered) GTEST_SKIP() << "loop devices without discard here";
  EXPECT_GE((*image)->info().discard.granularity, 512u);
  EXPECT_LT((*image)->info().discard.alignment, (*image)->info().discard.granularity);
  const blkcnt_t before = blocks(back);
  EXPECT_EQ(discard(**image, 256, 256 << 10), 0);
  EXPECT_LE(blocks(back), before - 512);
}

}  // namespace
}  // namespace tapdisk
