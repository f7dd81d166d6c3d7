// SPDX-License-Identifier: GPL-2.0-only
#include "io/refusal.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/limits.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::TempDirectory;

TEST(Refusal, NamesTheLimitOnLibaioAndWhatIsNeeded) {
  const TempDirectory sysctl;
  static_cast<void>(sysctl.text("fs/aio-max-nr", "2000\n"));
  static_cast<void>(sysctl.text("fs/aio-nr", "1813\n"));
  const Error error = aio_refused(EAGAIN, sysctl.path());
  EXPECT_EQ(error.code, EAGAIN);
  EXPECT_EQ(error.what, "io_setup: this host's limit on libaio is reached: fs.aio-max-nr is 2000, "
                        "1813 are taken, and each queue of a disk needs " +
                            std::to_string(kEngineDepth));
  EXPECT_EQ(aio_refused(ENOMEM, sysctl.path()).what, "io_setup: Cannot allocate memory");
}

TEST(Refusal, NamesTheSwitchOfIoUring) {
  const TempDirectory sysctl;
  const std::string path = sysctl.text("kernel/io_uring_disabled", "2\n");
  EXPECT_EQ(uring_refused(EPERM, sysctl.path()).what,
            "io_uring: switched off on this host: kernel.io_uring_disabled is 2, and would have "
            "to be 0");
  EXPECT_EQ(uring_refused(ENOMEM, sysctl.path()).what, "io_uring: Cannot allocate memory");
  static_cast<void>(sysctl.text("kernel/io_uring_disabled", "0\n"));
  EXPECT_EQ(uring_refused(EPERM, sysctl.path()).what, "io_uring: Operation not permitted");
}

TEST(Refusal, KernelsWithoutTheSettingAreUnderstood) {
  const TempDirectory nothing;
  EXPECT_EQ(uring_refused(EPERM, nothing.path()).what, "io_uring: Operation not permitted");
  EXPECT_EQ(aio_refused(EAGAIN, nothing.path()).what,
            "io_setup: Resource temporarily unavailable");
}

}  // namespace
}  // namespace tapdisk
