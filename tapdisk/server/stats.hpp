// SPDX-License-Identifier: GPL-2.0-only
//
// The counters of one tapdisk as a JSON object. For any thread.
#pragma once

#include <span>
#include <string>

#include "image/image.hpp"
#include "io/engine.hpp"
#include "server/server.hpp"
#include "vbd/source.hpp"

namespace tapdisk {

// The parts of one queue that count.
struct QueueView {
  const Engine* engine = nullptr;
  const Image* image = nullptr;
  const Source* source = nullptr;
  const Server* server = nullptr;
};

// Each counter summed over the queues, of which there is at least one, and in "queues" an array
// with the counters of each.
std::string stats_json(const ImageInfo& disk, std::span<const QueueView> queues);

}  // namespace tapdisk
