// SPDX-License-Identifier: GPL-2.0-only
#include "image/range_lock.hpp"

namespace tapdisk {
namespace {

bool overlap(const RangeClaim& a, const RangeClaim& b) noexcept {
  return a.start < b.end && b.start < a.end;
}

}  // namespace

bool RangeLock::take(RangeClaim& claim) noexcept {
  const std::lock_guard locked{mutex_};
  append(claim);
  claim.held = !must_wait(claim);
  waiting_ += !claim.held;
  return claim.held;
}

void RangeLock::give(RangeClaim& claim) noexcept {
  const std::lock_guard locked{mutex_};
  remove(claim);
  if (waiting_ == 0) return;
  for (RangeClaim* next = first_; next; next = next->after) {
    if (next->held || !overlap(*next, claim) || must_wait(*next)) continue;
    next->held = true;
    waiting_--;
    next->owner->granted(*next);
  }
}

void RangeLock::forget(const RangeOwner& owner) noexcept {
  const std::lock_guard locked{mutex_};
  for (RangeClaim *claim = first_, *next = nullptr; claim; claim = next) {
    next = claim->after;
    if (claim->owner != &owner) continue;
    waiting_ -= !claim->held;
    remove(*claim);
  }
}

// Those that wait count, too: else one that wants a range alone might never have it.
bool RangeLock::must_wait(const RangeClaim& claim) const noexcept {
  for (const RangeClaim* other = claim.before; other; other = other->before)
    if ((claim.alone || other->alone) && overlap(claim, *other)) return true;
  return false;
}

void RangeLock::append(RangeClaim& claim) noexcept {
  claim.before = last_;
  claim.after = nullptr;
  (last_ ? last_->after : first_) = &claim;
  last_ = &claim;
}

void RangeLock::remove(RangeClaim& claim) noexcept {
  (claim.before ? claim.before->after : first_) = claim.after;
  (claim.after ? claim.after->before : last_) = claim.before;
}

}  // namespace tapdisk
