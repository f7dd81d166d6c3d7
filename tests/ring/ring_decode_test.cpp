// SPDX-License-Identifier: GPL-2.0-only
//
// A guest's entry to a valid request, in every ABI: what goes in comes out,
// and everything that must be refused is, for the reason that comes first.

#include "tests/ring/decode_fixture.hpp"

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace {

INSTANTIATE_TEST_SUITE_P(Abi, Decode, testing::ValuesIn(guest::kAbis),
                         [](const auto& info) { return guest::name(info.param); });

TEST_P(Decode, TableAgreesWithTheWireStructs)
{
    EXPECT_EQ(abi.entry_bytes, guest::request_bytes(GetParam()));
    EXPECT_EQ(abi.response_bytes, guest::response_bytes(GetParam()));
    EXPECT_GE(abi.entry_bytes, abi.response_bytes);
}

TEST_P(Decode, EveryFieldComesOutAsItWentIn)
{
    std::mt19937_64 random(1);
    disk.sectors = kMax;
    for (int round = 0; round < 2000; round++) {
        wire.operation = static_cast<std::uint8_t>(random() % 4);
        wire.handle = static_cast<std::uint16_t>(random());
        wire.id = random();
        wire.sector = random() >> 1;
        wire.nr_segments = static_cast<std::uint8_t>(1 + random() % 11);
        std::uint32_t bytes = 0;
        for (blkif_wire_segment& s : wire.seg) {
            s.gref = static_cast<std::uint32_t>(random());
            s.first_sect = static_cast<std::uint8_t>(random() % 8);
            s.last_sect = static_cast<std::uint8_t>(s.first_sect + random() % (8u - s.first_sect));
            s.pad = static_cast<std::uint16_t>(random());
        }
        ASSERT_EQ(decode(static_cast<unsigned char>(random())), BLKIF_VALID);
        ASSERT_EQ(request.op, wire.operation);
        ASSERT_EQ(request.id, wire.id);
        ASSERT_EQ(request.sector, wire.sector);
        ASSERT_EQ(request.nr_segs, wire.nr_segments);
        for (std::size_t i = 0; i < wire.nr_segments; i++) {
            ASSERT_EQ(seg[i].gref, wire.seg[i].gref);
            ASSERT_EQ(seg[i].offset, wire.seg[i].first_sect * 512u);
            ASSERT_EQ(seg[i].length,
                      (wire.seg[i].last_sect - wire.seg[i].first_sect + 1) * 512u);
            bytes += seg[i].length;
        }
        ASSERT_EQ(request.bytes, bytes);
    }
}

TEST_P(Decode, NothingBeyondTheEntryMatters)
{
    ASSERT_EQ(decode(0x00), BLKIF_VALID);
    const blkif_request first = request;
    ASSERT_EQ(decode(0xff), BLKIF_VALID);
    EXPECT_EQ(std::memcmp(&first, &request, sizeof request), 0);
}

TEST_P(Decode, EveryOperationThatIsNotOfferedIsUnknown)
{
    for (int op = 0; op < 256; op++) {
        wire.operation = static_cast<std::uint8_t>(op);
        EXPECT_EQ(decode(), op <= BLKIF_OP_FLUSH_DISKCACHE ? BLKIF_VALID : BLKIF_UNKNOWN_OPERATION)
            << op;
        EXPECT_EQ(request.id, wire.id);
        EXPECT_EQ(request.op, op);
    }
}

TEST_P(Decode, SegmentsAreWithinThePageAndInOrder)
{
    for (int first = 0; first < 256; first++)
        for (int last = 0; last < 256; last++) {
            wire.seg[0].first_sect = static_cast<std::uint8_t>(first);
            wire.seg[0].last_sect = static_cast<std::uint8_t>(last);
            const bool good = last <= 7 && first <= last;
            ASSERT_EQ(decode(), good ? BLKIF_VALID : BLKIF_BAD_SEGMENT) << first << ".." << last;
        }
}

TEST_P(Decode, ABadSegmentIsFoundInEveryPlace)
{
    wire.nr_segments = 11;
    for (blkif_wire_segment& seg : wire.seg)
        seg = {1, 0, 7, 0};
    ASSERT_EQ(decode(), BLKIF_VALID);
    EXPECT_EQ(request.bytes, 11u * 4096);
    for (blkif_wire_segment& seg : wire.seg) {
        seg.last_sect = 8;
        EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT);
        seg.last_sect = 7;
    }
}

TEST_P(Decode, SegmentsThatAreNotCountedAreNotLookedAt)
{
    wire.seg[1] = {0xffffffff, 255, 255, 0xffff};
    EXPECT_EQ(decode(), BLKIF_VALID);
}

TEST_P(Decode, AtMostElevenSegments)
{
    for (blkif_wire_segment& seg : wire.seg)
        seg = {1, 0, 0, 0};
    for (int op = BLKIF_OP_READ; op <= BLKIF_OP_FLUSH_DISKCACHE; op++)
        for (int n = 1; n < 256; n++) {
            wire.operation = static_cast<std::uint8_t>(op);
            wire.nr_segments = static_cast<std::uint8_t>(n);
            ASSERT_EQ(decode(), n <= 11 ? BLKIF_VALID : BLKIF_BAD_SEGMENT_COUNT) << n;
        }
}

TEST_P(Decode, OnlyFlushAndBarrierComeWithoutData)
{
    wire.nr_segments = 0;
    wire.operation = BLKIF_OP_READ;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT_COUNT);
    wire.operation = BLKIF_OP_WRITE;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT_COUNT);
    for (std::uint8_t op : {BLKIF_OP_WRITE_BARRIER, BLKIF_OP_FLUSH_DISKCACHE}) {
        wire.operation = op;
        wire.sector = kMax; // means nothing without data
        EXPECT_EQ(decode(), BLKIF_VALID);
        EXPECT_EQ(request.sector, 0u);
        EXPECT_EQ(request.bytes, 0u);
        EXPECT_EQ(request.nr_segs, 0u);
    }
}

TEST_P(Decode, AReadOnlyDiskRefusesEverythingThatCarriesDataToIt)
{
    disk.read_only = true;
    for (int op = 0; op < 4; op++) {
        wire.operation = static_cast<std::uint8_t>(op);
        EXPECT_EQ(decode(), op == BLKIF_OP_READ ? BLKIF_VALID : BLKIF_READ_ONLY_DISK) << op;
    }
    wire.nr_segments = 0;
    wire.operation = BLKIF_OP_FLUSH_DISKCACHE;
    EXPECT_EQ(decode(), BLKIF_VALID);
    wire.operation = BLKIF_OP_WRITE_BARRIER;
    EXPECT_EQ(decode(), BLKIF_VALID);
}

TEST_P(Decode, TheRangeEndsWhereTheDiskEnds)
{
    wire.nr_segments = 2;
    wire.seg[1] = {8, 3, 3, 0}; // 8 + 1 sectors
    struct Case {
        std::uint64_t sectors, sector;
        bool good;
    };
    for (const Case& c : {Case{1024, 1015, true}, Case{1024, 1016, false}, Case{1024, 1024, false},
                          Case{1024, 1025, false}, Case{9, 0, true}, Case{8, 0, false},
                          Case{1, 0, false}, Case{1024, kMax, false}, Case{1024, kMax - 8, false},
                          Case{1024, kMax - 9, false}, Case{kMax, kMax - 9, true},
                          Case{kMax, kMax - 8, false}, Case{kMax, kMax, false},
                          Case{1024, 1ull << 63, false}, Case{1024, 1ull << 32, false},
                          Case{(1ull << 32) + 9, 1ull << 32, true}}) {
        disk.sectors = c.sectors;
        wire.sector = c.sector;
        EXPECT_EQ(decode(), c.good ? BLKIF_VALID : BLKIF_OUT_OF_RANGE)
            << c.sector << " of " << c.sectors;
    }
}

TEST_P(Decode, LargerLogicalBlocksMustBeWhole)
{
    for (std::uint32_t size : {1024u, 2048u, 4096u}) {
        disk.sector_size = size;
        const unsigned per_block = size / 512;
        for (unsigned first = 0; first < 8; first++)
            for (unsigned last = first; last < 8; last++) {
                wire.sector = 0;
                wire.seg[0].first_sect = static_cast<std::uint8_t>(first);
                wire.seg[0].last_sect = static_cast<std::uint8_t>(last);
                const bool whole = first % per_block == 0 && (last + 1) % per_block == 0;
                ASSERT_EQ(decode(), whole ? BLKIF_VALID : BLKIF_MISALIGNED)
                    << size << ": " << first << ".." << last;
            }
        wire.seg[0] = {7, 0, 7, 0};
        for (std::uint64_t sector = 0; sector < 64; sector++) {
            wire.sector = sector;
            ASSERT_EQ(decode(), sector % per_block == 0 ? BLKIF_VALID : BLKIF_MISALIGNED);
        }
    }
}

TEST_P(Decode, ACapacityThatIsNotWholeBlocksHidesItsTail)
{
    disk = make_disk(1023, 4096);
    wire.sector = 1008;
    EXPECT_EQ(decode(), BLKIF_VALID);
    wire.sector = 1016;
    EXPECT_EQ(decode(), BLKIF_OUT_OF_RANGE);
}

// One request with every fault, mended one fault at a time.
TEST_P(Decode, TheReasonsComeInTheirDocumentedOrder)
{
    disk = make_disk(1024, 4096, true);
    wire.operation = BLKIF_OP_DISCARD;
    wire.nr_segments = 12;
    wire.sector = kMax;
    wire.seg[0] = {7, 3, 2, 0};
    wire.seg[1] = {7, 1, 7, 0};
    EXPECT_EQ(decode(), BLKIF_UNKNOWN_OPERATION);
    wire.operation = BLKIF_OP_WRITE;
    EXPECT_EQ(decode(), BLKIF_READ_ONLY_DISK);
    disk.read_only = false;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT_COUNT);
    wire.nr_segments = 2;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT);
    wire.seg[0] = {7, 0, 7, 0};
    EXPECT_EQ(decode(), BLKIF_MISALIGNED);
    wire.seg[1] = {7, 0, 7, 0};
    EXPECT_EQ(decode(), BLKIF_MISALIGNED); // the sector number
    wire.sector = 1016;
    EXPECT_EQ(decode(), BLKIF_OUT_OF_RANGE);
    wire.sector = 1008;
    EXPECT_EQ(decode(), BLKIF_VALID);
}

TEST(Ring, HasAsManyEntriesAsTheGuestThinks)
{
    for (guest::Abi abi : guest::kAbis)
        for (unsigned order = 0; order <= BLKIF_RING_ORDER_MAX; order++) {
            EXPECT_EQ(blkif_ring_entries(&guest::table(abi), RING_PAGE_SIZE << order),
                      guest::ring_entries(abi, order)) << guest::name(abi) << " " << order;
            EXPECT_EQ(guest::ring_entries(abi, order), 32u << order);
        }
}

TEST_P(Decode, OnlyAnUnknownOperationIsAnsweredAsSuch)
{
    for (int v = BLKIF_UNKNOWN_OPERATION; v <= BLKIF_OUT_OF_RANGE; v++)
        EXPECT_EQ(blkif_refusal(static_cast<blkif_verdict>(v)),
                  v == BLKIF_UNKNOWN_OPERATION ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR);
}

// ERROR (-1) and EOPNOTSUPP (-2) of a flush are a success to Linux' blkfront, and EOPNOTSUPP of
// anything is one to Windows' xenvbd.
TEST(Status, NoFailureIsTakenForASuccess)
{
    for (const std::uint8_t op : {BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_WRITE_BARRIER}) {
        EXPECT_EQ(blkif_status(op, 0), BLKIF_RSP_OKAY);
        for (int error = 1; error <= 4095; error++)
            ASSERT_LT(blkif_status(op, -error), BLKIF_RSP_EOPNOTSUPP) << +op << " " << error;
    }
    for (const std::uint8_t op : {BLKIF_OP_READ, BLKIF_OP_WRITE}) {
        EXPECT_EQ(blkif_status(op, 0), BLKIF_RSP_OKAY);
        for (int error = 1; error <= 4095; error++)
            ASSERT_EQ(blkif_status(op, -error), BLKIF_RSP_ERROR) << +op << " " << error;
    }
}

TEST(Status, ADiscardMayTurnOutNotToBeSupported)
{
    EXPECT_EQ(blkif_status(BLKIF_OP_DISCARD, 0), BLKIF_RSP_OKAY);
    EXPECT_EQ(blkif_status(BLKIF_OP_DISCARD, -EOPNOTSUPP), BLKIF_RSP_EOPNOTSUPP);
    EXPECT_EQ(blkif_status(BLKIF_OP_DISCARD, -EIO), BLKIF_RSP_ERROR);
}

TEST_P(Decode, AResponseIsWhatTheGuestExpectsAndLeaksNothing)
{
    for (std::uint32_t position = 0; position < 32; position++) {
        alignas(8) unsigned char page[RING_PAGE_SIZE];
        std::vector<unsigned char> expected(sizeof page, 0xaa);
        std::memset(page, 0xaa, sizeof page);
        blkif_put_response(&abi, reinterpret_cast<blkif_sring*>(page), position, 0x8877665544332211,
                           BLKIF_OP_FLUSH_DISKCACHE, BLKIF_RSP_EOPNOTSUPP);
        unsigned char* entry = guest::entry_at(page, GetParam(), position);
        EXPECT_EQ(guest::take_response(entry, GetParam()),
                  (guest::Response{0x8877665544332211, 3, -2}));

        // Named fields, zero in between, and not a byte outside.
        std::memset(&expected[static_cast<std::size_t>(entry - page)], 0,
                    guest::response_bytes(GetParam()));
        std::memset(entry, 0, 9);
        std::memset(entry + 10, 0, 2);
        EXPECT_EQ(std::memcmp(page, expected.data(), sizeof page), 0) << position;
    }
}

} // namespace
