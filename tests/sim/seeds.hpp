// SPDX-License-Identifier: GPL-2.0-only
//
// The seeds of a simulation, and the dice that a seed makes.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <random>

namespace tapdisk::testing {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed) {}

  // 0 .. n-1
  unsigned below(unsigned n) { return static_cast<unsigned>(engine_() % n); }
  bool percent(unsigned n) { return below(100) < n; }

 private:
  std::mt19937_64 engine_;
};

// Runs `simulate(seed)` for every seed, up to the first that fails.
template <class Simulate>
void for_each_seed(std::uint64_t usual, Simulate&& simulate) {
  const char* one = std::getenv("BLKTAP_SEED");
  const char* count = std::getenv("BLKTAP_SEEDS");
  const std::uint64_t first = one ? std::strtoull(one, nullptr, 10) : 1;
  const std::uint64_t last =
      one ? first : count ? std::strtoull(count, nullptr, 10) : usual;
  for (std::uint64_t seed = first; seed <= last; seed++) {
    SCOPED_TRACE("BLKTAP_SEED=" + std::to_string(seed));
    simulate(seed);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace tapdisk::testing
