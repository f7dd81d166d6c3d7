// SPDX-License-Identifier: GPL-2.0-only
//
// A guest that behaves: whatever blkif allows works, and moves exactly the
// bytes that were asked for.

#include "tests/frontend/disk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

// The bytes of one segment.
std::span<std::uint8_t> inside(const xen::Pages& pages, std::size_t page,
                               const blkif_wire_segment& seg)
{
    return pages.page(page).subspan(seg.first_sect * 512u,
                                    (seg.last_sect - seg.first_sect + 1u) * 512u);
}

// Nothing writes from this sector on, so there the disk is as it was made.
constexpr std::uint64_t kUntouched = 16384;
constexpr std::uint64_t kSectors = 32768;

// One disk for all of them: starting a tapdisk takes longer than most cases.
class GoodGuest : public testing::Test {
protected:
    static void SetUpTestSuite()
    {
        shared_disk = new Disk;
        shared_frontend = new Frontend(shared_disk->vbd());
        ASSERT_TRUE(shared_frontend->connect()) << shared_disk->vbd().error();
    }
    static void TearDownTestSuite()
    {
        delete std::exchange(shared_frontend, nullptr);
        delete std::exchange(shared_disk, nullptr);
    }

    Disk& disk = *shared_disk;
    Frontend& frontend = *shared_frontend;

private:
    static inline Disk* shared_disk;
    static inline Frontend* shared_frontend;
};

TEST_F(GoodGuest, IsToldWhatTheDiskIs)
{
    EXPECT_EQ(frontend.sectors(), kSectors);
    EXPECT_EQ(disk.vbd().backend_value("sector-size"), "512");
    EXPECT_EQ(disk.vbd().backend_value("feature-flush-cache"), "1");
    EXPECT_EQ(disk.vbd().backend_value("feature-barrier"), "1");
    EXPECT_EQ(disk.vbd().backend_value("info"), "0");
    EXPECT_EQ(disk.vbd().attribute("state"), "connected");
}

TEST_F(GoodGuest, ReadsWhatIsStored)
{
    xen::Pages pages(11, Access::read_write);
    for (std::uint64_t sector : {kUntouched, kUntouched + 1, kUntouched + 777, kSectors - 88}) {
        ASSERT_EQ(frontend.run(request(BLKIF_OP_READ, sector, pages, 0, 11)), BLKIF_RSP_OKAY);
        EXPECT_TRUE(std::ranges::equal(pages.all(), Disk::original(sector, pages.all().size())));
    }
}

TEST_F(GoodGuest, ReadsEveryShapeOfSegmentAndNotAByteBesides)
{
    xen::Pages pages(1, Access::read_write);
    for (std::uint8_t first = 0; first < 8; first++)
        for (std::uint8_t last = first; last < 8; last++) {
            std::ranges::fill(pages.all(), 0xee);
            guest::Request read = request(BLKIF_OP_READ, kUntouched, pages, 0, 1);
            read.seg[0] = {pages.ref(0), first, last, 0};
            ASSERT_EQ(frontend.run(read), BLKIF_RSP_OKAY);

            std::vector<std::uint8_t> expected(4096, 0xee);
            const auto data = Disk::original(kUntouched, (last - first + 1u) * 512);
            std::ranges::copy(data, expected.begin() + first * 512);
            ASSERT_TRUE(std::ranges::equal(pages.all(), expected)) << +first << ".." << +last;
        }
}

TEST_F(GoodGuest, WritesEveryShapeOfSegmentAndNotAByteBesides)
{
    xen::Pages pages(1, Access::read_only);
    for (std::size_t i = 0; i < 4096; i++)
        pages.all()[i] = static_cast<std::uint8_t>(i / 512 * 16 + i % 7);
    std::uint64_t sector = 200;
    for (std::uint8_t first = 0; first < 8; first++)
        for (std::uint8_t last = first; last < 8; last++, sector += 10) {
            guest::Request write = request(BLKIF_OP_WRITE, sector, pages, 0, 1);
            write.seg[0] = {pages.ref(0), first, last, 0};
            ASSERT_EQ(frontend.run(write), BLKIF_RSP_OKAY);

            auto expected = Disk::original(sector - 1, 10 * 512);
            std::ranges::copy(inside(pages, 0, write.seg[0]), expected.begin() + 512);
            ASSERT_EQ(disk.stored(sector - 1, expected.size()), expected)
                << +first << ".." << +last;
        }
}

TEST_F(GoodGuest, MixesElevenSegmentsOfAnyShape)
{
    std::mt19937 random(3);
    xen::Pages out(11, Access::read_only);
    xen::Pages in(11, Access::read_write);
    for (int round = 0; round < 20; round++) {
        std::ranges::generate(out.all(), [&] { return static_cast<std::uint8_t>(random()); });
        guest::Request write = request(BLKIF_OP_WRITE, 1000, out, 0, 11);
        guest::Request read = request(BLKIF_OP_READ, 1000, in, 0, 11);
        std::vector<std::uint8_t> expected;
        for (std::size_t i = 0; i < 11; i++) {
            blkif_wire_segment& seg = write.seg[i];
            seg.first_sect = static_cast<std::uint8_t>(random() % 8);
            seg.last_sect = static_cast<std::uint8_t>(seg.first_sect +
                                                      random() % (8u - seg.first_sect));
            read.seg[i].first_sect = seg.first_sect;
            read.seg[i].last_sect = seg.last_sect;
            std::ranges::copy(inside(out, i, seg), std::back_inserter(expected));
        }
        ASSERT_EQ(frontend.run(write), BLKIF_RSP_OKAY);
        ASSERT_EQ(frontend.run(read), BLKIF_RSP_OKAY);
        ASSERT_EQ(disk.stored(1000, expected.size()), expected);
        for (std::size_t i = 0; i < 11; i++)
            ASSERT_TRUE(std::ranges::equal(inside(in, i, read.seg[i]),
                                           inside(out, i, write.seg[i])));
    }
}

TEST_F(GoodGuest, MayNameOneGrantSeveralTimes)
{
    xen::Pages page(1, Access::read_write);
    guest::Request read = request(BLKIF_OP_READ, kUntouched, page, 0, 1);
    read.nr_segments = 2;
    read.seg[0] = {page.ref(0), 4, 7, 0};
    read.seg[1] = {page.ref(0), 0, 3, 0};
    ASSERT_EQ(frontend.run(read), BLKIF_RSP_OKAY);
    const auto data = Disk::original(kUntouched, 4096);
    EXPECT_TRUE(std::equal(data.begin(), data.begin() + 2048, page.all().begin() + 2048));
    EXPECT_TRUE(std::equal(data.begin() + 2048, data.end(), page.all().begin()));

    guest::Request write = request(BLKIF_OP_WRITE, 8000, page, 0, 1);
    write.nr_segments = 11;
    write.seg.fill({page.ref(0), 0, 7, 0});
    ASSERT_EQ(frontend.run(write), BLKIF_RSP_OKAY);
    for (std::uint64_t i = 0; i < 11; i++)
        EXPECT_TRUE(std::ranges::equal(disk.stored(8000 + 8 * i, 4096), page.all()));

    // And in requests that are in flight together.
    for (std::uint64_t i = 0; i < 8; i++)
        frontend.put(request(BLKIF_OP_WRITE, 8200 + 8 * i, page, 0, 1));
    frontend.push();
    EXPECT_EQ(frontend.wait_all().size(), 8u);
    EXPECT_TRUE(std::ranges::equal(disk.stored(8256, 4096), page.all()));
}

TEST_F(GoodGuest, FillsTheRingWithTheLargestRequests)
{
    xen::Pages pages(32 * 11, Access::read_write);
    const Counters before = disk.vbd().counters();
    for (std::uint32_t i = 0; i < 32; i++) {
        guest::Request read = request(BLKIF_OP_READ, kUntouched + i * 88, pages, i * 11, 11);
        read.id = 1ull << i;
        frontend.put(read);
    }
    frontend.push();
    std::uint64_t seen = 0;
    for (const guest::Response& response : frontend.wait_all()) {
        EXPECT_EQ(response.status, BLKIF_RSP_OKAY);
        EXPECT_FALSE(seen & response.id) << "answered twice";
        seen |= response.id;
    }
    EXPECT_EQ(seen, 0xffffffffu);
    EXPECT_TRUE(std::ranges::equal(pages.all(), Disk::original(kUntouched, pages.all().size())));

    const Counters after = disk.vbd().counters();
    EXPECT_EQ(after.at("bytes_read") - before.at("bytes_read"), pages.all().size());
    EXPECT_EQ(after.at("bytes_zero_copy") - before.at("bytes_zero_copy"), pages.all().size());
    EXPECT_EQ(after.at("bytes_copied"), before.at("bytes_copied"));
    EXPECT_EQ(after.at("kernel_map_ops"), after.at("kernel_unmap_ops"));
    EXPECT_EQ(after.at("user_map_ops"), after.at("user_unmap_ops"));
    expect_trouble(before, after, {});
}

TEST_F(GoodGuest, FlushesAndBarriersWithAndWithoutData)
{
    xen::Pages pages(3, Access::read_only);
    std::ranges::fill(pages.all(), 0x77);
    EXPECT_EQ(frontend.run(request(BLKIF_OP_FLUSH_DISKCACHE)), BLKIF_RSP_OKAY);
    EXPECT_EQ(frontend.run(request(BLKIF_OP_WRITE_BARRIER)), BLKIF_RSP_OKAY);
    EXPECT_EQ(frontend.run(request(BLKIF_OP_WRITE_BARRIER, 80, pages, 0, 3)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(disk.stored(80, pages.all().size()), pages.all()));
    EXPECT_EQ(frontend.run(request(BLKIF_OP_FLUSH_DISKCACHE, 160, pages, 0, 3)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(disk.stored(160, pages.all().size()), pages.all()));
}

// A barrier in the middle of a full ring: writes to one sector on either side of it.
TEST_F(GoodGuest, SeesABarrierKeepTheOrder)
{
    xen::Pages pages(3, Access::read_only);
    for (std::size_t i = 0; i < 3; i++)
        std::ranges::fill(pages.page(i), static_cast<std::uint8_t>(i + 1));
    for (int round = 0; round < 20; round++) {
        for (std::uint64_t i = 0; i < 15; i++)
            frontend.put(request(BLKIF_OP_WRITE, 3000 + 8 * i, pages, 0, 1));
        frontend.put(request(BLKIF_OP_WRITE_BARRIER, 3000, pages, 1, 1));
        for (std::uint64_t i = 0; i < 15; i++)
            frontend.put(request(BLKIF_OP_WRITE, 3000 + 8 * i, pages, 2, 1));
        frontend.push();
        ASSERT_EQ(frontend.wait_all().size(), 31u);
        for (std::uint64_t i = 0; i < 15; i++)
            ASSERT_TRUE(std::ranges::equal(disk.stored(3000 + 8 * i, 4096), pages.page(2)));
    }
}

TEST_F(GoodGuest, GetsBackAnyId)
{
    std::mt19937_64 random(5);
    xen::Pages pages(1, Access::read_write);
    std::multiset<std::uint64_t> sent{0, 0, 1, ~0ull, ~0ull, 1ull << 63, 0xffffffff, 1ull << 32};
    while (sent.size() < 32)
        sent.insert(random());
    for (std::uint64_t id : sent) {
        guest::Request read = request(BLKIF_OP_READ, 8, pages, 0, 1);
        read.id = id;
        frontend.put(read);
    }
    frontend.push();
    std::multiset<std::uint64_t> received;
    for (const guest::Response& response : frontend.wait_all())
        received.insert(response.id);
    EXPECT_EQ(received, sent);
}

TEST_F(GoodGuest, ClosesAndComesBackWithItsData)
{
    for (std::uint64_t round = 0; round < 5; round++) {
        expect_alive(frontend, 5000 + 16 * round);
        const auto written = disk.stored(5000 + 16 * round, 8192);
        ASSERT_TRUE(frontend.reopen()) << "round " << round << ", state " << disk.vbd().state();
        EXPECT_EQ(disk.stored(5000 + 16 * round, 8192), written);
    }
    expect_alive(frontend);
}

TEST_F(GoodGuest, ClosesWithTheRingFull)
{
    xen::Pages pages(32 * 11, Access::read_write);
    for (std::uint32_t i = 0; i < 32; i++)
        frontend.put(request(BLKIF_OP_READ, i * 88, pages, i * 11, 11));
    frontend.push();
    ASSERT_TRUE(frontend.reopen());
    expect_alive(frontend);
}

// --- other ways to connect -----------------------------------------------------------------------

class GoodGuestAbi : public testing::TestWithParam<guest::Abi> {};

INSTANTIATE_TEST_SUITE_P(Each, GoodGuestAbi, testing::ValuesIn(guest::kAbis),
                         [](const auto& info) { return guest::name(info.param); });

TEST_P(GoodGuestAbi, IsServed)
{
    Disk disk;
    Frontend frontend(disk.vbd(), GetParam());
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(11, Access::read_write);
    // More than a ring full, so that every entry is used and responses lie where they should.
    for (int round = 0; round < 3; round++) {
        for (std::uint64_t i = 0; i < 32; i++) {
            guest::Request read = request(BLKIF_OP_READ, 0, pages, 0, 11);
            read.id = ~i;
            frontend.put(read);
        }
        frontend.push();
        std::set<std::uint64_t> ids;
        for (const guest::Response& response : frontend.wait_all()) {
            EXPECT_EQ(response.status, BLKIF_RSP_OKAY);
            EXPECT_EQ(response.operation, BLKIF_OP_READ);
            ids.insert(~response.id);
        }
        EXPECT_EQ(ids.size(), 32u);
        EXPECT_EQ(*ids.rbegin(), 31u);
    }
    EXPECT_TRUE(std::ranges::equal(pages.all(), Disk::original(0, pages.all().size())));
    expect_alive(frontend);
}

TEST(GoodGuestRing, MayHaveIndicesThatWrap)
{
    Disk disk;
    Frontend frontend(disk.vbd());
    frontend.start_at(0xffffffe8);
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(1, Access::read_write);
    for (int round = 0; round < 3; round++) {
        for (std::uint64_t i = 0; i < 32; i++)
            frontend.put(request(BLKIF_OP_READ, i, pages, 0, 1));
        frontend.push();
        ASSERT_EQ(frontend.wait_all().size(), 32u);
    }
    expect_alive(frontend);
}

TEST(GoodGuestRing, MayHoldRequestsBeforeTheBackendConnects)
{
    Disk disk;
    Frontend frontend(disk.vbd());
    xen::Pages pages(1, Access::read_write);
    for (std::uint64_t i = 0; i < 5; i++)
        frontend.put(request(BLKIF_OP_READ, i, pages, 0, 1));
    frontend.push();
    ASSERT_TRUE(frontend.connect());
    EXPECT_EQ(frontend.wait_all().size(), 5u);
}

TEST(GoodGuestDisk, ReadOnlyIsSaidAndMeant)
{
    Disk disk({.writable = false});
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    EXPECT_EQ(disk.vbd().backend_value("info"), "4");
    xen::Pages pages(2, Access::read_write);
    ASSERT_EQ(frontend.run(request(BLKIF_OP_READ, 16, pages, 0, 2)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(pages.all(), Disk::original(16, 8192)));
    EXPECT_EQ(frontend.run(request(BLKIF_OP_FLUSH_DISKCACHE)), BLKIF_RSP_OKAY);
}

TEST(GoodGuestDisk, ManyAtTheSameTime)
{
    constexpr std::size_t kDisks = 4;
    std::vector<std::unique_ptr<Disk>> disks;
    std::vector<std::unique_ptr<Frontend>> frontends;
    for (std::size_t i = 0; i < kDisks; i++) {
        disks.push_back(std::make_unique<Disk>(Disk::Options{.sectors = 4096}));
        frontends.push_back(std::make_unique<Frontend>(disks.back()->vbd()));
        ASSERT_TRUE(frontends.back()->connect());
    }
    xen::Pages pages(kDisks * 16, Access::read_only);
    for (int round = 0; round < 10; round++) {
        for (std::size_t i = 0; i < kDisks; i++) {
            for (std::size_t p = 0; p < 16; p++) {
                std::ranges::fill(pages.page(i * 16 + p), static_cast<std::uint8_t>(round * 8 + i));
                frontends[i]->put(request(BLKIF_OP_WRITE, p * 8, pages, i * 16 + p, 1));
            }
            frontends[i]->push();
        }
        for (std::size_t i = 0; i < kDisks; i++) {
            ASSERT_EQ(frontends[i]->wait_all().size(), 16u);
            const auto stored = disks[i]->stored(0, 16 * 4096);
            ASSERT_EQ(std::ranges::count(stored, static_cast<std::uint8_t>(round * 8 + i)),
                      16 * 4096);
        }
    }
}

} // namespace
