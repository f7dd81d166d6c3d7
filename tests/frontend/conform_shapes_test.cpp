// SPDX-License-Identifier: GPL-2.0-only
//
// Shapes that a request may have: each moves exactly the bytes it names, directly and indirectly.

#include "tests/frontend/conform.hpp"

#include <algorithm>
#include <set>
#include <utility>

using Access = xen::Pages::Access;

namespace {

// bool: indirect.
class ConformShapes : public Conform, public testing::WithParamInterface<bool> {
protected:
    void SetUp() override
    {
        Conform::SetUp();
        NEEDS(!GetParam() || offers().indirect, "indirect requests");
        connect();
        most = GetParam() ? std::min<std::size_t>(offers().indirect, kMost)
                          : std::size_t{BLKIF_SEGS_PER_REQUEST};
    }

    // A request of these segments, alone.
    std::optional<std::int16_t> run(std::uint8_t operation, std::uint64_t sector,
                                    const std::vector<blkif_wire_segment>& segments)
    {
        if (GetParam()) {
            for (std::size_t i = 0; i < segments.size(); i++)
                descriptors[i] = segments[i];
            return frontend().run(descriptors.request(operation, sector, segments.size()));
        }
        guest::Request direct = request(operation);
        direct.sector = sector;
        direct.nr_segments = static_cast<std::uint8_t>(segments.size());
        std::ranges::copy(segments, direct.seg.begin());
        return frontend().run(direct);
    }

    // Each segment in a request of its own, `stride` sectors from one to the next.
    bool run_each(std::uint8_t operation, std::uint64_t sector, std::uint64_t stride,
                  const std::vector<blkif_wire_segment>& segments)
    {
        std::vector<guest::Request> direct;
        std::vector<guest::Indirect> indirect;
        Descriptors pages(segments.size() * guest::Indirect::kSegmentsPerPage);
        for (std::size_t i = 0; i < segments.size(); i++, sector += stride) {
            direct.push_back(request(operation));
            direct.back().sector = sector;
            direct.back().nr_segments = 1;
            direct.back().seg[0] = segments[i];
            pages[i * guest::Indirect::kSegmentsPerPage] = segments[i];
            indirect.push_back(pages.request(operation, sector, 1, i));
        }
        return GetParam() ? frontend().run_all(indirect) : frontend().run_all(direct);
    }

    static constexpr std::size_t kPairs = 36; // of a first and a last sector in a page
    static constexpr std::size_t kMost = 1024; // more are not tried: the disk has to hold them

    Descriptors descriptors{kMost};
    std::size_t most = 0; // segments of one request
};

INSTANTIATE_TEST_SUITE_P(Each, ConformShapes, testing::Bool(),
                         [](const auto& info) { return info.param ? "Indirect" : "Direct"; });

// All pairs of a first and a last sector, each for a page of its own.
std::vector<blkif_wire_segment> first_and_last(const xen::Pages& pages)
{
    std::vector<blkif_wire_segment> segments;
    for (std::uint8_t first = 0; first < 8; first++)
        for (std::uint8_t last = first; last < 8; last++)
            segments.push_back({pages.ref(segments.size()), first, last, 0});
    return segments;
}

TEST_P(ConformShapes, EveryFirstAndLastSectorIsRead)
{
    const auto data = disk().stored(4096, 4096);
    xen::Pages pages(kPairs, Access::read_write);
    std::ranges::fill(pages.all(), 0xee);
    const auto segments = first_and_last(pages);
    ASSERT_TRUE(run_each(BLKIF_OP_READ, 4096, 0, segments));
    for (std::size_t i = 0; i < segments.size(); i++) {
        std::vector<std::uint8_t> expected(4096, 0xee);
        const auto place = inside(expected, segments[i]);
        std::copy_n(data.begin(), place.size(), place.begin());
        ASSERT_TRUE(std::ranges::equal(pages.page(i), expected))
            << +segments[i].first_sect << ".." << +segments[i].last_sect;
    }
}

TEST_P(ConformShapes, EveryFirstAndLastSectorIsWritten)
{
    xen::Pages pages(kPairs, Access::read_only);
    fill(pages.all(), 3);
    auto expected = disk().stored(199, kPairs * 10 * 512);
    const auto segments = first_and_last(pages);
    ASSERT_TRUE(run_each(BLKIF_OP_WRITE, 200, 10, segments));
    for (std::size_t i = 0; i < segments.size(); i++)
        std::ranges::copy(inside(pages.page(i), segments[i]),
                          expected.begin() + static_cast<std::ptrdiff_t>((1 + i * 10) * 512));
    EXPECT_TRUE(disk().stored(199, kPairs * 10 * 512) == expected);
}

TEST_P(ConformShapes, SegmentsMayShareAPage)
{
    xen::Pages page(1, Access::read_write);
    fill(page.all(), 4);
    std::vector<blkif_wire_segment> backwards;
    std::vector<std::uint8_t> expected;
    for (int sector = 7; sector >= 0; sector--) {
        const auto at = static_cast<std::uint8_t>(sector);
        backwards.push_back({page.ref(0), at, at, 0});
        std::ranges::copy(inside(page.page(0), backwards.back()), std::back_inserter(expected));
    }
    ASSERT_EQ(run(BLKIF_OP_WRITE, 640, backwards), BLKIF_RSP_OKAY);
    EXPECT_TRUE(disk().stored(640, 4096) == expected);

    // And backwards again: the page is as it was.
    std::ranges::fill(page.all(), 0);
    ASSERT_EQ(run(BLKIF_OP_READ, 640, backwards), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(page.all(), pattern(4, 4096)));
}

TEST_P(ConformShapes, OneGrantMayBeNamedInManySegments)
{
    // Xen maps a grant 128 times at most, and a back end may need two mappings for each.
    const std::size_t many = std::min<std::size_t>(most, 64);
    xen::Pages page(1, Access::read_write);
    fill(page.all(), 5);
    const std::vector<blkif_wire_segment> same(many, {page.ref(0), 0, 7, 0});
    ASSERT_EQ(run(BLKIF_OP_WRITE, 1000, same), BLKIF_RSP_OKAY);
    for (std::size_t i = 0; i < many; i++)
        ASSERT_TRUE(disk().stored(1000 + 8 * i, 4096) == pattern(5, 4096)) << "segment " << i;
    // All read into one page: the same data from everywhere, so it does not matter which is last.
    std::ranges::fill(page.all(), 0);
    ASSERT_EQ(run(BLKIF_OP_READ, 1000, same), BLKIF_RSP_OKAY);
    EXPECT_TRUE(std::ranges::equal(page.all(), pattern(5, 4096)));
}

TEST_P(ConformShapes, EveryNumberOfSegmentsIsServed)
{
    std::set<std::size_t> numbers{1, 2, 3, 8, 10, 11, 12};
    for (const std::size_t edge : {32u, 128u, 256u, 512u})
        numbers.insert({edge - 1, edge, edge + 1});
    numbers.insert({most - 1, most});
    xen::Pages pages(most, Access::read_write);
    for (const std::size_t number : numbers) {
        if (number > most)
            break;
        const auto bytes = number * xen::kPageBytes;
        std::vector<blkif_wire_segment> segments;
        for (std::size_t i = 0; i < number; i++)
            segments.push_back({pages.ref(i), 0, 7, 0});
        fill(pages.all().first(bytes), number);
        const auto behind = disk().stored(8192 + number * 8, 512);
        ASSERT_EQ(run(BLKIF_OP_WRITE, 8192, segments), BLKIF_RSP_OKAY) << number;
        ASSERT_TRUE(disk().stored(8192, bytes) == pattern(number, bytes)) << number;
        ASSERT_TRUE(disk().stored(8192 + number * 8, 512) == behind) << number;
        std::ranges::fill(pages.all(), 0xdd);
        ASSERT_EQ(run(BLKIF_OP_READ, 8192, segments), BLKIF_RSP_OKAY) << number;
        ASSERT_TRUE(std::ranges::equal(pages.all().first(bytes), pattern(number, bytes)));
        ASSERT_EQ(std::ranges::count(pages.all().subspan(bytes), 0xdd),
                  static_cast<std::ptrdiff_t>(pages.all().size() - bytes));
    }
}

// No two parts of the data lie beside each other in memory, and none is aligned to a page on disk.
TEST_P(ConformShapes, ManySmallSegmentsAtAnOddSector)
{
    const std::size_t number = std::min<std::size_t>(most, 256);
    xen::Pages pages(number, Access::read_write);
    fill(pages.all(), 6);
    std::vector<blkif_wire_segment> segments;
    std::vector<std::uint8_t> expected;
    for (std::size_t i = 0; i < number; i++) {
        const auto first = static_cast<std::uint8_t>(i * 5 % 8);
        const auto last = static_cast<std::uint8_t>(first + i % (8u - first));
        segments.push_back({pages.ref(number - 1 - i), first, last, 0});
        std::ranges::copy(inside(pages.page(number - 1 - i), segments.back()),
                          std::back_inserter(expected));
    }
    ASSERT_EQ(run(BLKIF_OP_WRITE, 12345, segments), BLKIF_RSP_OKAY);
    EXPECT_TRUE(disk().stored(12345, expected.size()) == expected);
    std::ranges::fill(pages.all(), 0);
    ASSERT_EQ(run(BLKIF_OP_READ, 12345, segments), BLKIF_RSP_OKAY);
    std::vector<std::uint8_t> read;
    for (std::size_t i = 0; i < number; i++)
        std::ranges::copy(inside(pages.page(number - 1 - i), segments[i]),
                          std::back_inserter(read));
    EXPECT_TRUE(read == expected);
}

TEST_P(ConformShapes, FirstAndLastSectorOfTheDisk)
{
    xen::Pages page(1, Access::read_write);
    for (const std::uint64_t sector : {std::uint64_t{0}, frontend().sectors() - 8}) {
        fill(page.all(), sector);
        ASSERT_EQ(run(BLKIF_OP_WRITE, sector, {{page.ref(0), 0, 7, 0}}), BLKIF_RSP_OKAY);
        ASSERT_TRUE(disk().stored(sector, 4096) == pattern(sector, 4096));
        std::ranges::fill(page.all(), 0);
        ASSERT_EQ(run(BLKIF_OP_READ, sector, {{page.ref(0), 0, 7, 0}}), BLKIF_RSP_OKAY);
        ASSERT_TRUE(std::ranges::equal(page.all(), pattern(sector, 4096)));
    }
}

// Writing needs no write access, for the pages or for the descriptors.
TEST_P(ConformShapes, ReadOnlyGrantsSufficeForAWrite)
{
    xen::Pages page(1, Access::read_only);
    fill(page.all(), 8);
    ASSERT_EQ(run(BLKIF_OP_WRITE, 80, {{page.ref(0), 0, 7, 0}}), BLKIF_RSP_OKAY);
    EXPECT_TRUE(disk().stored(80, 4096) == pattern(8, 4096));
}

} // namespace
