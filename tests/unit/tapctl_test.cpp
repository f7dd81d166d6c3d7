// SPDX-License-Identifier: GPL-2.0-only
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/disk_record.hpp"
#include "base/first_line.hpp"
#include "base/resource.hpp"
#include "server/control.hpp"
#include "tests/support/temp_file.hpp"
#include "tapctl/pause.hpp"
#include "tapctl/places.hpp"
#include "tapctl/report.hpp"
#include "tapctl/successor.hpp"

namespace tapdisk {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempDirectory;

class TapCtlTest : public ::testing::Test {
 protected:
  void add_vbd(const std::string& name, const std::string& domid, const std::string& devid) {
    const std::string base = "class/" + name + "/";
    directory.text(base + "domid", domid + "\n");
    directory.text(base + "devid", devid + "\n");
    directory.text(base + "state", "connected\n");
    directory.text(base + "attached", "1\n");
    directory.text(base + "tapdisk_pid", "4711\n");
    directory.text(base + "sectors", "2097152\n");
    directory.text(base + "uevent", "MAJOR=1\n");
    directory.text(base + "statistics/requests_read", "12\n");
    directory.text(base + "statistics/bytes_copied", "0\n");
    add_record(name, "/srv/" + name);
  }
  void set(const std::string& name, const std::string& attribute, const std::string& value) {
    directory.text("class/" + name + "/" + attribute + ".new", value + "\n");
    const auto path = directory.path() / "class" / name / attribute;
    std::filesystem::rename(path.string() + ".new", path);
  }
  void add_record(const std::string& name, const std::string& image) {
    std::filesystem::create_directories(places.run_directory);
    DiskRecord record;
    record.vbd = name;
    record.image = image;
    ASSERT_TRUE(write_record(record_path(places.run_directory, name), record));
  }

  TempDirectory directory{std::filesystem::temp_directory_path()};  // a socket's path is short
  Places places{directory.path() / "class", directory.path() / "run"};
};

TEST_F(TapCtlTest, WithoutTheModuleTheListIsEmpty) {
  const auto vbds = list_vbds(places);
  ASSERT_TRUE(vbds) << vbds.error().what;
  EXPECT_EQ(nlohmann::json::parse(list_as_json(*vbds)), nlohmann::json::array());
  EXPECT_FALSE(module_is_loaded(places));
  EXPECT_FALSE(read_statistics(places, "vbd-1-51712"));
}

TEST_F(TapCtlTest, WhatCannotBeListedIsAnError) {
  directory.text("class", "no directory");
  const auto vbds = list_vbds(places);
  ASSERT_FALSE(vbds);
  EXPECT_THAT(vbds.error().what, HasSubstr(places.class_directory));
}

TEST_F(TapCtlTest, ListsInOrderOfDomainAndDevice) {
  add_vbd("vbd-10-51712", "10", "51712");
  add_vbd("vbd-2-51728", "2", "51728");
  add_vbd("vbd-2-51712", "2", "51712");
  const auto vbds = list_vbds(places);
  ASSERT_TRUE(vbds);
  const auto list = nlohmann::json::parse(list_as_json(*vbds));
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(list[0]["vbd"], "vbd-2-51712");
  EXPECT_EQ(list[1]["vbd"], "vbd-2-51728");
  EXPECT_EQ(list[2]["vbd"], "vbd-10-51712");
  EXPECT_EQ(list[0]["tapdisk_pid"], 4711);
  EXPECT_EQ(list[0]["state"], "connected");
  EXPECT_EQ(list[0]["image"], "/srv/vbd-2-51712");
  EXPECT_FALSE(list[0].contains("uevent"));

  const std::string table = list_as_table(*vbds);
  EXPECT_THAT(table, HasSubstr("vbd-2-51712            connected     4711      1 GiB  "
                               "/srv/vbd-2-51712\n"));
}

TEST_F(TapCtlTest, ShowsHowLongADiskStillWaitsForATapdisk) {
  add_vbd("vbd-2-51712", "2", "51712");
  set("vbd-2-51712", "attached", "0");
  set("vbd-2-51712", "keep_left_ms", "41001");
  const auto vbds = list_vbds(places);
  ASSERT_TRUE(vbds);
  EXPECT_THAT(list_as_table(*vbds), HasSubstr(" in 42 s "));
  set("vbd-2-51712", "keep_left_ms", "0");
  EXPECT_THAT(list_as_table(*list_vbds(places)), Not(HasSubstr(" in ")));
}

TEST_F(TapCtlTest, AnAttributeThatIsOnlyWrittenIsNotListed) {
  add_vbd("vbd-2-51712", "2", "51712");
  directory.text("class/vbd-2-51712/give_up", "");
  std::filesystem::permissions(directory.path() / "class/vbd-2-51712/give_up",
                               std::filesystem::perms::owner_write);
  const auto vbds = list_vbds(places);
  ASSERT_TRUE(vbds);
  EXPECT_FALSE(vbds->front().attributes.contains("give_up"));
}

TEST_F(TapCtlTest, GivesUpOnlyWhatWaits) {
  add_vbd("vbd-2-51712", "2", "51712");
  const std::string file = directory.text("class/vbd-2-51712/give_up", "");
  const auto served = give_up(places, "vbd-2-51712");
  ASSERT_FALSE(served);
  EXPECT_THAT(served.error().what, HasSubstr("nothing waits"));
  set("vbd-2-51712", "attached", "0");
  set("vbd-2-51712", "keep_left_ms", "1000");
  set("vbd-2-51712", "kept", "3");
  const auto given_up = give_up(places, "vbd-2-51712");
  ASSERT_TRUE(given_up) << given_up.error().what;
  EXPECT_EQ(given_up->requests, 3u);
  EXPECT_FALSE(given_up->for_room);
  EXPECT_EQ(first_line(file), "1");
  EXPECT_THAT(give_up(places, "vbd-3-51712").error().what, HasSubstr("vbd-2-51712"));
}

TEST_F(TapCtlTest, GivesUpWhatWaitsForRoom) {
  add_vbd("vbd-2-51712", "2", "51712");
  ControlHooks hooks;
  Result<std::size_t> said{2};
  hooks.give_up = [&] { return said; };
  const auto control = Control::open(places.run_directory + "/vbd-2-51712.sock", hooks);
  ASSERT_TRUE(control) << control.error().what;
  const auto given_up = give_up(places, "vbd-2-51712");
  ASSERT_TRUE(given_up) << given_up.error().what;
  EXPECT_EQ(given_up->requests, 2u);
  EXPECT_TRUE(given_up->for_room);
  said = Error{ESRCH, "nothing does"};
  EXPECT_THAT(give_up(places, "vbd-2-51712").error().what, HasSubstr("nothing does"));
}

// A tapdisk that leaves as it is told, and what the module says then.
class UpgradeTest : public TapCtlTest {
 protected:
  void SetUp() override {
    add_vbd(kVbd, "2", "51712");
    set(kVbd, "keep_left_ms", "0");
    ControlHooks hooks;
    hooks.leave = [this] {
      leaving = std::thread{leaves};
      return said;
    };
    auto opened = Control::open(places.run_directory + "/" + kVbd + ".sock", hooks);
    ASSERT_TRUE(opened) << opened.error().what;
    control = std::move(*opened);
  }
  void TearDown() override {
    control.reset();
    if (leaving.joinable()) leaving.join();
  }

  static constexpr const char* kVbd = "vbd-2-51712";
  std::function<void()> leaves = [] {};
  Result<void> said;
  std::thread leaving;
  std::unique_ptr<Control> control;
};

TEST_F(UpgradeTest, WaitsUntilAnotherServes) {
  leaves = [this] {
    ::usleep(50'000);
    set(kVbd, "tapdisk_pid", "0");  // the attributes do not change all at once
    ::usleep(20'000);
    set(kVbd, "keep_left_ms", "60000");
    set(kVbd, "attached", "0");
    ::usleep(100'000);
    set(kVbd, "tapdisk_pid", "4712");
    set(kVbd, "attached", "1");
    ::usleep(50'000);
    set(kVbd, "keep_left_ms", "0");
  };
  const auto done = replace_tapdisk(places, kVbd);
  ASSERT_TRUE(done) << done.error().what;
  EXPECT_EQ(done->before, 4711);
  EXPECT_EQ(done->after, 4712);
  EXPECT_GE(done->pause.count(), 140);
}

TEST_F(UpgradeTest, SaysWhenNoOtherComes) {
  leaves = [this] {
    set(kVbd, "keep_left_ms", "0");
    set(kVbd, "attached", "0");
  };
  const auto done = replace_tapdisk(places, kVbd);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().what, HasSubstr("no other tapdisk has come"));
}

TEST_F(UpgradeTest, SaysWhyATapdiskStays) {
  said = Error{EPERM, "its guest would get errors"};
  const auto done = replace_tapdisk(places, kVbd);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().what, HasSubstr("its guest would get errors"));
  set(kVbd, "attached", "0");
  EXPECT_THAT(replace_tapdisk(places, kVbd).error().what, HasSubstr("no tapdisk"));
}

// A tapdisk that can be paused.
class PauseCommandTest : public TapCtlTest {
 protected:
  void SetUp() override {
    add_vbd(kVbd, "2", "51712");
    ControlHooks hooks;
    hooks.pause = &pause;
    auto opened = Control::open(places.run_directory + "/" + kVbd + ".sock", hooks);
    ASSERT_TRUE(opened) << opened.error().what;
    control = std::move(*opened);
  }

  static constexpr const char* kVbd = "vbd-2-51712";
  std::atomic<bool> held{false};
  Result<void> synced;
  Pause pause{PausedDisk{[this] { held = true; }, [this] { held = false; }, [] { return true; },
                         [this] { return synced; }, [] {}}};
  std::unique_ptr<Control> control;
};

TEST_F(PauseCommandTest, WaitsUntilTheDiskRests) {
  const auto paused = pause_disk(places, kVbd, std::chrono::seconds{60});
  ASSERT_TRUE(paused) << paused.error().what;
  EXPECT_TRUE(held);
  EXPECT_THAT(pause_disk(places, kVbd, std::chrono::seconds{60}).error().what,
              HasSubstr("paused already"));
  const auto resumed = resume_disk(places, kVbd);
  EXPECT_TRUE(resumed) << resumed.error().what;
  EXPECT_THAT(resume_disk(places, kVbd).error().what, HasSubstr("not paused"));
}

TEST_F(PauseCommandTest, SaysWhyADiskIsNotPaused) {
  synced = Error{EIO, "/srv/a: cannot be synced"};
  const auto paused = pause_disk(places, kVbd, std::chrono::seconds{60});
  ASSERT_FALSE(paused);
  EXPECT_THAT(paused.error().what, HasSubstr("/srv/a: cannot be synced"));
  EXPECT_THAT(resume_disk(places, "vbd-9-51712").error().what, HasSubstr(kVbd));
}

TEST_F(TapCtlTest, KnowsDisksThatTheModuleDoesNot) {
  add_record("vbd-3-51712", "/srv/a");
  auto control = Control::open(places.run_directory + "/vbd-3-51712.sock", {});
  ASSERT_TRUE(control) << control.error().what;
  const auto vbds = list_vbds(places);
  ASSERT_TRUE(vbds) << "without the module, too";
  ASSERT_EQ(vbds->size(), 1u);
  EXPECT_EQ(vbds->front().name, "vbd-3-51712");
  EXPECT_EQ(vbds->front().image, "/srv/a");
  EXPECT_EQ(vbds->front().attributes.at("tapdisk_pid"), std::to_string(::getpid()));
  EXPECT_EQ(vbds->front().attributes.at("attached"), "1");
  add_vbd("vbd-3-51712", "3", "51712");
  EXPECT_EQ(list_vbds(places)->size(), 1u);
}

TEST_F(TapCtlTest, ASocketOfNobodyIsNoDisk) {
  add_vbd("vbd-2-51712", "2", "51712");
  const std::string path = places.run_directory + "/vbd-3-51712.sock";
  {
    auto control = Control::open(path, {});
    ASSERT_TRUE(control) << control.error().what;
    std::filesystem::create_hard_link(path, path + ".kept");
  }
  std::filesystem::rename(path + ".kept", path);
  const auto vbds = list_vbds(places);
  ASSERT_TRUE(vbds);
  ASSERT_EQ(vbds->size(), 1u);
  EXPECT_EQ(vbds->front().name, "vbd-2-51712");
}

TEST_F(TapCtlTest, ATapdiskThatTakesNoConnectionsDoesNotHoldItUp) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const std::string path = places.run_directory + "/vbd-3-51712.sock";
  add_record("vbd-3-51712", "/srv/a");
  path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  const Fd deaf{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(::bind(deaf.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  ASSERT_EQ(::listen(deaf.get(), 0), 0);
  const Fd caller{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  ASSERT_EQ(::connect(caller.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  const auto vbds = list_vbds(places);  // the queue of one is full
  ASSERT_TRUE(vbds);
  ASSERT_EQ(vbds->size(), 1u);
  EXPECT_FALSE(vbds->front().attributes.contains("tapdisk_pid"));
}

TEST_F(TapCtlTest, AnEmptyListIsAHeadingOrAnEmptyArray) {
  EXPECT_THAT(list_as_table({}), HasSubstr("VBD"));
  EXPECT_EQ(list_as_json({}), "[]\n");
}

TEST_F(TapCtlTest, APathThatIsNotUtf8IsStillPrinted) {
  VbdView vbd;
  vbd.name = "vbd-1-2";
  vbd.image = "/srv/\xff.img";
  EXPECT_TRUE(nlohmann::json::accept(list_as_json({vbd})));
}

TEST_F(TapCtlTest, StatsOfAVbdThatIsNotThereNameThoseThatAre) {
  add_vbd("vbd-2-51712", "2", "51712");
  const auto stats = read_statistics(places, "vbd-9-9");
  ASSERT_FALSE(stats);
  EXPECT_EQ(stats.error().what, "vbd-9-9: no such vbd; there are: vbd-2-51712");
  EXPECT_FALSE(read_statistics(places, "../run"));
}

TEST_F(TapCtlTest, StatsShowBothSides) {
  add_vbd("vbd-2-51712", "2", "51712");
  auto control = Control::open(places.run_directory + "/vbd-2-51712.sock",
                               {[] { return std::string{R"({"engine":"io_uring","reads":5})"}; },
                                {}, [] {}});
  ASSERT_TRUE(control) << control.error().what;
  const auto module = read_statistics(places, "vbd-2-51712");
  ASSERT_TRUE(module);
  const auto tapdisk = ask_tapdisk(places, "vbd-2-51712", R"({"cmd":"stats"})");
  ASSERT_TRUE(tapdisk) << tapdisk.error().what;

  const auto json = nlohmann::json::parse(stats_as_json("vbd-2-51712", *module, tapdisk));
  EXPECT_EQ(json["module"]["requests_read"], 12);
  EXPECT_EQ(json["tapdisk"]["reads"], 5);
  const std::string table = stats_as_table("vbd-2-51712", *module, tapdisk);
  EXPECT_THAT(table, HasSubstr("requests_read"));
  EXPECT_THAT(table, HasSubstr("io_uring"));
}

TEST_F(TapCtlTest, SeveralQueuesAreCountedTogetherAndEach) {
  const Result<std::string> answer{
      R"({"ok":true,"stats":{"requests":7,"queues":[)"
      R"({"requests":5,"bytes_read":4096,"bytes_written":0,"errors":0},{"requests":2}]}})"};
  const std::string table = stats_as_table("v", {}, answer);
  EXPECT_THAT(table, HasSubstr("  queues                                  2\n"));
  EXPECT_THAT(table, HasSubstr("  requests                                7\n"));
  EXPECT_THAT(table, HasSubstr("  0                    5            4096               0"));
  EXPECT_THAT(table, HasSubstr("  1                    2               -               -"));
  EXPECT_EQ(nlohmann::json::parse(stats_as_json("v", {}, answer))["tapdisk"]["queues"].size(), 2u);
}

TEST_F(TapCtlTest, OneQueueIsNotListed) {
  const Result<std::string> answer{
      R"({"ok":true,"stats":{"requests":7,"queues":[{"requests":7}]}})"};
  const std::string table = stats_as_table("v", {}, answer);
  EXPECT_THAT(table, HasSubstr("  queues                                  1\n"));
  EXPECT_THAT(table, Not(HasSubstr("bytes_read")));
}

TEST_F(TapCtlTest, StatsWithoutATapdiskSayWhy) {
  add_vbd("vbd-2-51712", "2", "51712");
  const auto module = read_statistics(places, "vbd-2-51712");
  const auto tapdisk = ask_tapdisk(places, "vbd-2-51712", R"({"cmd":"stats"})");
  ASSERT_FALSE(tapdisk);
  EXPECT_TRUE(nlohmann::json::parse(stats_as_json("vbd-2-51712", *module, tapdisk))["tapdisk"]
                  .is_null());
  EXPECT_THAT(stats_as_table("vbd-2-51712", *module, tapdisk),
              HasSubstr("none: tapdisk of vbd-2-51712: No such file or directory"));
}

TEST_F(TapCtlTest, ResizeSaysTheNewSizeOrWhyThereIsNone) {
  const auto text = resize_as_text("v", std::string{R"({"ok":true,"sectors":2097152})"});
  ASSERT_TRUE(text);
  EXPECT_EQ(*text, "v: 2097152 sectors (1 GiB)\n");
  EXPECT_EQ(resize_as_text("v", std::string{R"({"ok":false,"error":"/a: smaller"})"}).error().what,
            "v: /a: smaller");
  for (const char* garbage : {"[]", "x", "{}", R"({"sectors":-1})", R"({"error":5})"})
    EXPECT_THAT(resize_as_text("v", std::string{garbage}).error().what,
                HasSubstr("not understood"));
  EXPECT_EQ(resize_as_text("v", Error{ENOENT, "none"}).error().what, "none");
}

TEST_F(TapCtlTest, AnAnswerThatIsNotUnderstoodIsNotShown) {
  EXPECT_THAT(stats_as_table("v", {}, Result<std::string>{"[]"}), HasSubstr("not understood"));
  EXPECT_THAT(stats_as_table("v", {}, Result<std::string>{"garbage"}),
              HasSubstr("not understood"));
}

}  // namespace
}  // namespace tapdisk
