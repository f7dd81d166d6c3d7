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

// What waits for a tapdisk fails; gives how many requests that are, those on the guest's rings not
// among them. Error: there is a tapdisk, or nothing waits for one.
Result<unsigned long> give_up(const Places& places, const std::string& vbd);

}  // namespace tapdisk
