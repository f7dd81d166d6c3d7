// SPDX-License-Identifier: GPL-2.0-only
//
// The world of the hotplug program as its tests make it up: a vbd that waits for its disk, an
// image, a directory with /sys, /etc and /run, and a unit that does as it is told.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/disk_record.hpp"
#include "base/first_line.hpp"
#include "hotplug/hotplug.hpp"
#include "tests/support/fake_xenstore.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk::testing {

class FakeUnit final : public Unit {
 public:
  bool there = true;
  std::string state;  // as systemd's ActiveState; empty: not loaded
  bool deaf = false;    // does not end when asked to
  bool undead = false;  // nor when killed
  UnitReport words;
  std::function<Result<void>()> on_start = [] { return Result<void>{}; };
  std::function<void()> on_wait = [] {};
  std::vector<std::string> calls;

  bool is_there() override { return there; }
  Result<void> start(Clock::time_point) override {
    calls.emplace_back("start");
    const Result<void> started = on_start();
    state = started ? "active" : started.error().code == EINTR ? "activating" : "failed";
    return started;
  }
  bool has_ended() override { return state.empty() || state == "inactive" || state == "failed"; }
  bool wait_ended(Clock::time_point) override {
    on_wait();
    return has_ended();
  }
  void terminate() override { end("terminate", deaf, "inactive"); }
  void kill() override { end("kill", undead, "failed"); }
  void forget_failure() override {
    if (state == "failed") state = "inactive", calls.emplace_back("forget_failure");
  }
  UnitReport report() override { return words; }

 private:
  void end(const char* call, bool stays, const char* then) {
    calls.emplace_back(call);
    if (!stays) state = then;
  }
};

// Names of what is in a directory.
inline std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator{directory, ignored})
    names.push_back(entry.path().filename());
  return names;
}

class HotplugWorld : public ::testing::Test {
 protected:
  static constexpr const char* kBackend = "backend/vbd/3/51712";
  static constexpr const char* kVm = "1f0e2d3c-0000-0000-0000-00000000abcd";

  void SetUp() override {
    bind("blktap", bus_id);
    directory.text("sys/class/blktap/vbd-3-51712/tapdisk_pid", "4711\n");
    directory.text("sys/class/blktap/vbd-3-51712/state", "initwait\n");
    std::filesystem::create_directories(root() + "/sys/bus/xen-backend/drivers/blktap");
    std::filesystem::create_directories(root() + "/run");
    key("state", "2");
    key("online", "1");
    key("mode", "w");
    key("dev", "xvda");
    key("params", image);
    xenstore.values["/local/domain/3/vm"] = std::string{"/vm/"} + kVm;
    xenstore.values["/local/domain/3/name"] = "guest";
  }

  std::string root() const { return directory.path(); }
  void key(const std::string& name, const std::string& value) {
    xenstore.values[std::string{kBackend} + "/" + name] = value;
  }
  std::string stored(const std::string& name) {
    const auto found = xenstore.values.find(backend + "/" + name);
    return found == xenstore.values.end() ? "" : found->second;
  }

  // An empty name: no driver.
  void bind(const std::string& driver, const std::string& device) {
    const std::string at = root() + "/sys/bus/xen-backend/devices/" + device;
    std::filesystem::create_directories(at);
    ::unlink((at + "/driver").c_str());
    if (!driver.empty())
      std::filesystem::create_symlink("../../drivers/" + driver, at + "/driver");
  }

  int run(int (Hotplug::*what)()) {
    const Host host{root(), *Store::open(), [&](const auto& command) { return on_run(command); },
                    [&](const auto& file, const auto& text) {
                      wrote.push_back(std::filesystem::path{file}.filename().string() + " " + text);
                      on_write(file);
                      return true;
                    },
                    [&](log::Level, const std::string& text) { said.push_back(text); }};
    Hotplug hotplug{host, *parse_backend(backend), unit, grants, {}};
    return (hotplug.*what)();
  }
  // As if nothing had been attached.
  void again() {
    key("hotplug-status", "");
    unit.state = "";
  }
  int add() { return run(&Hotplug::add); }
  int remove() { return run(&Hotplug::remove); }

  std::string record_file() const { return root() + "/run/blktap/vbd-3-51712.json"; }
  DiskRecord record() const { return *read_record(record_file()); }

  void expect_attached() {
    EXPECT_EQ(add(), 0) << stored("hotplug-error");
    EXPECT_EQ(stored("hotplug-status"), "connected");
    EXPECT_EQ(unit.state, "active");
  }
  void expect_nothing_left() {
    EXPECT_THAT(names_in(root() + "/run/blktap"), ::testing::IsEmpty());
    EXPECT_TRUE(unit.state.empty() || unit.state == "inactive") << unit.state;
  }
  void expect_refused(const std::string& why) {
    EXPECT_EQ(add(), 1);
    EXPECT_EQ(stored("hotplug-error"), why);
    EXPECT_EQ(stored("hotplug-status"), "error");
    EXPECT_THAT(said, ::testing::Contains(why));
    expect_nothing_left();
  }
  void expect_not_started() {
    EXPECT_THAT(unit.calls, ::testing::Not(::testing::Contains("start")));
  }

  // Nothing opens it: that is tapdisk's.
  void device_as_image() {
    image = root() + "/img/device";
    ASSERT_EQ(::mknod(image.c_str(), S_IFBLK | 0600, makedev(7, 250)), 0);
    key("params", image);
  }

  TempDirectory directory;
  FakeXenstore xenstore;
  FakeUnit unit;
  std::string backend = kBackend;
  std::string bus_id = "vbd-3-51712";
  bool grants = false;
  std::string image = directory.text("img/disk.img", "data\n");
  std::function<int(const std::vector<std::string>&)> on_run = [](const auto&) { return 0; };
  std::function<void(const std::string&)> on_write = [](const std::string&) {};
  std::vector<std::string> wrote;  // to sysfs: file and text
  std::vector<std::string> said;
};

}  // namespace tapdisk::testing
