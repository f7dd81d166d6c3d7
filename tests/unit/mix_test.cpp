// SPDX-License-Identifier: GPL-2.0-only
#include "server/mix.hpp"

#include <gtest/gtest.h>

namespace tapdisk {
namespace {

constexpr std::uint64_t kSectorsMax = std::uint64_t{1} << 50;

Extent whole(std::uint64_t sector, std::uint64_t sectors) {
  Extent extent;
  extent.sector = sector;
  extent.sectors = sectors;
  extent.offset = sector * kSectorSize + 4096;
  extent.fd = 7;
  return extent;
}

TEST(Mix, EveryOtherPieceIsDelegated) {
  const std::vector<Extent> pieces = every_other_piece({whole(0, 1500)});
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].sector, 0u);
  EXPECT_EQ(pieces[0].sectors, 512u);
  EXPECT_EQ(pieces[1].sector, 1024u);
  EXPECT_EQ(pieces[1].sectors, 476u) << "no further than the extent";
  EXPECT_EQ(pieces[1].offset, 1024u * 512 + 4096);
  EXPECT_EQ(pieces[1].fd, 7);
}

TEST(Mix, ThePiecesAreNoMoreThanTheModuleTakes) {
  for (const std::uint64_t sectors :
       {std::uint64_t{1}, std::uint64_t{512} * BLKTAP_EXTENTS_MAX * 2 + 1, kSectorsMax}) {
    std::uint64_t delegated = 0;
    const std::vector<Extent> pieces = every_other_piece({whole(0, sectors)});
    EXPECT_LE(pieces.size(), BLKTAP_EXTENTS_MAX) << sectors;
    for (const Extent& piece : pieces) delegated += piece.sectors;
    EXPECT_GE(delegated * 2, sectors) << sectors;
  }
}

TEST(Mix, ACoinHasTwoSides) {
  Coin coin;
  int heads = 0;
  for (int i = 0; i < 1000; i++) heads += coin.toss();
  EXPECT_GT(heads, 400);
  EXPECT_LT(heads, 600);
}

}  // namespace
}  // namespace tapdisk
