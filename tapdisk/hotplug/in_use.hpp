// SPDX-License-Identifier: GPL-2.0-only
//
// Who else has an image, of those that take no locks: tapdisk finds and names who does.
#pragma once

#include <string>

#include "base/result.hpp"
#include "hotplug/disk.hpp"
#include "hotplug/host.hpp"
#include "hotplug/image_path.hpp"

namespace tapdisk {

// The error says who has the image, unless both only read.
Result<void> refuse_image_in_use(const Host& host, const Vbd& vbd, const ImagePath& image,
                                 bool writes);

// A block device's number as xenstore has it: hexadecimal, "7:fa".
std::string device_number(dev_t device);

}  // namespace tapdisk
