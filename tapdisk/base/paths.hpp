// SPDX-License-Identifier: GPL-2.0-only
//
// Where the parts of the product find each other.
#pragma once

#include <string>

namespace tapdisk {

// Records (vbd-D-V.json: disk_record.hpp) and control sockets (vbd-D-V.sock) of the tapdisks.
inline constexpr const char* kRunDirectory = "/run/blktap";
// One directory per vbd, made by the module.
inline constexpr const char* kClassDirectory = "/sys/class/blktap";
inline constexpr const char* kDeviceDirectory = "/dev/blktap";

inline std::string class_attribute(const std::string& vbd, const std::string& name) {
  return std::string{kClassDirectory} + "/" + vbd + "/" + name;
}

inline std::string control_path(const std::string& vbd) {
  return std::string{kRunDirectory} + "/" + vbd + ".sock";
}

}  // namespace tapdisk
