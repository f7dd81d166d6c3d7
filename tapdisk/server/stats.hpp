// SPDX-License-Identifier: GPL-2.0-only
//
// The counters of one tapdisk as a JSON object. For any thread.
#pragma once

#include <string>

#include "image/image.hpp"
#include "io/engine.hpp"
#include "server/server.hpp"
#include "vbd/source.hpp"

namespace tapdisk {

std::string stats_json(const Engine& engine, const ImageInfo& disk, const Source& source,
                       const Server& server);

}  // namespace tapdisk
