// SPDX-License-Identifier: GPL-2.0-only
//
// The command line of tapdisk. `tapdisk @FILE` takes all of it from the record of a disk
// (base/disk_record.hpp).
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "image/image.hpp"
#include "io/engine.hpp"
#include "server/full_store.hpp"
#include "vbd/kmod_source.hpp"

namespace tapdisk {

// Who moves the data of reads and writes.
enum class DataPath {
  kAuto,      // the module where it can, tapdisk where not
  kWindow,    // tapdisk
  kDelegate,  // the module, or the start fails
  kSubmit,    // the module, each time that tapdisk tells it where; or the start fails
  kMix,       // each in its turn: see mix.hpp; or the start fails
};

// What is gained by what; the options that it stands for may be given, too, and prevail.
enum class Profile {
  kFast,      // persistent grants, where the guest takes them; nothing is copied in this domain
  kZeroCopy,  // nothing is copied, neither by the guest
  kCopy,      // as kFast, and copied in this domain where the guest does not take them
};

struct Options {
  AttachOptions attach;
  Profile profile = Profile::kFast;
  ImageOptions image;
  EngineKind engine = EngineKind::kAuto;
  DataPath path = DataPath::kAuto;
  unsigned keep_seconds = 60;
  WhenFull when_full = WhenFull::kReport;
  std::string control;  // path of the control socket
  std::string backend;  // directory in xenstore where to say which process this is; empty: nowhere
  std::string record;   // file that the arguments were in, if any
  bool foreground_log = false;
  bool confined = true;  // gives up its rights, if systemd has started it
};

// A text that the user asked for, instead of a disk.
struct Answer {
  std::string text;
};

// `arguments` without the program's name. An Error is the sentence for a wrong usage.
Result<std::variant<Options, Answer>> parse_options(std::vector<std::string> arguments);

// What the administrator may choose for a disk: the options that do not say which disk it is.
struct Setting {
  bool is_flag = false;       // has no value
  bool needs_module = false;  // means nothing for a disk that is served without the module
};
// `name` without dashes. Nothing: there is no such setting.
std::optional<Setting> find_setting(const std::string& name);
// The error is the sentence for a value that the setting cannot have.
Result<void> check_setting(const std::string& name, const std::string& value);

// Whether `name` is a vbd's: "vbd-D-V" with two decimal numbers. It becomes part of paths.
bool is_vbd_name(const std::string& name) noexcept;

}  // namespace tapdisk
