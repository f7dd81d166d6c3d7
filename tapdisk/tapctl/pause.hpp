// SPDX-License-Identifier: GPL-2.0-only
//
// A pause of a disk (server/pause.hpp), from outside.
#pragma once

#include <chrono>
#include <string>

#include "base/result.hpp"
#include "tapctl/places.hpp"

namespace tapdisk {

// Pauses it for `limit` at most; gives how long it took until nothing was under way and the image
// was synced. Error: it is not paused, and serves its guest.
Result<std::chrono::milliseconds> pause_disk(const Places& places, const std::string& vbd,
                                             std::chrono::seconds limit);

// Ends the pause; gives how long it lasted. Error: the disk was not paused any more, so that what
// was done meanwhile may have seen it change.
Result<std::chrono::milliseconds> resume_disk(const Places& places, const std::string& vbd);

}  // namespace tapdisk
