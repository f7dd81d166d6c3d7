// SPDX-License-Identifier: GPL-2.0-only
//
// Requests that cannot be served: each gets an error response, changes nothing on the medium, and
// those around it are served.

#include "tests/frontend/conform.hpp"

#include <algorithm>
#include <functional>
#include <random>
#include <utility>

using Access = xen::Pages::Access;

namespace {

constexpr std::uint32_t kNeverGranted = 0x7ffffff0;
constexpr std::uint64_t kEnd = 32768; // sectors of the disk

bool failed(std::optional<std::int16_t> status)
{
    return status == BLKIF_RSP_ERROR || status == BLKIF_RSP_EOPNOTSUPP;
}

// --- direct --------------------------------------------------------------------------------------

struct BadDirect {
    const char* name;
    std::function<void(guest::Request&)> spoil; // an honest write of two pages at sector 8
};

const BadDirect kBadDirect[] = {
    {"PastTheEnd", [](auto& r) { r.sector = kEnd - 15; }},
    {"BehindTheEnd", [](auto& r) { r.sector = kEnd; }},
    {"WhereTheSumOverflows", [](auto& r) { r.sector = ~0ull - 7; }},
    {"WithoutSegments", [](auto& r) { r.nr_segments = 0; }},
    {"ReadWithoutSegments", [](auto& r) { r.nr_segments = 0, r.operation = BLKIF_OP_READ; }},
    {"TwelveSegments", [](auto& r) { r.nr_segments = 12; }},
    {"AllSegmentsThatFitAByte", [](auto& r) { r.nr_segments = 255; }},
    {"LastSectorOutsideThePage", [](auto& r) { r.seg[1].last_sect = 8; }},
    {"SectorsInWrongOrder", [](auto& r) { r.seg[1].first_sect = 5, r.seg[1].last_sect = 4; }},
    {"ReservedOperation", [](auto& r) { r.operation = 4; }},
    {"UnknownOperation", [](auto& r) { r.operation = 255; }},
    {"GrantNeverGiven", [](auto& r) { r.seg[0].gref = kNeverGranted; }},
    {"LastGrantNeverGiven", [](auto& r) { r.seg[1].gref = kNeverGranted; }},
    {"ReadIntoAReadOnlyGrant", [](auto& r) { r.operation = BLKIF_OP_READ; }},
};

void PrintTo(const BadDirect& bad, std::ostream* out)
{
    *out << bad.name;
}

class ConformBadDirect : public Conform, public testing::WithParamInterface<BadDirect> {};

INSTANTIATE_TEST_SUITE_P(Each, ConformBadDirect, testing::ValuesIn(kBadDirect),
                         [](const auto& info) { return info.param.name; });

TEST_P(ConformBadDirect, FailsAlone)
{
    const auto deviation =
        known_deviation(Backend::qdisk, "to do nothing, for want of segments, is a success");
    connect();
    xen::Pages pages(2, Access::read_only);
    fill(pages.all(), 1);
    const guest::Request good = request(BLKIF_OP_WRITE, 8, pages, 0, 2);
    guest::Request bad = good;
    GetParam().spoil(bad);
    const auto stored = disk().stored(8, 8192);
    EXPECT_PRED1(failed, frontend().run(bad));
    EXPECT_TRUE(disk().stored(8, 8192) == stored);

    for (std::uint64_t i = 0; i < 9; i++) {
        guest::Request one = i == 4 ? bad : good;
        one.id = i;
        frontend().put(one);
    }
    frontend().push();
    const auto responses = frontend().wait_all();
    EXPECT_EQ(responses.size(), 9u);
    for (const guest::Response& response : responses)
        EXPECT_EQ(failed(response.status), response.id == 4) << response.id;
    expect_alive(frontend());
}

// --- indirect ------------------------------------------------------------------------------------

// An honest indirect write of 20 pages at sector 8, and what may be spoilt of it.
struct Spoil {
    guest::Indirect& request;
    Descriptors& segments;
    unsigned most; // segments, as offered
};

struct BadIndirect {
    const char* name;
    std::function<void(Spoil)> spoil;
};

const BadIndirect kBadIndirect[] = {
    {"InnerFlush", [](Spoil s) { s.request.indirect_op = BLKIF_OP_FLUSH_DISKCACHE; }},
    {"InnerBarrier", [](Spoil s) { s.request.indirect_op = BLKIF_OP_WRITE_BARRIER; }},
    {"InnerDiscard", [](Spoil s) { s.request.indirect_op = BLKIF_OP_DISCARD; }},
    {"InnerIndirect", [](Spoil s) { s.request.indirect_op = BLKIF_OP_INDIRECT; }},
    {"InnerUnknown", [](Spoil s) { s.request.indirect_op = 255; }},
    {"NoSegments", [](Spoil s) { s.request.nr_segments = 0; }},
    {"OneSegmentTooMany",
     [](Spoil s) { s.request.nr_segments = static_cast<std::uint16_t>(s.most + 1); }},
    {"MoreSegmentsThanAPageHolds", [](Spoil s) { s.request.nr_segments = 8 * 512 + 1; }},
    {"AllSegmentsThatFitTheField", [](Spoil s) { s.request.nr_segments = 0xffff; }},
    {"DescriptorsNeverGranted", [](Spoil s) { s.request.pages[0] = kNeverGranted; }},
    {"DescriptorsOfTheLargestNumber", [](Spoil s) { s.request.pages[0] = ~0u; }},
    {"FirstGrantNeverGiven", [](Spoil s) { s.segments[0].gref = kNeverGranted; }},
    {"GrantInTheMiddleNeverGiven", [](Spoil s) { s.segments[12].gref = kNeverGranted; }},
    {"LastGrantNeverGiven", [](Spoil s) { s.segments[19].gref = kNeverGranted; }},
    {"NoGrantEverGiven",
     [](Spoil s) {
         for (std::size_t i = 0; i < 20; i++)
             s.segments[i].gref = kNeverGranted;
     }},
    {"LastSectorOutsideThePage", [](Spoil s) { s.segments[19].last_sect = 8; }},
    {"SectorsInWrongOrder",
     [](Spoil s) { s.segments[11].first_sect = 7, s.segments[11].last_sect = 6; }},
    {"PastTheEnd", [](Spoil s) { s.request.sector = kEnd - 20 * 8 + 1; }},
    {"WhereTheSumOverflows", [](Spoil s) { s.request.sector = ~0ull - 7; }},
    {"ReadIntoReadOnlyGrants", [](Spoil s) { s.request.indirect_op = BLKIF_OP_READ; }},
};

void PrintTo(const BadIndirect& bad, std::ostream* out)
{
    *out << bad.name;
}

class ConformBadIndirect : public Conform, public testing::WithParamInterface<BadIndirect> {};

INSTANTIATE_TEST_SUITE_P(Each, ConformBadIndirect, testing::ValuesIn(kBadIndirect),
                         [](const auto& info) { return info.param.name; });

TEST_P(ConformBadIndirect, FailsAlone)
{
    NEEDS(offers().indirect >= 20, "indirect requests of 20 segments");
    connect();
    xen::Pages pages(20, Access::read_only);
    fill(pages.all(), 2);
    Descriptors good_segments(20), bad_segments(20);
    good_segments.describe(pages, 20);
    bad_segments.describe(pages, 20);
    const guest::Indirect good = good_segments.request(BLKIF_OP_WRITE, 8, 20);
    guest::Indirect bad = bad_segments.request(BLKIF_OP_WRITE, 8, 20);
    GetParam().spoil({bad, bad_segments, offers().indirect});
    const auto stored = disk().stored(8, 20 * 4096);
    EXPECT_PRED1(failed, frontend().run(bad));
    EXPECT_TRUE(disk().stored(8, 20 * 4096) == stored);

    for (std::uint64_t i = 0; i < 5; i++) {
        guest::Indirect one = i == 2 ? bad : good;
        one.id = i;
        frontend().put(one);
    }
    frontend().push();
    const auto responses = frontend().wait_all();
    EXPECT_EQ(responses.size(), 5u);
    for (const guest::Response& response : responses)
        EXPECT_EQ(failed(response.status), response.id == 2) << response.id;
    EXPECT_TRUE(disk().stored(8, 20 * 4096) == pattern(2, 20 * 4096));
    expect_alive(frontend());
}

// --- in any ring ---------------------------------------------------------------------------------

class ConformErrors : public Conform {};

TEST_F(ConformErrors, WhatIsNotOfferedIsRefused)
{
    NOT_RUN_ON(Backend::qdisk, "its answer names another operation: the case ends there");
    connect();
    xen::Pages page(1, Access::read_write);
    if (!offers().indirect) {
        Descriptors segments(1);
        segments.describe(page, 1);
        EXPECT_PRED1(failed, frontend().run(segments.request(BLKIF_OP_READ, 0, 1)));
    }
    if (!offers().discard) {
        const auto stored = disk().stored(8, 4096);
        guest::Discard discard;
        discard.sector = 8;
        discard.sectors = 8;
        EXPECT_PRED1(failed, frontend().run(discard));
        EXPECT_TRUE(disk().stored(8, 4096) == stored);
    }
    if (!offers().barrier) {
        EXPECT_PRED1(failed, frontend().run(request(BLKIF_OP_WRITE_BARRIER, 0, page, 0, 1)));
    }
    expect_alive(frontend());
}

TEST_F(ConformErrors, WholeRingsOfThemAreAnswered)
{
    connect({.order = offers().ring_order, .queues = offers().queues});
    std::vector<std::size_t> answered(frontend().queues());
    std::size_t sent = 0;
    for (std::size_t i = 0; i < frontend().queues(); i++) {
        Queue& queue = frontend().queue(i);
        while (queue.outstanding() < std::min(queue.entries(), 32u)) {
            guest::Request bad = request(queue.outstanding() % 2 ? std::uint8_t{BLKIF_OP_READ}
                                                                 : std::uint8_t{77});
            bad.nr_segments = 11;
            for (auto& segment : bad.seg)
                segment = {kNeverGranted, 0, 7, 0};
            queue.put(bad);
            sent++;
        }
        queue.push();
    }
    for (; sent; sent--) {
        const auto response = frontend().wait_any();
        ASSERT_TRUE(response) << sent << " are not answered";
        EXPECT_PRED1(failed, response->second.status);
    }
    expect_alive(frontend());
}

// It rewrites the segments while they are read. Anything may come back, but it comes back.
TEST_F(ConformErrors, DescriptorsMayChangeWhileTheyAreRead)
{
    NEEDS(offers().indirect, "indirect requests");
    connect();
    const std::size_t number = std::min(offers().indirect, 64u);
    xen::Pages pages(number, Access::read_write);
    Descriptors segments(number);
    std::mt19937_64 random(7);
    for (int round = 0; round < 10; round++) {
        segments.describe(pages, number);
        for (int i = 0; i < 8; i++)
            frontend().put(segments.request(BLKIF_OP_READ, 0, number));
        frontend().push();
        for (int i = 0; i < 1000; i++) {
            // Not the low bytes of a grant: they might name another page of this very domain.
            auto& victim = segments[random() % number];
            reinterpret_cast<volatile std::uint8_t*>(&victim)[2 + random() % 4] =
                static_cast<std::uint8_t>(random());
        }
        ASSERT_EQ(frontend().wait_all().size(), 8u);
    }
    EXPECT_EQ(vbd().state(), kConnected);
    expect_alive(frontend());
}

} // namespace
