// SPDX-License-Identifier: GPL-2.0-only
//
// Two threads, one ring, each sleeping whenever the arithmetic allows it.
// Built with ThreadSanitizer: a missing acquire or release is a data race here,
// a wrong wake-up rule is a hang, and a wrong index is a wrong sum.

#include "ring/ring.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <semaphore>
#include <thread>

namespace {

struct Shared {
    std::uint32_t prod = 0;
    std::uint32_t event = 0;  // the consumer asks for a wake-up
    std::uint32_t cons = 0;
    std::uint32_t space = 0;  // the producer asks for a wake-up
};

struct Entry {
    std::uint32_t word[8];
};

template <std::uint32_t Size>
void run(std::uint32_t start, std::uint32_t total, bool disarms = false)
{
    using namespace std::chrono_literals;
    Shared shared{start, start + 1, start, start};
    std::array<Entry, Size> entries{};
    std::counting_semaphore<> work(0), room(0);
    bool lost_wakeup = false;

    std::thread producer([&] {
        std::uint32_t prod = start;
        // The room behind the consumer's index is a ring of its own: free entries.
        ring_consumer space{start - Size, Size};
        for (std::uint32_t sent = 0; sent < total;) {
            const std::uint32_t cons = ring_load_acquire_u32(&shared.cons);
            std::uint32_t free = Size - (prod - cons);
            if (!free) {
                space.seen = cons;
                if (!ring_arm_event(&space, &shared.space, &shared.cons) &&
                    !room.try_acquire_for(20s)) {
                    lost_wakeup = true;
                    return;
                }
                continue;
            }
            const std::uint32_t before = prod;
            for (; free && sent < total; free--, sent++, prod++)
                for (std::uint32_t i = 0; i < 8; i++)
                    entries[prod & (Size - 1)].word[i] = prod * 8 + i; // plain stores
            ring_store_release_u32(&shared.prod, prod);
            ring_fence(); // publish before looking whether the consumer sleeps
            if (ring_needs_notify(before, prod, ring_load_u32(&shared.event)))
                work.release();
        }
    });

    ring_consumer ring{start, Size};
    std::uint32_t wrong = 0;
    bool looks = false;
    while (ring.seen - start < total && !lost_wakeup) {
        const int n = ring_available(&ring, &shared.prod);
        ASSERT_GE(n, 0);
        if (n == 0) {
            if (disarms && (looks = !looks)) { // it may be the last look for now, or not
                ring_disarm_event(&ring, &shared.event);
                continue;
            }
            if (!ring_arm_event(&ring, &shared.event, &shared.prod) && !work.try_acquire_for(20s)) {
                ADD_FAILURE() << "the consumer slept through an entry";
                break;
            }
            continue;
        }
        const std::uint32_t before = ring.seen;
        for (int i = 0; i < n; i++, ring.seen++) {
            Entry copy;
            ring_copy_in(&copy, &entries[ring_position(&ring)], sizeof copy);
            for (std::uint32_t w = 0; w < 8; w++)
                wrong += copy.word[w] != ring.seen * 8 + w;
        }
        ring_store_release_u32(&shared.cons, ring.seen);
        ring_fence();
        if (ring_needs_notify(before, ring.seen, ring_load_u32(&shared.space)))
            room.release();
    }
    producer.join();
    EXPECT_FALSE(lost_wakeup) << "the producer slept although there was room";
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(ring.seen - start, total);
}

TEST(RingSpsc, NothingIsLostOrTornAndNobodyOversleeps)
{
    run<32>(0, 200000);
}

TEST(RingSpsc, AConsumerThatLooksByItselfForAWhileOversleepsNothing)
{
    run<32>(0, 200000, true);
}

TEST(RingSpsc, AcrossTheWrapOfTheIndices)
{
    run<32>(0xffff0000u, 200000);
}

TEST(RingSpsc, WithTheSmallestRing)
{
    run<1>(0xfffffff0u, 20000);
}

} // namespace
