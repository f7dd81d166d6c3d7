// SPDX-License-Identifier: GPL-2.0-only
//
// Delegated I/O that takes its time, while other things happen. Needs a block device whose requests
// take a second or so.

#include "tests/frontend/delegation.hpp"

#include <fstream>

using namespace std::chrono_literals;

namespace {

class SlowDelegation : public Served {
protected:
    void SetUp() override
    {
        if (settings.slow_device.empty())
            GTEST_SKIP() << "no --slow-device";
        connect(settings.slow_device, O_RDWR | O_DIRECT);
        ASSERT_EQ(delegate_all(), 0);
    }
    // Starts writes that are the module's, and waits until they are under way.
    void start_writes(std::size_t count)
    {
        for (std::size_t i = 0; i < count; i++)
            put(BLKIF_OP_WRITE, i * 8, i);
        frontend->push();
        ASSERT_TRUE(eventually(5s, [&] {
            return vbd.counters().at("requests_delegated") == count;
        }));
    }
    // Over all vbds, this one included when it is gone; since this case began, for an attempt to
    // map counts too.
    std::int64_t mapped_on_this_host() const { return read_mapped() - before_; }

private:
    static std::int64_t read_mapped()
    {
        std::int64_t maps = 0, unmaps = 0;
        std::ifstream("/sys/devices/blktap/statistics/kernel_map_ops") >> maps;
        std::ifstream("/sys/devices/blktap/statistics/kernel_unmap_ops") >> unmaps;
        return maps - unmaps;
    }

    const std::int64_t before_ = read_mapped();
};

TEST_F(SlowDelegation, ABarrierIsToldWhenTheModuleIsDone)
{
    start_writes(3);
    frontend->put(request(BLKIF_OP_WRITE_BARRIER));
    put(BLKIF_OP_WRITE, 800);
    frontend->push();
    // When tapdisk hears of it, the three have ended: there are two left.
    const auto barrier = seat->next();
    ASSERT_TRUE(barrier);
    EXPECT_EQ(barrier->op, BLKTAP_OP_BARRIER);
    EXPECT_TRUE(eventually(200ms, [&] { return vbd.attribute("in_flight") == "2"; }));
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    const auto after = seat->next();
    ASSERT_TRUE(after);
    EXPECT_EQ(after->sector, 800u);
    // What comes while the barrier is under way is tapdisk's to order.
    put(BLKIF_OP_READ, 400);
    frontend->push();
    const auto later = seat->next();
    ASSERT_TRUE(later);
    EXPECT_EQ(later->sector, 400u);
    for (const auto& req : {barrier, after, later})
        seat->put(answer_to(*req));
    EXPECT_GE(seat->run(), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    // And then the module serves again.
    put(BLKIF_OP_READ, 8);
    frontend->push();
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_EQ(vbd.counters().at("requests_delegated"), 4u);
}

TEST_F(SlowDelegation, WithdrawingWaitsForWhatIsUnderWay)
{
    start_writes(2);
    EXPECT_EQ(withdraw(seat->fd(), 0, 1), 0);
    EXPECT_TRUE(eventually(100ms, [&] { return vbd.attribute("in_flight") == "0"; }));
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

TEST_F(SlowDelegation, OtherRequestsNeedNotWait)
{
    start_writes(4);
    frontend->put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend->push();
    EXPECT_EQ(tapdisk_answers(0, 0), BLKIF_RSP_OKAY); // the first of all
    EXPECT_EQ(frontend->outstanding(), 4u);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

// The device has no tags left, and whoever starts the I/O sleeps for one.
TEST_F(SlowDelegation, WhatHasEndedIsAnsweredWhileTheRestWaitsForTheDevice)
{
    constexpr std::uint64_t kSlowSectors = Seat::kSectors / 2;
    std::ofstream(path, std::ios::binary) << std::string(Seat::kSectors * 512, '\0');
    const File fast(path, O_RDWR | O_DIRECT);
    fsync(fast.fd());
    posix_fadvise(fast.fd(), 0, 0, POSIX_FADV_DONTNEED);
    ASSERT_EQ(withdraw(seat->fd(), 0, ~0ull), 0);
    ASSERT_EQ(delegate(seat->fd(), extent(file->fd(), 0, kSlowSectors)), 0);
    ASSERT_EQ(delegate(seat->fd(), extent(fast.fd(), kSlowSectors, kSlowSectors)), 0);
    ASSERT_TRUE(frontend->reopen(Shape{.abi = guest::Abi::native, .order = 3}));

    constexpr std::uint64_t kFast = 77;
    guest::Request first = request(BLKIF_OP_READ, kSlowSectors, pages, 0, 1);
    first.id = kFast;
    frontend->put(first);
    // More than a device of one queue has tags; none beside another, which would make them one. Xen
    // has a limit to how often one grant is mapped.
    for (std::uint64_t i = 0; i < 200; i++)
        put(BLKIF_OP_READ, i * 16, 1 + i % 31);
    frontend->push();
    const auto answered = frontend->wait();
    ASSERT_TRUE(answered);
    EXPECT_EQ(answered->id, kFast);
    EXPECT_FALSE(frontend->take()) << "it has waited for the others";
    EXPECT_EQ(frontend->wait_all().size(), 200u);
    EXPECT_EQ(vbd.counters().at("requests_bounced"), 0u);
    EXPECT_EQ(withdraw(seat->fd(), 0, ~0ull), 0);
    unlink(path.c_str());
}

// tapdisk's end is none of the guest's business, as far as the module needs no tapdisk.
TEST_F(SlowDelegation, FinishesWhatItBeganWhenTapdiskIsGone)
{
    start_writes(4);
    seat.reset();
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    put(BLKIF_OP_READ, 8);
    frontend->push();
    EXPECT_EQ(answer(), BLKIF_RSP_ERROR);
    EXPECT_EQ(vbd.attribute("in_flight"), "0");
}

TEST_F(SlowDelegation, ABarrierThatWaitsFailsWhenTapdiskIsGone)
{
    start_writes(2);
    frontend->put(request(BLKIF_OP_WRITE_BARRIER));
    frontend->push();
    seat->run();
    seat.reset();
    EXPECT_EQ(answer(), BLKIF_RSP_SYNC_ERROR);
    // And then no write succeeds that was under way.
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_ERROR);
}

// It may have another image.
TEST_F(SlowDelegation, WhatFailsWhenTheFrontendHasLeftIsNotTheNextTapdisks)
{
    if (settings.failing_device.empty())
        GTEST_SKIP() << "no --failing-device";
    const File device(settings.failing_device, O_RDWR | O_DIRECT);
    ASSERT_EQ(withdraw(seat->fd(), 0, Seat::kSectors), 0);
    ASSERT_EQ(delegate(seat->fd(), extent(device.fd(), 0, Seat::kSectors)), 0);
    start_writes(1);
    vbd.set_frontend_state(kClosed);
    ASSERT_TRUE(eventually(5s, [&] { return vbd.attribute("state") == "closing"; }));
    seat.reset();
    seat.emplace(vbd.node());
    EXPECT_TRUE(eventually(5s, [&] { return vbd.counters().at("requests_bounced") == 1; }));
    EXPECT_FALSE(seat->next(300ms)) << "the next one got a request of the last one's disk";
    EXPECT_TRUE(vbd.wait_for(kClosed));
}

TEST_F(SlowDelegation, AFrontendThatLeavesIsWaitedFor)
{
    start_writes(4);
    EXPECT_TRUE(frontend->close());
    EXPECT_EQ(vbd.attribute("in_flight"), "0");
    EXPECT_EQ(mapped_on_this_host(), 0);
}

TEST_F(SlowDelegation, AVbdThatIsDestroyedGivesEverythingBackInTheEnd)
{
    start_writes(8);
    EXPECT_EQ(mapped_on_this_host(), 8);
    vbd.destroy();
    seat.reset();
    EXPECT_TRUE(eventually(15s, [&] { return vbd.gone(); }));
    EXPECT_TRUE(eventually(15s, [&] { return mapped_on_this_host() == 0; }));
}

} // namespace
