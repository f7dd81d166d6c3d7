// SPDX-License-Identifier: GPL-2.0-only
//
// Keeps two virtual machines from using one image, unless both only read it.
//
// A virtual machine may have the image open more than once (its stub domain, the two ends of a
// localhost migration, a reboot), so the lock belongs to the machine: it is a byte of the file's
// lock space (fcntl(2) open file description locks, which also exist beyond the end of the file)
// whose number is made from the machine's UUID, in one of two regions:
//
//     W: machines that write      R: machines that only read
//
// All locks taken are shared, so machines that agree never meet, and a lock on a descriptor that
// is open for reading only is possible. A conflict is *found*, by asking who else holds what:
// a writer clashes with any other number in W and R, a reader with any other number in W. Each
// first takes, then looks: of two that race, at least one sees the other.
#pragma once

#include <string>

#include "base/result.hpp"

namespace tapdisk {

struct LockRequest {
  bool writes = false;
  std::string vm;          // UUID of the machine; empty: one that agrees with no other
  std::string vbd;         // this tapdisk's, so that it does not name itself
  std::string holder_dir;  // vbd-D-V.args of the running tapdisks, to name the other one
};

// Locks the image behind `fd` until `fd` is closed. The error says who holds it, if it is known.
Result<void> lock_image(int fd, const std::string& path, const LockRequest& request);

// Whether any other open of the image holds a lock on it.
Result<bool> image_is_locked(int fd, const std::string& path);

}  // namespace tapdisk
