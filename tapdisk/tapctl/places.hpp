// SPDX-License-Identifier: GPL-2.0-only
//
// The module's view of the vbds (sysfs) and the tapdisks' (run directory), as read by tap-ctl. A
// vbd of which only the latter knows is served without the module, by grant copies.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/paths.hpp"
#include "base/result.hpp"

namespace tapdisk {

struct Places {
  std::string class_directory = kClassDirectory;
  std::string run_directory = kRunDirectory;
};

// One vbd. What could not be read is empty: a vbd may go away while it is looked at.
struct VbdView {
  std::string name;
  std::map<std::string, std::string> attributes;  // as in sysfs
  std::string image;                              // as its tapdisk was told
};

// An attribute that is a number; 0 if there is none.
unsigned long number_of(const VbdView& vbd, const std::string& attribute);

// In order of domain and device; without the module, those that do not need it.
Result<std::vector<VbdView>> list_vbds(const Places& places);
bool module_is_loaded(const Places& places);

// Error: there is no such vbd, and which there are.
Result<VbdView> find_vbd(const Places& places, const std::string& vbd);

// The module's counters of one vbd; none, if it is served without it. Error: there is no such vbd.
Result<std::map<std::string, std::string>> read_statistics(const Places& places,
                                                           const std::string& vbd);

// Sends one line to the tapdisk of a vbd and gives its answer, a line of JSON.
Result<std::string> ask_tapdisk(const Places& places, const std::string& vbd,
                                const std::string& line);

}  // namespace tapdisk
