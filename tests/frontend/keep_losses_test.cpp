// SPDX-License-Identifier: GPL-2.0-only
//
// A request that is the end of each tapdisk that is offered it.

#include "tests/frontend/keep.hpp"

using namespace std::chrono_literals;

namespace {

TEST_F(Keep, ARequestThatEndsEachTapdiskFailsAlone)
{
    put(BLKIF_OP_READ, 8, 1);
    frontend.push();
    expect_announced(8, false);
    for (int deaths = 1; deaths < 3; deaths++) {
        lose_tapdisk();
        EXPECT_FALSE(frontend.wait(200ms));
        next_tapdisk();
        expect_announced(8, true);
    }
    put(BLKIF_OP_READ, 16, 2);
    frontend.push();
    expect_announced(16, false);
    lose_tapdisk();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    next_tapdisk();
    seat->answer(expect_announced(16, true));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Keep, WhatWasLostWithItDoesNotFailWithIt)
{
    for (std::uint64_t sector = 8; sector <= 24; sector += 8)
        put(BLKIF_OP_READ, sector, sector / 8);
    frontend.push();
    for (const bool replayed : {false, true}) {
        for (std::uint64_t sector = 8; sector <= 24; sector += 8)
            expect_announced(sector, replayed);
        lose_tapdisk();
        next_tapdisk();
    }
    // Now each by itself.
    const blktap_req first = expect_announced(8, true);
    EXPECT_FALSE(seat->next(300ms));
    seat->answer(first);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    expect_announced(16, true);
    EXPECT_FALSE(seat->next(300ms));
    lose_tapdisk();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    next_tapdisk();
    seat->answer(expect_announced(24, true));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_EQ(count("responses_error"), 1u);
}

} // namespace
