// SPDX-License-Identifier: GPL-2.0-only
#include "hotplug/driver.hpp"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <cerrno>
#include <filesystem>

namespace tapdisk {
namespace {

namespace fs = std::filesystem;

std::string bus_directory(const Host& host) { return host.root + "/sys/bus/xen-backend"; }

// Empty: none.
std::string driver_of(const Host& host, const Vbd& vbd) {
  std::error_code none;
  return fs::read_symlink(bus_directory(host) + "/devices/" + vbd.bus_id + "/driver", none)
      .filename();
}

void hand(const Host& host, const std::string& driver, const char* action, const Vbd& vbd) {
  host.write_attribute(bus_directory(host) + "/drivers/" + driver + "/" + action, vbd.bus_id);
}

}  // namespace

Result<void> claim_vbd(const Host& host, const Vbd& vbd) {
  const std::string bound = driver_of(host, vbd);
  if (bound == "blktap") return {};
  if (bound != "vbd")
    return Error{ENODEV, fmt::format("{} is not served by blktap.ko (driver: {})", vbd.name,
                                     bound.empty() ? "none" : bound)};
  if (host.run({"modprobe", "blktap"}) != 0) {
    utsname kernel{};
    ::uname(&kernel);
    return Error{ENODEV, fmt::format("blktap.ko does not load; is it installed for {}? "
                                     "(dmesg may say more)", kernel.release)};
  }
  if (!is_there(bus_directory(host) + "/drivers/blktap"))
    return Error{ENODEV, "blktap.ko serves no disks on this host (see dmesg)"};
  host.say(log::Level::kInfo, "taking over from xen-blkback");
  hand(host, "vbd", "unbind", vbd);
  if (driver_of(host, vbd) != "blktap") hand(host, "blktap", "bind", vbd);
  if (driver_of(host, vbd) == "blktap") return {};
  return Error{EBUSY, vbd.name + " is bound to xen-blkback; load blktap first"};
}

Result<void> release_vbd(const Host& host, const Vbd& vbd) {
  // A process costs more than a look.
  if (!is_there(host.root + "/dev/xen/gntdev") || !is_there(host.root + "/dev/xen/evtchn"))
    host.run({"modprobe", "-a", "xen-gntdev", "xen-evtchn"});
  const std::string bound = driver_of(host, vbd);
  if (bound.empty()) return {};
  hand(host, bound, "unbind", vbd);
  const std::string still = driver_of(host, vbd);
  if (still.empty()) return {};
  return Error{EBUSY, fmt::format("{} is bound to {}, which does not let it go", vbd.name, still)};
}

void give_back_vbd(const Host& host, const Vbd& vbd) {
  if (driver_of(host, vbd).empty()) hand(host, "vbd", "bind", vbd);
}

}  // namespace tapdisk
