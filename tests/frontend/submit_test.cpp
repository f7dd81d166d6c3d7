// SPDX-License-Identifier: GPL-2.0-only
//
// A tapdisk that hears of every request, and tells the module where the data is to go.

#include "tests/frontend/delegation.hpp"
#include "tests/frontend/loop.hpp"

#include <chrono>
#include <fstream>
#include <thread>

using namespace std::chrono_literals;

using Access = xen::Pages::Access;

namespace {

class Submit : public Served {
protected:
    void SetUp() override
    {
        std::ofstream(path, std::ios::binary) << std::string(Seat::kSectors * 512, '\0');
        loop.emplace(path, true);
        blktap_attach attach = attach_to(Seat::kSectors);
        attach.features = BLKTAP_FEATURE_SUBMIT;
        connect(loop->path(), O_RDWR | O_DIRECT, attach);
    }
    void TearDown() override
    {
        frontend.reset();
        file.reset();
        loop.reset();
        unlink(path.c_str());
    }

    // Takes the next request, which has to be submittable or not, and submits it.
    void tapdisk_submits(std::uint64_t sector, int fd, std::uint64_t offset)
    {
        const auto req = seat->next();
        ASSERT_TRUE(req);
        EXPECT_EQ(req->sector, sector);
        EXPECT_EQ(req->flags, BLKTAP_REQ_SUBMITTABLE);
        seat->put(submission(*req, fd, offset));
        EXPECT_GE(seat->run(), 0);
    }
    void tapdisk_submits(std::uint64_t sector)
    {
        tapdisk_submits(sector, file->fd(), sector * 512);
    }

    static blktap_cmd submission(const blktap_req& req, int fd, std::uint64_t offset)
    {
        blktap_cmd cmd = answer_to(req);
        cmd.verb = BLKTAP_CMD_SUBMIT;
        cmd.fd = fd;
        cmd.offset = offset;
        return cmd;
    }

    std::optional<Loop> loop;
};

TEST_F(Submit, MovesTheDataToWhereItIsTold)
{
    fill(pages.all(), 1);
    put(BLKIF_OP_WRITE, 80, 0, 11);
    frontend->push();
    tapdisk_submits(80, file->fd(), 1000 * 512);
    ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_TRUE(stored(1000, 11 * 4096) == pattern(1, 11 * 4096));
    EXPECT_TRUE(stored(80, 11 * 4096) == std::vector<std::uint8_t>(11 * 4096));

    std::ranges::fill(pages.all(), 0);
    put(BLKIF_OP_READ, 160, 11, 11);
    frontend->push();
    tapdisk_submits(160, file->fd(), 1000 * 512);
    ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(pages.all().subspan(11 * 4096, 11 * 4096),
                                   pattern(1, 11 * 4096)));
    const Counters counters = vbd.counters();
    EXPECT_EQ(counters.at("requests_submitted"), 2u);
    EXPECT_EQ(counters.at("requests_delegated"), 0u);
    EXPECT_EQ(counters.at("requests_bounced"), 0u);
    EXPECT_EQ(counters.at("user_map_ops"), 0u);
    EXPECT_EQ(counters.at("bytes_zero_copy"), 22u * 4096);
    EXPECT_EQ(vbd.attribute("in_flight"), "0");
}

TEST_F(Submit, ManyWithOneDoorbell)
{
    fill(pages.all(), 2);
    for (std::size_t i = 0; i < 30; i++)
        put(BLKIF_OP_WRITE, 8 * i, i);
    frontend->push();
    for (std::uint64_t i = 0; i < 30; i++) {
        const auto req = seat->next();
        ASSERT_TRUE(req);
        seat->put(submission(*req, file->fd(), req->sector * 512));
    }
    seat->run();
    for (int i = 0; i < 30; i++)
        ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_TRUE(stored(0, 30 * 4096) == pattern(2, 30 * 4096));
}

TEST_F(Submit, OneByOneTheFileMayDiffer)
{
    const File other(settings.directory, O_RDWR | O_DIRECT | O_TMPFILE);
    ASSERT_EQ(ftruncate(other.fd(), 1 << 20), 0);
    put(BLKIF_OP_READ, 8);
    put(BLKIF_OP_READ, 16);
    frontend->push();
    tapdisk_submits(8);
    tapdisk_submits(16, other.fd(), 0);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

TEST_F(Submit, WhatCannotBeDoneThereComesAgainForTapdiskItself)
{
    const File buffered(path, O_RDWR);
    const File reader(path, O_RDONLY | O_DIRECT);
    const File device("/dev/null", O_RDWR);
    struct Try {
        int fd;
        std::uint64_t offset;
    };
    const std::vector<Try> tries = {
        {-1, 0}, {9999, 0}, {buffered.fd(), 0}, {reader.fd(), 0}, {device.fd(), 0}, {seat->fd(), 0},
        {file->fd(), 511}, {file->fd(), ~0ull}, {file->fd(), ~0ull << 9},
        {file->fd(), (1ull << 63) - 512}, {file->fd(), Seat::kSectors * 512},
        {file->fd(), (Seat::kSectors - 1) * 512},
    };
    for (const auto& [fd, offset] : tries) {
        put(BLKIF_OP_WRITE, 24);
        frontend->push();
        tapdisk_submits(24, fd, offset);
        const auto again = seat->next();
        ASSERT_TRUE(again) << fd << " " << offset;
        EXPECT_EQ(again->sector, 24u);
        EXPECT_EQ(again->flags, 0);
        seat->answer(*again, -EIO);
        EXPECT_EQ(answer(), BLKIF_RSP_ERROR);
    }
    EXPECT_EQ(vbd.counters().at("requests_bounced"), tries.size());
    EXPECT_EQ(vbd.counters().at("bad_commands"), 0u);
    EXPECT_TRUE(stored(0, Seat::kSectors * 512) ==
                std::vector<std::uint8_t>(Seat::kSectors * 512));
}

TEST_F(Submit, OfWhatIsNotSubmittableIsRefusedAndStaysTapdisks)
{
    frontend->put(request(BLKIF_OP_FLUSH_DISKCACHE));
    frontend->push();
    const auto flush = seat->next();
    ASSERT_TRUE(flush);
    EXPECT_EQ(flush->flags, 0);
    seat->put(submission(*flush, file->fd(), 0));
    seat->run();
    EXPECT_EQ(vbd.counters().at("bad_commands"), 1u);
    EXPECT_EQ(seat->head().rejected, 1u);
    seat->answer(*flush);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

// tapdisk does not hear when a submitted write has ended, and the barrier has to come after it.
TEST_F(Submit, ABarrierIsAnnouncedWhenAllBeforeItHasEnded)
{
    put(BLKIF_OP_WRITE, 8);
    frontend->push();
    const auto before = seat->next();
    ASSERT_TRUE(before);
    frontend->put(request(BLKIF_OP_WRITE_BARRIER, 16, pages, 1, 1));
    put(BLKIF_OP_WRITE, 24, 2);
    frontend->push();
    EXPECT_FALSE(seat->next(300ms));
    seat->put(submission(*before, file->fd(), 8 * 512));
    seat->run();
    ASSERT_EQ(answer(), BLKIF_RSP_OKAY);
    const auto barrier = seat->next();
    ASSERT_TRUE(barrier);
    EXPECT_EQ(barrier->op, BLKTAP_OP_BARRIER);
    const auto after = seat->next();
    ASSERT_TRUE(after);
    EXPECT_EQ(after->sector, 24u);
    EXPECT_EQ(after->flags, 0) << "while the barrier is under way nothing is submitted";
    seat->answer(*barrier);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    seat->answer(*after);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    put(BLKIF_OP_READ, 24);
    frontend->push();
    tapdisk_submits(24);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

TEST_F(Submit, WhatATapdiskThatDiesHasSubmittedIsAnswered)
{
    fill(pages.page(0), 9);
    put(BLKIF_OP_WRITE, 8);
    frontend->push();
    tapdisk_submits(8);
    file.reset();
    seat.reset();
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
    EXPECT_TRUE(stored(8, 4096) == pattern(9, 4096));
    seat.emplace(vbd.node());
    put(BLKIF_OP_READ, 8);
    frontend->push();
    const auto req = seat->next();
    ASSERT_TRUE(req);
    EXPECT_EQ(req->flags, 0) << "this one has not asked for it";
    seat->answer(*req);
    EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

// When its I/O has long ended, and been seen to by another thread.
TEST_F(Submit, AFileSystemMayLookAtARequestUntilItHasStartedIt)
{
    const std::string kernel = "/sys/kernel/debug/blktap_test/";
    const auto count = [&](const std::string& name) {
        int value = -1;
        std::ifstream(kernel + name) >> value;
        return value;
    };
    if (count("started") < 0)
        GTEST_SKIP() << "blktap_test.ko is not loaded";
    const int started = count("started"), recycled = count("recycled");
    std::optional<File> late(std::in_place, kernel + "late", O_RDONLY | O_DIRECT);
    put(BLKIF_OP_READ, 8);
    frontend->push();
    const auto first = seat->next();
    ASSERT_TRUE(first);
    seat->put(submission(*first, late->fd(), 0));
    std::thread thread([&] { seat->run(); });
    EXPECT_TRUE(eventually(5s, [&] { return count("started") > started; }));
    late.reset();
    put(BLKIF_OP_READ, 16);
    frontend->push();
    const auto second = seat->next();
    ASSERT_TRUE(second);
    EXPECT_NE(second->slot, first->slot);
    seat->put(submission(*second, file->fd(), 16 * 512));
    seat->run();
    thread.join();
    EXPECT_EQ(count("recycled"), recycled);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(answer(), BLKIF_RSP_OKAY);
}

TEST(SubmitNotAsked, IsNotAllowed)
{
    Vbd vbd({});
    Seat seat(vbd.node());
    Frontend frontend(vbd);
    ASSERT_TRUE(frontend.connect()) << vbd.error();
    const xen::Pages pages(1, Access::read_write);
    frontend.put(request(BLKIF_OP_READ, 8, pages, 0, 1));
    frontend.push();
    const auto req = seat.next();
    ASSERT_TRUE(req);
    EXPECT_EQ(req->flags, 0);
    const File file(settings.directory, O_RDWR | O_DIRECT | O_TMPFILE);
    blktap_cmd cmd = answer_to(*req);
    cmd.verb = BLKTAP_CMD_SUBMIT;
    cmd.fd = file.fd();
    seat.put(cmd);
    seat.run();
    EXPECT_EQ(vbd.counters().at("bad_commands"), 1u);
    seat.answer(*req);
    const auto response = frontend.wait();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, BLKIF_RSP_OKAY);
}

} // namespace
