// SPDX-License-Identifier: GPL-2.0-only
//
// A guest that sends bad requests: each gets an error response and is counted
// once, and the vbd lives.

#include "tests/frontend/disk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <utility>

using namespace std::chrono_literals;
using Access = xen::Pages::Access;

namespace {

struct BadRequest {
    const char* name;
    std::function<void(guest::Request&)> spoil; // an honest write of two pages at sector 8
    std::int16_t status = BLKIF_RSP_ERROR;
    const char* counter = "bad_requests";
};

constexpr std::uint64_t kSectors = 32768;
constexpr std::uint32_t kNeverGranted = 0x7ffffff0;

const BadRequest kBadRequests[] = {
    {"PastTheEnd", [](auto& r) { r.sector = kSectors - 15; }},
    {"BehindTheEnd", [](auto& r) { r.sector = kSectors; }},
    {"WhereTheSumOverflows", [](auto& r) { r.sector = ~0ull - 7; }},
    {"AtTheLargestSector", [](auto& r) { r.sector = ~0ull; }},
    {"WithoutSegments", [](auto& r) { r.nr_segments = 0; }},
    {"ReadWithoutSegments", [](auto& r) { r.nr_segments = 0, r.operation = BLKIF_OP_READ; }},
    {"WithTwelveSegments", [](auto& r) { r.nr_segments = 12; }},
    {"With255Segments", [](auto& r) { r.nr_segments = 255; }},
    {"FlushWith12Segments",
     [](auto& r) { r.nr_segments = 12, r.operation = BLKIF_OP_FLUSH_DISKCACHE; }},
    {"LastSectorOutsideThePage", [](auto& r) { r.seg[1].last_sect = 8; }},
    {"BothSectorsOutsideThePage", [](auto& r) { r.seg[1] = {r.seg[1].gref, 200, 255, 0}; }},
    {"SectorsInWrongOrder", [](auto& r) { r.seg[1] = {r.seg[1].gref, 5, 4, 0}; }},
    {"UnusedOperation", [](auto& r) { r.operation = 4; }, BLKIF_RSP_EOPNOTSUPP},
    {"DiscardPastTheEnd", [](auto& r) { r.operation = BLKIF_OP_DISCARD; }},
    {"IndirectWithoutSegments", [](auto& r) { r.operation = BLKIF_OP_INDIRECT; }},
    {"Operation255", [](auto& r) { r.operation = 255; }, BLKIF_RSP_EOPNOTSUPP},
    {"GrantNeverGiven", [](auto& r) { r.seg[0].gref = kNeverGranted; }, BLKIF_RSP_ERROR,
     "bad_grants"},
    {"SecondGrantNeverGiven", [](auto& r) { r.seg[1].gref = kNeverGranted; }, BLKIF_RSP_ERROR,
     "bad_grants"},
    {"NoGrantEverGiven",
     [](auto& r) { r.seg[0].gref = kNeverGranted, r.seg[1].gref = kNeverGranted + 1; },
     BLKIF_RSP_ERROR, "bad_grants"},
    {"GrantOfTheLargestNumber", [](auto& r) { r.seg[0].gref = ~0u; }, BLKIF_RSP_ERROR,
     "bad_grants"},
    {"ReadIntoReadOnlyGrant", [](auto& r) { r.operation = BLKIF_OP_READ; }, BLKIF_RSP_ERROR,
     "bad_grants"},
};

void PrintTo(const BadRequest& bad, std::ostream* out)
{
    *out << bad.name;
}

// One vbd takes them all: that is part of the proof.
class BadRequests : public testing::TestWithParam<BadRequest> {
protected:
    static void SetUpTestSuite()
    {
        disk = new Disk;
        frontend = new Frontend(disk->vbd());
        ASSERT_TRUE(frontend->connect());
    }
    static void TearDownTestSuite()
    {
        delete std::exchange(frontend, nullptr);
        delete std::exchange(disk, nullptr);
    }

    static inline Disk* disk;
    static inline Frontend* frontend;
};

INSTANTIATE_TEST_SUITE_P(Each, BadRequests, testing::ValuesIn(kBadRequests),
                         [](const auto& info) { return info.param.name; });

TEST_P(BadRequests, FailAloneAndAreCountedOnce)
{
    xen::Pages pages(2, Access::read_only);
    std::ranges::fill(pages.all(), 0x66);
    guest::Request good = request(BLKIF_OP_WRITE, 8, pages, 0, 2);
    guest::Request bad = good;
    GetParam().spoil(bad);

    const auto stored = disk->stored(8, 8192);

    // Alone, ...
    Counters before = disk->vbd().counters();
    EXPECT_EQ(frontend->run(bad), GetParam().status);
    Counters after = disk->vbd().counters();
    expect_trouble(before, after, {{GetParam().counter, 1}});
    EXPECT_EQ(after.at("responses_error") - before.at("responses_error"), 1u);
    EXPECT_EQ(after.at("bytes_written"), before.at("bytes_written"));
    EXPECT_EQ(disk->stored(8, 8192), stored);
    expect_alive(*frontend);

    // ... and in the middle of good ones.
    before = disk->vbd().counters();
    for (std::uint64_t i = 0; i < 9; i++) {
        guest::Request one = i == 4 ? bad : good;
        one.id = i;
        frontend->put(one);
    }
    frontend->push();
    const auto responses = frontend->wait_all();
    EXPECT_EQ(responses.size(), 9u);
    for (const guest::Response& response : responses)
        EXPECT_EQ(response.status,
                  response.id == 4 ? GetParam().status : std::int16_t{BLKIF_RSP_OKAY});
    expect_trouble(before, disk->vbd().counters(), {{GetParam().counter, 1}});
    expect_alive(*frontend);
}

TEST(BadGuest, FillsTheRingWithBadRequestsOnly)
{
    Disk disk;
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    for (const bool grants : {false, true}) {
        const Counters before = disk.vbd().counters();
        for (std::uint64_t i = 0; i < 32; i++) {
            guest::Request bad = request(grants ? std::uint8_t{BLKIF_OP_READ} : std::uint8_t{77});
            bad.nr_segments = 11;
            for (auto& seg : bad.seg)
                seg = {kNeverGranted, 0, 7, 0};
            frontend.put(bad);
        }
        frontend.push();
        ASSERT_EQ(frontend.wait_all().size(), 32u);
        expect_trouble(before, disk.vbd().counters(),
                       {{grants ? "bad_grants" : "bad_requests", 32}});
        expect_alive(frontend);
    }
}

TEST(BadGuest, WritesToAReadOnlyDisk)
{
    Disk disk({.writable = false});
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(1, Access::read_write);
    const Counters before = disk.vbd().counters();
    EXPECT_EQ(frontend.run(request(BLKIF_OP_WRITE, 0, pages, 0, 1)), BLKIF_RSP_ERROR);
    EXPECT_EQ(frontend.run(request(BLKIF_OP_WRITE_BARRIER, 0, pages, 0, 1)), BLKIF_RSP_ERROR);
    expect_trouble(before, disk.vbd().counters(), {{"bad_requests", 2}});
    EXPECT_EQ(disk.stored(0, 4096), Disk::original(0, 4096));
    EXPECT_EQ(frontend.run(request(BLKIF_OP_READ, 0, pages, 0, 1)), BLKIF_RSP_OKAY);
}

TEST(BadGuest, NamesAGrantThatItHasTakenBack)
{
    Disk disk;
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    auto pages = std::make_unique<xen::Pages>(1, Access::read_write);
    const guest::Request read = request(BLKIF_OP_READ, 0, *pages, 0, 1);
    ASSERT_EQ(frontend.run(read), BLKIF_RSP_OKAY);
    pages.reset();
    const Counters before = disk.vbd().counters();
    EXPECT_EQ(frontend.run(read), BLKIF_RSP_ERROR);
    expect_trouble(before, disk.vbd().counters(), {{"bad_grants", 1}});
    expect_alive(frontend);
}

// It rewrites its ring while the module reads it. Anything may come back, but it comes back.
TEST(BadGuest, ChangesItsRequestsWhileTheyAreRead)
{
    Disk disk;
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    xen::Pages pages(11, Access::read_write);
    std::mt19937_64 random(11);
    const auto end = std::chrono::steady_clock::now() + 3s;
    while (std::chrono::steady_clock::now() < end) {
        const std::uint32_t first = frontend.produced();
        for (std::uint64_t i = 0; i < 32; i++)
            frontend.put(request(BLKIF_OP_READ, i * 88, pages, 0, 11));
        frontend.push();
        for (int i = 0; i < 20000 && frontend.ring()->rsp_prod == first; i++) {
            const auto at = random();
            static_cast<volatile std::uint8_t*>(
                frontend.entry(static_cast<std::uint32_t>(at)))[at >> 32 & 63] =
                static_cast<std::uint8_t>(at >> 56);
        }
        ASSERT_EQ(frontend.wait_all().size(), 32u);
    }
    EXPECT_EQ(disk.vbd().state(), kConnected);
    expect_alive(frontend, 20000);
}

TEST(BadGuest, SendsEventsWithoutRequests)
{
    Disk disk;
    Frontend frontend(disk.vbd());
    ASSERT_TRUE(frontend.connect());
    for (int i = 0; i < 20000; i++)
        frontend.channel().notify();
    expect_alive(frontend);
}

} // namespace
