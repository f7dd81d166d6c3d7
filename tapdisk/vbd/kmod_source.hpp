// SPDX-License-Identifier: GPL-2.0-only
//
// The source that talks to blktap.ko; ring/blktap_abi.h is its manual.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "image/image.hpp"
#include "vbd/source.hpp"

namespace tapdisk {

struct AttachOptions {
  std::string vbd;  // "vbd-D-V"
  bool cdrom = false;
  bool removable = false;
  bool prefault = true;     // pages visible before their request is announced
  bool submits = false;     // the module moves the data, to and from where it is told each time
  bool persistent = false;  // grants may stay mapped between requests
  std::uint32_t copy_bytes = 0;  // of a request, up to which the module may copy its data
  unsigned poll_us = 0;     // for how long the module may watch a ring before it wants an event
  unsigned keep_ms = 0;     // how long requests wait for the next tapdisk, if this one is gone
  bool grants = false;      // without the module: grant_source.hpp
};

struct Attached {
  std::unique_ptr<Source> source;
  unsigned queues = 0;  // of the vbd: 1 .. kQueuesMax
};

// Opens the vbd's device for one of its queues, says what the disk is, and maps the shared areas.
// Queue 0 comes first. `disk` outlives the source. Errors read "vbd-D-V: reason".
Result<Attached> attach_to_module(const AttachOptions& options, const ImageInfo& disk,
                                  unsigned queue);

}  // namespace tapdisk
