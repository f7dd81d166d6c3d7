// SPDX-License-Identifier: GPL-2.0-only
// What an image lies on: block devices, file systems with checksums, and the page cache above.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/syscall.hpp"
#include "image/geometry.hpp"
#include "tests/support/loop_device.hpp"
#include "tests/support/mounted.hpp"
#include "tests/unit/image_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using testing::LoopDevice;
using testing::Mounted;
using testing::open_raw;

using StorageTest = testing::ImageTest;

TEST_F(StorageTest, DirectUnitFoundByTrialAgreesWithTheFileSystem) {
  const std::string path = directory.file("a.img", 1 << 20);
  auto fd = open_file(path, O_RDONLY | O_DIRECT);
  ASSERT_TRUE(fd);
  EXPECT_EQ(direct_unit_by_trial(fd->get()), direct_unit(fd->get()));
}

TEST_F(StorageTest, BlockDeviceWith512ByteBlocks) {
  const LoopDevice loop{directory.file("back.img", 1 << 20), 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  auto image = open(loop.path());
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_EQ((*image)->info().sectors, 2048u);
  EXPECT_EQ((*image)->info().sector_size, 512u);
  EXPECT_TRUE((*image)->info().direct);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 2047, 512), 0);
  EXPECT_EQ(run(**image, ImageVerb::kSync, 0, 0), 0);
}

TEST_F(StorageTest, BlockDeviceWith4096ByteBlocks) {
  const LoopDevice loop{directory.file("back.img", 1 << 20), 4096};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  auto image = open(loop.path());
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_EQ((*image)->info().sectors, 2048u);
  EXPECT_EQ((*image)->info().sector_size, 4096u);
  EXPECT_GE((*image)->info().physical_sector_size, 4096u);
  EXPECT_EQ(run(**image, ImageVerb::kRead, 2040, 4096), 0);
  EXPECT_DEATH(run(**image, ImageVerb::kRead, 1, 4096), "internal error");
}

TEST_F(StorageTest, ABlockDeviceThatTheHostUsesIsRefused) {
  const LoopDevice loop{directory.file("back.img", 1 << 20), 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  auto claim = open_file(loop.path(), O_RDONLY | O_EXCL);
  ASSERT_TRUE(claim);
  EXPECT_THAT(error_of(loop.path()), HasSubstr("in use by this host"));
  EXPECT_THAT(error_of(loop.path(), true), HasSubstr("in use by this host"));
}

TEST_F(StorageTest, ABlockDeviceIsSharedByOneMachineWithItself) {
  const LoopDevice loop{directory.file("back.img", 1 << 20), 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  ImageOptions options;
  options.path = loop.path();
  options.lock.vm = "machine";
  options.lock.vbd = "vbd-1-51712";
  auto first = open_raw(options, *engine);
  ASSERT_TRUE(first) << first.error().what;
  auto second = open_raw(options, *engine);
  EXPECT_TRUE(second) << second.error().what;
  options.lock.vm = "another";
  auto third = open_raw(options, *engine);
  ASSERT_FALSE(third);
  EXPECT_THAT(third.error().what, HasSubstr("in use by vbd-1-51712"));
}

// Direct I/O would make the checksums of pages that the guest may change meanwhile.
TEST_F(StorageTest, AFileWithDataChecksumsIsServedThroughThePageCache) {
  const Mounted btrfs{directory, "btrfs", "mkfs.btrfs -q", 128 << 20, 4096};
  if (!btrfs.works()) GTEST_SKIP() << "no Btrfs here";
  const std::string path = btrfs.path() / "a.img";
  std::ofstream{path} << "";
  std::filesystem::resize_file(path, 1 << 20);
  const auto refused = open(path, false, Direct::kOn);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().what, HasSubstr("chattr +C"));
  auto image = open(path);
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_FALSE((*image)->info().direct);
  EXPECT_TRUE(image->opened->extents().empty());
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 0, 4096), 0);

  const std::string plain = btrfs.path() / "plain.img";
  std::ofstream{plain} << "";
  int flags = FS_NOCOW_FL;
  ASSERT_EQ(::ioctl(open_file(plain, O_RDONLY)->get(), FS_IOC_SETFLAGS, &flags), 0);
  std::filesystem::resize_file(plain, 1 << 20);
  auto direct = open(plain);
  ASSERT_TRUE(direct) << direct.error().what;
  EXPECT_TRUE((*direct)->info().direct);
}

TEST(WhyNotDirect, ChecksumsAndPretenceAreReasons) {
  EXPECT_THAT(why_not_direct(TMPFS_MAGIC, 0), HasSubstr("not possible here"));
  EXPECT_THAT(why_not_direct(BTRFS_SUPER_MAGIC, 0), HasSubstr("chattr +C"));
  EXPECT_EQ(why_not_direct(BTRFS_SUPER_MAGIC, FS_NOCOW_FL), "");
  EXPECT_THAT(why_not_direct(0x2fc12fc1, 0), HasSubstr("checksums"));  // ZFS
  EXPECT_THAT(why_not_direct(0xca451a4e, FS_NOCOW_FL), HasSubstr("checksums"));  // bcachefs
  EXPECT_EQ(why_not_direct(EXT4_SUPER_MAGIC, 0), "");
  EXPECT_EQ(why_not_direct(XFS_SUPER_MAGIC, 0), "");
  EXPECT_EQ(why_not_direct(NFS_SUPER_MAGIC, 0), "");
}

std::string start_of(const std::string& path, std::size_t bytes) {
  std::string content(bytes, '\0');
  std::ifstream{path, std::ios::binary}.read(content.data(), static_cast<std::streamsize>(bytes));
  return content;
}

// Somebody else has the device open, so that no close of it is the last, which would sync it.
TEST_F(StorageTest, WhatThePageCacheHasIsOnTheStorageWhenItIsSettled) {
  const std::string backing = directory.file("back.img", 1 << 20);
  const LoopDevice loop{backing, 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  const auto other = open_file(loop.path(), O_RDONLY);
  auto image = open(loop.path(), false, Direct::kOff);
  ASSERT_TRUE(image) << image.error().what;
  std::memset(memory.data(), 'w', 4096);
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 0, 4096), 0);
  EXPECT_TRUE(image->opened->settle());
  EXPECT_EQ(start_of(backing, 4096), std::string(4096, 'w'));
}

TEST_F(StorageTest, WhatThePageCacheHasIsNotWhatAnotherHostHasWritten) {
  const std::string backing = directory.file("back.img", 1 << 20);
  const LoopDevice loop{backing, 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  const auto other = open_file(loop.path(), O_RDONLY);
  EXPECT_EQ(start_of(loop.path(), 4096), std::string(4096, '\0'));
  std::fstream{backing, std::ios::binary | std::ios::in | std::ios::out} << std::string(4096, 'n');
  EXPECT_EQ(start_of(loop.path(), 4096), std::string(4096, '\0')) << "not what this test is about";
  auto image = open(loop.path(), true, Direct::kOff);
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_EQ(run(**image, ImageVerb::kRead, 0, 4096), 0);
  EXPECT_EQ(memory[0], std::byte{'n'});
}

TEST_F(StorageTest, ABlockDeviceCanBeShownWithSmallerBlocks) {
  const LoopDevice loop{directory.file("back.img", 1 << 20), 4096};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  ImageOptions options;
  options.path = loop.path();
  options.sector_size = 512;
  auto image = open_raw(options, *engine);
  ASSERT_TRUE(image) << image.error().what;
  EXPECT_EQ((*image)->info().sector_size, 512u);
  EXPECT_EQ((*image)->info().physical_sector_size, 4096u);
  EXPECT_TRUE((*image)->info().direct);
  memory.fill(std::byte{'b'});
  EXPECT_EQ(run(**image, ImageVerb::kWrite, 3, 512), 0);
  memory.fill(std::byte{0});
  EXPECT_EQ(run(**image, ImageVerb::kRead, 2, 1536), 0);
  EXPECT_EQ(memory[0], std::byte{0});
  EXPECT_EQ(memory[512], std::byte{'b'});
  EXPECT_EQ(memory[1024], std::byte{0});
  if ((*image)->info().discard.offered) {
    EXPECT_EQ(run(**image, ImageVerb::kDiscard, 1, 1024), 0) << "less than a block";
  }
}

}  // namespace
}  // namespace tapdisk
