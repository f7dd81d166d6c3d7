// SPDX-License-Identifier: GPL-2.0-only
// Guests that want one image.
#include "image/lock.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <vector>

#include "image/file_locks.hpp"
#include "tests/unit/lock_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;

class LockTest : public testing::LockFixture {};

TEST_F(LockTest, ASecondMachineMayNotWrite) {
  const Fd first = writer("one", "vbd-7-51712");
  ASSERT_TRUE(first);
  EXPECT_FALSE(writer("two"));
  EXPECT_EQ(error, path + ": in use by vbd-7-51712");
}

TEST_F(LockTest, WritersAndReadersOfDifferentMachinesClash) {
  {
    const Fd first = writer("one");
    EXPECT_FALSE(reader("two"));
  }
  const Fd first = reader("one");
  EXPECT_FALSE(writer("two"));
}

TEST_F(LockTest, AnyNumberMayRead) {
  const Fd first = reader("one");
  const Fd second = reader("two");
  const Fd third = reader("two");
  EXPECT_TRUE(first && second && third);
}

TEST_F(LockTest, AMachineNeverClashesWithItself) {
  const Fd first = writer("one", "vbd-1-1");
  const Fd second = writer("one", "vbd-2-1");
  const Fd third = reader("one", "vbd-1-2");
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

TEST_F(LockTest, TheHolderIsNamedAndNotWhoAgrees) {
  neighbours.vbds["vbd-2-2"] = {true, "one", "the one"};  // the machine's own
  neighbours.vbds["vbd-3-3"] = {true, "two", "the other"};
  const Fd own = reader("one", "vbd-2-2");
  const Fd theirs = reader("two", "vbd-3-3");
  ASSERT_TRUE(own && theirs);
  EXPECT_FALSE(writer("one", "vbd-4-4"));
  EXPECT_EQ(error, path + ": in use by vbd-3-3 (guest the other)");
}

TEST_F(LockTest, AMachineOfAnotherHostHasNoName) {
  const auto theirs = open_file(path, O_RDWR);
  ASSERT_TRUE(theirs);
  // As tapdisk locks there: its guest, and its vbd by a number of that host.
  ASSERT_TRUE(take_shared_lock(theirs->get(), {4711, 4711}));
  EXPECT_FALSE(writer("one"));
  EXPECT_EQ(error, path + ": in use by another guest");
  const std::uint64_t vbd = (1ull << 62) + (0x1ffffull << 44) + (3ull << 29) + 51712;
  for (const std::uint64_t host : {0ull, 1ull}) {  // this one may be either
    const std::uint64_t byte = vbd - (host << 44);
    ASSERT_TRUE(take_shared_lock(theirs->get(), {byte, byte}));
  }
  EXPECT_FALSE(writer("one"));
  EXPECT_THAT(error, HasSubstr("in use by a guest of another host"));
}

// The module, io_uring or a system call that hangs keep the open file, whoever has gone.
TEST_F(LockTest, AnEarlierLifeThatStillWritesIsWaitedForAndThenRefused) {
  Fd in_flight = writer("one", "vbd-5-51712");
  ASSERT_TRUE(in_flight);
  neighbours.vbds["vbd-5-51712"] = {false, "", ""};
  LockRequest next = request(true, "one", "vbd-6-51712");
  next.patience_ms = 300;
  EXPECT_FALSE(lock(next));
  EXPECT_EQ(error, path + ": I/O of vbd-5-51712, which is gone, is still in flight after 0 s; "
                          "try again when its storage has answered");
  EXPECT_FALSE(reader("one", "vbd-6-51712"));

  next.patience_ms = 20'000;
  std::thread storage{[&] {
    std::this_thread::sleep_for(std::chrono::milliseconds{500});
    in_flight = Fd{};
  }};
  EXPECT_TRUE(lock(next)) << error;
  storage.join();
}

TEST_F(LockTest, AnotherGuestThatIsGoneIsWaitedForToo) {
  Fd in_flight = writer("one", "vbd-5-51712");
  neighbours.vbds["vbd-5-51712"] = {false, "", ""};
  EXPECT_FALSE(writer("two", "vbd-6-51712"));
  EXPECT_THAT(error, HasSubstr("I/O of vbd-5-51712, which is gone, is still in flight"));
  in_flight = Fd{};
  EXPECT_TRUE(writer("two", "vbd-6-51712"));
}

// What is read into nobody's memory harms nobody who reads.
TEST_F(LockTest, AnEarlierLifeThatOnlyReadKeepsWritersOut) {
  const Fd in_flight = reader("one", "vbd-5-51712");
  neighbours.vbds["vbd-5-51712"] = {false, "", ""};
  EXPECT_TRUE(reader("one", "vbd-6-51712"));
  EXPECT_FALSE(writer("one", "vbd-6-51712"));
}

TEST_F(LockTest, AVbdOfTheSameNameIsAskedAsWell) {
  const Fd in_flight = writer("one", "vbd-5-51712");
  EXPECT_TRUE(writer("one", "vbd-5-51712"));  // its tapdisk was killed, and is started again
  neighbours.vbds["vbd-5-51712"] = {false, "", ""};
  EXPECT_FALSE(writer("one", "vbd-5-51712"));  // detached, and attached again
}

TEST_F(LockTest, MigrationFromAnotherHostIsNotAnEarlierLife) {
  const auto theirs = open_file(path, O_RDWR);
  ASSERT_TRUE(theirs);
  const Fd here = writer("one", "vbd-5-51712");
  ASSERT_TRUE(here);
  // All that this host's locks are, but for the host in the vbd's.
  for (const FileLock& lock : listed_locks(here.get())) ADD_FAILURE() << lock.first;
  const auto all = locks_of_others(theirs->get(), {{0, kLastByte}});
  ASSERT_TRUE(all);
  for (FileLock lock : *all) {
    if (lock.first >= 1ull << 62) lock.first = lock.last = lock.first ^ (1ull << 44);
    ASSERT_TRUE(take_shared_lock(theirs->get(), {lock.first, lock.last}));
  }
  drop_locks(here.get());
  neighbours.vbds["vbd-5-51712"] = {false, "", ""};
  EXPECT_TRUE(writer("one", "vbd-6-51712")) << error;
  EXPECT_FALSE(writer("two", "vbd-6-51712"));
  EXPECT_THAT(error, HasSubstr("in use by a guest of another host"));
}

TEST_F(LockTest, LocksThatNobodyWantsAreNotTaken) {
  const Fd first = writer("one");
  LockRequest careless = request(true, "two", "vbd-2-2");
  careless.locking = Locking::kOff;
  EXPECT_TRUE(lock(careless));
}

// What cannot be asked is not taken for free.
TEST_F(LockTest, AFileThatKnowsNoLocksIsRefused) {
  const auto fd = open_file(path, O_PATH);
  ASSERT_TRUE(fd);
  EXPECT_FALSE(image_is_shared(fd->get(), path));
  EXPECT_FALSE(lock_image(fd->get(), path, LockRequest{}));
}

TEST_F(LockTest, SomebodyElseIsSeen) {
  const auto fd = open_file(path, O_RDONLY);
  EXPECT_FALSE(*image_is_shared(fd->get(), path));
  const Fd other = reader("one");
  EXPECT_TRUE(*image_is_shared(fd->get(), path));
  EXPECT_FALSE(*image_is_shared(other.get(), path));  // its own does not count
}

TEST_F(LockTest, ThoseThatShareOnPurposeAgree) {
  const Fd first = sharing(true, "one", "vbd-1-1");
  const Fd second = sharing(true, "two", "vbd-2-2");
  const Fd third = sharing(false, "three", "vbd-3-3");
  EXPECT_TRUE(first && second && third) << error;
  EXPECT_FALSE(writer("four", "vbd-4-4"));
  EXPECT_THAT(error, HasSubstr(", which shares it with those that do so, too"));
  EXPECT_FALSE(reader("four", "vbd-4-4"));
}

TEST_F(LockTest, SharingNeedsTheOthersConsent) {
  {
    const Fd first = writer("one", "vbd-1-1");
    EXPECT_FALSE(sharing(true, "two", "vbd-2-2"));
    EXPECT_EQ(error, path + ": in use by vbd-1-1, which does not share it");
    EXPECT_FALSE(sharing(false, "two", "vbd-2-2"));
  }
  const Fd first = reader("one");
  EXPECT_FALSE(sharing(true, "two"));
  EXPECT_TRUE(sharing(false, "two"));
}

TEST_F(LockTest, AnEarlierLifeThatSharedIsInFlightLikeAny) {
  const Fd first = sharing(true, "one", "vbd-1-1");
  const Fd in_flight = sharing(true, "two", "vbd-2-2");
  neighbours.vbds["vbd-2-2"] = {false, "", ""};
  EXPECT_FALSE(sharing(true, "two", "vbd-3-2"));
  EXPECT_THAT(error, HasSubstr("I/O of vbd-2-2, which is gone"));
}

}  // namespace
}  // namespace tapdisk
