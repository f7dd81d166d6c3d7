// SPDX-License-Identifier: GPL-2.0-only
// Block devices that several tapdisks have at once: one of them has the claim.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "base/syscall.hpp"
#include "image/image.hpp"
#include "tests/support/loop_device.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::LoopDevice;
using testing::TempDirectory;

TEST(Claim, ABlockDeviceIsClaimedByWhoeverIsLeft) {
  const TempDirectory directory;
  const LoopDevice loop{directory.file("back.img", 1 << 20), 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  ImageOptions options;
  options.path = loop.path();
  options.lock.vm = "machine";
  auto first = open_image("raw", options);
  ASSERT_TRUE(first) << first.error().what;
  EXPECT_TRUE((*first)->claim());
  auto second = open_image("raw", options);
  ASSERT_TRUE(second) << second.error().what;
  EXPECT_FALSE((*second)->claim());
  first->reset();
  EXPECT_TRUE(open_file(loop.path(), O_RDONLY | O_EXCL));  // a mount would succeed
  EXPECT_TRUE((*second)->claim());
  EXPECT_FALSE(open_file(loop.path(), O_RDONLY | O_EXCL));
  EXPECT_TRUE((*second)->claim());
}

TEST(Claim, ABlockDeviceIsSharedOnPurpose) {
  const TempDirectory directory;
  const LoopDevice loop{directory.file("back.img", 1 << 20), 512};
  if (!loop.works()) GTEST_SKIP() << "no loop devices here";
  ImageOptions options;
  options.path = loop.path();
  options.lock.vm = "one";
  options.lock.shares = true;
  auto first = open_image("raw", options);
  ASSERT_TRUE(first) << first.error().what;
  options.lock.vm = "two";
  auto second = open_image("raw", options);
  EXPECT_TRUE(second) << second.error().what;
  options.lock.shares = false;
  EXPECT_FALSE(open_image("raw", options));  // it has changed its mind
}

}  // namespace
}  // namespace tapdisk
