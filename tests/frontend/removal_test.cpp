// SPDX-License-Identifier: GPL-2.0-only
//
// Disks that go away while others come: one thread of the kernel does both, for all of the host.

#include "tests/frontend/seat.hpp"
#include "tests/frontend/vbd.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <fstream>
#include <string>

using namespace std::chrono_literals;

namespace {

class TapdiskRemoval : public testing::Test {
protected:
    using Duration = std::chrono::milliseconds;
    static constexpr int kDisks = 16;
    static constexpr int kQueues = 4;

    void SetUp() override
    {
        std::ifstream(kSetting) >> before_;
        std::ofstream(kSetting) << kQueues;
    }
    void TearDown() override { std::ofstream(kSetting) << before_; }

    // What it takes until a new disk is taken up while `leaving` go.
    static Duration attach(std::deque<Vbd>& leaving)
    {
        for (const Vbd& vbd : leaving)
            vbd.destroy();
        const auto start = std::chrono::steady_clock::now();
        const Vbd neighbour({});
        return std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - start);
    }

    // The best of three, for other things may be going on.
    static Duration attach_while_disks_go(int disks, bool with_threads)
    {
        Duration best = Duration::max();
        for (int round = 0; round < 3; round++) {
            std::deque<Vbd> leaving;
            std::deque<Seat> seats;
            blktap_attach attach_submitting = attach_to(Seat::kSectors);
            attach_submitting.features = BLKTAP_FEATURE_SUBMIT; // gives each queue a thread
            for (int i = 0; i < disks; i++) {
                leaving.emplace_back(Vbd::Options{});
                if (with_threads)
                    seats.emplace_back(leaving.back().node(), attach_submitting);
            }
            best = std::min(best, attach(leaving));
            for (const Vbd& vbd : leaving)
                EXPECT_TRUE(eventually(30s, [&] { return vbd.gone(); })) << vbd.name();
        }
        return best;
    }

private:
    static constexpr const char* kSetting = "/sys/module/blktap/parameters/max_queues";
    unsigned before_ = 0;
};

TEST_F(TapdiskRemoval, ANeighbourDoesNotWaitForTheThreadsOfOthers)
{
    const Duration alone = attach_while_disks_go(0, false);
    const Duration without = attach_while_disks_go(kDisks, false);
    const Duration with = attach_while_disks_go(kDisks, true);
    std::printf("         attached in %d ms; while %d disks go %d ms, with %d threads %d ms\n",
                static_cast<int>(alone.count()), kDisks, static_cast<int>(without.count()),
                kDisks * kQueues, static_cast<int>(with.count()));
    EXPECT_LT(with, 2 * without + 200ms);
}

} // namespace
