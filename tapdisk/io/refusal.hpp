// SPDX-License-Identifier: GPL-2.0-only
//
// Why the kernel gives no engine, in words that name the setting of this host that is in the way.
#pragma once

#include <string>

#include "base/result.hpp"

namespace tapdisk {

// `code` is a positive errno of io_uring_setup(2) or io_setup(2); the settings are read below
// `sysctl`.
Error uring_refused(int code, const std::string& sysctl = "/proc/sys");
Error aio_refused(int code, const std::string& sysctl = "/proc/sys");

}  // namespace tapdisk
