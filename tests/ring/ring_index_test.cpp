// SPDX-License-Identifier: GPL-2.0-only
//
// Index arithmetic of both rings: distances, lies, wake-ups, sleeping.

#include "ring/blkif_wire.h"
#include "ring/ring.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace {

// Start values around every place where 32-bit or signed arithmetic could break.
constexpr std::array<std::uint32_t, 8> kBases{0u,          1u,          31u,         0x7fffffe8u,
                                              0x7fffffffu, 0x80000000u, 0xffffffe8u, 0xffffffffu};

TEST(RingAvailable, CountsWhatThePeerProducedAcrossEveryWrap)
{
    for (std::uint32_t base : kBases) {
        const ring_consumer ring{base, 32};
        for (std::uint32_t n = 0; n <= 32; n++) {
            const std::uint32_t produced = base + n;
            EXPECT_EQ(ring_available(&ring, &produced), static_cast<int>(n)) << base;
        }
    }
}

TEST(RingAvailable, CallsADistanceLargerThanTheRingALie)
{
    for (std::uint32_t base : kBases) {
        const ring_consumer ring{base, 32};
        for (std::uint32_t distance : {33u, 34u, 64u, 0x7fffffffu, 0x80000000u, 0xfffffffeu,
                                       0xffffffffu}) {
            const std::uint32_t produced = base + distance;
            EXPECT_EQ(ring_available(&ring, &produced), -EPROTO) << base << "+" << distance;
        }
    }
}

TEST(RingAvailable, NeverLeavesItsRangeForAnyIndex)
{
    for (std::uint32_t size = 1; size <= 64; size *= 2) {
        for (std::uint32_t produced = 0; produced < 300; produced++) {
            const ring_consumer ring{0xffffff80u, size};
            const int n = ring_available(&ring, &produced);
            EXPECT_TRUE(n == -EPROTO || (n >= 0 && n <= static_cast<int>(size)));
        }
    }
}

TEST(RingPosition, WalksTheRingInOrderAndStaysInside)
{
    for (std::uint32_t base : kBases) {
        ring_consumer ring{base, 8};
        std::uint32_t expected = base % 8;
        for (int step = 0; step < 40; step++) {
            ASSERT_EQ(ring_position(&ring), expected);
            ring.seen++;
            expected = (expected + 1) % 8;
        }
    }
}

// What "wake me when entry event-1 appears" means, spelled out entry by entry.
bool spelled_out(std::uint32_t before, std::uint32_t produced, std::uint32_t event)
{
    for (std::uint32_t i = 1; i <= produced; i++)
        if (before + i == event)
            return true;
    return false;
}

TEST(RingNotify, EqualsItsDefinitionInAllSmallCases)
{
    for (std::uint32_t base : kBases)
        for (std::uint32_t produced = 0; produced <= 33; produced++)
            for (std::uint32_t offset = 0; offset <= 80; offset++) {
                const std::uint32_t event = base + offset - 40;
                ASSERT_EQ(ring_needs_notify(base, base + produced, event),
                          spelled_out(base, produced, event))
                    << base << " +" << produced << " event " << event;
            }
}

TEST(RingNotify, NothingProducedWakesNobody)
{
    for (std::uint32_t base : kBases)
        for (std::uint32_t event : kBases)
            EXPECT_FALSE(ring_needs_notify(base, base, event));
}

TEST(RingArmEvent, AsksForTheNextEntryAndAllowsSleepWhenEmpty)
{
    for (std::uint32_t base : kBases) {
        const ring_consumer ring{base, 32};
        std::uint32_t event = 0xdeadbeef;
        const std::uint32_t produced = base;
        EXPECT_FALSE(ring_arm_event(&ring, &event, &produced));
        EXPECT_EQ(event, base + 1);
        EXPECT_TRUE(ring_needs_notify(base, base + 1, event));
    }
}

TEST(RingDisarmEvent, LetsNoEntryWake)
{
    for (std::uint32_t base : kBases) {
        const ring_consumer ring{base, 32};
        std::uint32_t event = base + 1;
        ring_disarm_event(&ring, &event);
        for (std::uint32_t before : {base - 32, base - 1, base, base + 31})
            for (std::uint32_t n : {1u, 2u, 32u})
                EXPECT_FALSE(ring_needs_notify(before, before + n, event)) << before << ' ' << n;
    }
}

TEST(RingArmEvent, ForbidsSleepWhenAnEntryCameIn)
{
    for (std::uint32_t base : kBases) {
        const ring_consumer ring{base, 32};
        std::uint32_t event = 0;
        for (std::uint32_t n : {1u, 2u, 32u, 33u, 0x80000000u}) {
            const std::uint32_t produced = base + n;
            EXPECT_TRUE(ring_arm_event(&ring, &event, &produced)) << n;
        }
    }
}

TEST(RingEntries, EveryAbiHas32InAPageAndGrowsWithThePages)
{
    for (const blkif_abi* abi : {&blkif_abi_native, &blkif_abi_x86_32, &blkif_abi_x86_64}) {
        std::uint32_t expected = 32;
        for (std::uint32_t pages = 1; pages <= 16; pages *= 2, expected *= 2) {
            const std::uint32_t entries = blkif_ring_entries(abi, pages * RING_PAGE_SIZE);
            EXPECT_EQ(entries, expected);
            EXPECT_LE(sizeof(blkif_sring) + entries * abi->entry_bytes, pages * RING_PAGE_SIZE);
        }
    }
}

} // namespace
