// SPDX-License-Identifier: GPL-2.0-only
// Both engines, on real files.
#include "io/engine.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <vector>

#include "base/limits.hpp"
#include "base/syscall.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using testing::TempDirectory;

struct Waiter final : IoClient {
  void io_finished(Io& io) noexcept override { finished.push_back(&io); }
  std::vector<Io*> finished;
};

class EngineTest : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    auto made = make_engine(GetParam());
    ASSERT_TRUE(made) << made.error().what;
    engine = std::move(*made);
  }

  Fd open(const std::string& path, int flags) {
    auto fd = open_file(path, flags);
    EXPECT_TRUE(fd) << fd.error().what;
    return std::move(*fd);
  }

  Io make_io(IoVerb verb, const Fd& fd, std::uint64_t offset, std::span<iovec> data) {
    Io io;
    io.verb = verb;
    io.fd = fd.get();
    io.offset = offset;
    io.data = data;
    for (const iovec& range : data) io.left += static_cast<std::uint32_t>(range.iov_len);
    io.client = &waiter;
    return io;
  }

  // Runs what was started until `count` Ios are finished.
  void finish(std::size_t count) {
    for (int turns = 0; waiter.finished.size() < count && turns < 10'000; turns++)
      engine->turn(-1);
    ASSERT_EQ(waiter.finished.size(), count);
  }

  int run(Io& io) {
    waiter.finished.clear();
    engine->start(io);
    finish(1);
    EXPECT_EQ(waiter.finished.at(0), &io);
    return io.result;
  }

  TempDirectory directory;
  Waiter waiter;
  std::unique_ptr<Engine> engine;
  alignas(4096) std::array<std::byte, 16 * 4096> memory{};
};

INSTANTIATE_TEST_SUITE_P(Engines, EngineTest, ::testing::Values(EngineKind::kUring,
                                                                EngineKind::kAio),
                         [](const auto& info) {
                           return info.param == EngineKind::kUring ? "io_uring" : "libaio";
                         });

TEST_P(EngineTest, WritesAndReadsBackDirectly) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR | O_DIRECT);
  std::memset(memory.data(), 'a', 4096);
  std::array out{iovec{memory.data(), 4096}};
  Io write = make_io(IoVerb::kWrite, fd, 8192, out);
  EXPECT_EQ(run(write), 0);
  std::array in{iovec{memory.data() + 8192, 4096}};
  Io read = make_io(IoVerb::kRead, fd, 8192, in);
  EXPECT_EQ(run(read), 0);
  EXPECT_EQ(std::memcmp(memory.data(), memory.data() + 8192, 4096), 0);
}

// Memory that was announced is used like any other, in it, at its end and across it.
TEST_P(EngineTest, DataMayLieInMemoryThatWasAnnounced) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR | O_DIRECT);
  engine->expect_data_in(std::span{memory}.subspan(4096, 8192));
  for (const std::size_t at : {0, 2048, 4096, 8192, 10240, 12288}) {
    std::memset(memory.data(), 0, memory.size());
    std::memset(memory.data() + at, 'a', 4096);
    std::array out{iovec{memory.data() + at, 4096}};
    Io write = make_io(IoVerb::kWrite, fd, 8192, out);
    EXPECT_EQ(run(write), 0);
    std::memset(memory.data() + at, 'b', 4096);
    std::array in{iovec{memory.data() + at, 4096}};
    Io read = make_io(IoVerb::kRead, fd, 8192, in);
    EXPECT_EQ(run(read), 0);
    EXPECT_EQ(std::count(memory.begin(), memory.end(), std::byte{'a'}), 4096) << at;
    EXPECT_EQ(memory[at], std::byte{'a'}) << at;
  }
}

TEST_P(EngineTest, ScattersOverRangesInOrder) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR | O_DIRECT);
  for (unsigned i = 0; i < 3; i++) std::memset(memory.data() + i * 8192, 'a' + i, 512);
  std::array out{iovec{memory.data(), 512}, iovec{memory.data() + 8192, 512},
                 iovec{memory.data() + 16384, 512}};
  Io write = make_io(IoVerb::kWrite, fd, 512, out);
  EXPECT_EQ(run(write), 0);
  std::array in{iovec{memory.data() + 32768, 1536}};
  Io read = make_io(IoVerb::kRead, fd, 512, in);
  EXPECT_EQ(run(read), 0);
  for (unsigned i = 0; i < 3; i++)
    EXPECT_EQ(memory[32768 + i * 512 + 511], std::byte('a' + i));
}

TEST_P(EngineTest, AHoleReadsAsZeros) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDONLY | O_DIRECT);
  std::memset(memory.data(), 0xff, 4096);
  std::array in{iovec{memory.data(), 4096}};
  Io read = make_io(IoVerb::kRead, fd, 65536, in);
  EXPECT_EQ(run(read), 0);
  EXPECT_EQ(memory[0], std::byte{0});
  EXPECT_EQ(memory[4095], std::byte{0});
}

TEST_P(EngineTest, TheFileEndingTooEarlyIsAnError) {
  const Fd fd = open(directory.file("image", 6144), O_RDONLY | O_DIRECT);
  std::array inside{iovec{memory.data(), 8192}};
  Io partly = make_io(IoVerb::kRead, fd, 0, inside);
  EXPECT_EQ(run(partly), -ENODATA);
  std::array beyond{iovec{memory.data(), 4096}};
  Io wholly = make_io(IoVerb::kRead, fd, 1 << 20, beyond);
  EXPECT_EQ(run(wholly), -ENODATA);
}

TEST_P(EngineTest, SyncsTheFile) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR);
  Io sync = make_io(IoVerb::kSync, fd, 0, {});
  EXPECT_EQ(run(sync), 0);
}

TEST_P(EngineTest, WorksOnTmpfs) {
  const TempDirectory shm{"/dev/shm"};
  const Fd fd = open(shm.file("image", 1 << 20), O_RDWR);
  std::memset(memory.data(), 'z', 4096);
  std::array out{iovec{memory.data(), 4096}};
  Io write = make_io(IoVerb::kWrite, fd, 4096, out);
  EXPECT_EQ(run(write), 0);
  Io sync = make_io(IoVerb::kSync, fd, 0, {});
  EXPECT_EQ(run(sync), 0);
  std::array in{iovec{memory.data() + 4096, 4096}};
  Io read = make_io(IoVerb::kRead, fd, 4096, in);
  EXPECT_EQ(run(read), 0);
  EXPECT_EQ(memory[4096], std::byte{'z'});
}

TEST_P(EngineTest, TheRealErrnoComesOut) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDONLY);
  std::array out{iovec{memory.data(), 4096}};
  Io write = make_io(IoVerb::kWrite, fd, 0, out);
  EXPECT_EQ(run(write), -EBADF);
}

TEST_P(EngineTest, MemoryThatIsNotThereIsAnErrorOfThatIoOnly) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR | O_DIRECT);
  void* hole = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::array bad{iovec{hole, 4096}};
  std::array good{iovec{memory.data(), 4096}};
  Io first = make_io(IoVerb::kRead, fd, 0, bad);
  Io second = make_io(IoVerb::kRead, fd, 0, good);
  engine->start(first);
  engine->start(second);
  finish(2);
  EXPECT_EQ(first.result, -EFAULT);
  EXPECT_EQ(second.result, 0);
  ::munmap(hole, 4096);
}

TEST_P(EngineTest, TakesItsDepthInOneSystemCall) {
  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR | O_DIRECT);
  std::array in{iovec{memory.data(), 4096}};
  std::vector<Io> ios(kEngineDepth, make_io(IoVerb::kRead, fd, 0, in));
  std::vector<std::array<iovec, 1>> ranges(kEngineDepth, in);
  for (unsigned i = 0; i < kEngineDepth; i++) {
    ios[i].data = ranges[i];
    engine->start(ios[i]);
  }
  EXPECT_EQ(engine->counters().calls.get(), 0u);
  engine->turn(0);
  EXPECT_LE(engine->counters().calls.get(), 2u);  // libaio: submit, getevents
  finish(kEngineDepth);
  for (const Io& io : ios) EXPECT_EQ(io.result, 0);
}

TEST_P(EngineTest, AClientMayStartAgainFromItsCallback) {
  struct Restarter final : IoClient {
    void io_finished(Io& io) noexcept override {
      count++;
      if (count < 100) {
        io.data = range;
        io.left = 4096;
        engine->start(io);
      }
    }
    Engine* engine = nullptr;
    std::array<iovec, 1> range{};
    int count = 0;
  } client;
  const Fd fd = open(directory.file("image", 1 << 20), O_RDONLY | O_DIRECT);
  client.engine = engine.get();
  client.range[0] = {memory.data(), 4096};
  Io read = make_io(IoVerb::kRead, fd, 0, client.range);
  read.client = &client;
  engine->start(read);
  for (int turns = 0; client.count < 100 && turns < 1000; turns++) engine->turn(-1);
  EXPECT_EQ(client.count, 100);
}

TEST_P(EngineTest, WatchFiresWhenReadableAndLooksAtTheLevel) {
  const Fd event{::eventfd(0, EFD_NONBLOCK)};
  Io watch = make_io(IoVerb::kWatch, event, 0, {});
  engine->start(watch);
  engine->turn(0);
  EXPECT_TRUE(waiter.finished.empty());
  ::eventfd_write(event.get(), 1);
  finish(1);
  EXPECT_TRUE(watch.result & POLLIN);
  EXPECT_TRUE(run(watch) & POLLIN);  // still readable
}

// Who never sleeps has to hear of it, too.
TEST_P(EngineTest, WhatEndsLaterIsSeenWithoutSleeping) {
  const Fd event{::eventfd(0, EFD_NONBLOCK)};
  Io watch = make_io(IoVerb::kWatch, event, 0, {});
  engine->start(watch);
  engine->turn(0);
  ::eventfd_write(event.get(), 1);
  for (int turns = 0; turns < 3 && waiter.finished.empty(); turns++) engine->turn(0);
  EXPECT_EQ(waiter.finished.size(), 1u);
}

TEST_P(EngineTest, WatchSeesTheOtherEndGo) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const Fd read_end{ends[0]};
  Io watch = make_io(IoVerb::kWatch, read_end, 0, {});
  engine->start(watch);
  engine->turn(0);
  ::close(ends[1]);
  finish(1);
  EXPECT_TRUE(watch.result & POLLHUP);
}

TEST_P(EngineTest, SleepsNoLongerThanItMay) {
  const Fd event{::eventfd(0, EFD_NONBLOCK)};
  Io watch = make_io(IoVerb::kWatch, event, 0, {});
  engine->start(watch);
  const auto start = std::chrono::steady_clock::now();
  engine->turn(20);
  const auto slept = std::chrono::steady_clock::now() - start;
  EXPECT_GE(slept, std::chrono::milliseconds{5});
  EXPECT_LT(slept, std::chrono::seconds{5});
  EXPECT_TRUE(waiter.finished.empty());
}

TEST_P(EngineTest, ASignalLosesNothing) {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  struct sigaction before {};
  ::sigaction(SIGALRM, &action, &before);
  itimerval often{{0, 500}, {0, 500}};
  ::setitimer(ITIMER_REAL, &often, nullptr);

  const Fd fd = open(directory.file("image", 1 << 20), O_RDWR | O_DIRECT);
  for (int round = 0; round < 300; round++) {
    std::array range{iovec{memory.data(), 4096}};
    Io io = make_io(round % 2 ? IoVerb::kRead : IoVerb::kWrite, fd, 4096, range);
    EXPECT_EQ(run(io), 0);
  }
  itimerval never{};
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
}

// A file system with no room left, seen through the size limit of the process.
TEST_P(EngineTest, AWriteThatEndsShortIsContinuedAndThenSaysWhy) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const Fd fd = open(directory.file("image", 0), O_RDWR);
  const rlimit limit{4096, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::array out{iovec{memory.data(), 1024}, iovec{memory.data() + 4096, 7168}};
  Io write = make_io(IoVerb::kWrite, fd, 0, out);
  const int result = run(write);
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(result, -EFBIG);
  EXPECT_EQ(write.offset, 4096u);
  EXPECT_EQ(engine->counters().repeats.get(), 1u);
}

TEST(MakeEngine, AutoTakesIoUringWhereItWorks) {
  const auto uring = make_uring_engine();
  const auto chosen = make_engine(EngineKind::kAuto);
  ASSERT_TRUE(chosen);
  EXPECT_EQ((*chosen)->name(), uring ? "io_uring" : "libaio");
}

}  // namespace
}  // namespace tapdisk
