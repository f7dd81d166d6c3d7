// SPDX-License-Identifier: GPL-2.0-only
//
// Locks of files, as fcntl(2) has them: whose they are, be it this host's or another's.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace tapdisk {

inline constexpr std::uint64_t kLastByte = (1ull << 63) - 1;  // that can be locked

struct FileLock {
  bool exclusive = false;
  std::uint64_t first = 0;  // bytes
  std::uint64_t last = 0;   // the last, kLastByte at most
  pid_t pid = 0;            // > 0: a process of this host, by a POSIX lock; else unknown

  bool operator==(const FileLock& other) const noexcept {
    return exclusive == other.exclusive && first == other.first && last == other.last;
  }
};

struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

// A shared lock on the range, by the open file. The error's code is fcntl's.
Result<void> take_shared_lock(int fd, ByteRange range);
// The open file has no lock any more.
void drop_locks(int fd) noexcept;

// What others hold in the ranges. Of locks that lie on top of each other the kernel tells one only:
// see hidden_locks().
Result<std::vector<FileLock>> locks_of_others(int fd, const std::vector<ByteRange>& ranges);

// All that this host knows of on the file, but for what this open of it has. Nothing, if the open
// has no lock itself, by which the file is found in the kernel's list.
std::vector<FileLock> listed_locks(int fd);

// "process 4711 (perl)", or nothing: it is another host's, or hidden from us, or nobody's any more.
std::string lock_owner(int fd, const FileLock& lock);

}  // namespace tapdisk
