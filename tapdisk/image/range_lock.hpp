// SPDX-License-Identifier: GPL-2.0-only
//
// Ranges of an image that writes have while they are under way.
//
// Where storage is written in units that are larger than the disk's sectors, a write of less reads
// the unit, changes its part and writes all of it, so that whatever somebody else has written to
// the unit meanwhile is lost. Therefore such a write has its range *alone*. All other writes there
// take theirs, too, but share it: what two writes of the guest at one place leave is its own
// business. First come, first served.
//
// For the threads of all queues. The lock is held for a look through what is under way.
#pragma once

#include <cstdint>
#include <mutex>

namespace tapdisk {

struct RangeClaim;

class RangeOwner {
 public:
  // A claim that had to wait has its range. Called in the thread that gave it back, with the lock
  // held: it may only leave a message.
  virtual void granted(RangeClaim& claim) noexcept = 0;

 protected:
  ~RangeOwner() = default;
};

// The lock's from take() to give(); its owner sets the first four.
struct RangeClaim {
  std::uint64_t start = 0;  // bytes
  std::uint64_t end = 0;
  bool alone = false;
  RangeOwner* owner = nullptr;

  bool held = false;
  RangeClaim* before = nullptr;
  RangeClaim* after = nullptr;
};

class RangeLock {
 public:
  // True: the claim has its range. False: it waits, and granted() follows.
  bool take(RangeClaim& claim) noexcept;

  // The range is free for those that wait.
  void give(RangeClaim& claim) noexcept;

  // The claims of an owner that ends go, and nobody gets what they had: its I/O may not have ended.
  void forget(const RangeOwner& owner) noexcept;

 private:
  bool must_wait(const RangeClaim& claim) const noexcept;
  void append(RangeClaim& claim) noexcept;
  void remove(RangeClaim& claim) noexcept;

  std::mutex mutex_;
  RangeClaim* first_ = nullptr;  // in the order in which they came
  RangeClaim* last_ = nullptr;
  unsigned waiting_ = 0;
};

}  // namespace tapdisk
