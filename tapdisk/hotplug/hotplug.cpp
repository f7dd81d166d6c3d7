// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/hotplug.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/disk_record.hpp"
#include "base/first_line.hpp"
#include "hotplug/driver.hpp"
#include "hotplug/in_use.hpp"
#include "image/lock.hpp"

namespace tapdisk {
namespace {

constexpr const char* kClosed = "6";
// Bytes of a message, below the quota of Debian's oxenstored for a value, 2048.
constexpr std::size_t kMessageMax = 2000;

// tapdisk may not look into other processes, by which alone it is known who has a lock.
void name_program(std::string& said, const ImagePath& image) {
  constexpr std::string_view kSomebody = "another program";
  const std::size_t at = said.find(": in use by " + std::string{kSomebody} + ",");
  if (at == said.npos) return;
  const std::string program = find_program(image.image, image.writes);
  if (!program.empty()) said.replace(said.find(kSomebody, at), kSomebody.size(), program);
}

}  // namespace

Hotplug::Hotplug(const Host& host, Vbd vbd, Unit& unit, bool grants, const Patience& patience)
    : host_(host), vbd_(std::move(vbd)), unit_(unit), grants_(grants), patience_(patience) {}

int Hotplug::add() {
  const DiskKeys disk = read_disk(host_.store, vbd_);
  if (disk.connected) return 0;
  const Result<void> attached = attach(disk);
  if (attached) return 0;
  fail(attached.error().what);
  return 1;
}

Result<void> Hotplug::attach(const DiskKeys& disk) {
  if (!waits_for_disk(disk))
    return Error{EBUSY, fmt::format("{} is not waiting for a disk (state {})", vbd_.name,
                                    disk.state.empty() ? "gone" : disk.state)};
  if (!unit_.is_there())
    return Error{ENOTCONN, "tap:zc: disks need systemd, which is not running"};
  // One that runs is an earlier vbd's, and what cleans up after it would take this vbd's record and
  // give it a driver.
  if (!unit_.has_ended() && !stop_tapdisk(patience_.release))
    return Error{EBUSY, fmt::format("an earlier tapdisk of {} does not end", vbd_.name)};
  ImagePath image;
  if (Result<void> prepared = prepare(disk, image); !prepared) return prepared;
  if (Result<void> written = write_options(disk, image); !written) return written;
  if (Result<void> started = start(image); !started) return started;
  return publish(image);
}

Result<void> Hotplug::prepare(const DiskKeys& disk, ImagePath& image) {
  if (grants_) undo_.emplace_back([this] { give_back_vbd(host_, vbd_); });
  if (Result<void> bound = grants_ ? release_vbd(host_, vbd_) : claim_vbd(host_, vbd_); !bound)
    return bound;
  if (!disk.params) return Error{EINVAL, "no image path given"};
  Result<ImagePath> found = judge_image(*disk.params, disk.writes, host_.root + "/sys");
  if (!found) return found.error();
  image = std::move(*found);
  return refuse_image_in_use(host_, vbd_, image, disk.writes);
}

Result<void> Hotplug::write_options(const DiskKeys& disk, const ImagePath& image) {
  const Result<std::vector<Rule>> rules = read_settings(host_.root + "/etc");
  if (!rules) return rules.error();
  const std::string guest =
      host_.store.read("/local/domain/" + vbd_.domid + "/name").value_or("");
  ChosenOptions options =
      choose_options(*rules, {guest, disk.vdev, image.path, image.image, grants_});
  for (const std::string& ignored : options.ignored) host_.say(log::Level::kWarning, ignored);

  DiskRecord record;
  record.vbd = vbd_.name;
  record.backend = vbd_.backend;
  record.image = image.path;
  record.identity = image.identity;
  record.vm = owner_of(host_.store, vbd_.domid);
  record.read_only = !disk.writes;
  record.cdrom = disk.cdrom;
  record.removable = disk.removable;
  record.grants = grants_;
  record.options = std::move(options.arguments);
  undo_.emplace_back([this] { remove_files(); });
  ::mkdir(host_.run_directory().c_str(), 0700);  // systemd-tmpfiles has made it, most often
  return write_record(record_path(host_.run_directory(), vbd_.name), record);
}

Result<void> Hotplug::start(const ImagePath& image) {
  undo_.emplace_back([this] { stop_tapdisk(patience_.undo); });
  Result<void> started = unit_.start(Clock::now() + patience_.start);
  if (!started && started.error().code == EINTR) return started;
  if (!started) return Error{started.error().code, start_error(image, started.error().what)};
  const std::string process = first_line(host_.class_directory(vbd_.name) + "/tapdisk_pid");
  if (grants_ || (!process.empty() && process != "0")) return {};
  return Error{ENODEV, fmt::format("tapdisk has started, but does not serve {}", vbd_.name)};
}

// Its own words, else the last it logged, else systemd's.
std::string Hotplug::start_error(const ImagePath& image, const std::string& otherwise) {
  const UnitReport report = unit_.report();
  std::string said = !report.status.empty() ? report.status
                     : report.result == "timeout" ? "tapdisk was not ready in time"
                     : !report.journal.empty() ? report.journal : otherwise;
  name_program(said, image);
  std::ranges::replace(said, '\n', ' ');
  return said.find(image.path) == said.npos ? image.path + ": " + said : said;
}

// The frontend of a running guest may have connected as soon as tapdisk was there. Into a directory
// that is gone nothing is written: it would come back as an empty shell.
Result<void> Hotplug::publish(const ImagePath& image) {
  for (;;) {
    const DiskKeys disk = read_disk(host_.store, vbd_);
    if (!takes_disk(disk))
      return Error{ENOENT, fmt::format("{} went away while its tapdisk started (state {})",
                                       vbd_.name, disk.state.empty() ? "gone" : disk.state)};
    // physical-device-path is what qemu opens for an HVM guest's BIOS.
    StorePairs pairs{{vbd_.backend + "/physical-device-path", image.image},
                     {vbd_.backend + "/hotplug-status", "connected"}};
    // By physical-device, Xen's own script refuses the device to other guests. xen-blkback would
    // act on it where it is bound to the vbd, as it may come to be to one without a driver.
    if (image.is_block && !grants_)
      pairs.emplace_back(vbd_.backend + "/physical-device", device_number(image.device));
    Result<void> written = host_.store.write({vbd_.backend + "/state", disk.state}, pairs);
    if (written) return written;
    if (written.error().code != ENOENT)
      return Error{written.error().code, "cannot write to xenstore: " + written.error().what};
  }
}

// libxl prints hotplug-error to whoever ran xl.
void Hotplug::fail(const std::string& message) {
  for (; !undo_.empty(); undo_.pop_back()) undo_.back()();
  host_.say(log::Level::kError, message);
  const Result<void> written = host_.store.write(
      {vbd_.backend + "/state"}, {{vbd_.backend + "/hotplug-error", shorten(message, kMessageMax)},
                                  {vbd_.backend + "/hotplug-status", "error"}});
  if (!written && written.error().code != ENOENT)
    host_.say(log::Level::kError, written.error().what);
}

// There may be nothing left, not even the directory in xenstore: that is a success.
int Hotplug::remove() {
  if (tapdisk_leaves()) return 0;
  const bool gone = stop_tapdisk(patience_.drain);
  if (!gone) host_.say(log::Level::kError, "tapdisk cannot be killed");
  return gone ? 0 : 1;
}

// By itself, because its vbd is closed for good.
bool Hotplug::tapdisk_leaves() {
  const std::string state = first_line(host_.class_directory(vbd_.name) + "/state");
  if (!state.empty() && state != "closed") return false;
  if (!unit_.wait_ended(Clock::now() + patience_.leave) || has_files()) return false;
  unit_.forget_failure();
  return true;
}

// The unit cannot be stopped, or a shutdown would stop it; tapdisk drains and leaves on SIGTERM.
// Without its record no other is started in its place.
bool Hotplug::stop_tapdisk(std::chrono::milliseconds time) {
  using namespace std::chrono_literals;
  remove_files();
  const Clock::time_point begun = Clock::now();
  if (!unit_.has_ended()) unit_.terminate();
  if (!unit_.wait_ended(begun + time)) {
    host_.say(log::Level::kWarning, "tapdisk does not end: killing it");
    unit_.kill();
    if (!unit_.wait_ended(Clock::now() + 1s)) return false;
  }
  unit_.forget_failure();
  return true;
}

// A tapdisk that ends with its vbd removes both; one that is killed, none.
bool Hotplug::has_files() const {
  return is_there(record_path(host_.run_directory(), vbd_.name)) ||
         is_there(host_.run_directory() + "/" + vbd_.name + ".sock");
}

void Hotplug::remove_files() const {
  ::unlink(record_path(host_.run_directory(), vbd_.name).c_str());
  ::unlink((host_.run_directory() + "/" + vbd_.name + ".sock").c_str());
}

// A tapdisk has ended, and its record is still there; its unit says so. A vbd that stays may get
// another tapdisk, and if not, `remove` comes. With none, nobody does.
int Hotplug::left() {
  if (is_there(host_.class_directory(vbd_.name))) return 0;
  const std::string state = host_.store.read(vbd_.backend + "/state").value_or("");
  if (state.empty()) remove_files();
  else if (state != kClosed) give_back_vbd(host_, vbd_);
  return 0;
}

}  // namespace tapdisk
