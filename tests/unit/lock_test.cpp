// SPDX-License-Identifier: GPL-2.0-only
#include "image/lock.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/syscall.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::TempDirectory;

class LockTest : public ::testing::Test {
 protected:
  // Opens as an image is opened, and locks. The lock lives in the returned descriptor.
  Fd lock(bool writes, const std::string& vm) {
    auto fd = open_file(path, writes ? O_RDWR : O_RDONLY);
    EXPECT_TRUE(fd);
    LockRequest request{writes, vm, "vbd-1-1", directory.path()};
    const auto locked = lock_image(fd->get(), path, request);
    error = locked ? std::string{} : locked.error().what;
    return locked ? std::move(*fd) : Fd{};
  }
  Fd writer(const std::string& vm) { return lock(true, vm); }
  Fd reader(const std::string& vm) { return lock(false, vm); }

  TempDirectory directory;
  std::string path = directory.file("a.img", 4096);
  std::string error;
};

TEST_F(LockTest, ASecondMachineMayNotWrite) {
  const Fd first = writer("one");
  ASSERT_TRUE(first);
  EXPECT_FALSE(writer("two"));
  EXPECT_EQ(error, path + ": in use by another guest");
}

TEST_F(LockTest, WritersAndReadersOfDifferentMachinesClash) {
  {
    const Fd first = writer("one");
    EXPECT_FALSE(reader("two"));
  }
  const Fd first = reader("one");
  EXPECT_FALSE(writer("two"));
}

// QEMU locks bytes from 100 and from 200 on, one for each permission, in the same lock space
// (block/file-posix.c).
TEST_F(LockTest, AnImageOfQemuIsInUse) {
  {
    const auto qemu = open_file(path, O_RDWR);
    ASSERT_TRUE(qemu);
    for (const off_t byte : {100, 101, 103, 201}) {
      struct flock shared {};
      shared.l_type = F_RDLCK;
      shared.l_whence = SEEK_SET;
      shared.l_start = byte;
      shared.l_len = 1;
      ASSERT_EQ(::fcntl(qemu->get(), F_OFD_SETLK, &shared), 0);
    }
    EXPECT_FALSE(writer("one"));
    EXPECT_EQ(error, path + ": in use by another guest");
  }
  EXPECT_TRUE(writer("one"));
}

TEST_F(LockTest, AnyNumberMayRead) {
  const Fd first = reader("one");
  const Fd second = reader("two");
  const Fd third = reader("two");
  EXPECT_TRUE(first && second && third);
}

TEST_F(LockTest, AMachineNeverClashesWithItself) {
  const Fd first = writer("one");
  const Fd second = writer("one");
  const Fd third = reader("one");
  EXPECT_TRUE(first && second && third);
  EXPECT_FALSE(writer("two"));
}

TEST_F(LockTest, AMachineThatReadsMayBeginToWriteOnlyAlone) {
  const Fd mine = reader("one");
  const Fd theirs = reader("two");
  EXPECT_FALSE(writer("one"));
}

TEST_F(LockTest, ARefusedMachineLeavesNoLock) {
  Fd first = writer("one");
  EXPECT_FALSE(writer("two"));
  first = Fd{};
  EXPECT_TRUE(writer("three"));
}

TEST_F(LockTest, WithoutAnIdentityNobodyAgrees) {
  const Fd first = writer("");
  EXPECT_FALSE(writer(""));
}

TEST_F(LockTest, TheLockEndsWithTheProcess) {
  const pid_t child = ::fork();
  if (child == 0) {
    const Fd mine = writer("one");
    ::_exit(mine ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(writer("two"));
}

TEST_F(LockTest, OfManyThatRaceOneWins) {
  constexpr int kRacers = 4;
  std::vector<pid_t> racers;
  std::array<int, 2> gate{};
  ASSERT_EQ(::pipe(gate.data()), 0);
  for (int i = 0; i < kRacers; i++) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(gate[1]);
      char byte = 0;
      // NOLINTNEXTLINE(bugprone-unused-return-value): end of file is the signal
      [[maybe_unused]] const ssize_t ignored = ::read(gate[0], &byte, 1);
      const Fd mine = writer("racer" + std::to_string(i));
      ::usleep(mine ? 1'500'000 : 0);  // longer than the others try
      ::_exit(mine ? 1 : 0);
    }
    racers.push_back(child);
  }
  ::close(gate[1]);
  int winners = 0;
  for (const pid_t racer : racers) {
    int status = 0;
    ::waitpid(racer, &status, 0);
    winners += WEXITSTATUS(status);
  }
  ::close(gate[0]);
  // Bounded attempts may leave none, but never two.
  EXPECT_LE(winners, 1);
}

TEST_F(LockTest, TheHolderIsNamed) {
  const auto arguments = [&](const std::string& vbd, const std::string& vm) {
    directory.text(vbd + ".args", "--vbd\n" + vbd + "\n--image\n" + path + "\n--vm\n" + vm + "\n");
  };
  arguments("vbd-1-1", "one");  // our own
  arguments("vbd-2-2", "one");  // the same machine's
  arguments("vbd-3-3", "two");
  const Fd theirs = writer("two");
  ASSERT_TRUE(theirs);
  EXPECT_FALSE(writer("one"));
  EXPECT_EQ(error, path + ": in use by another guest (vbd-3-3)");
}

// What cannot be asked is not taken for free.
TEST_F(LockTest, AFileThatKnowsNoLocksIsRefused) {
  const auto fd = open_file(path, O_PATH);
  ASSERT_TRUE(fd);
  EXPECT_FALSE(image_is_locked(fd->get(), path));
  EXPECT_FALSE(lock_image(fd->get(), path, LockRequest{}));
}

TEST_F(LockTest, SomebodyElseIsSeen) {
  const auto fd = open_file(path, O_RDONLY);
  EXPECT_FALSE(*image_is_locked(fd->get(), path));
  const Fd other = reader("one");
  EXPECT_TRUE(*image_is_locked(fd->get(), path));
  EXPECT_FALSE(*image_is_locked(other.get(), path));  // its own does not count
}

}  // namespace
}  // namespace tapdisk
