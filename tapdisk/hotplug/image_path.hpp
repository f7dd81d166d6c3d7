// SPDX-License-Identifier: GPL-2.0-only
//
// The path that the user wrote, judged before anything is started for it. Root may do anything, so
// permission means the mode bits too, as in Xen's own block script. The last word is tapdisk's,
// when it opens the image.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.hpp"

namespace tapdisk {

struct ImagePath {
  std::string path;      // as the user wrote it
  std::string image;     // canonical
  std::string identity;  // image/identity.hpp
  bool writes = false;   // the disk does
  bool is_block = false;
  dev_t device = 0;      // of a block device
};

// The error reads "PATH: reason".
Result<ImagePath> judge_image(const std::string& path, bool writes, const std::string& sysfs);

// Whether two paths lead to one file; not, if either leads nowhere.
bool is_same_file(const std::string& one, const std::string& other);

}  // namespace tapdisk
