// SPDX-License-Identifier: GPL-2.0-only
//
// What is still to be moved of memory in several ranges. They are passed to the kernel as they are,
// so where a part of one has been moved its beginning is cut off; finish() puts that back, and
// their owner can use them once more.
#pragma once

#include <sys/uio.h>

#include <concepts>
#include <cstddef>
#include <span>
#include <utility>

namespace tapdisk {

class DataCursor {
 public:
  DataCursor() noexcept = default;
  // All of `ranges`, which stay their owner's.
  DataCursor(std::span<iovec> ranges) noexcept : left_(ranges) {}
  template <class Ranges>
    requires std::convertible_to<Ranges&, std::span<iovec>>
  DataCursor(Ranges& ranges) noexcept : left_(ranges) {}

  bool empty() const noexcept { return left_.empty(); }
  std::size_t size() const noexcept { return left_.size(); }
  iovec* data() const noexcept { return left_.data(); }
  iovec& operator[](std::size_t i) const noexcept { return left_[i]; }
  auto begin() const noexcept { return left_.begin(); }
  auto end() const noexcept { return left_.end(); }

  // The first `bytes` have been moved.
  void drop_front(std::size_t bytes) noexcept {
    bytes += uncut();
    while (!left_.empty() && bytes >= left_.front().iov_len) {
      bytes -= left_.front().iov_len;
      left_ = left_.subspan(1);
    }
    if (!left_.empty()) cut(bytes);
  }

  // Nothing is left to be moved, whatever was.
  void finish() noexcept {
    uncut();
    left_ = {};
  }

 private:
  void cut(std::size_t bytes) noexcept {
    iovec& first = left_.front();
    first.iov_base = static_cast<std::byte*>(first.iov_base) + bytes;
    first.iov_len -= bytes;
    cut_ = bytes;
  }

  // How much had been cut off.
  std::size_t uncut() noexcept {
    if (!cut_) return 0;
    iovec& first = left_.front();
    first.iov_base = static_cast<std::byte*>(first.iov_base) - cut_;
    first.iov_len += cut_;
    return std::exchange(cut_, 0);
  }

  std::span<iovec> left_;
  std::size_t cut_ = 0;  // bytes that the first range has lost
};

}  // namespace tapdisk
