// SPDX-License-Identifier: GPL-2.0-only
//
// Discard: what it may touch, what it gives back, and when it is refused. The images are files on a
// file system that can punch holes, so what was discarded reads as zeroes.

#include "tests/frontend/conform.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>

using Access = xen::Pages::Access;

namespace {

guest::Discard discard(std::uint64_t sector, std::uint64_t sectors, std::uint8_t flag = 0)
{
    guest::Discard request;
    request.flag = flag;
    request.sector = sector;
    request.sectors = sectors;
    return request;
}

bool failed(std::optional<std::int16_t> status)
{
    return status == BLKIF_RSP_ERROR || status == BLKIF_RSP_EOPNOTSUPP;
}

class ConformDiscard : public Conform {
protected:
    void SetUp() override
    {
        Conform::SetUp();
        connect();
        NEEDS(offers().discard, "discard");
        const unsigned bytes = vbd().offer("discard-granularity");
        ASSERT_EQ(vbd().offer("discard-alignment"), 0u) << "of a file?";
        granule = bytes ? bytes / 512 : 1;
        ASSERT_LE(granule, 128u) << "the cases here are made for less";
    }

    static std::vector<guest::Request> each_page(std::uint8_t operation, std::uint64_t at,
                                                 const xen::Pages& pages)
    {
        std::vector<guest::Request> requests;
        for (std::size_t i = 0; i < pages.count(); i++)
            requests.push_back(request(operation, at + i * 8, pages, i, 1));
        return requests;
    }

    // A pattern on sectors [at, at + sectors).
    void write(std::uint64_t at, std::uint64_t sectors, std::uint64_t seed)
    {
        xen::Pages pages(sectors / 8, Access::read_only);
        fill(pages.all(), seed);
        ASSERT_TRUE(frontend().run_all(each_page(BLKIF_OP_WRITE, at, pages)));
    }

    // The same through the ring.
    std::vector<std::uint8_t> read(std::uint64_t at, std::uint64_t sectors)
    {
        xen::Pages pages(sectors / 8, Access::read_write);
        EXPECT_TRUE(frontend().run_all(each_page(BLKIF_OP_READ, at, pages)));
        return {pages.all().begin(), pages.all().end()};
    }

    // Blocks of the file system that the image occupies.
    blkcnt_t blocks()
    {
        struct stat status {};
        EXPECT_EQ(stat(disk().image().c_str(), &status), 0);
        return status.st_blocks;
    }

    std::uint64_t granule = 0; // sectors
};

TEST_F(ConformDiscard, WhatIsDiscardedReadsAsZeroesAndNoByteBesides)
{
    ASSERT_NO_FATAL_FAILURE(write(2048, 512, 1));
    const auto before = blocks();
    auto expected = pattern(1, 512 * 512);
    ASSERT_EQ(frontend().run(discard(2048 + 128, 256)), BLKIF_RSP_OKAY);
    std::fill_n(expected.begin() + 128 * 512, 256 * 512, std::uint8_t{0});
    EXPECT_TRUE(read(2048, 512) == expected);
    EXPECT_TRUE(disk().stored(2048, 512 * 512) == expected);
    EXPECT_LT(blocks(), before) << "nothing was given back";
}

// A discard that is no multiple of the granularity may leave what it covers, but only that.
TEST_F(ConformDiscard, OddOnesTouchNothingBesides)
{
    for (const auto& [at, sectors] : {std::pair{1u, 1u}, {7u, 2u}, {3u, 11u}, {1u, 77u}}) {
        ASSERT_NO_FATAL_FAILURE(write(4096, 128, at * 1000 + sectors));
        const auto old = pattern(at * 1000 + sectors, 128 * 512);
        ASSERT_EQ(frontend().run(discard(4096 + at, sectors)), BLKIF_RSP_OKAY);
        const auto now = read(4096, 128);
        for (std::size_t i = 0; i < 128; i++) {
            const auto begin = now.begin() + static_cast<std::ptrdiff_t>(i * 512);
            const bool same = std::equal(begin, begin + 512, old.begin() + (begin - now.begin()));
            const bool zero = std::all_of(begin, begin + 512, [](auto byte) { return byte == 0; });
            const bool covered = i >= at && i < at + sectors;
            ASSERT_TRUE(same || (covered && zero)) << "sector " << i << " of " << at << "+"
                                                   << sectors;
        }
    }
}

// As blkif.h has it. Linux' blkfront sends no discard any more after one that was refused.
TEST_F(ConformDiscard, TheSecureFlagIsIgnoredWhereItIsNotOffered)
{
    NEEDS(!offers().secure_discard, "a disk without secure discard");
    ASSERT_NO_FATAL_FAILURE(write(8192, 128, 2));
    EXPECT_EQ(frontend().run(discard(8192, 128, guest::Discard::kSecure)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(read(8192, 128) == std::vector<std::uint8_t>(128 * 512));
}

TEST_F(ConformDiscard, WritesAfterItAreKept)
{
    for (std::uint64_t round = 0; round < 3; round++) {
        ASSERT_EQ(frontend().run(discard(10240, 128)), BLKIF_RSP_OKAY);
        ASSERT_NO_FATAL_FAILURE(write(10240, 64, round));
        EXPECT_TRUE(disk().stored(10240, 64 * 512) == pattern(round, 64 * 512));
    }
}

TEST_F(ConformDiscard, AmongWritesEachDoesItsOwn)
{
    xen::Pages pages(16, Access::read_only);
    ASSERT_NO_FATAL_FAILURE(write(12288, 32 * 128, 3));
    for (std::uint64_t i = 0; i < 32; i++) {
        if (i % 2) {
            frontend().put(discard(12288 + i * 128, 128));
            continue;
        }
        fill(pages.page(i / 2), 500 + i);
        frontend().put(request(BLKIF_OP_WRITE, 12288 + i * 128, pages, i / 2, 1));
    }
    frontend().push();
    const auto responses = frontend().wait_all();
    ASSERT_EQ(responses.size(), 32u);
    for (const guest::Response& response : responses)
        EXPECT_EQ(response.status, BLKIF_RSP_OKAY);
    for (std::uint64_t i = 0; i < 32; i++)
        EXPECT_TRUE(disk().stored(12288 + i * 128, 4096) ==
                    (i % 2 ? std::vector<std::uint8_t>(4096) : pattern(500 + i, 4096)))
            << i;
}

TEST_F(ConformDiscard, TheWholeDiskMayGo)
{
    const std::uint64_t sectors = frontend().sectors();
    ASSERT_NO_FATAL_FAILURE(write(0, 128, 4));
    ASSERT_EQ(frontend().run(discard(0, sectors)), BLKIF_RSP_OKAY);
    const auto all = disk().stored(0, sectors * 512);
    EXPECT_TRUE(std::ranges::all_of(all, [](auto byte) { return byte == 0; }));
    expect_alive(frontend());
}

TEST_F(ConformDiscard, OutsideTheDiskIsAnErrorAndNothingGoes)
{
    const std::uint64_t end = frontend().sectors();
    ASSERT_NO_FATAL_FAILURE(write(end - 128, 128, 5));
    ASSERT_NO_FATAL_FAILURE(write(0, 128, 6));
    for (const auto& bad :
         {discard(end - 127, 128), discard(end, 8), discard(0, end + 1), discard(~0ull - 7, 8),
          discard(~0ull - 7, 16), discard(8, ~0ull - 7), discard(8, ~0ull)}) {
        EXPECT_PRED1(failed, frontend().run(bad)) << bad.sector << "+" << bad.sectors;
        EXPECT_TRUE(disk().stored(end - 128, 128 * 512) == pattern(5, 128 * 512));
        EXPECT_TRUE(disk().stored(0, 128 * 512) == pattern(6, 128 * 512));
    }
    expect_alive(frontend());
}

TEST_F(ConformDiscard, OfNothingIsAnsweredSomehow)
{
    ASSERT_TRUE(frontend().run(discard(8, 0)));
    expect_alive(frontend());
}

// --- disks of another kind -----------------------------------------------------------------------

TEST(ConformDisks, AReadOnlyOneSaysSoAndKeepsItsData)
{
    NOT_RUN_ON(Backend::qdisk, "it never takes this one: the case ends there");
    Disk disk({.writable = false, .sectors = 2048});
    Frontend frontend(disk.vbd(), Shape{});
    ASSERT_TRUE(frontend.connect());
    EXPECT_EQ(disk.vbd().offer("info") & 4u, 4u);
    xen::Pages pages(2, Access::read_write);
    EXPECT_PRED1(failed, frontend.run(request(BLKIF_OP_WRITE, 16, pages, 0, 2)));
    EXPECT_PRED1(failed, frontend.run(discard(16, 64)));
    EXPECT_PRED1(failed, frontend.run(discard(16, 64, guest::Discard::kSecure)));
    if (const Offers offers(disk.vbd()); offers.indirect) {
        Descriptors segments(2);
        segments.describe(pages, 2);
        EXPECT_PRED1(failed, frontend.run(segments.request(BLKIF_OP_WRITE, 16, 2)));
        EXPECT_EQ(frontend.run(segments.request(BLKIF_OP_READ, 16, 2)), BLKIF_RSP_OKAY);
    }
    EXPECT_TRUE(disk.stored(0, 65536) == Disk::original(0, 65536));
    ASSERT_EQ(frontend.run(request(BLKIF_OP_READ, 16, pages, 0, 2)), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(pages.all(), Disk::original(16, 8192)));
}

TEST(ConformDisks, WithoutDiscardItIsNotOffered)
{
    Disk disk({.sectors = 2048, .discard = false});
    Frontend frontend(disk.vbd(), Shape{});
    ASSERT_TRUE(frontend.connect());
    EXPECT_FALSE(Offers(disk.vbd()).discard);
    expect_alive(frontend);
}

TEST(ConformDisks, EachIsDescribed)
{
    Disk disk({.sectors = 2056});
    Frontend frontend(disk.vbd(), Shape{});
    ASSERT_TRUE(frontend.connect());
    EXPECT_EQ(disk.vbd().backend_value("sectors"), "2056");
    EXPECT_EQ(disk.vbd().offer("sector-size"), 512u);
    EXPECT_EQ(disk.vbd().offer("info"), 0u);
    const Offers offers(disk.vbd());
    std::printf("         offered: ring order %u, queues %u, indirect %u, flush %d, barrier %d, "
                "discard %d (secure %d), persistent %d\n",
                offers.ring_order, offers.queues, offers.indirect, offers.flush, offers.barrier,
                offers.discard, offers.secure_discard, offers.persistent);
}

TEST(ConformDisks, EachIsAWholeNumberOfPhysicalSectors)
{
    for (const std::uint64_t sectors : {2048u, 2049u, 2050u, 2052u}) {
        Disk disk({.sectors = sectors});
        Frontend frontend(disk.vbd(), Shape{});
        ASSERT_TRUE(frontend.connect());
        const unsigned physical = disk.vbd().offer("physical-sector-size");
        ASSERT_GE(physical, disk.vbd().offer("sector-size"));
        EXPECT_EQ(frontend.sectors() * 512 % physical, 0u) << physical << " of " << sectors;
    }
}

TEST(ConformDisks, NoIndirectRequestsAreOfferedByNoKey)
{
    if (settings.backend != Backend::blktap)
        GTEST_SKIP() << "no setting takes them away";
    constexpr const char* kSetting = "/sys/module/blktap/parameters/max_indirect_segments";
    std::ofstream(kSetting) << 0;
    {
        Disk disk({.sectors = 2048});
        Frontend frontend(disk.vbd(), Shape{});
        EXPECT_TRUE(frontend.connect());
        EXPECT_FALSE(disk.vbd().store().exists(
            disk.vbd().backend_key("feature-max-indirect-segments")));
        expect_alive(frontend);
    }
    std::ofstream(kSetting) << 256;
}

} // namespace
