// SPDX-License-Identifier: GPL-2.0-only
//
// What a vbd is to the hotplug program: its names, what the toolstack has written of it, and what
// follows from that. Pure, but for what is read from xenstore.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "vbd/store.hpp"

namespace tapdisk {

struct Vbd {
  std::string backend;  // its directory in xenstore, as libxl has it
  std::string siblings; // the directory of all vbds of this host: what `backend` begins with
  std::string bus_id;   // its name on the xenbus: vbd-D-V or vbd3-D-V
  std::string name;     // vbd-D-V
  std::string unit;     // of its tapdisk
  std::string domid;
};

// `path`: backend/vbd/D/V, perhaps below the domain's directory; or vbd3.
std::optional<Vbd> parse_backend(const std::string& path);
// vbd-D-V
std::optional<Vbd> parse_vbd(std::string_view name);

// What the toolstack and the driver have written.
struct DiskKeys {
  std::string state;  // of the back end; empty: there is no such vbd
  bool online = false;  // it is not being detached
  std::optional<std::string> params;  // the path of the image, as the user wrote it
  bool writes = false;
  bool cdrom = false;
  bool removable = false;
  bool connected = false;  // the hotplug script has done its work already
  std::string vdev;
};
DiskKeys read_disk(const Store& store, const Vbd& vbd);

// Whether the vbd may be given a disk: nobody has connected. A frontend may close once before it
// starts, to shake off what was there before it: Windows' does.
bool waits_for_disk(const DiskKeys& disk);
// Whether it may be told that it has one; by then the frontend may have connected.
bool takes_disk(const DiskKeys& disk);

// Who holds the lock on the image: see vbd/neighbours.hpp. As dom0 is an owner of its own, pygrub
// cannot look into a disk that a running guest writes.
std::string owner_of(const Store& store, const std::string& domid);

// For messages: "guest NAME", or its number where the name cannot be read.
std::string guest_name(const Store& store, const std::string& domid);

// For a limit of xenstore on its values: what is too much is taken out of the middle, because the
// beginning names the image and the end has the reason.
std::string shorten(const std::string& message, std::size_t bytes);

}  // namespace tapdisk
