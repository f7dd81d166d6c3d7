// SPDX-License-Identifier: GPL-2.0-only
//
// Gives a vbd its tapdisk, and takes it away. libxl runs `add` when the vbd is in InitWait, and
// kills it after 40 s; `remove` when the vbd is closed, and after a failed add. systemd runs `left`
// when a tapdisk has ended in another way than with its vbd. libxl does not run `remove` on every
// path, so a tapdisk ends by itself when its vbd is gone, and takes its files along; this program
// is never the only one to clean up.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "hotplug/disk.hpp"
#include "hotplug/host.hpp"
#include "hotplug/image_path.hpp"
#include "hotplug/settings.hpp"
#include "hotplug/units.hpp"

namespace tapdisk {

// How long each part may last. `start` is more than the unit's own limit, at which it says why; add
// and remove stay below 35 s.
struct Patience {
  std::chrono::milliseconds start{26'000};
  std::chrono::milliseconds leave{12'000};  // for a tapdisk to end by itself
  std::chrono::milliseconds drain{21'000};  // and when it was asked to
  std::chrono::milliseconds undo{2'000};
  std::chrono::milliseconds release{5'000};  // for an earlier tapdisk
};

class Hotplug {
 public:
  // `grants`: the disk is served without the module.
  Hotplug(const Host& host, Vbd vbd, Unit& unit, bool grants, const Patience& patience = {});

  // Each is an exit status. What went wrong is in the log, and that of add where libxl shows it.
  int add();
  int remove();
  int left();

 private:
  Result<void> attach(const DiskKeys& disk);
  Result<void> prepare(const DiskKeys& disk, ImagePath& image);
  Result<void> write_options(const DiskKeys& disk, const ImagePath& image);
  Result<void> start(const ImagePath& image);
  Result<void> publish(const ImagePath& image);
  std::string start_error(const ImagePath& image, const std::string& otherwise);
  void fail(const std::string& message);

  bool tapdisk_leaves();
  bool stop_tapdisk(std::chrono::milliseconds time);
  bool has_files() const;
  void remove_files() const;

  const Host& host_;
  Vbd vbd_;
  Unit& unit_;
  bool grants_;
  Patience patience_;
  std::vector<std::function<void()>> undo_;  // last first
};

}  // namespace tapdisk
