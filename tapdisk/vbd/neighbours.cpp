// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/neighbours.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/first_line.hpp"
#include "base/paths.hpp"
#include "vbd/store.hpp"

namespace tapdisk {
namespace {

// Where libxl keeps the vbd: in one directory or the other. No longer, or not for long, where it
// has taken the disk away.
bool is_online(const Store& store, std::string place) {
  std::replace(place.begin(), place.end(), '-', '/');
  for (const char* const kind : {"vbd", "vbd3"}) {
    const auto online = store.read(fmt::format("backend/{}/{}/online", kind, place));
    if (online) return *online != "0";
  }
  return false;
}

}  // namespace

std::string guest_uuid(const Store& store, unsigned domain) {
  if (domain == 0) return "00000000-0000-0000-0000-000000000000";
  const unsigned target =
      store.read_number(fmt::format("/local/domain/{}/target", domain)).value_or(domain);
  std::string id = store.read(fmt::format("/local/domain/{}/vm", target))
                       .value_or(fmt::format("domain-{}-{}", first_line("/etc/machine-id"),
                                             target));
  id.erase(0, id.rfind('/') + 1);  // nothing, where there is none
  if (id.ends_with("-1")) id.erase(id.size() - 2);
  return id;
}

Result<Neighbour> XenNeighbours::ask(const std::string& vbd, const std::string& self) const {
  // Before a guest connects, nobody can have served it.
  if (vbd == self)
    return Neighbour{first_line(fmt::format("{}/{}/state", kClassDirectory, vbd)) == "connected",
                     {}, {}};
  const Result<Store> store = Store::open();
  if (!store) return store.error();
  const std::string place = vbd.substr(vbd.find('-') + 1);
  unsigned domain = 0;
  std::from_chars(place.data(), place.data() + place.size(), domain);
  return Neighbour{is_online(*store, place), guest_uuid(*store, domain),
                   store->read(fmt::format("/local/domain/{}/name", domain)).value_or("")};
}

}  // namespace tapdisk
