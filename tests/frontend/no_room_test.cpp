// SPDX-License-Identifier: GPL-2.0-only
//
// Xen's table of what a domain has mapped is full: data is copied, through pages that are lent for
// one request. For a host on which the table is small; on others these are skipped.

#include "tests/frontend/bad_tapdisk.hpp"
#include "tests/frontend/delegation.hpp"

#include <sys/mman.h>

#include <fstream>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

// All that is left of the table, while this lives.
class FullTable {
public:
    FullTable()
    {
        for (std::size_t i = 0; i < pages_.count() && !full_; i++) {
            void* at = xengnttab_map_grant_ref(handle_.get(), 0, pages_.ref(i), PROT_READ);
            if (at)
                mapped_.push_back(at);
            else
                full_ = true;
        }
    }
    ~FullTable()
    {
        for (void* at : mapped_)
            xengnttab_unmap(handle_.get(), at, 1);
    }
    FullTable(const FullTable&) = delete;
    FullTable& operator=(const FullTable&) = delete;

    explicit operator bool() const { return full_; }

private:
    struct Close {
        void operator()(xengnttab_handle* handle) const { xengnttab_close(handle); }
    };
    xen::Pages pages_{512, Access::read_only};
    std::unique_ptr<xengnttab_handle, Close> handle_{xengnttab_open(nullptr, 0)};
    std::vector<void*> mapped_;
    bool full_ = false;
};

class NoRoom : public testing::Test {
protected:
    explicit NoRoom(bool sees_copies = true) : sees_copies_(sees_copies) {}
    void SetUp() override
    {
        seat.emplace(vbd.node(), attach_to(Seat::kSectors), sees_copies_);
        ASSERT_TRUE(frontend.connect()) << vbd.error();
        table.emplace();
        if (!*table)
            GTEST_SKIP() << "Xen has room for more";
    }
    void put(const guest::Request& what)
    {
        frontend.put(what);
        frontend.push();
    }
    blktap_req ask(const guest::Request& what)
    {
        put(what);
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

    Vbd vbd{{}};
    std::optional<Seat> seat;
    Frontend frontend{vbd};
    std::optional<FullTable> table;

private:
    const bool sees_copies_;
};

TEST_F(NoRoom, RequestsAreCopiedThen)
{
    xen::Pages out(11, Access::read_only);
    xen::Pages in(11, Access::read_write);
    fill(out.all(), 5);
    for (const std::size_t count : {1u, 2u, 11u}) {
        const blktap_req write = ask(request(BLKIF_OP_WRITE, 8, out, 0, count));
        ASSERT_TRUE(is_copied(write)) << count;
        std::uint8_t* const page = seat->page(write, 0);
        EXPECT_TRUE(std::equal(page, page + count * 4096, out.all().begin()));
        seat->answer(write);
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
        EXPECT_EQ(signal_of_read(page), SIGBUS) << "it was lent for this request";

        const blktap_req read = ask(request(BLKIF_OP_READ, 8, in, 0, count));
        ASSERT_TRUE(is_copied(read)) << count;
        EXPECT_EQ(std::count(seat->page(read, 0), seat->page(read, 0) + count * 4096, 0),
                  static_cast<long>(count * 4096)) << "what others had in these pages";
        std::memset(seat->page(read, 0), static_cast<int>(count), count * 4096);
        seat->answer(read);
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
        EXPECT_EQ(std::ranges::count(in.all(), static_cast<std::uint8_t>(count)),
                  static_cast<long>(count * 4096));
    }
    const Counters after = vbd.counters();
    EXPECT_EQ(after.at("requests_no_room"), 6u);
    EXPECT_EQ(after.at("requests_copied"), 6u);
    EXPECT_EQ(after.at("requests_deferred"), 0u);
    EXPECT_EQ(after.at("responses_error"), 0u);

    table.reset();
    const blktap_req mapped = ask(request(BLKIF_OP_WRITE, 8, out, 0, 11));
    EXPECT_FALSE(is_copied(mapped));
    seat->answer(mapped);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(NoRoom, BadGrantsFailAlone)
{
    xen::Pages pages(4, Access::read_write);
    guest::Request bad = request(BLKIF_OP_WRITE, 8, pages, 0, 2);
    bad.seg[1].gref = 0x7ffffff0; // never granted
    frontend.put(bad);
    put(request(BLKIF_OP_WRITE, 8, pages, 2, 2));
    const auto req = seat->next();
    ASSERT_TRUE(req);
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    EXPECT_FALSE(seat->announced()) << "tapdisk got what the guest did not grant";
    seat->answer(*req);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

// A page that a lying tapdisk holds on to is its own from then on.
TEST_F(NoRoom, WhatALiarHoldsIsLentToNobodyElse)
{
    Holder io;
    xen::Pages pages(2, Access::read_write);
    std::ranges::fill(pages.all(), 0x11);
    const blktap_req first = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 2));
    ASSERT_EQ(io.hold(seat->page(first, 0), 4096), 4096);
    seat->answer(first);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    std::ranges::fill(pages.all(), 0x22);
    for (int i = 0; i < 4; i++) {
        const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 2));
        EXPECT_EQ(*seat->page(req, 0), 0x22);
        seat->answer(req);
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
    }
    EXPECT_EQ(io.contents(), std::vector<std::uint8_t>(4096, 0x11));
}

// More than a queue is lent wait, and come when the others have ended.
TEST_F(NoRoom, NobodyTakesAllThatIsLent)
{
    xen::Pages pages(11, Access::read_write);
    for (int i = 0; i < 24; i++) // of 11 pages, of 256
        frontend.put(request(BLKIF_OP_WRITE, 8, pages, 0, 11));
    frontend.push();
    std::vector<blktap_req> owned;
    for (int i = 0; i < 23; i++) {
        const auto req = seat->next();
        ASSERT_TRUE(req);
        owned.push_back(*req);
    }
    EXPECT_FALSE(seat->next(300ms));
    EXPECT_GT(vbd.counters().at("requests_deferred"), 0u);
    seat->answer(owned.back());
    const auto last = seat->next();
    ASSERT_TRUE(last);
    owned.back() = *last;
    for (const blktap_req& req : owned)
        seat->answer(req);
    for (int i = 0; i < 24; i++)
        EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

// Who does not look there would see nothing.
class NoRoomAndNoArea : public NoRoom {
protected:
    NoRoomAndNoArea() : NoRoom(false) {}
};

TEST_F(NoRoomAndNoArea, RequestsWait)
{
    xen::Pages pages(11, Access::read_write);
    put(request(BLKIF_OP_WRITE, 8, pages, 0, 11));
    EXPECT_FALSE(seat->next(1s));
    table.reset();
    const auto req = seat->next();
    ASSERT_TRUE(req);
    EXPECT_FALSE(is_copied(*req));
    seat->answer(*req);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

TEST_F(NoRoom, WhatATapdiskThatDiedHadFails)
{
    Holder io;
    xen::Pages pages(2, Access::read_write);
    const blktap_req req = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 2));
    ASSERT_EQ(io.hold(seat->page(req, 0), 4096), 4096);
    seat.reset();
    EXPECT_FALSE(frontend.wait(300ms)) << "answered while I/O is in flight";
    io.release();
    EXPECT_EQ(status(), BLKIF_RSP_ERROR);
    seat.emplace(vbd.node(), attach_to(Seat::kSectors), true);
    const blktap_req next = ask(request(BLKIF_OP_WRITE, 8, pages, 0, 2));
    EXPECT_TRUE(is_copied(next));
    seat->answer(next);
    EXPECT_EQ(status(), BLKIF_RSP_OKAY);
}

class NoRoomToDelegate : public NoRoom {
protected:
    ~NoRoomToDelegate() override { unlink(path.c_str()); }

    const std::string path = settings.directory + "/no-room.img";
};

TEST_F(NoRoomToDelegate, DataIsCopiedWhileTapdiskSleeps)
{
    std::ofstream(path, std::ios::binary) << std::string(Seat::kSectors * 512, '\0');
    const Loop loop(path, true);
    const File device(loop.path(), O_RDWR | O_DIRECT);
    ASSERT_EQ(delegate(seat->fd(), extent(device.fd(), 0, Seat::kSectors)), 0);
    seat->run();
    xen::Pages out(22, Access::read_only);
    xen::Pages in(22, Access::read_write);
    fill(out.all(), 9);
    for (const auto& [operation, pages] : {std::pair{BLKIF_OP_WRITE, &out},
                                           std::pair{BLKIF_OP_READ, &in}}) {
        for (std::size_t i = 0; i < 22; i += 11)
            frontend.put(request(static_cast<std::uint8_t>(operation), 80 + i * 8, *pages, i, 11));
        frontend.push();
        for (std::size_t i = 0; i < 22; i += 11)
            ASSERT_EQ(status(), BLKIF_RSP_OKAY);
    }
    EXPECT_TRUE(std::ranges::equal(in.all(), out.all()));
    const Counters after = vbd.counters();
    EXPECT_EQ(after.at("requests_delegated"), 4u);
    EXPECT_EQ(after.at("requests_copied"), 4u);
    EXPECT_EQ(after.at("requests_bounced"), 0u);
    EXPECT_FALSE(seat->announced());
    EXPECT_EQ(withdraw(seat->fd(), 0, ~0ull), 0);
}

} // namespace
