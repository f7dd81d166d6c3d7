// SPDX-License-Identifier: GPL-2.0-only
// Runs tapdisk as systemd does, with a preloaded device (fake_device.cpp) in place of the module.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include "base/disk_record.hpp"
#include "base/resource.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk::testing {

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    notify_path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(::bind(notify.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval limit{10, 0};
    ::setsockopt(notify.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  void TearDown() override {
    if (child > 0) ::kill(child, SIGKILL);
  }

  void start(std::vector<std::string> arguments, std::vector<std::string> environment = {}) {
    std::vector<char*> argv;
    arguments.insert(arguments.begin(), TAPDISK_PROGRAM);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    child = ::fork();
    if (child != 0) return;
    if (!::freopen(log_path.c_str(), "w", stderr)) ::_exit(127);
    ::setenv("LD_PRELOAD", FAKE_DEVICE, 1);
    ::setenv("ASAN_OPTIONS", "verify_asan_link_order=0", 1);
    ::setenv("NOTIFY_SOCKET", notify_path.c_str(), 1);
    for (std::string& variable : environment) ::putenv(variable.data());
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }

  // Serves `image`, with a record as the hotplug program writes it. `more`: options, one to a line.
  void serve(const std::string& more = "", std::vector<std::string> environment = {}) {
    DiskRecord record;
    record.vbd = "vbd-1-2";
    record.image = image;
    record.identity = identity;
    // The rights of these are not theirs to give up; tests/system/cases/rights.
    record.options = {"--control", control_path, "--confine", "off"};
    std::istringstream lines{more};
    for (std::string line; std::getline(lines, line);) record.options.push_back(line);
    ASSERT_TRUE(write_record(directory.path() / "vbd-1-2.json", record));
    start({"@" + (directory.path() / "vbd-1-2.json").string()}, std::move(environment));
  }

  int exit_code() {
    int status = 0;
    for (int i = 0; i < 1000; i++) {
      if (::waitpid(child, &status, WNOHANG) == child) {
        child = 0;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      ::usleep(20'000);
    }
    return -1;
  }

  std::string next_message() {
    std::string message(4096, '\0');
    const ssize_t bytes = ::recv(notify.get(), message.data(), message.size(), 0);
    message.resize(bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
    return message;
  }

  std::string log() const {
    std::ifstream file{log_path};
    return {std::istreambuf_iterator<char>{file}, {}};
  }

  // The sum of those fields of its /proc/PID/status.
  long kib_of(std::initializer_list<std::string> fields) const {
    std::ifstream status{"/proc/" + std::to_string(child) + "/status"};
    long kib = 0;
    for (std::string line; std::getline(status, line);)
      for (const std::string& field : fields)
        if (line.starts_with(field + ":")) kib += std::stol(line.substr(field.size() + 1));
    return kib;
  }
  // Without the shared memory, which is the fake device's and its guest's.
  long resident_kib() const { return kib_of({"RssAnon", "RssFile"}); }

  TempDirectory directory{std::filesystem::temp_directory_path()};
  TempDirectory images;
  std::string image = images.file("a.img", 4 << 20);
  std::string identity;
  std::string control_path = directory.path() / "vbd-1-2.sock";
  std::string notify_path = directory.path() / "notify";
  std::string log_path = directory.path() / "log";
  Fd notify{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  pid_t child = 0;
};

}  // namespace tapdisk::testing
