// SPDX-License-Identifier: GPL-2.0-only
//
// The host that the hotplug program works on, and the little that it does there besides starting
// tapdisk. Tests make one up.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <system_error>
#include <vector>

#include "base/log.hpp"
#include "base/paths.hpp"
#include "vbd/store.hpp"

namespace tapdisk {

struct Host {
  std::string root;  // directory that /sys, /etc, /run are in; empty: the root
  const Store& store;
  // Its exit status.
  std::function<int(const std::vector<std::string>& command)> run;
  // Whether all of the text could be written to a file of sysfs.
  std::function<bool(const std::string& file, const std::string& text)> write_attribute;
  std::function<void(log::Level, const std::string&)> say;

  std::string run_directory() const { return root + kRunDirectory; }
  std::string class_directory(const std::string& vbd) const {
    return root + kClassDirectory + "/" + vbd;
  }
};

inline bool is_there(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace tapdisk
