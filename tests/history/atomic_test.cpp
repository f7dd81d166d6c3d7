// SPDX-License-Identifier: GPL-2.0-only
#include "tests/history/atomic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>

namespace history {
namespace {

Access write(std::uint64_t value, std::uint64_t begin, std::uint64_t end) {
  return {begin, end, value, true};
}
Access read(std::uint64_t value, std::uint64_t begin, std::uint64_t end) {
  return {begin, end, value, false};
}

TEST(AtomicHistory, AWriteIsThereFromSomewhereBetweenItsBeginAndItsEnd) {
  EXPECT_FALSE(find_contradiction({write(1, 0, 1), write(2, 2, 9), read(1, 3, 4), read(2, 5, 6)}));
  EXPECT_TRUE(find_contradiction({write(1, 0, 1), write(2, 2, 9), read(2, 3, 4), read(1, 5, 6)}));
}

TEST(AtomicHistory, AnAcknowledgedWriteIsNotForgotten) {
  EXPECT_TRUE(find_contradiction({write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)}));
}

TEST(AtomicHistory, AnOldWriteIsNotCarriedOutAfterANewerOne) {
  EXPECT_TRUE(find_contradiction(
      {write(1, 0, 1), write(2, 2, 3), read(2, 4, 5), write(3, 6, 7), read(2, 8, 9)}));
}

TEST(AtomicHistory, OfTwoWritesAtOnceEitherMayBeTheLast) {
  EXPECT_FALSE(find_contradiction({write(1, 0, 3), write(2, 1, 2), read(1, 4, 5)}));
  EXPECT_FALSE(find_contradiction({write(1, 0, 3), write(2, 1, 2), read(2, 4, 5)}));
  EXPECT_TRUE(
      find_contradiction({write(1, 0, 3), write(2, 1, 2), read(1, 4, 5), read(2, 6, 7)}));
}

TEST(AtomicHistory, NothingIsReadThatNobodyHasWritten) {
  EXPECT_TRUE(find_contradiction({write(1, 0, 1), read(7, 2, 3)}));
  EXPECT_TRUE(find_contradiction({write(1, 0, 1), read(2, 2, 3), write(2, 4, 5)}));
}

// Tries every order.
bool has_an_order(const std::vector<Access>& accesses, std::vector<bool>& done, std::size_t left,
                  std::uint64_t value) {
  if (left == 0) return true;
  for (std::size_t next = 0; next < accesses.size(); next++) {
    bool first = !done[next];
    for (std::size_t other = 0; other < accesses.size(); other++)
      first = first && (done[other] || accesses[other].end >= accesses[next].begin);
    if (!first || (!accesses[next].write && accesses[next].value != value)) continue;
    done[next] = true;
    const bool found = has_an_order(accesses, done, left - 1, accesses[next].value);
    done[next] = false;
    if (found) return true;
  }
  return false;
}

TEST(AtomicHistory, SaysWhatTryingEveryOrderSays) {
  std::mt19937 random(1);
  unsigned contradictions = 0;
  constexpr unsigned kHistories = 20000;
  for (unsigned n = 0; n < kHistories; n++) {
    const std::size_t size = 2 + random() % 6;
    std::vector<std::uint64_t> instants(2 * size);
    for (std::size_t i = 0; i < instants.size(); i++) instants[i] = i + 1;
    std::ranges::shuffle(instants, random);
    std::vector<Access> accesses{write(0, 0, 0)};
    std::uint64_t written = 0;
    for (std::size_t i = 0; i < size; i++) {
      const auto [begin, end] = std::minmax(instants[2 * i], instants[2 * i + 1]);
      if (random() % 2)
        accesses.push_back(write(++written, begin, end));
      else
        accesses.push_back(read(random() % (written + 1), begin, end));
    }
    std::vector<bool> done(accesses.size());
    const bool ordered = has_an_order(accesses, done, accesses.size(), ~0u);
    ASSERT_EQ(!find_contradiction(accesses), ordered) << "history " << n;
    contradictions += !ordered;
  }
  EXPECT_GT(contradictions, kHistories / 10);
  EXPECT_LT(contradictions, kHistories * 9 / 10);
}

}  // namespace
}  // namespace history
