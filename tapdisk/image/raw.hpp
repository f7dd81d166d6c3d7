// SPDX-License-Identifier: GPL-2.0-only
//
// Raw image: sector n of the disk is byte 512 n of a regular file or a block device.
#pragma once

#include "image/image.hpp"

namespace tapdisk {

Result<std::unique_ptr<OpenImage>> open_raw_image(const ImageOptions& options);

}  // namespace tapdisk
