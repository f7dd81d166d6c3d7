// SPDX-License-Identifier: GPL-2.0-only
//
// What a file of sysfs says.
#pragma once

#include <fstream>
#include <string>

namespace tapdisk {

// Without its newline. Empty also if the file cannot be read.
inline std::string first_line(const std::string& file) {
  std::ifstream stream{file};
  std::string line;
  std::getline(stream, line);
  return line;
}

}  // namespace tapdisk
