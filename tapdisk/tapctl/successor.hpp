// SPDX-License-Identifier: GPL-2.0-only
//
// The next tapdisk of a vbd: asked for, or not waited for any more.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>

#include "base/result.hpp"
#include "tapctl/places.hpp"

namespace tapdisk {

struct Succession {
  pid_t before = 0;
  pid_t after = 0;
  std::chrono::milliseconds pause{0};  // for which nobody served the disk
};

// Lets the tapdisk of `vbd` make room for the program that is installed now, which systemd starts,
// and waits until that one serves the guest. Error: it stays, or none has followed.
Result<Succession> replace_tapdisk(const Places& places, const std::string& vbd);

struct GivenUp {
  unsigned long requests = 0;  // that fail; what is still on the guest's rings is not counted
  bool for_room = false;       // they waited for room in the storage, else for a tapdisk
};

// What waits for a tapdisk, or has one and waits for room, fails. Error: nothing waits for either.
Result<GivenUp> give_up(const Places& places, const std::string& vbd);

}  // namespace tapdisk
