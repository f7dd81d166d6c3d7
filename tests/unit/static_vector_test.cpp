// SPDX-License-Identifier: GPL-2.0-only
#include "base/static_vector.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tapdisk {
namespace {

TEST(StaticVector, HoldsItsCapacityAndNoMore) {
  StaticVector<int, 2> vector;
  vector.push_back(1);
  vector.push_back(2);
  EXPECT_THAT(std::vector<int>(vector.begin(), vector.end()), ::testing::ElementsAre(1, 2));
  EXPECT_DEATH(vector.push_back(3), "internal error");
}

TEST(StaticQueue, GoesRoundAndRound) {
  StaticQueue<int, 4> queue;
  for (int i = 0; i < 100; i++) {
    queue.push(i);
    queue.push(-i);
    EXPECT_EQ(queue.pop(), i);
    EXPECT_EQ(queue.pop(), -i);
  }
  EXPECT_TRUE(queue.empty());
}

TEST(StaticQueue, HoldsItsCapacityAndNoMore) {
  StaticQueue<int, 2> queue;
  EXPECT_DEATH(queue.pop(), "internal error");
  queue.push(1);
  queue.push(2);
  EXPECT_DEATH(queue.push(3), "internal error");
}

}  // namespace
}  // namespace tapdisk
