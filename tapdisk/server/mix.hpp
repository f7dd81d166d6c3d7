// SPDX-License-Identifier: GPL-2.0-only
//
// The mixed data path, which tests what the others do to each other: of the disk, every other piece
// is delegated, and of the requests for the rest a part is submitted.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "image/image.hpp"
#include "ring/blktap_abi.h"

namespace tapdisk {

// Of each extent the first, third, ... piece of at least 256 KiB: no more than the module takes.
inline std::vector<Extent> every_other_piece(const std::vector<Extent>& extents) {
  constexpr std::uint64_t kPiece = (256 << 10) / kSectorSize;
  std::vector<Extent> pieces;
  for (const Extent& whole : extents) {
    const std::uint64_t most = BLKTAP_EXTENTS_MAX / extents.size() / 2 * 2;
    const std::uint64_t length = std::max(kPiece, (whole.sectors / most / kPiece + 1) * kPiece);
    for (std::uint64_t at = 0; at < whole.sectors; at += 2 * length) {
      Extent piece = whole;
      piece.sector += at;
      piece.offset += at * kSectorSize;
      piece.sectors = std::min(length, whole.sectors - at);
      pieces.push_back(piece);
    }
  }
  return pieces;
}

// The same sequence each time: the upper bits of a linear congruential generator.
class Coin {
 public:
  bool toss() noexcept {
    state_ = state_ * 1664525 + 1013904223;
    return state_ >> 31;
  }

 private:
  std::uint32_t state_ = 1;
};

}  // namespace tapdisk
