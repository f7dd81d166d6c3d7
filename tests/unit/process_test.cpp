// SPDX-License-Identifier: GPL-2.0-only
// The program as systemd runs it, with a preloaded device in the place of the module.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>

#include "image/identity.hpp"
#include "tapctl/places.hpp"
#include "tests/unit/process_fixture.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using testing::ProcessTest;
using testing::TempDirectory;

class ProcessEngineTest : public ProcessTest,
                          public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Engines, ProcessEngineTest, ::testing::Values("io_uring", "libaio"));

TEST_P(ProcessEngineTest, ServesAGuestUntilTheVbdIsGone) {
  serve("--engine\n" + std::string{GetParam()} + "\n", {"FAKE_REQUESTS=1000", "FAKE_END=gone"});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log(), HasSubstr("fake device: all right"));
  EXPECT_THAT(log(), HasSubstr(GetParam()));
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  EXPECT_THAT(next_message(), HasSubstr("STOPPING=1"));
}

TEST_P(ProcessEngineTest, ServesFourQueuesAtOnce) {
  serve("--engine\n" + std::string{GetParam()} + "\n",
        {"FAKE_QUEUES=4", "FAKE_REQUESTS=250", "FAKE_END=gone"});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log(), HasSubstr("fake device: all right"));
  EXPECT_THAT(log(), HasSubstr("4 queues"));
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  EXPECT_THAT(next_message(), HasSubstr("STOPPING=1"));
}

TEST_F(ProcessTest, ServesAsManyQueuesAsThereMayBe) {
  serve("", {"FAKE_QUEUES=16", "FAKE_REQUESTS=60", "FAKE_END=gone"});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log(), HasSubstr("fake device: all right"));
}

TEST_F(ProcessTest, SigtermEndsAllQueues) {
  serve("", {"FAKE_QUEUES=4", "FAKE_REQUESTS=100"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  ::kill(child, SIGTERM);
  EXPECT_EQ(exit_code(), 4) << log();
}

TEST_F(ProcessTest, EachQueueHasADataThreadOfItsOwn) {
  serve("", {"FAKE_QUEUES=3"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  std::vector<std::string> names;
  for (const auto& task :
       std::filesystem::directory_iterator{"/proc/" + std::to_string(child) + "/task"}) {
    std::ifstream file{task.path() / "comm"};
    std::string name;
    std::getline(file, name);
    names.push_back(name);
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"tapdisk-q0", "tapdisk-q1", "tapdisk-q2"}));
}

TEST_F(ProcessTest, AQueueThatCannotBeAttachedIsAFailedStart) {
  serve("", {"FAKE_QUEUES=4", "FAKE_BAD_QUEUE=2", "FAKE_ATTACH_ERRNO=" + std::to_string(ENOMEM)});
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(), HasSubstr("vbd-1-2 queue 2: attach: Cannot allocate memory"));
}

TEST_F(ProcessTest, AQueueThatFailsEndsAllWithItsError) {
  serve("", {"FAKE_QUEUES=4", "FAKE_BAD_QUEUE=3", "FAKE_RUN_ERRNO=" + std::to_string(EPROTO)});
  EXPECT_EQ(exit_code(), 3) << log();
  EXPECT_THAT(log(), HasSubstr("doorbell: Protocol error"));
}

TEST_F(ProcessTest, ServesWithoutDirectIoToo) {
  serve("--direct\noff\n--window\nfault\n", {"FAKE_REQUESTS=500", "FAKE_END=gone"});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log(), HasSubstr("buffered"));
}

// The page cache's data goes to the storage before the process ends, for which a detach waits.
TEST_F(ProcessTest, SyncsAtItsEndWhatItHasWrittenWithoutDirectIo) {
  serve("--direct\noff\n", {"FAKE_REQUESTS=50", "FAKE_END=gone"});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log().substr(log().find("all right")), HasSubstr("fake device: fdatasync"));
}

TEST_F(ProcessTest, SyncsAtSigtermToo) {
  serve("--direct\noff\n");
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  const std::size_t before = log().size();
  ::kill(child, SIGTERM);
  EXPECT_EQ(exit_code(), 4) << log();
  EXPECT_THAT(log().substr(before), HasSubstr("fake device: fdatasync"));
}

TEST_F(ProcessTest, ALastSyncThatFailsIsSaid) {
  serve("--direct\noff\n",
        {"FAKE_REQUESTS=50", "FAKE_END=gone", "FAKE_FDATASYNC_ERRNO=" + std::to_string(EIO)});
  EXPECT_EQ(exit_code(), 3) << log();
  const std::string lost =
      image + ": the guest's last writes may be lost: syncing them failed: Input/output error";
  EXPECT_THAT(log(), HasSubstr(lost));
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  EXPECT_THAT(next_message(), HasSubstr("STATUS=" + lost));
}

TEST_F(ProcessTest, DirectIoNeedsNoSyncAtTheEnd) {
  serve("", {"FAKE_REQUESTS=50", "FAKE_END=gone", "FAKE_FDATASYNC_ERRNO=" + std::to_string(EIO)});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log(), ::testing::Not(HasSubstr("fake device: fdatasync")));
}

TEST_F(ProcessTest, SigtermDrainsAndEndsWell) {
  serve("", {"FAKE_REQUESTS=100"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  ::kill(child, SIGTERM);
  EXPECT_EQ(exit_code(), 4) << log();
  EXPECT_THAT(next_message(), HasSubstr("STOPPING=1"));
  EXPECT_FALSE(std::filesystem::exists(control_path));
}

TEST_F(ProcessTest, AnswersTapCtlAndStaysSmall) {
  serve("", {"FAKE_REQUESTS=1000"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  const Places places{directory.path(), directory.path()};
  nlohmann::json stats;
  for (int i = 0; i < 500 && stats["requests"] != 2001; i++) {
    const auto answer = ask_tapdisk(places, "vbd-1-2", R"({"cmd":"stats"})");
    ASSERT_TRUE(answer) << answer.error().what;
    stats = nlohmann::json::parse(*answer)["stats"];
    ::usleep(10'000);
  }
  EXPECT_EQ(stats["requests"], 2001);
  EXPECT_EQ(stats["writes"], 1000);
  EXPECT_EQ(stats["syncs"], 1);
  EXPECT_EQ(stats["errors"], 0);
  RecordProperty("resident_kib", static_cast<int>(resident_kib()));
  if (!RUNS_SANITIZED) {
    EXPECT_GT(resident_kib(), 1024);  // it is read at all
    EXPECT_LT(resident_kib(), 16 * 1024);
  }
}

TEST_F(ProcessTest, StaysSmallWithFourQueuesAndCountsThemAll) {
  serve("", {"FAKE_QUEUES=4", "FAKE_REQUESTS=250"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  const Places places{directory.path(), directory.path()};
  nlohmann::json stats;
  for (int i = 0; i < 500 && stats["requests"] != 4 * 501; i++) {
    const auto answer = ask_tapdisk(places, "vbd-1-2", R"({"cmd":"stats"})");
    ASSERT_TRUE(answer) << answer.error().what;
    stats = nlohmann::json::parse(*answer)["stats"];
    ::usleep(10'000);
  }
  EXPECT_EQ(stats["requests"], 4 * 501);
  EXPECT_EQ(stats["bytes_written"], 1000 * 4096);
  ASSERT_EQ(stats["queues"].size(), 4u);
  for (const auto& queue : stats["queues"]) EXPECT_EQ(queue["requests"], 501);
  RecordProperty("resident_kib", static_cast<int>(resident_kib()));
  if (!RUNS_SANITIZED) {
    EXPECT_GT(resident_kib(), 1024);  // it is read at all
    EXPECT_LT(resident_kib(), 16 * 1024);
  }
}

// This host may swap to the disk.
TEST_F(ProcessTest, NothingOfItCanBeSwappedOut) {
  serve("", {"FAKE_QUEUES=4"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  EXPECT_GE(kib_of({"VmLck"}), resident_kib());
  EXPECT_THAT(log(), ::testing::Not(HasSubstr("not locked")));
}

TEST_F(ProcessTest, MemoryThatCannotBeLockedIsSaid) {
  serve("", {"FAKE_MLOCKALL_ERRNO=" + std::to_string(ENOMEM), "FAKE_END=gone"});
  EXPECT_EQ(exit_code(), 0) << log();
  EXPECT_THAT(log(), HasSubstr("memory not locked: Cannot allocate memory"));
}

TEST_F(ProcessTest, StaysSmallWithAsManyQueuesAsThereMayBe) {
  serve("", {"FAKE_QUEUES=16", "FAKE_REQUESTS=10"});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  RecordProperty("resident_kib", static_cast<int>(resident_kib()));
  if (!RUNS_SANITIZED) {
    EXPECT_LT(resident_kib(), 24 * 1024);
  }
}

TEST_F(ProcessTest, AFailedStartIsToldToSystemd) {
  std::filesystem::remove(image);
  serve();
  EXPECT_EQ(exit_code(), 1);
  const std::string message = next_message();
  EXPECT_THAT(message, HasSubstr("STATUS=" + image + ": No such file or directory"));
  EXPECT_THAT(message, HasSubstr("ERRNO=2"));
  EXPECT_THAT(log(), HasSubstr(image + ": No such file or directory"));
}

TEST_F(ProcessTest, AnAttachThatIsRefusedIsAFailedStart) {
  serve("", {"FAKE_ATTACH_ERRNO=" + std::to_string(EBUSY)});
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(), HasSubstr("vbd-1-2: attach: another tapdisk serves this vbd"));
}

TEST_F(ProcessTest, ATapdiskThatHasJustDiedIsWaitedFor) {
  for (const int code : {EBUSY, EAGAIN}) {
    serve("", {"FAKE_ATTACH_ERRNO=" + std::to_string(code), "FAKE_REFUSALS=3",
               "FAKE_REQUESTS=1", "FAKE_END=gone"});
    EXPECT_EQ(exit_code(), 0) << log();
  }
}

TEST_F(ProcessTest, AnotherDiskThanTheGuestsIsAFailedStart) {
  serve("", {"FAKE_ATTACH_ERRNO=" + std::to_string(ESTALE)});
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(), HasSubstr("vbd-1-2: attach: not the disk that the guest has"));
}

TEST_F(ProcessTest, AnImageInUseIsAFailedStart) {
  serve("--vm\none\n");
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  const pid_t first = child;
  start({"--vbd", "vbd-9-9", "--image", image, "--control", directory.path() / "2.sock"});
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(), HasSubstr("in use by vbd-1-2"));
  child = first;
}

// FAKE_LOCK_ERRNO: a file system that has no locks.
TEST_F(ProcessTest, AFileSystemWithoutLocksIsRefused) {
  serve("", {"FAKE_LOCK_ERRNO=" + std::to_string(ENOLCK)});
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(), HasSubstr(image + ": cannot be locked: No locks available; "
                                                "--lock auto does without"));
}

TEST_F(ProcessTest, AFileSystemWithoutLocksMayBeAllowed) {
  serve("--lock\nauto\n", {"FAKE_LOCK_ERRNO=" + std::to_string(EOPNOTSUPP)});
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  EXPECT_THAT(log(), HasSubstr(image + ": its file system has no locks"));
}

TEST_F(ProcessTest, AnotherImageByTheSameNameIsAFailedStart) {
  identity = *identify(image);
  serve();
  EXPECT_THAT(next_message(), HasSubstr("READY=1"));
  ::kill(child, SIGKILL);
  exit_code();
  const std::string kept = images.file("kept.img", 4 << 20);
  std::filesystem::rename(kept, image);
  serve();
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(),
              HasSubstr(image + ": is not the image that the disk was attached with"));
}

// systemd drops a status that is not.
TEST_F(ProcessTest, WhatIsToldToSystemdIsUtf8) {
  image = images.path() / "m\xfcller\xc3\xbc.img";
  start({"--vbd", "vbd-1-2", "--image", image});
  EXPECT_EQ(exit_code(), 1);
  EXPECT_THAT(next_message(), HasSubstr("m?ller\xc3\xbc.img: No such file or directory"));
}

TEST_F(ProcessTest, WrongUsageIsItsOwnCode) {
  start({"--bogus"});
  EXPECT_EQ(exit_code(), 2);
}

}  // namespace
}  // namespace tapdisk
