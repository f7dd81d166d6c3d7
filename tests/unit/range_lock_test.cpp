// SPDX-License-Identifier: GPL-2.0-only
#include "image/range_lock.hpp"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace tapdisk {
namespace {

struct Owner final : RangeOwner {
  void granted(RangeClaim& claim) noexcept override { claims.push_back(&claim); }
  std::vector<RangeClaim*> claims;
};

class RangeLockTest : public ::testing::Test {
 protected:
  RangeClaim claim(std::uint64_t start, std::uint64_t end, bool alone) {
    RangeClaim made;
    made.start = start;
    made.end = end;
    made.alone = alone;
    made.owner = &owner;
    return made;
  }
  std::vector<RangeClaim*> granted() { return std::exchange(owner.claims, {}); }

  using Claims = std::vector<RangeClaim*>;
  Owner owner;
  RangeLock lock;
};

TEST_F(RangeLockTest, WhatIsAloneKeepsAllOthersOut) {
  RangeClaim patch = claim(4096, 8192, true);
  RangeClaim same = claim(4096, 8192, true);
  RangeClaim across = claim(0, 16384, false);
  RangeClaim beside = claim(8192, 12288, true);
  EXPECT_TRUE(lock.take(patch));
  EXPECT_FALSE(lock.take(same));
  EXPECT_FALSE(lock.take(across));
  EXPECT_FALSE(lock.take(beside)) << "what came before it and waits has parts of its range";
  lock.give(patch);
  EXPECT_EQ(granted(), Claims{&same});
  lock.give(same);
  EXPECT_EQ(granted(), Claims{&across});
  lock.give(across);
  EXPECT_EQ(granted(), Claims{&beside});
  lock.give(beside);
  EXPECT_EQ(granted(), Claims{});
}

TEST_F(RangeLockTest, WholeUnitsShareTheirs) {
  RangeClaim one = claim(0, 8192, false);
  RangeClaim two = claim(4096, 16384, false);
  RangeClaim patch = claim(4096, 8192, true);
  RangeClaim three = claim(0, 8192, false);
  EXPECT_TRUE(lock.take(one));
  EXPECT_TRUE(lock.take(two));
  EXPECT_FALSE(lock.take(patch));
  EXPECT_FALSE(lock.take(three)) << "else the patch might wait for ever";
  lock.give(one);
  EXPECT_EQ(granted(), Claims{});
  lock.give(two);
  EXPECT_EQ(granted(), Claims{&patch});
  lock.give(patch);
  EXPECT_EQ(granted(), Claims{&three});
  lock.give(three);
}

TEST_F(RangeLockTest, OneEndLetsAllGoThatItHeldUp) {
  RangeClaim patch = claim(0, 4096, true);
  RangeClaim one = claim(0, 4096, false);
  RangeClaim two = claim(0, 8192, false);
  EXPECT_TRUE(lock.take(patch));
  EXPECT_FALSE(lock.take(one));
  EXPECT_FALSE(lock.take(two));
  lock.give(patch);
  EXPECT_EQ(granted(), (Claims{&one, &two}));
}

TEST_F(RangeLockTest, TheClaimsOfAnOwnerThatEndsGo) {
  Owner other;
  RangeClaim held = claim(0, 4096, true);
  RangeClaim waits = claim(0, 4096, true);
  RangeClaim others = claim(0, 4096, true);
  others.owner = &other;
  EXPECT_TRUE(lock.take(held));
  EXPECT_FALSE(lock.take(waits));
  EXPECT_FALSE(lock.take(others));
  lock.forget(owner);
  EXPECT_TRUE(other.claims.empty());
  lock.forget(other);
  RangeClaim next = claim(0, 4096, true);
  EXPECT_TRUE(lock.take(next));
}

}  // namespace
}  // namespace tapdisk
