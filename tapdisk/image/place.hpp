// SPDX-License-Identifier: GPL-2.0-only
#pragma once

#include <cstdint>

namespace tapdisk {

// Where data lies as it is, in a file of the image's.
struct Place {
  int fd = -1;
  std::uint64_t offset = 0;  // bytes

  bool operator==(const Place&) const = default;
};

}  // namespace tapdisk
