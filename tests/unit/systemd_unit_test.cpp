// SPDX-License-Identifier: GPL-2.0-only
//
// What the hotplug program says to systemd and makes of its answers; a thread plays systemd.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/resource.hpp"
#include "hotplug/units.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using testing::TempDirectory;

constexpr const char* kUnitPath =
    "/org/freedesktop/systemd1/unit/blktap_2dtapdisk_40vbd_2d3_2d51712_2eservice";

class SystemdUnitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    ASSERT_EQ(::listen(listener.get(), 4), 0);
    thread = std::thread{[this] { serve(); }};
  }
  void TearDown() override {
    stop = true;
    thread.join();
  }

  // Connections one after the other.
  void serve() {
    while (!stop) {
      const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd >= 0) serve(fd);
      else std::this_thread::sleep_for(5ms);
    }
  }

  void serve(int fd) {
    sd_bus* bus = nullptr;
    sd_bus_new(&bus);
    sd_bus_set_fd(bus, fd, fd);
    sd_bus_set_server(bus, 1, sd_id128_t{});
    sd_bus_start(bus);
    sd_bus_add_filter(bus, nullptr, &SystemdUnitTest::handle, this);
    hang_up = false;
    while (!stop && !hang_up) {
      const int processed = sd_bus_process(bus, nullptr);
      if (processed < 0) break;
      if (processed > 0) continue;
      tell_changes(bus);
      sd_bus_wait(bus, 5000);
    }
    sd_bus_close_unref(bus);
  }

  static int handle(sd_bus_message* message, void* self, sd_bus_error*) {
    return static_cast<SystemdUnitTest*>(self)->answer(message);
  }

  int answer(sd_bus_message* message) {
    const std::lock_guard locked{mutex};
    const char* const member = sd_bus_message_get_member(message);
    if (!member || sd_bus_message_is_method_call(message, nullptr, nullptr) <= 0) return 0;
    const std::string method{member};
    if (method == "Get") {
      const char* interface = nullptr;
      const char* name = nullptr;
      sd_bus_message_read(message, "ss", &interface, &name);
      if (std::string{sd_bus_message_get_path(message)} != kUnitPath) return 0;
      return sd_bus_reply_method_return(message, "v", "s", properties[name].c_str());
    }
    const char* unit = nullptr;
    sd_bus_message_read(message, "s", &unit);
    calls.push_back(method + " " + unit);
    if (method == "StartUnit") {
      if (!start_error.empty())
        return sd_bus_reply_method_errorf(message, "org.example.No", "%s", start_error.c_str());
      job_ends = job_result != "never";
      return sd_bus_reply_method_return(message, "o", "/org/freedesktop/systemd1/job/7");
    }
    if (method == "KillUnit") end_soon = true;
    return sd_bus_reply_method_return(message, "");
  }

  // As systemd does, to all who are connected directly; that of another job first.
  void tell_changes(sd_bus* bus) {
    const std::lock_guard locked{mutex};
    if (std::exchange(job_ends, false)) {
      properties["ActiveState"] = job_result == "done" ? "active" : "failed";
      tell_job(bus, "/org/freedesktop/systemd1/job/6", "canceled");
      if (drops_connection) hang_up = true;
      else tell_job(bus, "/org/freedesktop/systemd1/job/7", job_result.c_str());
    }
    if (std::exchange(end_soon, false)) {
      properties["ActiveState"] = "inactive";
      sd_bus_emit_signal(bus, kUnitPath, "org.freedesktop.DBus.Properties", "PropertiesChanged",
                         "sa{sv}as", "org.freedesktop.systemd1.Unit", 0, 0);
    }
  }
  static void tell_job(sd_bus* bus, const char* job, const char* result) {
    sd_bus_emit_signal(bus, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                       "JobRemoved", "uoss", 7u, job, "blktap-tapdisk@vbd-3-51712.service",
                       result);
  }

  std::unique_ptr<Unit> unit(int interrupts = -1) {
    return systemd_unit("blktap-tapdisk@vbd-3-51712.service", interrupts, "unix:path=" + path);
  }

  TempDirectory directory{std::filesystem::temp_directory_path()};
  std::string path = directory.path() / "private";
  Fd listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  std::thread thread;
  std::atomic<bool> stop{false};
  std::atomic<bool> hang_up{false};
  std::mutex mutex;  // of what follows
  std::map<std::string, std::string> properties{{"ActiveState", "inactive"}};
  std::vector<std::string> calls;
  std::string start_error;
  std::string job_result = "done";
  bool drops_connection = false;
  bool job_ends = false;
  bool end_soon = false;
};

TEST_F(SystemdUnitTest, AStartEndsWithItsJob) {
  const auto tapdisk = unit();
  EXPECT_TRUE(tapdisk->is_there());
  EXPECT_TRUE(tapdisk->has_ended());
  EXPECT_TRUE(tapdisk->start(Clock::now() + 20s));
  EXPECT_FALSE(tapdisk->has_ended());
  const std::lock_guard locked{mutex};
  EXPECT_THAT(calls, ElementsAre("StartUnit blktap-tapdisk@vbd-3-51712.service"));
}

TEST_F(SystemdUnitTest, AJobThatFails) {
  job_result = "failed";
  const auto tapdisk = unit();
  const auto started = tapdisk->start(Clock::now() + 20s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().what, "tapdisk did not start (failed)");
  properties["StatusText"] = "/srv/a: in use";
  properties["Result"] = "exit-code";
  EXPECT_EQ(tapdisk->report().status, "/srv/a: in use");
  EXPECT_EQ(tapdisk->report().result, "exit-code");
  tapdisk->forget_failure();
  const std::lock_guard locked{mutex};
  EXPECT_EQ(calls.back(), "ResetFailedUnit blktap-tapdisk@vbd-3-51712.service");
}

TEST_F(SystemdUnitTest, AStartThatIsRefused) {
  start_error = "Unit is masked.";
  const auto started = unit()->start(Clock::now() + 20s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().what, "Unit is masked.");
}

TEST_F(SystemdUnitTest, AJobThatDoesNotEnd) {
  job_result = "never";
  const auto started = unit()->start(Clock::now() + 100ms);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ETIMEDOUT);
}

TEST_F(SystemdUnitTest, AnInterruptEndsOneWaitOnly) {
  job_result = "never";
  const Fd interrupts{::eventfd(1, EFD_CLOEXEC)};
  const auto tapdisk = unit(interrupts.get());
  const auto started = tapdisk->start(Clock::now() + 20s);
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, EINTR);
  properties["ActiveState"] = "activating";
  tapdisk->terminate();
  EXPECT_TRUE(tapdisk->wait_ended(Clock::now() + 20s));
  EXPECT_EQ(tapdisk->start(Clock::now() + 20s).error().code, EINTR);
}

TEST_F(SystemdUnitTest, TheEndIsWaitedFor) {
  properties["ActiveState"] = "active";
  const auto tapdisk = unit();
  EXPECT_FALSE(tapdisk->wait_ended(Clock::now() + 50ms));
  tapdisk->terminate();
  EXPECT_TRUE(tapdisk->wait_ended(Clock::now() + 20s));
}

// systemd executed itself anew: the end of the job was told to nobody.
TEST_F(SystemdUnitTest, AConnectionThatBreaksIsMadeAnew) {
  drops_connection = true;
  EXPECT_TRUE(unit()->start(Clock::now() + 20s));
}

TEST_F(SystemdUnitTest, WithoutSystemdThereIsNoUnit) {
  const auto tapdisk = systemd_unit("x.service", -1, "unix:path=/nonexistent");
  ::setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", 1);
  EXPECT_FALSE(tapdisk->is_there());
  EXPECT_TRUE(tapdisk->has_ended());
  EXPECT_FALSE(tapdisk->start(Clock::now() + 1s));
}

}  // namespace
}  // namespace tapdisk
