// SPDX-License-Identifier: GPL-2.0-only
//
// The copy path: the data of small requests passes through pages of the module, and not a byte
// more of it, whoever does the I/O and whatever either side does.

#include "tests/frontend/bad_tapdisk.hpp"
#include "tests/frontend/delegation.hpp"

#include <sys/mman.h>

#include <deque>
#include <fstream>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

constexpr std::uint32_t kCopyBytes = 2 * 4096;

class Copies : public testing::Test {
protected:
    void SetUp() override
    {
        seat.emplace(vbd.node(), copying());
        ASSERT_TRUE(frontend.connect()) << vbd.error();
    }
    static blktap_attach copying()
    {
        blktap_attach attach = attach_to(Seat::kSectors);
        attach.copy_bytes = kCopyBytes;
        return attach;
    }

    blktap_req ask(const guest::Request& what)
    {
        frontend.put(what);
        frontend.push();
        const auto req = seat->next();
        if (!req)
            throw std::runtime_error("the request did not come");
        return *req;
    }
    bool is_copied(const blktap_req& req) const
    {
        return seat->segments(req)[0].page >= seat->attached().window_pages;
    }
    std::int16_t status()
    {
        const auto response = frontend.wait();
        return response ? response->status : std::int16_t{-100};
    }
    // The copies of the tapdisk before are in use.
    void expect_turned_away()
    {
        try {
            Seat(vbd.node(), copying());
            ADD_FAILURE() << "the next one was let in";
        } catch (const std::system_error& error) {
            EXPECT_EQ(error.code().value(), EAGAIN);
        }
    }

    Vbd vbd{{}};
    std::optional<Seat> seat;
    Frontend frontend{vbd};
};

TEST_F(Copies, NothingIsMappedForThem)
{
    const Counters before = vbd.counters();
    xen::Pages out(2, Access::read_only);
    xen::Pages in(2, Access::read_write);
    fill(out.all(), 5);
    const blktap_req write = ask(request(BLKIF_OP_WRITE, 8, out, 0, 2));
    EXPECT_TRUE(is_copied(write));
    EXPECT_TRUE(std::equal(out.all().begin(), out.all().end(), seat->page(write, 0)));
    fill(out.all(), 6); // too late: what tapdisk has is stable
    EXPECT_FALSE(std::equal(out.all().begin(), out.all().end(), seat->page(write, 0)));
    seat->answer(write);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);

    const blktap_req read = ask(request(BLKIF_OP_READ, 8, in, 0, 2));
    EXPECT_TRUE(is_copied(read));
    std::memset(seat->page(read, 0), 0x77, 8192);
    EXPECT_NE(in.page(1)[0], 0x77) << "before the answer";
    seat->answer(read);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_EQ(std::ranges::count(in.all(), 0x77), 8192);

    const Counters after = vbd.counters();
    EXPECT_EQ(after.at("requests_copied") - before.at("requests_copied"), 2u);
    EXPECT_EQ(after.at("grant_copy_ops") - before.at("grant_copy_ops"), 4u);
    EXPECT_EQ(after.at("bytes_copied") - before.at("bytes_copied"), 4u * 4096);
    for (const char* name : {"kernel_map_ops", "user_map_ops", "bytes_zero_copy"})
        EXPECT_EQ(after.at(name), before.at(name)) << name;
}

TEST_F(Copies, AreMadeUpToTheSizeThatWasAgreed)
{
    const xen::Pages pages(3, Access::read_write);
    for (const std::size_t count : {1u, 2u, 3u}) {
        const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, count));
        EXPECT_EQ(is_copied(req), count * 4096 <= kCopyBytes) << count;
        seat->answer(req);
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    }
    EXPECT_EQ(vbd.counters().at("requests_copied"), 2u);
    EXPECT_EQ(vbd.counters().at("kernel_map_ops"), 3u);
}

TEST_F(Copies, MoveEveryShapeOfSegmentAndNotAByteBesides)
{
    xen::Pages page(1, Access::read_write);
    for (std::uint8_t first = 0; first < 8; first++)
        for (std::uint8_t last = first; last < 8; last++) {
            fill(page.all(), first * 8u + last);
            guest::Request shaped = request(BLKIF_OP_WRITE, 100, page, 0, 1);
            shaped.seg[0] = {page.ref(0), first, last, 0};
            const auto piece = inside(page.page(0), shaped.seg[0]);
            const blktap_req write = ask(shaped);
            const blktap_seg seg = seat->segments(write)[0];
            ASSERT_EQ(seg.offset, first * 512);
            ASSERT_EQ(seg.length, piece.size());
            ASSERT_TRUE(std::equal(piece.begin(), piece.end(), seat->page(write, 0) + seg.offset));
            seat->answer(write);
            ASSERT_EQ(status(), BLKIF_RSP_OKAY);

            std::ranges::fill(page.all(), 0xee);
            shaped.operation = BLKIF_OP_READ;
            const blktap_req read = ask(shaped);
            std::memset(seat->page(read, 0), 0x33, 4096); // more than was asked for
            seat->answer(read);
            ASSERT_EQ(status(), BLKIF_RSP_OKAY);
            std::vector<std::uint8_t> expected(4096, 0xee);
            std::fill_n(expected.begin() + first * 512, piece.size(), 0x33);
            ASSERT_TRUE(std::ranges::equal(page.all(), expected)) << +first << ".." << +last;
        }
}

TEST_F(Copies, OfBadGrantsFailAlone)
{
    const Counters before = vbd.counters();
    xen::Pages good(2, Access::read_write);
    const xen::Pages read_only(1, Access::read_only);
    guest::Request write = request(BLKIF_OP_WRITE, 8, good, 0, 2);
    write.seg[1].gref = 0x7ffffff0; // never granted
    frontend.put(write);
    frontend.push();
    seat->run();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    EXPECT_FALSE(seat->announced()) << "tapdisk got what the guest did not grant";

    // Of a read it is known when the data is there.
    guest::Request read = request(BLKIF_OP_READ, 8, good, 0, 2);
    read.seg[1].gref = read_only.ref(0);
    const std::vector<std::uint8_t> kept(read_only.page(0).begin(), read_only.page(0).end());
    const blktap_req req = ask(read);
    std::memset(seat->page(req, 0), 0x55, 8192);
    seat->answer(req);
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    EXPECT_TRUE(std::ranges::equal(read_only.page(0), kept));
    EXPECT_EQ(vbd.counters().at("bad_grants") - before.at("bad_grants"), 2u);

    seat->answer(ask(request(BLKIF_OP_WRITE, 8, good, 0, 2)));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Copies, OfAReadThatFailedAreNotGivenToTheGuest)
{
    xen::Pages pages(1, Access::read_write);
    std::ranges::fill(pages.all(), 0xee);
    const blktap_req req = ask(request(BLKIF_OP_READ, 8, pages, 0, 1));
    std::memset(seat->page(req, 0), 0x55, 4096);
    seat->answer(req, -EIO);
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    EXPECT_EQ(std::ranges::count(pages.all(), 0xee), 4096);
}

// A tapdisk sees the pages always, so its I/O may begin late, and outlive it.
TEST_F(Copies, AreNotMadeWhereIoOfAnEarlierTapdiskIsInFlight)
{
    Holder io;
    xen::Pages pages(1, Access::read_write);
    std::ranges::fill(pages.all(), 0x11);
    const blktap_req old = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    std::uint8_t* const page = seat->page(old, 0);
    seat->answer(old);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    ASSERT_EQ(io.hold(page, 4096), 4096);
    seat.reset();
    seat.emplace(vbd.node(), copying());
    std::ranges::fill(pages.all(), 0x22);
    const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    EXPECT_EQ(seat->segments(req)[0].page, seat->attached().window_pages);
    EXPECT_EQ(*seat->page(req, 0), 0x22);
    seat->answer(req);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_EQ(io.contents(), std::vector<std::uint8_t>(4096, 0x11)) << "it is the next one's page";
}

// What a dead tapdisk's write has not put on the disk yet must not overtake the guest's next one.
TEST_F(Copies, OfATapdiskThatDiedAreAnsweredWhenItsIoHasEnded)
{
    Holder io;
    xen::Pages pages(1, Access::read_write);
    const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    ASSERT_EQ(io.hold(seat->page(req, 0), 4096), 4096);
    seat.reset();
    EXPECT_FALSE(frontend.wait(300ms)) << "answered while I/O is in flight";
    expect_turned_away();
    io.release();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    seat.emplace(vbd.node(), copying());
    seat->answer(ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1)));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Copies, OfATapdiskThatDiedFailAndTheNextWorks)
{
    xen::Pages pages(2, Access::read_write);
    ask(request(BLKIF_OP_READ, 8, pages, 0, 2));
    seat.reset();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    seat.emplace(vbd.node(), copying());
    seat->answer(ask(request(BLKIF_OP_READ, 8, pages, 0, 2)));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

// For nothing of the guest is mapped meanwhile, and nothing keeps it from other uses.
TEST_F(Copies, OfAFrontendThatHasLeftAreNotGivenToWhateverHasTheGrantNow)
{
    std::optional<xen::Pages> in(std::in_place, 1, Access::read_write);
    const std::uint32_t ref = in->ref(0);
    const blktap_req req = ask(request(BLKIF_OP_READ, 8, *in, 0, 1));
    ASSERT_TRUE(is_copied(req));
    vbd.set_frontend_state(kClosed);
    ASSERT_TRUE(eventually(5s, [&] { return vbd.attribute("state") == "closing"; }));
    in.reset();
    std::deque<xen::Pages> others;
    const auto found = [&] { return !others.empty() && others.back().ref(0) == ref; };
    while (!found() && others.size() < 256)
        std::ranges::fill(others.emplace_back(1, Access::read_write).all(), 0x11);
    ASSERT_TRUE(found()) << "the reference was not given out again";
    std::memset(seat->page(req, 0), 0x55, 4096);
    seat->answer(req);
    EXPECT_TRUE(vbd.wait_for(kClosed));
    EXPECT_EQ(std::ranges::count(others.back().all(), 0x11), 4096);
    EXPECT_TRUE(frontend.reopen());
}

// The guest may be another kernel by then, and write there itself.
TEST_F(Copies, AreTapdisksUntilItHasAnswered)
{
    xen::Pages pages(1, Access::read_write);
    std::ranges::fill(pages.all(), 0x11);
    const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    vbd.set_frontend_state(kClosed);
    EXPECT_FALSE(vbd.wait_for(kClosed, 5s)) << "closed while the write may yet be carried out";
    EXPECT_EQ(vbd.attribute("in_flight"), "1");
    EXPECT_EQ(*seat->page(req, 0), 0x11);
    seat->answer(req);
    EXPECT_TRUE(vbd.wait_for(kClosed));
    ASSERT_TRUE(frontend.reopen());
    seat->answer(ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1)));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(Copies, AreNotTheNextTapdisksBeforeTheirIoHasEnded)
{
    Holder io;
    xen::Pages pages(1, Access::read_write);
    const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    ASSERT_EQ(io.hold(seat->page(req, 0), 4096), 4096);
    vbd.set_frontend_state(kClosed);
    EXPECT_FALSE(vbd.wait_for(kClosed, 5s));
    seat.reset();
    EXPECT_FALSE(vbd.wait_for(kClosed, 500ms)) << "closed while I/O is in flight";
    EXPECT_THROW(Seat(vbd.node(), copying()), std::system_error);
    io.release();
    EXPECT_TRUE(vbd.wait_for(kClosed));
    seat.emplace(vbd.node(), copying());
    ASSERT_TRUE(frontend.reopen());
    seat->answer(ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1)));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

// The area is always there; its memory is for those who asked for it.
TEST_F(Copies, NeedAnAgreement)
{
    seat.reset();
    seat.emplace(vbd.node(), attach_to(Seat::kSectors), true);
    EXPECT_EQ(signal_of_read(seat->copies()), SIGBUS);
    EXPECT_EQ(signal_of_read(seat->copies() + seat->copies_bytes() - 1), SIGBUS);
    xen::Pages pages(1, Access::read_write);
    const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    EXPECT_FALSE(is_copied(req));
    seat->answer(req);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

// Delegated I/O uses the copies, too.
class DelegationOfCopies : public Copies {
protected:
    ~DelegationOfCopies() override { unlink(path.c_str()); }

    const std::string path = settings.directory + "/copies.img";
};

TEST_F(DelegationOfCopies, AreServedWhileTapdiskSleeps)
{
    std::ofstream(path, std::ios::binary) << std::string(Seat::kSectors * 512, '\0');
    const Loop loop(path, true);
    const File device(loop.path(), O_RDWR | O_DIRECT);
    ASSERT_EQ(delegate(seat->fd(), extent(device.fd(), 0, Seat::kSectors)), 0);
    seat->run();
    xen::Pages out(22, Access::read_only);
    xen::Pages in(22, Access::read_write);
    fill(out.all(), 9);
    for (std::size_t i = 0; i < 22; i += 2)
        frontend.put(request(BLKIF_OP_WRITE, 80 + i * 8, out, i, 2));
    frontend.push();
    for (std::size_t i = 0; i < 22; i += 2)
        ASSERT_EQ(status(), BLKIF_RSP_OKAY);
    for (std::size_t i = 0; i < 22; i += 2)
        frontend.put(request(BLKIF_OP_READ, 80 + i * 8, in, i, 2));
    frontend.push();
    for (std::size_t i = 0; i < 22; i += 2)
        ASSERT_EQ(status(), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(in.all(), out.all()));
    const Counters after = vbd.counters();
    EXPECT_EQ(after.at("requests_delegated"), 22u);
    EXPECT_EQ(after.at("requests_copied"), 22u);
    EXPECT_EQ(after.at("requests_bounced"), 0u);
    EXPECT_EQ(after.at("kernel_map_ops"), 0u);
    EXPECT_EQ(after.at("bytes_copied"), 44u * 4096);
    EXPECT_EQ(withdraw(seat->fd(), 0, ~0ull), 0);
}

// What fails is tapdisk's to tell, but not the next one's, which comes when all has ended.
TEST_F(DelegationOfCopies, ThatFailIsNotTheNextTapdisks)
{
    if (settings.failing_device.empty())
        GTEST_SKIP() << "no --failing-device";
    const File device(settings.failing_device, O_RDWR | O_DIRECT);
    ASSERT_EQ(delegate(seat->fd(), extent(device.fd(), 0, Seat::kSectors)), 0);
    seat->run();
    xen::Pages pages(1, Access::read_write);
    frontend.put(request(BLKIF_OP_WRITE, 8, pages, 0, 1));
    frontend.push();
    ASSERT_TRUE(eventually(5s, [&] { return vbd.counters().at("requests_delegated") == 1; }));
    seat.reset();
    expect_turned_away();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    EXPECT_EQ(vbd.counters().at("requests_bounced"), 1u);
    seat.emplace(vbd.node());
    seat->run();
    EXPECT_FALSE(seat->announced());
    seat->answer(ask(request(BLKIF_OP_WRITE, 8, pages, 0, 1)));
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

} // namespace
