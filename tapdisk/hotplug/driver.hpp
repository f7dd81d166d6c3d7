// SPDX-License-Identifier: GPL-2.0-only
//
// Which kernel driver has a vbd on the xenbus.
#pragma once

#include "base/result.hpp"
#include "hotplug/disk.hpp"
#include "hotplug/host.hpp"

namespace tapdisk {

// Sees to it that blktap.ko has the vbd. It takes ours before any driver is asked; when it was
// loaded after the vbd appeared, xen-blkback has it, and it is moved over while nothing uses it.
Result<void> claim_vbd(const Host& host, const Vbd& vbd);

// Sees to it that no driver has it: a tapdisk that is the back end itself wants none. It is
// xen-blkback that has said InitWait, without which libxl would not have run us.
Result<void> release_vbd(const Host& host, const Vbd& vbd);

// A vbd without a driver and without a tapdisk cannot be closed. xen-blkback, which has no device
// for it, does just that.
void give_back_vbd(const Host& host, const Vbd& vbd);

}  // namespace tapdisk
