// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that is gone leaves its requests to the next one. The guest hears of nothing, unless no
// other comes in time.

#include "tests/frontend/delegation.hpp"
#include "tests/frontend/keep.hpp"

using namespace std::chrono_literals;

namespace {

TEST_F(Keep, TheNextOneGetsWhatTheLastHadInItsOrderAndFirst)
{
    for (std::uint64_t sector = 0; sector < 24; sector += 8)
        put(sector == 8 ? BLKIF_OP_WRITE : BLKIF_OP_READ, sector, sector / 8);
    frontend.put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend.push();
    const auto first = seat->next();
    ASSERT_TRUE(first);
    while (seat->announced())
        ;
    lose_tapdisk();
    put(BLKIF_OP_READ, 800, 5);
    frontend.push();
    EXPECT_FALSE(frontend.wait(500ms)) << "the guest was told that its tapdisk is gone";
    EXPECT_EQ(vbd.attribute("kept"), "4");
    EXPECT_GT(std::stoi(vbd.attribute("keep_left_ms")), 0);
    EXPECT_EQ(vbd.state(), kConnected);

    next_tapdisk();
    for (std::uint64_t sector = 0; sector < 24; sector += 8) {
        const blktap_req req = expect_announced(sector, true);
        if (req.op == BLKTAP_OP_READ)
            std::memset(seat->page(req, 0), static_cast<int>(sector + 1), 4096);
        else
            EXPECT_EQ(*seat->page(req, 0), 0x11);
        seat->put(answer_to(req));
    }
    const blktap_req flush = expect_announced(0, true);
    EXPECT_EQ(flush.op, BLKTAP_OP_FLUSH);
    seat->answer(flush);
    seat->answer(expect_announced(800, false));
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_EQ(std::ranges::count(pages.page(0), 1), 4096);
    EXPECT_EQ(std::ranges::count(pages.page(2), 17), 4096);
    EXPECT_EQ(count("requests_kept"), 4u);
    EXPECT_EQ(count("requests_replayed"), 4u);
    EXPECT_EQ(count("responses_error"), 0u);
    EXPECT_EQ(vbd.attribute("kept"), "0");
    EXPECT_EQ(vbd.attribute("keep_left_ms"), "0");
    EXPECT_EQ(count("kernel_map_ops"), count("kernel_unmap_ops"));
}

// Else a write of the last one would land on one of the next.
TEST_F(Keep, TheNextOneWaitsForTheLastOnesIo)
{
    Holder io;
    const blktap_req req = ask(BLKIF_OP_WRITE);
    ASSERT_EQ(io.hold(seat->page(req, 0), 4096), 4096);
    lose_tapdisk();
    EXPECT_EQ(refusal(keeping()), EAGAIN);
    EXPECT_FALSE(frontend.wait(300ms));
    EXPECT_EQ(refusal(keeping()), EAGAIN);
    io.release();
    EXPECT_TRUE(eventually(5s, [&] { return refusal(keeping()) == 0; }));
    next_tapdisk();
    seat->answer(expect_announced(8, true));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Keep, NothingIsCarriedOutOnAnotherImage)
{
    put(BLKIF_OP_WRITE, 8);
    frontend.push();
    ASSERT_TRUE(seat->next());
    lose_tapdisk();
    blktap_attach other = keeping();
    other.image_id[0]++;
    EXPECT_EQ(refusal(other), ESTALE);
    other = keeping();
    other.image_id[1]++;
    EXPECT_EQ(refusal(other), ESTALE);
    next_tapdisk();
    seat->answer(expect_announced(8, true));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Keep, AfterTheAgreedTimeRequestsFail)
{
    seat.emplace(vbd.node(), keeping(1000));
    expect_in_order();
    put(BLKIF_OP_READ, 8);
    frontend.push();
    ASSERT_TRUE(seat->next());
    const auto start = std::chrono::steady_clock::now();
    lose_tapdisk();
    put(BLKIF_OP_READ, 16);
    frontend.push();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    EXPECT_GE(std::chrono::steady_clock::now() - start, 900ms);
    EXPECT_EQ(status(), BLKIF_RSP_ERROR); // what was on the ring
    put(BLKIF_OP_READ, 24);
    frontend.push();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR); // at once
    next_tapdisk();
    expect_in_order();
}

TEST_F(Keep, TheAdministratorMayEndTheWait)
{
    ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0);
    lose_tapdisk();
    EXPECT_FALSE(frontend.wait(300ms));
    std::ofstream("/sys/class/blktap/" + vbd.name() + "/give_up") << "1" << std::flush;
    EXPECT_EQ(status(), BLKIF_RSP_SYNC_ERROR);
    EXPECT_EQ(vbd.attribute("keep_left_ms"), "0");
}

// Time that another loss took is not this one's.
TEST_F(Keep, EachLossHasItsOwnTime)
{
    seat.emplace(vbd.node(), keeping(1500));
    expect_in_order();
    for (int i = 0; i < 3; i++) {
        put(BLKIF_OP_READ, 8);
        frontend.push();
        ASSERT_TRUE(seat->next());
        lose_tapdisk();
        EXPECT_FALSE(frontend.wait(800ms)) << "loss " << i;
        seat.emplace(vbd.node(), keeping(1500));
        seat->answer(expect_announced(8, true));
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    }
}

// Also where nothing was asked for in between, or the module served it all.
TEST_F(Keep, EachLossHasItsOwnTimeWithoutAnyAnswer)
{
    seat.emplace(vbd.node(), keeping(1500));
    seat->run();
    for (int i = 0; i < 2; i++) {
        lose_tapdisk();
        std::this_thread::sleep_for(800ms);
        seat.emplace(vbd.node(), keeping(1500));
        seat->run();
        EXPECT_EQ(vbd.attribute("keep_left_ms"), "0");
    }
    lose_tapdisk();
    put(BLKIF_OP_READ, 8);
    frontend.push();
    EXPECT_FALSE(frontend.wait(800ms));
    next_tapdisk();
    seat->answer(expect_announced(8, false));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

// Else one that always dies at its start would make the guest wait for ever.
TEST_F(Keep, WhoOnlyAttachesGivesNoMoreTime)
{
    seat.emplace(vbd.node(), keeping(1500));
    seat->run();
    lose_tapdisk();
    put(BLKIF_OP_READ, 8);
    frontend.push();
    for (int i = 0; i < 2; i++) {
        EXPECT_FALSE(frontend.wait(500ms));
        seat.emplace(vbd.node(), keeping(1500));
        lose_tapdisk();
    }
    EXPECT_TRUE(frontend.wait(1000ms)) << "each of them has given the guest more time";
}

TEST_F(Keep, AFrontendThatLeavesIsNotKeptWaiting)
{
    ask();
    lose_tapdisk();
    EXPECT_FALSE(frontend.wait(200ms));
    EXPECT_TRUE(frontend.close());
    EXPECT_EQ(vbd.attribute("in_flight"), "0");
    next_tapdisk();
    EXPECT_FALSE(seat->next(300ms)) << "a request of a frontend that has left";
}

TEST_F(Keep, AVbdMayBeDestroyed)
{
    ask();
    lose_tapdisk();
    put(BLKIF_OP_READ, 80, 2);
    frontend.push();
    vbd.destroy();
    EXPECT_TRUE(eventually(10s, [&] { return vbd.gone(); }));
}

TEST_F(Keep, CopiedDataIsFetchedAgain)
{
    blktap_attach copying = keeping();
    copying.copy_bytes = 8192;
    seat.emplace(vbd.node(), copying);
    const blktap_req req = ask(BLKIF_OP_WRITE);
    std::memset(seat->page(req, 0), 0x66, 4096); // whoever dies may have spoilt it
    lose_tapdisk();
    seat.emplace(vbd.node(), copying);
    const blktap_req again = expect_announced(8, true);
    EXPECT_EQ(*seat->page(again, 0), 0x11);
    seat->answer(again);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);

    const blktap_req read = ask(BLKIF_OP_READ);
    std::memset(seat->page(read, 0), 0x67, 4096);
    lose_tapdisk();
    EXPECT_EQ(*pages.page(0).data(), 0x11) << "the guest has data that nobody vouches for";
    next_tapdisk(); // which maps what that one had copied
    const blktap_req mapped = expect_announced(8, true);
    std::memset(seat->page(mapped, 0), 0x68, 4096);
    seat->answer(mapped);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_EQ(*pages.page(0).data(), 0x68);
}

// What a barrier waits for is with the dead one, and so it comes after that, again.
TEST_F(Keep, ABarrierKeepsItsPlace)
{
    blktap_attach submitting = keeping();
    submitting.features |= BLKTAP_FEATURE_SUBMIT;
    seat.emplace(vbd.node(), submitting);
    put(BLKIF_OP_WRITE, 8, 1);
    frontend.push();
    expect_announced(8, false);
    put(BLKIF_OP_WRITE_BARRIER, 16, 2);
    put(BLKIF_OP_WRITE, 24, 3);
    frontend.push();
    EXPECT_FALSE(seat->next(300ms)) << "before what the barrier waits for has ended";
    lose_tapdisk();
    EXPECT_FALSE(frontend.wait(200ms));
    next_tapdisk(); // which does not submit, so it has them in order
    const blktap_req write = expect_announced(8, true);
    const blktap_req barrier = expect_announced(16, false);
    EXPECT_EQ(barrier.op, BLKTAP_OP_BARRIER);
    const blktap_req after = expect_announced(24, false);
    for (const blktap_req& req : {write, barrier, after})
        seat->answer(req);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Keep, AFailedFlushIsNotForgotten)
{
    seat->answer(ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0), -EIO);
    EXPECT_EQ(status(), BLKIF_RSP_SYNC_ERROR);
    ask(BLKIF_OP_READ);
    lose_tapdisk();
    next_tapdisk();
    seat->answer(expect_announced(8, true));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    frontend.put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend.push();
    seat->run();
    EXPECT_EQ(status(), BLKIF_RSP_SYNC_ERROR);
    EXPECT_EQ(vbd.attribute("writes_fail"), "1");
}

// The module's own I/O goes on without a tapdisk; what fails waits for the next one.
class KeepSlow : public Keep {
protected:
    void SetUp() override
    {
        if (settings.slow_device.empty() || settings.failing_device.empty())
            GTEST_SKIP() << "no --slow-device or no --failing-device";
        Keep::SetUp();
    }
    void serve_from(const std::string& device)
    {
        const File file(device, O_RDWR | O_DIRECT);
        ASSERT_EQ(delegate(seat->fd(), extent(file.fd(), 0, Seat::kSectors)), 0);
        seat->run();
    }
    void lose_tapdisk_with_a_write_under_way()
    {
        put(BLKIF_OP_WRITE, 8);
        frontend.push();
        ASSERT_TRUE(eventually(5s, [&] { return count("requests_delegated") == 1; }));
        lose_tapdisk();
    }
};

TEST_F(KeepSlow, WhatTheModuleDoesIsAnsweredWithoutTapdisk)
{
    serve_from(settings.slow_device);
    lose_tapdisk_with_a_write_under_way();
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_EQ(vbd.attribute("attached"), "0");
    next_tapdisk();
    expect_in_order();
}

TEST_F(KeepSlow, WhatTheModuleCannotDoIsTheNextTapdisks)
{
    serve_from(settings.failing_device);
    lose_tapdisk_with_a_write_under_way();
    EXPECT_TRUE(eventually(10s, [&] { return count("requests_kept") == 1; }));
    EXPECT_FALSE(frontend.take());
    next_tapdisk();
    seat->answer(expect_announced(8, false));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

} // namespace
