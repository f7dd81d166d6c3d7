// SPDX-License-Identifier: GPL-2.0-only
//
// The administrator's settings: /etc/blktap/*.conf (blktap.conf(5)), and /etc/default/blktap of
// earlier times. Parsing and choosing are pure.
//
//     # comment
//     [disk]                        what follows is for the disks that match all of
//     path = /dev/vg0/*
//     engine = libaio               an option of tapdisk, without its dashes
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tapdisk {

// A disk, as settings may ask for it.
struct DiskDescription {
  std::string guest;  // name; empty if it cannot be known
  std::string vdev;
  std::string path;   // as the user wrote it
  std::string image;  // the file that it leads to
  bool grants = false;
};

struct Choice {
  std::string option;  // of tapdisk, without dashes
  std::string value;   // "yes" or "no" of one that is a flag
  std::string place;   // FILE:LINE
};

// One [disk]: shell patterns, empty for any, and the choices for disks that match.
struct Rule {
  std::string guest, vdev, path, type;
  std::vector<Choice> choices;
};

// `file` is for messages, which read "FILE:LINE: reason". Unknown keys and bad values are refused.
Result<std::vector<Rule>> parse_settings(std::string_view text, const std::string& file);

// TAPDISK_OPTIONS="..." and comments, which is a [disk] that matches all. What only a shell
// understands is refused, with a hint.
Result<std::vector<Rule>> parse_defaults(std::string_view text, const std::string& file);

struct ChosenOptions {
  std::vector<std::string> arguments;  // of tapdisk
  std::vector<std::string> ignored;    // sentences: choices that mean nothing for this disk
};
// Later rules win, option by option.
ChosenOptions choose_options(const std::vector<Rule>& rules, const DiskDescription& disk);

// All there are, in order: the defaults, then the files by name. `etc` is /etc but in tests.
Result<std::vector<Rule>> read_settings(const std::string& etc);

}  // namespace tapdisk
