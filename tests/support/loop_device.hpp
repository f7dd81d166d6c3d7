// SPDX-License-Identifier: GPL-2.0-only
//
// A loop device over a file, gone with its owner. Where there are none, the test is skipped.
#pragma once

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <string>

#include "base/syscall.hpp"

namespace tapdisk::testing {

class LoopDevice {
 public:
  LoopDevice(const std::string& file, unsigned block_bytes) {
    auto control = open_file("/dev/loop-control", O_RDWR);
    auto backing = open_file(file, O_RDWR);
    if (!control || !backing) return;
    for (int attempt = 0; attempt < 10 && path_.empty(); attempt++) {
      const int number = ::ioctl(control->get(), LOOP_CTL_GET_FREE);
      if (number < 0) return;
      const std::string path = "/dev/loop" + std::to_string(number);
      auto device = open_file(path, O_RDWR);
      if (!device) return;
      loop_config config{};
      config.fd = static_cast<unsigned>(backing->get());
      config.block_size = block_bytes;
      // Another process may have taken the free one.
      if (::ioctl(device->get(), LOOP_CONFIGURE, &config) == 0) path_ = path;
    }
  }
  ~LoopDevice() {
    if (auto device = open_file(path_, O_RDWR); device) ::ioctl(device->get(), LOOP_CLR_FD, 0);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;

  bool works() const { return !path_.empty(); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace tapdisk::testing
