// SPDX-License-Identifier: GPL-2.0-only
#include "server/control.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/limits.hpp"
#include "base/resource.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using testing::TempDirectory;

const ControlHooks kHooks{[] { return std::string{R"({"reads":5})"}; },
                          [] { return Result<std::uint64_t>{4096}; }, [] {}};

bool refused(std::string_view line) {
  const auto answer = nlohmann::json::parse(answer_line(line, kHooks));
  return answer["ok"] == false && answer["error"].is_string();
}

TEST(AnswerLine, KnowsItsCommands) {
  const auto stats = nlohmann::json::parse(answer_line(R"({"cmd":"stats"})", kHooks));
  EXPECT_EQ(stats["ok"], true);
  EXPECT_EQ(stats["stats"]["reads"], 5);
  const auto version = nlohmann::json::parse(answer_line(R"({"cmd":"version"})", kHooks));
  EXPECT_TRUE(version["version"].is_string());
  const auto resize = nlohmann::json::parse(answer_line(R"({"cmd":"resize"})", kHooks));
  EXPECT_EQ(resize["ok"], true);
  EXPECT_EQ(resize["sectors"], 4096);
}

TEST(AnswerLine, LeavesOrSaysWhyNot) {
  ControlHooks hooks = kHooks;
  hooks.leave = [] { return Result<void>{}; };
  const auto leaves = nlohmann::json::parse(answer_line(R"({"cmd":"leave"})", hooks));
  EXPECT_EQ(leaves["ok"], true);
  hooks.leave = [] { return Result<void>{Error{EPERM, "nobody else"}}; };
  const auto stays = nlohmann::json::parse(answer_line(R"({"cmd":"leave"})", hooks));
  EXPECT_EQ(stays["ok"], false);
  EXPECT_EQ(stays["error"], "nobody else");
}

TEST(AnswerLine, SaysWhyADiskDoesNotGrow) {
  ControlHooks hooks = kHooks;
  hooks.resize = [] { return Result<std::uint64_t>{Error{EINVAL, "/srv/\xff: smaller"}}; };
  const auto answer = nlohmann::json::parse(answer_line(R"({"cmd":"resize"})", hooks));
  EXPECT_EQ(answer["ok"], false);
  EXPECT_THAT(answer["error"].get<std::string>(), HasSubstr(": smaller"));
}

TEST(Control, WithoutDescriptorsItSaysSo) {
  const TempDirectory directory{std::filesystem::temp_directory_path()};
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(Fd{::open("/dev/null", O_RDONLY | O_CLOEXEC)}.get());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto control = Control::open(directory.path() / "control.sock", kHooks);
  ::setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_FALSE(control);
  EXPECT_EQ(control.error().code, EMFILE);
  EXPECT_THAT(control.error().what, HasSubstr("Too many open files"));
}

TEST(Control, ClaimsADeviceUntilItHasIt) {
  const TempDirectory directory{std::filesystem::temp_directory_path()};
  std::atomic<int> calls{0};
  ControlHooks hooks = kHooks;
  hooks.claim = [&] { return ++calls == 2; };
  const auto control = Control::open(directory.path() / "control.sock", hooks);
  ASSERT_TRUE(control);
  for (int i = 0; i < 500 && calls < 2; i++) ::usleep(20'000);
  ::usleep(3 * kClaimPeriodMs * 1000);
  EXPECT_EQ(calls, 2);
}

TEST(Control, BeatsAgainAndAgain) {
  const TempDirectory directory{std::filesystem::temp_directory_path()};
  std::atomic<int> beats{0};
  ControlHooks hooks = kHooks;
  hooks.beat = [&] { beats++; };
  hooks.beat_period = std::chrono::milliseconds{1};
  const auto control = Control::open(directory.path() / "control.sock", hooks);
  ASSERT_TRUE(control);
  for (int i = 0; i < 500 && beats < 3; i++) ::usleep(20'000);
  EXPECT_GE(beats, 3);
}

TEST(ResizeWatch, KnowsTheChangesOfItsDevice) {
  using namespace std::string_view_literals;
  const std::string head{"change@/devices/virtual/block/loop0\0ACTION=change\0"sv};
  const auto message = [&](std::string_view rest) { return head + std::string{rest}; };
  const auto ours = message("SUBSYSTEM=block\0RESIZE=1\0MAJOR=7\0MINOR=0\0"sv);
  EXPECT_TRUE(is_change_of(ours, 7, 0));
  EXPECT_FALSE(is_change_of(ours, 7, 1));
  EXPECT_FALSE(is_change_of(ours, 70, 0));
  EXPECT_TRUE(is_change_of(message("SUBSYSTEM=block\0MAJOR=7\0MINOR=0"sv), 7, 0)) << "no NUL";
  EXPECT_FALSE(is_change_of(message("SUBSYSTEM=net\0MAJOR=7\0MINOR=0\0"sv), 7, 0));
  EXPECT_FALSE(is_change_of("ACTION=add\0SUBSYSTEM=block\0MAJOR=7\0MINOR=0\0"sv, 7, 0));
  EXPECT_FALSE(is_change_of("", 7, 0));
  EXPECT_FALSE(is_change_of(std::string(8192, '\0'), 0, 0));
}

TEST(AnswerLine, RefusesEverythingElse) {
  for (const char* line : {"", "x", "{", "[]", "5", "\"stats\"", "{}", R"({"cmd":5})",
                           R"({"cmd":"rm"})", R"({"cmd":null})", "{\"cmd\":\"\xff\"}"})
    EXPECT_TRUE(refused(line)) << line;
  EXPECT_TRUE(refused(std::string(4096, '[')));
  EXPECT_TRUE(refused(std::string_view{"\0\0", 2}));
}

class ControlTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = Control::open(path, {kHooks.stats, kHooks.resize, [this] { stops++; }});
    ASSERT_TRUE(opened) << opened.error().what;
    control = std::move(*opened);
  }

  Fd connect() {
    Fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval limit{5, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
  }

  // Empty: the other side has closed.
  static std::string read_line(const Fd& fd) {
    std::string line;
    for (char c = 0; ::recv(fd.get(), &c, 1, 0) == 1 && c != '\n';) line += c;
    return line;
  }
  static std::string ask(const Fd& fd, const std::string& text) {
    ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    return read_line(fd);
  }

  TempDirectory directory{std::filesystem::temp_directory_path()};  // a socket's path is short
  std::string path = directory.path() / "vbd-1-2.sock";
  std::atomic<int> stops = 0;
  std::unique_ptr<Control> control;
};

TEST_F(ControlTest, AnswersLineByLine) {
  const Fd client = connect();
  EXPECT_THAT(ask(client, "{\"cmd\":\"stats\"}\n"), HasSubstr("\"reads\":5"));
  EXPECT_THAT(ask(client, "nonsense\n{\"cmd\":\"stats\"}\n"), HasSubstr("error"));
  EXPECT_THAT(read_line(client), HasSubstr("\"reads\":5"));
}

TEST_F(ControlTest, OnlyTheOwnerMayConnect) {
  struct stat status {};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0077, 0u);
}

TEST_F(ControlTest, ALineThatNeverEndsIsCutOff) {
  const Fd client = connect();
  EXPECT_EQ(ask(client, std::string(2 * kControlLineMax, 'x')), "");
  EXPECT_THAT(ask(connect(), "{\"cmd\":\"stats\"}\n"), HasSubstr("reads"));
}

TEST_F(ControlTest, ClientsThatStayDoNotKeepOthersOutForever) {
  {
    std::vector<Fd> clients;
    for (unsigned i = 0; i < kControlSessionsMax; i++) {
      clients.push_back(connect());
      EXPECT_THAT(ask(clients.back(), "{\"cmd\":\"stats\"}\n"), HasSubstr("reads"));
    }
    EXPECT_EQ(ask(connect(), "{\"cmd\":\"stats\"}\n"), "");
  }
  std::string answer;
  for (int i = 0; i < 100 && answer.empty(); i++) {
    ::usleep(10'000);
    answer = ask(connect(), "{\"cmd\":\"stats\"}\n");
  }
  EXPECT_THAT(answer, HasSubstr("reads"));
}

TEST_F(ControlTest, AClientThatGoesWithoutReadingHurtsNobody) {
  for (int i = 0; i < 100; i++) {
    const Fd client = connect();
    const std::string text = "{\"cmd\":\"stats\"}\n{\"cmd\":\"stats\"}\n";
    ::send(client.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  std::string answer;
  for (int i = 0; i < 100 && answer.empty(); i++) {
    answer = ask(connect(), "{\"cmd\":\"stats\"}\n");
    ::usleep(10'000);
  }
  EXPECT_THAT(answer, HasSubstr("reads"));
}

TEST_F(ControlTest, SigtermAsksToStop) {
  ::kill(::getpid(), SIGTERM);
  for (int i = 0; i < 500 && stops == 0; i++) ::usleep(10'000);
  EXPECT_EQ(stops, 1);
}

TEST_F(ControlTest, TheSocketGoesWithIt) {
  control.reset();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(ControlTest, ASocketLeftBehindIsTakenOver) {
  const std::string left = directory.path() / "left.sock";
  const Fd old{::socket(AF_UNIX, SOCK_STREAM, 0)};
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  left.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(::bind(old.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_TRUE(Control::open(left, kHooks));
}

TEST_F(ControlTest, AFileInTheWayIsNotRemoved) {
  const std::string file = directory.text("file", "precious");
  const auto opened = Control::open(file, kHooks);
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().what, HasSubstr(file));
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST_F(ControlTest, APathTooLongIsAnError) {
  EXPECT_FALSE(Control::open("/tmp/" + std::string(200, 'x'), kHooks));
}

}  // namespace
}  // namespace tapdisk
