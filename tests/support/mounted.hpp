// SPDX-License-Identifier: GPL-2.0-only
//
// A file system on a loop device with blocks of a size of one's choice, mounted, and gone with its
// owner. Where that cannot be had (no root, no such file system, no mkfs), the test is skipped.
#pragma once

#include <sys/mount.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/loop_device.hpp"
#include "tests/support/temp_file.hpp"

namespace tapdisk::testing {

class Mounted {
 public:
  // `make` is the command that makes it, to which the device's path is added.
  Mounted(const TempDirectory& directory, const std::string& type, const std::string& make,
          std::uint64_t bytes, unsigned block_bytes)
      : loop_(directory.file(type + ".fs", bytes), block_bytes),
        path_(directory.path() / (type + ".mnt")) {
    std::filesystem::create_directory(path_);
    works_ = loop_.works() &&
             std::system((make + " " + loop_.path() + " > /dev/null 2>&1").c_str()) == 0 &&
             ::mount(loop_.path().c_str(), path_.c_str(), type.c_str(), 0, nullptr) == 0;
  }
  ~Mounted() {
    if (works_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;

  bool works() const { return works_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  LoopDevice loop_;
  std::filesystem::path path_;
  bool works_ = false;
};

}  // namespace tapdisk::testing
