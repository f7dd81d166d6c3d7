// SPDX-License-Identifier: GPL-2.0-only
//
// What systemd is told (sd_notify(3)). Without systemd nothing happens.
#pragma once

#include <chrono>
#include <string>

#include "base/result.hpp"

namespace tapdisk::notify {

void ready(const std::string& status);
void stopping(const std::string& status);
void failed(const Error& error);

// How often alive() has to be said (WatchdogSec= of the unit): three times as often as it is asked
// for. 0: nobody listens.
std::chrono::milliseconds alive_period();
void alive();

// Whether somebody starts another tapdisk when this one leaves.
bool is_supervised();

}  // namespace tapdisk::notify
