// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/disk.hpp"

#include <algorithm>
#include <charconv>
#include <regex>

#include "base/utf8.hpp"
#include "vbd/neighbours.hpp"

namespace tapdisk {
namespace {

// States of a back end, as xenstore has them (XenbusState).
constexpr const char* kInitWait = "2";
constexpr const char* kConnected = "4";
constexpr const char* kClosing = "5";
constexpr const char* kClosed = "6";

Vbd make_vbd(const std::string& above, const std::string& kind, const std::string& domid,
             const std::string& devid) {
  Vbd vbd;
  vbd.siblings = above + "backend";
  vbd.backend = vbd.siblings + "/" + kind + "/" + domid + "/" + devid;
  vbd.bus_id = kind + "-" + domid + "-" + devid;
  vbd.name = "vbd-" + domid + "-" + devid;
  vbd.unit = "blktap-tapdisk@" + vbd.name + ".service";
  vbd.domid = domid;
  return vbd;
}

bool closes_but_stays(const DiskKeys& disk) {
  return disk.online && (disk.state == kClosing || disk.state == kClosed);
}

}  // namespace

std::optional<Vbd> parse_backend(const std::string& path) {
  static const std::regex kPath{"(.*/|)backend/(vbd3?)/([0-9]{1,5})/([0-9]{1,10})"};
  std::smatch part;
  if (!std::regex_match(path, part, kPath)) return std::nullopt;
  return make_vbd(part.str(1), part.str(2), part.str(3), part.str(4));
}

std::optional<Vbd> parse_vbd(std::string_view name) {
  std::string path{name};
  std::ranges::replace(path, '-', '/');
  if (!path.starts_with("vbd/")) return std::nullopt;
  return parse_backend("backend/" + path);
}

DiskKeys read_disk(const Store& store, const Vbd& vbd) {
  const auto key = [&](const char* name) {
    return store.read(vbd.backend + "/" + name).value_or("");
  };
  DiskKeys disk;
  disk.state = key("state");
  disk.online = key("online") == "1";
  disk.params = store.read(vbd.backend + "/params");
  // It has a format in front; ours is always the same.
  if (disk.params && vbd.bus_id.starts_with("vbd3") && disk.params->starts_with("aio:"))
    disk.params->erase(0, 4);
  disk.writes = key("mode").find('w') != std::string::npos;
  disk.cdrom = key("device-type") == "cdrom";
  disk.removable = key("removable") == "1";
  disk.connected = key("hotplug-status") == "connected";
  disk.vdev = key("dev");
  return disk;
}

bool waits_for_disk(const DiskKeys& disk) {
  return disk.state == kInitWait || closes_but_stays(disk);
}

bool takes_disk(const DiskKeys& disk) { return waits_for_disk(disk) || disk.state == kConnected; }

std::string owner_of(const Store& store, const std::string& domid) {
  unsigned number = 0;
  std::from_chars(domid.data(), domid.data() + domid.size(), number);
  return guest_uuid(store, number);
}

std::string guest_name(const Store& store, const std::string& domid) {
  return "guest " + store.read("/local/domain/" + domid + "/name").value_or(domid);
}

std::string shorten(const std::string& message, std::size_t bytes) {
  constexpr std::string_view kGap = " ... ";
  constexpr std::size_t kEnd = 300;
  if (message.size() <= bytes || bytes < 2 * kEnd) return message.substr(0, bytes);
  return as_utf8(message.substr(0, bytes - kEnd - kGap.size())) + std::string{kGap} +
         as_utf8(message.substr(message.size() - kEnd));
}

}  // namespace tapdisk
