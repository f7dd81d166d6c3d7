// SPDX-License-Identifier: GPL-2.0-only
#include "vbd/grant_pool.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace tapdisk {
namespace {

TEST(PagePool, RunsDoNotOverlapAndAreUsedAgain) {
  auto pool = PagePool::make();
  ASSERT_TRUE(pool);
  ASSERT_EQ(pool->take(3), 0u);
  ASSERT_EQ(pool->take(2), 3u);
  ASSERT_EQ(pool->take(1), 5u);
  pool->give_back(3, 2);
  EXPECT_EQ(pool->take(3), 6u) << "it does not fit between";
  EXPECT_EQ(pool->take(1), 3u);
  EXPECT_EQ(pool->take(1), 4u);
  EXPECT_EQ(pool->take(1), 9u);
}

TEST(PagePool, IsFullAndSaysSo) {
  auto pool = PagePool::make();
  ASSERT_TRUE(pool);
  for (unsigned taken = 0; taken < kPagesMax; taken += kSegsMax)
    ASSERT_EQ(pool->take(kSegsMax), taken);
  EXPECT_FALSE(pool->take(1));
  EXPECT_TRUE(pool->take(0)) << "a flush needs none";
  pool->give_back(kPagesMax - 1, 1);
  EXPECT_EQ(pool->take(1), kPagesMax - 1);
  std::memset(pool->at(kPagesMax - 1), 0xab, RING_PAGE_SIZE);
  EXPECT_EQ(pool->at(1) - pool->at(0), std::ptrdiff_t{RING_PAGE_SIZE});
}

}  // namespace
}  // namespace tapdisk
