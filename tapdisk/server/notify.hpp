// SPDX-License-Identifier: GPL-2.0-only
//
// What systemd is told (sd_notify(3)). Without systemd nothing happens.
#pragma once

#include <string>

#include "base/result.hpp"

namespace tapdisk::notify {

void ready(const std::string& status);
void stopping(const std::string& status);
void failed(const Error& error);

}  // namespace tapdisk::notify
