// SPDX-License-Identifier: GPL-2.0-only
//
// Hears from the kernel that a block device has another size (a uevent with RESIZE=1 for disks, a
// plain change for device mapper), so that the guest learns it without anybody's help. Files have
// no such thing; for them there is tap-ctl resize.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <string>
#include <string_view>

#include "base/resource.hpp"
#include "base/result.hpp"

namespace tapdisk {

// Whether a message of the kernel (NUL-separated, uevent form) tells of a change of the device.
bool is_change_of(std::string_view message, unsigned major, unsigned minor) noexcept;

class ResizeWatch {
 public:
  // `changed` is called in the loop's thread; once in vain costs a look at the device.
  ResizeWatch(boost::asio::io_context& loop, Fd socket, unsigned major, unsigned minor,
              std::function<void()> changed);

  // A socket that hears the kernel's events.
  static Result<Fd> open();

 private:
  void wait();
  void hear();

  boost::asio::posix::stream_descriptor socket_;
  unsigned major_;
  unsigned minor_;
  std::function<void()> changed_;
  std::array<char, 8192> message_{};  // a uevent holds 2048 bytes of environment at most
};

}  // namespace tapdisk
