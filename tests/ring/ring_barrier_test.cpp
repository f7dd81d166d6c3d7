// SPDX-License-Identifier: GPL-2.0-only
//
// The private copy of shared memory.

#include "ring/barrier.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <numeric>

namespace {

TEST(RingCopyIn, CopiesExactlyTheBytesAskedFor)
{
    std::array<std::uint32_t, 32> shared;
    std::iota(shared.begin(), shared.end(), 0x01020304u);
    for (std::uint32_t words = 0; words < shared.size(); words++) {
        std::array<std::uint32_t, 32> copy;
        copy.fill(0xaaaaaaaau);
        ring_copy_in(copy.data(), shared.data(), words * 4);
        for (std::uint32_t i = 0; i < copy.size(); i++)
            ASSERT_EQ(copy[i], i < words ? shared[i] : 0xaaaaaaaau) << words << " words, at " << i;
    }
}

struct Record {
    std::uint8_t byte;
    std::uint16_t half;
    std::uint64_t wide;
};

// Without may_alias the optimiser keeps the old values of `to`.
__attribute__((noinline)) std::uint64_t copied_over(Record& to, const Record& from,
                                                    std::uint32_t bytes)
{
    to.wide = 1;
    to.half = 1;
    ring_copy_in(&to, &from, bytes);
    return to.wide + to.half;
}

TEST(RingCopyIn, CopiesRecordsWhateverTheTypesOfTheirFields)
{
    Record from{1, 20, 300};
    Record to{};
    EXPECT_EQ(copied_over(to, from, sizeof to), 320u);
}

TEST(RingStore, StoresOnlyItsOwnWord)
{
    std::array<std::uint32_t, 3> memory{1, 2, 3};
    ring_store_u32(&memory[1], 7);
    EXPECT_EQ(memory, (std::array<std::uint32_t, 3>{1, 7, 3}));
    ring_store_release_u32(&memory[1], 8);
    EXPECT_EQ(memory, (std::array<std::uint32_t, 3>{1, 8, 3}));
    EXPECT_EQ(ring_load_u32(&memory[1]), 8u);
    EXPECT_EQ(ring_load_acquire_u32(&memory[2]), 3u);
}

} // namespace
