// SPDX-License-Identifier: GPL-2.0-only
//
// The source that needs no module of ours: it is the back end of the vbd itself, in user space, by
// Xen's own drivers (gntdev, evtchn) and xenstore. It copies each request's data, by grant copies,
// to and from memory of its own. All rings of the guest are one queue here.
#pragma once

#include "base/result.hpp"
#include "image/image.hpp"
#include "vbd/kmod_source.hpp"

namespace tapdisk {

// Takes over a vbd that waits for a back end (InitWait) and that no driver is bound to. `disk`
// outlives the source. Errors read "vbd-D-V: reason".
Result<Attached> attach_by_grants(const AttachOptions& options, const ImageInfo& disk);

}  // namespace tapdisk
