// SPDX-License-Identifier: GPL-2.0-only
//
// What is known of a disk that has a tapdisk, or had one that was killed and may be started again:
// one JSON file for each, in the run directory. The hotplug program writes it, tapdisk takes its
// options from it and removes it when its vbd has gone, and tap-ctl reads which image it has.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"

namespace tapdisk {

struct DiskRecord {
  std::string vbd;       // vbd-D-V
  std::string backend;   // its directory in xenstore
  std::string image;     // path as the user wrote it
  std::string identity;  // what that led to when the disk was attached: see image/identity.hpp
  std::string vm;        // UUID of the guest
  bool read_only = false;
  bool cdrom = false;
  bool removable = false;
  bool grants = false;               // served without the module
  std::vector<std::string> options;  // more arguments of tapdisk, from the settings
};

std::string record_path(const std::string& run_directory, const std::string& vbd);

// Error: it cannot be read, or it is not what write_record() writes.
Result<DiskRecord> read_record(const std::string& path);

// All at once: who reads meanwhile sees the old one or the new. Only for its owner to read. Texts
// are UTF-8.
Result<void> write_record(const std::string& path, const DiskRecord& record);

}  // namespace tapdisk
