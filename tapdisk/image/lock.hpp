// SPDX-License-Identifier: GPL-2.0-only
//
// Keeps those from using an image together who would destroy it: guests, QEMU and its tools, and
// whoever else locks files (fcntl(2)). lock_space.hpp says what is locked.
//
// A guest may have the image open more than once (its stub domain, the two ends of a localhost
// migration), so it agrees with itself; but not with its own earlier life. Its last tapdisk may be
// gone, and its vbd, while a write of it is still on its way to a storage that hangs; carried out
// later, it would destroy what the guest has written since. Whatever does I/O on an image keeps the
// open file until that has ended, the module, io_uring and a system call that does not return
// included, and with the file its locks. So these say for each vbd whether it may still write, and
// who is asked is whether it is still there.
//
// Each first takes, then looks: of two that race, at least one sees the other.
#pragma once

#include <string>

#include "base/result.hpp"

namespace tapdisk {

enum class Locking {
  kOn,    // no locks, no disk
  kAuto,  // without, with a warning, where the file system has none
  kOff,   // without
};

// What this host knows of a vbd that has an image.
struct Neighbour {
  bool lives = false;  // it is there, and nobody takes it away
  std::string vm;      // UUID of its guest, as in LockRequest; empty: not known
  std::string guest;   // name of its guest; empty: not known
};

class Neighbours {
 public:
  virtual ~Neighbours() = default;
  // Who asks is `self`. Of itself it hears that it lives if its guest was served before, by a
  // tapdisk that is gone: what that has begun, the guest waits for.
  virtual Result<Neighbour> ask(const std::string& vbd, const std::string& self) const = 0;
};

struct LockRequest {
  bool writes = false;
  bool shares = false;  // with all others that say so, too
  Locking locking = Locking::kOn;
  std::string vm;       // UUID of the guest; empty: one that agrees with no other
  std::string vbd;      // this tapdisk's: vbd-D-V
  const Neighbours* neighbours = nullptr;  // none: all vbds live
  int patience_ms = 15'000;  // how long to wait for I/O of vbds that are gone
};

// Locks the image behind `fd` until the last of its users closes it. The error names who has it.
Result<void> lock_image(int fd, const std::string& path, const LockRequest& request);

// Whether other tapdisks have the image.
Result<bool> image_is_shared(int fd, const std::string& path);

// The program that keeps a disk from having the image, found by who may look at all processes, as
// tapdisk may not: "process 4711 (qemu-img)"; or nothing.
std::string find_program(const std::string& path, bool writes);

}  // namespace tapdisk
