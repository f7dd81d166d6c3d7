// SPDX-License-Identifier: GPL-2.0-only
//
// A flush that fails is an I/O error to every frontend, and nothing that changes the disk succeeds
// after it, for Linux' blkfront asks for no other: until the frontend has connected anew and
// another tapdisk serves, if it was tapdisk that failed.

#include "tests/frontend/bad_tapdisk.hpp"
#include "tests/frontend/delegation.hpp"

#include <cerrno>

namespace {

class FailedFlush : public BadTapdisk {
protected:
    std::int16_t answer()
    {
        const auto response = frontend.wait();
        return response ? response->status : std::int16_t{-100};
    }
    std::int16_t flush_is_answered(std::uint8_t operation, int result)
    {
        frontend.put(request(operation));
        frontend.push();
        const auto req = seat->next();
        if (!req)
            return -100;
        seat->answer(*req, result);
        return answer();
    }
    // The guest asks, and tapdisk must not hear of it.
    std::int16_t refused(std::uint8_t operation)
    {
        frontend.put(request(operation, 8, pages, 0, 1));
        frontend.push();
        seat->run();
        const bool announced = seat->announced().has_value();
        return announced ? std::int16_t{-100} : answer();
    }
    void expect_no_change()
    {
        EXPECT_EQ(refused(BLKIF_OP_WRITE), BLKIF_RSP_ERROR);
        EXPECT_EQ(refused(BLKIF_OP_WRITE_BARRIER), BLKIF_RSP_SYNC_ERROR);
        expect_in_order(); // reads
    }
    void expect_change()
    {
        seat->answer(ask(BLKIF_OP_WRITE));
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    }
};

TEST_F(FailedFlush, IsAnErrorWhateverTheErrno)
{
    for (const int result : {-EIO, -EOPNOTSUPP, -ENOSPC, -1}) {
        EXPECT_EQ(flush_is_answered(BLKIF_OP_FLUSH_DISKCACHE, result), BLKIF_RSP_SYNC_ERROR);
        seat.emplace(vbd.node());
        ASSERT_TRUE(frontend.reopen());
        EXPECT_EQ(flush_is_answered(BLKIF_OP_WRITE_BARRIER, result), BLKIF_RSP_SYNC_ERROR);
        seat.emplace(vbd.node());
        ASSERT_TRUE(frontend.reopen());
    }
}

TEST_F(FailedFlush, StopsWritesAndNoReads)
{
    EXPECT_EQ(vbd.attribute("writes_fail"), "0");
    EXPECT_EQ(flush_is_answered(BLKIF_OP_FLUSH_DISKCACHE, -EIO), BLKIF_RSP_SYNC_ERROR);
    EXPECT_EQ(vbd.attribute("writes_fail"), "1");
    expect_no_change();
}

TEST_F(FailedFlush, IsWhatTapdiskSaysThatItCouldNotSync)
{
    EXPECT_EQ(seat->run(BLKTAP_RUN_HOLD | BLKTAP_RUN_UNSYNCED), 0);
    EXPECT_EQ(vbd.attribute("writes_fail"), "1");
    expect_no_change();
    ASSERT_TRUE(frontend.reopen()); // it is the same tapdisk
    expect_no_change();
    seat.emplace(vbd.node());
    expect_no_change(); // it is the same frontend
    ASSERT_TRUE(frontend.reopen());
    expect_change();
}

TEST_F(FailedFlush, FailsTheWritesUnderWay)
{
    const blktap_req write = ask(BLKIF_OP_WRITE, 0);
    const blktap_req read = ask(BLKIF_OP_READ, 1);
    EXPECT_EQ(flush_is_answered(BLKIF_OP_FLUSH_DISKCACHE, -EIO), BLKIF_RSP_SYNC_ERROR);
    seat->answer(write);
    EXPECT_EQ(answer(), BLKIF_RSP_ERROR);
    seat->answer(read);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

TEST_F(FailedFlush, LastsUntilThereIsAnotherTapdiskAndTheFrontendIsBack)
{
    EXPECT_EQ(flush_is_answered(BLKIF_OP_FLUSH_DISKCACHE, -EIO), BLKIF_RSP_SYNC_ERROR);
    ASSERT_TRUE(frontend.reopen());
    expect_no_change(); // it is the same tapdisk
    seat.reset();
    seat.emplace(vbd.node());
    expect_no_change(); // and the same frontend
    ASSERT_TRUE(frontend.reopen());
    expect_change();
}

TEST_F(FailedFlush, IsWhatADeadTapdiskLeaves)
{
    frontend.put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend.push();
    ASSERT_TRUE(seat->next());
    seat.reset();
    EXPECT_EQ(answer(), BLKIF_RSP_SYNC_ERROR);
    seat.emplace(vbd.node());
    expect_no_change();
    ASSERT_TRUE(frontend.reopen());
    expect_change();
}

TEST_F(FailedFlush, IsWhatThereIsWithoutATapdisk)
{
    seat.reset();
    frontend.put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend.push();
    EXPECT_EQ(answer(), BLKIF_RSP_SYNC_ERROR);
    seat.emplace(vbd.node());
    expect_no_change();
    ASSERT_TRUE(frontend.reopen());
    expect_change();
}

// That a frontend left with a flush under way is not the next one's affair.
TEST_F(FailedFlush, IsForgottenWithItsFrontend)
{
    frontend.put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend.push();
    const auto req = seat->next();
    ASSERT_TRUE(req);
    vbd.set_frontend_state(kClosed);
    ASSERT_TRUE(eventually(std::chrono::seconds(5),
                           [&] { return vbd.attribute("state") == "closing"; }));
    seat.reset();
    ASSERT_TRUE(vbd.wait_for(kClosed));
    seat.emplace(vbd.node());
    ASSERT_TRUE(frontend.reopen());
    expect_change();
}

TEST_F(FailedFlush, StopsTheWritesOfAllQueues)
{
    ASSERT_TRUE(frontend.close());
    blktap_attach second = attach_to(Seat::kSectors);
    second.queue = 1;
    if (seat->attached().queues < 2)
        GTEST_SKIP() << "one queue only";
    Seat other(vbd.node(), second);
    ASSERT_TRUE(frontend.reopen(Shape{.abi = guest::Abi::native, .queues = 2}));
    frontend.queue(1).put(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    frontend.queue(1).push();
    const auto write = other.next();
    ASSERT_TRUE(write);
    EXPECT_EQ(flush_is_answered(BLKIF_OP_FLUSH_DISKCACHE, -EIO), BLKIF_RSP_SYNC_ERROR);
    other.answer(*write);
    const auto response = frontend.queue(1).wait();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
    frontend.queue(1).put(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    frontend.queue(1).push();
    other.run();
    EXPECT_FALSE(other.announced());
    const auto again = frontend.queue(1).wait();
    ASSERT_TRUE(again);
    EXPECT_EQ(again->status, BLKIF_RSP_ERROR);
}

class FailedFlushDelegated : public Served {};

TEST_F(FailedFlushDelegated, StopsWhatIsDelegated)
{
    std::ofstream(path, std::ios::binary) << std::string(Seat::kSectors * 512, '\0');
    connect(path, O_RDWR | O_DIRECT);
    fsync(file->fd());
    ASSERT_EQ(delegate_all(), 0);
    frontend->put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend->push();
    EXPECT_EQ(tapdisk_answers(0, -EIO), BLKIF_RSP_SYNC_ERROR);
    fill(pages.page(0), 1);
    put(BLKIF_OP_WRITE, 8);
    frontend->push();
    EXPECT_EQ(answer(), BLKIF_RSP_ERROR);
    EXPECT_FALSE(tapdisk_was_asked());
    EXPECT_TRUE(stored(8, 4096) == std::vector<std::uint8_t>(4096));
    put(BLKIF_OP_READ, 8);
    frontend->push();
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    unlink(path.c_str());
}

} // namespace
