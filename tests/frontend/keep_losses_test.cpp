// SPDX-License-Identifier: GPL-2.0-only
//
// A request that is the end of each tapdisk that is offered it.

#include "tests/frontend/keep.hpp"

#include <optional>
#include <utility>

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

// As one does for whose writes there is no room.
TEST_F(Keep, WhoWasAboutToLeaveHasNotComeToItsEnd)
{
    put(BLKIF_OP_WRITE, 8, 1);
    frontend.push();
    expect_announced(8, false);
    for (int tapdisks = 1; tapdisks < 6; tapdisks++) {
        EXPECT_EQ(seat->run(BLKTAP_RUN_HOLD), 0);
        lose_tapdisk();
        next_tapdisk();
        expect_announced(8, true);
    }
    // But this is one.
    for (int deaths = 0; deaths < 2; deaths++) {
        lose_tapdisk();
        next_tapdisk();
        expect_announced(8, true);
    }
    lose_tapdisk();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
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

// Of two queues each has one that might be it.
TEST_F(Keep, WhatOneQueueTriesIsTriedByNoOther)
{
    ASSERT_GE(seat->attached().queues, 2u);
    ASSERT_TRUE(frontend.close());
    blktap_attach second = keeping();
    second.queue = 1;
    std::optional<Seat> other(std::in_place, vbd.node(), second);
    ASSERT_TRUE(frontend.reopen(Shape{.abi = guest::Abi::native, .queues = 2}));
    put(BLKIF_OP_READ, 8, 1);
    frontend.push();
    frontend.queue(1).put(request(BLKIF_OP_READ, 16, pages, 2, 1));
    frontend.queue(1).push();
    for (const bool replayed : {false, true}) {
        expect_announced(8, replayed);
        const auto req = other->next();
        ASSERT_TRUE(req);
        EXPECT_EQ(req->sector, 16u);
        other.reset();
        lose_tapdisk();
        next_tapdisk();
        other.emplace(vbd.node(), second);
    }
    const blktap_req first = expect_announced(8, true);
    EXPECT_EQ(other->run(), 0);
    seat->answer(first);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    // Nobody but the module knows that it may be tried now: it rings only when it is woken.
    std::optional<blktap_req> req;
    while (!(req = other->announced()) && other->wait(5s))
        other->run();
    ASSERT_TRUE(req) << "nobody woke it";
    EXPECT_EQ(req->sector, 16u);
    other->answer(*req);
    const auto response = frontend.queue(1).wait();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, BLKIF_RSP_OKAY);
}

} // namespace
