// SPDX-License-Identifier: GPL-2.0-only
//
// Which image a path leads to: a text that another image does not have, whatever its name, as long
// as the host runs.
//
//     file:DEVICE:INODE:BIRTH          a regular file (BIRTH 0: the file system does not tell it)
//     dm:UUID                          a volume of LVM, multipath, dm-crypt, whatever its number
//     device:MAJOR:MINOR:SEQUENCE      another block device; the sequence number is one that the
//                                      kernel gives to no other disk, nor to this one's next medium
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace tapdisk {

// Links are followed. The error names the path. `sysfs` is /sys but in tests.
Result<std::string> identify(const std::string& path, const std::string& sysfs = "/sys");
// Of what is open. The error names `path`.
Result<std::string> identify(int fd, const std::string& path, const std::string& sysfs = "/sys");

// The same for the module, which only compares.
std::array<std::uint64_t, 2> number_of(const std::string& identity) noexcept;

}  // namespace tapdisk
