// SPDX-License-Identifier: GPL-2.0-only
//
// Containers of a fixed capacity that never allocate. Going over it is a programmer's error.
#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "base/check.hpp"

namespace tapdisk {

// Values in order of arrival, appended at the end, read from the front by iteration.
template <class T, std::size_t kCapacity>
class StaticVector {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  StaticVector() noexcept {}

  void push_back(const T& value) noexcept {
    check(size_ < kCapacity);
    items_[size_++] = value;
  }
  void clear() noexcept { size_ = 0; }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const T& operator[](std::size_t i) const noexcept { return items_[i]; }
  T* begin() noexcept { return items_.data(); }
  T* end() noexcept { return items_.data() + size_; }
  const T* begin() const noexcept { return items_.data(); }
  const T* end() const noexcept { return items_.data() + size_; }

 private:
  std::size_t size_ = 0;
  union {  // without an initial value: a step of the queue should not pay for it
    std::array<T, kCapacity> items_;
  };
};

// First in, first out. The capacity is a power of two; the indices run freely.
template <class T, std::size_t kCapacity>
class StaticQueue {
  static_assert((kCapacity & (kCapacity - 1)) == 0);

 public:
  void push(const T& value) noexcept {
    check(tail_ - head_ < kCapacity);
    items_[tail_++ % kCapacity] = value;
  }
  T pop() noexcept {
    check(!empty());
    // It takes the item, where that is a pointer, for its index.
    // cppcheck-suppress CastIntegerToAddressAtReturn
    return items_[head_++ % kCapacity];
  }
  bool empty() const noexcept { return head_ == tail_; }

 private:
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  std::array<T, kCapacity> items_;
};

}  // namespace tapdisk
