// SPDX-License-Identifier: GPL-2.0-only
#include "image/identity.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/syscall.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::TempDirectory;

TEST(Identity, AFileKeepsItByAnyName) {
  const TempDirectory directory;
  const std::string file = directory.file("a", 512);
  const std::string identity = *identify(file);
  std::filesystem::create_symlink(file, directory.path() / "link");
  std::filesystem::create_hard_link(file, directory.path() / "other");
  EXPECT_EQ(*identify(directory.path() / "link"), identity);
  EXPECT_EQ(*identify(directory.path() / "other"), identity);
  std::filesystem::resize_file(file, 1024);
  EXPECT_EQ(*identify(file), identity);
  const auto fd = open_file(file, O_RDONLY);
  ASSERT_TRUE(fd);
  EXPECT_EQ(*identify(fd->get(), file), identity);
  EXPECT_NE(*identify(directory.file("b", 512)), identity);
}

TEST(Identity, AMissingFileIsNamed) {
  EXPECT_EQ(identify("/nonexistent").error().what, "/nonexistent: No such file or directory");
}

TEST(Identity, ADeviceHasWhatTheKernelSaysOfIt) {
  const TempDirectory directory;
  const std::string device = directory.path() / "device", sysfs = directory.path() / "sys";
  if (::mknod(device.c_str(), S_IFBLK | 0600, makedev(7, 250))) GTEST_SKIP() << "needs root";
  EXPECT_EQ(*identify(device, sysfs), "device:7:250:");
  // A partition's directory is in its disk's.
  directory.text("sys/block/disk/diskseq", "12\n");
  directory.text("sys/block/disk/part/start", "1\n");
  std::filesystem::create_directories(sysfs + "/dev/block");
  std::filesystem::create_directory_symlink(sysfs + "/block/disk/part", sysfs + "/dev/block/7:250");
  EXPECT_EQ(*identify(device, sysfs), "device:7:250:12");
  directory.text("sys/block/disk/part/diskseq", "13\n");
  EXPECT_EQ(*identify(device, sysfs), "device:7:250:13");
  directory.text("sys/block/disk/part/dm/uuid", "LVM-abc\n");
  EXPECT_EQ(*identify(device, sysfs), "dm:LVM-abc");
}

}  // namespace
}  // namespace tapdisk
