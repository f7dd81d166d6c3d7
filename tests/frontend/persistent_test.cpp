// SPDX-License-Identifier: GPL-2.0-only
//
// Persistent grants: mapped once, used often, gone with the frontend, whatever either side does.

#include "tests/frontend/bad_tapdisk.hpp"

#include <fstream>
#include <memory>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

blktap_attach persistent_attach()
{
    blktap_attach attach = attach_to(Seat::kSectors);
    attach.disk_flags |= BLKTAP_DISK_PERSISTENT;
    return attach;
}

// A module parameter, for as long as this lives.
class Parameter {
public:
    Parameter(const std::string& name, unsigned value)
        : path_("/sys/module/blktap/parameters/" + name)
    {
        std::ifstream(path_) >> before_;
        std::ofstream(path_) << value;
    }
    ~Parameter() { std::ofstream(path_) << before_; }
    Parameter(const Parameter&) = delete;
    Parameter& operator=(const Parameter&) = delete;

private:
    std::string path_;
    std::string before_;
};

class PersistentGrants : public testing::Test {
protected:
    void connect(bool wanted = true)
    {
        seat.emplace(vbd.node(), persistent_attach());
        frontend = std::make_unique<Frontend>(vbd, Shape{.persistent = wanted});
        ASSERT_TRUE(frontend->connect()) << vbd.error();
        EXPECT_EQ(vbd.backend_value("feature-persistent"), "1");
    }

    // A write of pages first.. of `from`, as tapdisk sees it.
    blktap_req ask(const xen::Pages& from, std::size_t first = 0, std::size_t count = 1,
                   std::uint8_t operation = BLKIF_OP_WRITE)
    {
        frontend->put(request(operation, 8, from, first, count));
        frontend->push();
        const auto req = seat->next();
        if (!req)
            throw std::runtime_error("the request did not come");
        return *req;
    }
    void answer(const blktap_req& req)
    {
        EXPECT_GE(seat->answer(req), 0);
        const auto response = frontend->wait();
        ASSERT_TRUE(response);
        EXPECT_EQ(response->status, BLKIF_RSP_OKAY);
    }
    bool is_persistent(const blktap_req& req, std::size_t segment = 0) const
    {
        return seat->segments(req)[segment].page >= seat->attached().pages;
    }
    // Each page has its number in it, and is seen so.
    void expect_seen(const blktap_req& req, const xen::Pages& from, std::size_t first)
    {
        for (std::uint16_t i = 0; i < req.nr_segs; i++)
            EXPECT_EQ(*seat->page(req, i), *from.page(first + i).data()) << first + i;
    }
    // Over all vbds, ended ones included.
    static std::uint64_t mapped_on_this_host()
    {
        std::uint64_t maps = 0, unmaps = 0;
        std::ifstream("/sys/devices/blktap/statistics/persistent_maps") >> maps;
        std::ifstream("/sys/devices/blktap/statistics/persistent_unmaps") >> unmaps;
        return maps - unmaps;
    }
    std::uint64_t mapped_now() const
    {
        const Counters now = vbd.counters();
        return now.at("persistent_maps") - now.at("persistent_unmaps");
    }

    Vbd vbd{{}};
    std::optional<Seat> seat;
    std::unique_ptr<Frontend> frontend;
};

void number(xen::Pages& pages)
{
    for (std::size_t i = 0; i < pages.count(); i++)
        std::ranges::fill(pages.page(i), static_cast<std::uint8_t>(i * 7 + 1));
}

TEST_F(PersistentGrants, CostNothingTheSecondTime)
{
    connect();
    xen::Pages pages(11, Access::read_write);
    number(pages);
    answer(ask(pages, 0, 11));
    const Counters before = vbd.counters();
    EXPECT_EQ(before.at("persistent_maps"), 11u);
    for (int round = 0; round < 5; round++) {
        const blktap_req req = ask(pages, 0, 11, round % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE);
        EXPECT_TRUE(is_persistent(req, 10));
        expect_seen(req, pages, 0);
        answer(req);
    }
    const Counters after = vbd.counters();
    EXPECT_EQ(after.at("persistent_hits") - before.at("persistent_hits"), 55u);
    for (const char* name : {"hypercalls", "kernel_map_ops", "kernel_unmap_ops", "user_map_ops",
                             "user_unmap_ops", "window_faults"})
        EXPECT_EQ(after.at(name), before.at(name)) << name;
}

TEST_F(PersistentGrants, AreNotAssumedOfAFrontendThatDoesNotAgree)
{
    connect(false);
    xen::Pages pages(2, Access::read_only);
    const blktap_req req = ask(pages, 0, 2);
    EXPECT_FALSE(is_persistent(req));
    answer(req);
    EXPECT_EQ(vbd.counters().at("persistent_maps"), 0u);
    EXPECT_EQ(vbd.counters().at("kernel_map_ops"), vbd.counters().at("kernel_unmap_ops"));
}

TEST_F(PersistentGrants, AreNotOfferedWhenTheHostForbidsThem)
{
    const Parameter none("max_persistent_grants", 0);
    Seat plain(vbd.node(), persistent_attach());
    EXPECT_EQ(plain.attached().disk_flags_out & BLKTAP_DISK_PERSISTENT, 0u);
    Frontend hopeful(vbd, Shape{.persistent = true});
    ASSERT_TRUE(hopeful.connect());
    EXPECT_EQ(vbd.backend_value("feature-persistent"), "0");
}

TEST_F(PersistentGrants, ThatWereAgreedStayAgreedWhenTheHostForbidsThem)
{
    connect();
    seat.reset();
    const Parameter none("max_persistent_grants", 0);
    seat.emplace(vbd.node(), persistent_attach());
    EXPECT_NE(seat->attached().disk_flags_out & BLKTAP_DISK_PERSISTENT, 0u);
    xen::Pages pages(1, Access::read_write);
    answer(ask(pages));
}

TEST_F(PersistentGrants, MakeRoomForOthers)
{
    const Parameter few("max_persistent_grants", 16);
    connect();
    xen::Pages pages(40, Access::read_write);
    number(pages);
    for (std::size_t round = 0; round < 3; round++) {
        for (std::size_t first = 0; first < 40; first += 5) {
            const blktap_req req = ask(pages, first, 5);
            expect_seen(req, pages, first);
            answer(req);
            EXPECT_LE(mapped_now(), 16u);
        }
    }
    EXPECT_GT(mapped_now(), 0u);
    EXPECT_GT(vbd.counters().at("persistent_unmaps"), 20u);
    ASSERT_TRUE(frontend->close());
    EXPECT_EQ(mapped_now(), 0u);
}

TEST_F(PersistentGrants, GoWhenNobodyHasUsedThemForLong)
{
    const Parameter second("persistent_grant_unused_seconds", 1);
    connect();
    xen::Pages pages(8, Access::read_write);
    number(pages);
    const blktap_req busy = ask(pages, 0, 3);
    const blktap_req req = ask(pages, 3, 5);
    std::uint8_t* const page = seat->page(req, 0);
    answer(req);
    EXPECT_EQ(mapped_now(), 8u);
    const Counters before = vbd.counters();
    EXPECT_TRUE(eventually(30s, [&] { return mapped_now() == 3; })) << "those in use stay";
    EXPECT_EQ(signal_of_read(page), SIGBUS);
    expect_seen(busy, pages, 0);
    for (const char* name : {"runs", "tapdisk_wakeups", "guest_notifies"})
        EXPECT_EQ(vbd.counters().at(name), before.at(name)) << name << ": an idle disk sleeps";
    answer(busy);
    EXPECT_TRUE(eventually(30s, [&] { return mapped_now() == 0; }));
    const blktap_req again = ask(pages, 0, 8);
    expect_seen(again, pages, 0);
    answer(again);
}

TEST_F(PersistentGrants, StayWhileTheyAreUsed)
{
    const Parameter seconds("persistent_grant_unused_seconds", 3);
    connect();
    xen::Pages pages(2, Access::read_write);
    for (int i = 0; i < 24; i++) {
        answer(ask(pages, 0, 2));
        std::this_thread::sleep_for(250ms);
    }
    EXPECT_EQ(vbd.counters().at("persistent_maps"), 2u);
}

TEST_F(PersistentGrants, AreNoMoreThanTheHostAllows)
{
    connect();
    Vbd other_vbd{{}};
    Seat other_seat(other_vbd.node(), persistent_attach());
    Frontend other(other_vbd, Shape{.persistent = true});
    ASSERT_TRUE(other.connect());
    xen::Pages pages(40, Access::read_write);
    number(pages);
    answer(ask(pages, 0, 10));
    const Parameter few("max_pages", 16);
    for (std::size_t first = 0; first < 40; first += 5) {
        other.put(request(BLKIF_OP_WRITE, 8, pages, first, 5));
        other.push();
        const auto req = other_seat.next();
        ASSERT_TRUE(req);
        for (std::uint16_t i = 0; i < 5; i++)
            EXPECT_EQ(*other_seat.page(*req, i), *pages.page(first + i).data()) << first + i;
        EXPECT_GE(other_seat.answer(*req), 0);
        ASSERT_TRUE(other.wait());
        EXPECT_LE(mapped_on_this_host(), 16u);
    }
    EXPECT_GT(mapped_on_this_host(), 10u);
}

TEST_F(PersistentGrants, ThatAreBadFailAloneAndMayBeMended)
{
    connect();
    xen::Pages pages(3, Access::read_write);
    xen::Pages read_only(1, Access::read_only);
    number(pages);
    const Counters before = vbd.counters();
    guest::Request bad = request(BLKIF_OP_WRITE, 8, pages, 0, 3);
    bad.seg[1].gref = 0x7ffffff0;
    frontend->put(bad);
    bad.seg[1].gref = read_only.ref(0); // one that stays mapped is mapped for writing
    bad.seg[2].gref = read_only.ref(0);
    frontend->put(bad);
    frontend->push();
    seat->run();
    for (int i = 0; i < 2; i++) {
        const auto response = frontend->wait();
        ASSERT_TRUE(response);
        EXPECT_EQ(response->status, BLKIF_RSP_ERROR);
    }
    EXPECT_EQ(vbd.counters().at("bad_grants") - before.at("bad_grants"), 2u);
    const blktap_req req = ask(pages, 0, 3);
    expect_seen(req, pages, 0);
    answer(req);
    EXPECT_EQ(mapped_now(), 3u);
}

TEST_F(PersistentGrants, GoWithTheFrontend)
{
    connect();
    xen::Pages pages(8, Access::read_write);
    const blktap_req req = ask(pages, 0, 8);
    std::uint8_t* const page = seat->page(req, 3);
    answer(req);
    EXPECT_EQ(signal_of_read(page), 0) << "a persistent page is there between requests";
    ASSERT_TRUE(frontend->reopen());
    EXPECT_EQ(signal_of_read(page), SIGBUS);
    EXPECT_EQ(mapped_now(), 0u);
    EXPECT_EQ(vbd.counters().at("kernel_map_ops"), vbd.counters().at("kernel_unmap_ops"));
    EXPECT_EQ(vbd.counters().at("user_map_ops"), vbd.counters().at("user_unmap_ops"));
    answer(ask(pages, 0, 8));
}

TEST_F(PersistentGrants, AreSeenByTheNextTapdisk)
{
    connect();
    xen::Pages pages(8, Access::read_write);
    number(pages);
    answer(ask(pages, 0, 8));
    seat.reset();
    seat.emplace(vbd.node(), persistent_attach());
    const blktap_req req = ask(pages, 0, 8);
    EXPECT_TRUE(is_persistent(req));
    expect_seen(req, pages, 0);
    answer(req);
    EXPECT_EQ(vbd.counters().at("persistent_maps"), 8u);
}

// No grant goes back while anything holds its page, and until then the vbd is not closed.
TEST_F(PersistentGrants, StayMappedWhileIoIsInFlight)
{
    connect();
    Holder io;
    xen::Pages pages(2, Access::read_write);
    answer(ask(pages, 0, 2));
    const blktap_req req = ask(pages, 0, 2);
    ASSERT_EQ(io.hold(seat->page(req, 1), 4096), 4096);
    seat->answer(req);
    EXPECT_FALSE(frontend->wait(300ms)) << "the guest was answered while its page is in use";
    io.release();
    ASSERT_TRUE(frontend->wait());

    Holder after; // the answer: this tapdisk lies
    ASSERT_EQ(after.hold(seat->page(req, 1), 4096), 4096);
    vbd.set_frontend_state(kClosing);
    ASSERT_TRUE(vbd.wait_for(kClosing));
    vbd.set_frontend_state(kClosed);
    EXPECT_FALSE(vbd.wait_for(kClosed, 500ms)) << "closed with a page in use";
    EXPECT_EQ(mapped_now(), 1u);
    EXPECT_EQ(signal_of_read(seat->page(req, 1)), SIGBUS);
    after.release();
    EXPECT_TRUE(vbd.wait_for(kClosed));
    EXPECT_EQ(mapped_now(), 0u);
}

// A tapdisk that is late for one frontend may still do I/O on the page that it knows.
TEST_F(PersistentGrants, StayWhileATapdiskOwesAnAnswer)
{
    connect();
    xen::Pages pages(4, Access::read_write);
    const blktap_req late = ask(pages, 0, 1, BLKIF_OP_READ);
    EXPECT_TRUE(is_persistent(late));
    vbd.set_frontend_state(kClosed);
    EXPECT_FALSE(vbd.wait_for(kClosed, 1s)) << "closed while tapdisk may use the page";
    EXPECT_EQ(mapped_now(), 1u);
    EXPECT_EQ(signal_of_read(seat->page(late, 0)), 0);
    EXPECT_GE(seat->answer(late), 0);
    EXPECT_TRUE(vbd.wait_for(kClosed));
    EXPECT_EQ(mapped_now(), 0u);
    ASSERT_TRUE(frontend->reopen(Shape{.persistent = true}));
    const blktap_req next = ask(pages, 2);
    EXPECT_TRUE(is_persistent(next));
    answer(next);
}

TEST_F(PersistentGrants, AreGivenBackLateWhenTheVbdIsDestroyed)
{
    connect();
    Holder io;
    xen::Pages pages(4, Access::read_write);
    const blktap_req req = ask(pages, 0, 4);
    answer(req);
    ASSERT_EQ(io.hold(seat->page(req, 2), 4096), 4096);
    vbd.destroy();
    EXPECT_TRUE(eventually(15s, [&] { return vbd.gone(); }));
    seat.reset();
    EXPECT_EQ(mapped_on_this_host(), 1u) << "all but the page in use";
    io.release();
    EXPECT_TRUE(eventually(10s, [] { return mapped_on_this_host() == 0; }));
}

} // namespace
