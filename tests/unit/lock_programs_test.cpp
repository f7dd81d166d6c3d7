// SPDX-License-Identifier: GPL-2.0-only
// An image that programs want, too: QEMU and its tools, by their bytes (block/file-posix.c), and
// whoever else locks files.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <vector>

#include "image/file_locks.hpp"
#include "image/lock.hpp"
#include "tests/unit/lock_fixture.hpp"
#include "tests/unit/lock_program.hpp"

namespace tapdisk {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Program;
using testing::whole_lock;

constexpr int kUsesRead = 100, kUsesWrite = 101, kForbidsRead = 200, kForbidsWrite = 201;

class LockProgramsTest : public testing::LockFixture {
 protected:
  // As QEMU locks.
  std::vector<Program::Lock> qemu(std::initializer_list<int> bytes) {
    std::vector<Program::Lock> locks;
    for (const int byte : bytes) locks.push_back({F_OFD_SETLK, F_RDLCK, byte, 1});
    return locks;
  }

  // Whether QEMU could use and forbid these, as it asks.
  bool qemu_may(std::initializer_list<int> uses, std::initializer_list<int> forbids) {
    const auto fd = open_file(path, O_RDWR);
    const auto is_free = [&](int byte) {
      struct flock asked = whole_lock(F_WRLCK, byte, 1);
      return ::fcntl(fd->get(), F_OFD_GETLK, &asked) == 0 && asked.l_type == F_UNLCK;
    };
    return std::all_of(uses.begin(), uses.end(), [&](int byte) { return is_free(byte + 100); }) &&
           std::all_of(forbids.begin(), forbids.end(),
                       [&](int byte) { return is_free(byte - 100); });
  }
};

TEST_F(LockProgramsTest, AReaderThatSharesIsInNobodysWay) {
  const Program backup{path, qemu({kUsesRead})};
  ASSERT_TRUE(backup.locked());
  EXPECT_TRUE(writer("one")) << error;
  EXPECT_TRUE(reader("one")) << error;
}

TEST_F(LockProgramsTest, AReaderThatWantsNoWriterIsNamed) {
  const Program reads{path, qemu({kUsesRead, kForbidsWrite})};
  ASSERT_TRUE(reads.locked());
  EXPECT_TRUE(reader("one")) << error;
  EXPECT_FALSE(writer("one"));
  EXPECT_THAT(error, HasSubstr(path + ": in use by " + reads.name()));
  EXPECT_THAT(error, EndsWith("), which lets nobody write"));
  EXPECT_THAT(find_program(path, true), HasSubstr(reads.name()));
  EXPECT_EQ(find_program(path, false), "");
}

TEST_F(LockProgramsTest, AWriterOfQemusIsRefusedToAll) {
  {
    // One after the other, as the kernel joins what lies side by side.
    const Program writes{path, qemu({100, 101, 103, 201})};
    ASSERT_TRUE(writes.locked());
    EXPECT_FALSE(writer("one"));
    EXPECT_THAT(error, HasSubstr("in use by " + writes.name()));
    EXPECT_THAT(error, HasSubstr("which may write to it"));
    EXPECT_FALSE(reader("one"));
  }
  EXPECT_TRUE(writer("one")) << error;
}

TEST_F(LockProgramsTest, WhoForbidsToReadIsRefusedToAll) {
  const Program alone{path, qemu({kForbidsRead})};
  EXPECT_FALSE(reader("one"));
  EXPECT_THAT(error, HasSubstr("which has it for itself"));
}

TEST_F(LockProgramsTest, QemuMayOnlyReadWhatAGuestWrites) {
  const Fd guest = writer("one");
  ASSERT_TRUE(guest);
  EXPECT_FALSE(qemu_may({kUsesRead, kUsesWrite}, {}));  // qemu-img resize, qemu-io
  EXPECT_FALSE(qemu_may({kUsesRead}, {kForbidsWrite}));
  EXPECT_TRUE(qemu_may({kUsesRead}, {}));  // qemu-img -U
}

TEST_F(LockProgramsTest, QemuMayOnlyReadWhatAGuestReads) {
  const Fd guest = reader("one");
  ASSERT_TRUE(guest);
  EXPECT_FALSE(qemu_may({kUsesRead, kUsesWrite}, {}));
  EXPECT_TRUE(qemu_may({kUsesRead}, {kForbidsWrite}));
  EXPECT_FALSE(qemu_may({}, {kForbidsRead}));
}

TEST_F(LockProgramsTest, AFileThatNobodyHasAnyMoreIsQemusAgain) {
  { const Fd guest = writer("one"); }
  EXPECT_TRUE(qemu_may({kUsesRead, kUsesWrite}, {kForbidsRead, kForbidsWrite}));
}

// The locks of tapdisks that agree lie on the same bytes, and on top of a program's.
TEST_F(LockProgramsTest, AProgramIsSeenThroughTheGuestsOwnLocks) {
  const Fd first = reader("one", "vbd-1-1");
  ASSERT_TRUE(first);
  const Program reads{path, qemu({kUsesRead, kForbidsWrite})};
  ASSERT_TRUE(reads.locked());
  EXPECT_TRUE(reader("one", "vbd-1-2")) << error;
  EXPECT_FALSE(writer("one", "vbd-1-2"));
  EXPECT_THAT(error, HasSubstr("in use by " + reads.name()));
}

TEST_F(LockProgramsTest, LocksOfProcessesHaveTheirName) {
  const Program reads{path, {{F_SETLK, F_RDLCK, kUsesRead, 1}, {F_SETLK, F_RDLCK, 201, 1}}};
  ASSERT_TRUE(reads.locked());
  EXPECT_TRUE(reader("one")) << error;
  EXPECT_FALSE(writer("one"));
  EXPECT_THAT(error, HasSubstr("in use by " + reads.name()));
}

// Over NFS, flock(2) is such a lock.
TEST_F(LockProgramsTest, WhoLocksTheWholeFileIsTakenAtHisWord) {
  {
    const Program reads{path, {{F_SETLK, F_RDLCK, 0, 0}}};
    ASSERT_TRUE(reads.locked());
    EXPECT_TRUE(reader("one")) << error;
    EXPECT_FALSE(writer("one"));
    EXPECT_THAT(error, HasSubstr("in use by " + reads.name()));
    EXPECT_THAT(error, Not(HasSubstr("guest")));
  }
  const Program writes{path, {{F_SETLK, F_WRLCK, 0, 0}}};
  ASSERT_TRUE(writes.locked());
  EXPECT_FALSE(reader("one"));
  EXPECT_THAT(error, HasSubstr("in use by " + writes.name()));
  EXPECT_THAT(error, HasSubstr("which has it for itself"));
}

TEST_F(LockProgramsTest, AWholeLockHidesNoGuest) {
  const Program reads{path, {{F_SETLK, F_RDLCK, 0, 0}}};
  ASSERT_TRUE(reads.locked());
  const auto guest = open_file(path, O_RDWR);
  ASSERT_TRUE(take_shared_lock(guest->get(), {4711, 4711}));  // one that writes
  EXPECT_FALSE(reader("one"));
  EXPECT_EQ(error, path + ": in use by another guest");
}

// The same with QEMU's own tools.
class LockQemuTest : public LockProgramsTest {
 protected:
  void SetUp() override {
    if (!run("qemu-img --version >&2")) GTEST_SKIP() << "qemu-utils is not installed";
  }
  // Whether the command succeeds; what it says is in `said`.
  bool run(const std::string& command) {
    FILE* const output = ::popen((command + " 2>&1").c_str(), "re");
    if (!output) return false;
    said.clear();
    for (int c = std::getc(output); c != EOF; c = std::getc(output))
      said.push_back(static_cast<char>(c));
    return ::pclose(output) == 0;
  }

  std::string said;
};

TEST_F(LockQemuTest, ToolsDoNotWriteWhatAGuestHas) {
  for (const bool writes : {true, false}) {
    const Fd guest = lock(request(writes, "one", "vbd-1-1"));
    ASSERT_TRUE(guest) << error;
    EXPECT_FALSE(run("qemu-img resize -f raw " + path + " +1M"));
    EXPECT_THAT(said, HasSubstr("lock"));
    EXPECT_FALSE(run("qemu-io -f raw -c 'write 0 512' " + path));
    EXPECT_THAT(said, HasSubstr("lock"));
    EXPECT_TRUE(run("qemu-img info -U " + path)) << said;
    EXPECT_TRUE(run("qemu-img convert -U -f raw -O raw " + path + " " + path + ".copy")) << said;
  }
  EXPECT_TRUE(run("qemu-img resize -f raw " + path + " +1M")) << said;
}

TEST_F(LockQemuTest, AToolThatWritesIsNamed) {
  FILE* const tool = ::popen(("qemu-io -f raw " + path + " >/dev/null").c_str(), "we");
  ASSERT_NE(tool, nullptr);
  for (int i = 0; i < 500 && find_program(path, false).empty(); i++) ::usleep(20'000);
  EXPECT_FALSE(reader("one"));
  EXPECT_THAT(error, HasSubstr("(qemu-io), which may write to it"));
  ::pclose(tool);  // end of file is what it waits for
  EXPECT_TRUE(writer("one")) << error;
}

TEST_F(LockProgramsTest, WhoGoesAwayInTimeIsInNobodysWay) {
  std::optional<Program> probe;
  probe.emplace(path, qemu({kUsesRead, kForbidsWrite}));
  ASSERT_TRUE(probe->locked());
  EXPECT_NE(find_program(path, true), "");
  probe.reset();
  EXPECT_EQ(find_program(path, true), "");
  EXPECT_TRUE(writer("one")) << error;
}

}  // namespace
}  // namespace tapdisk
