// SPDX-License-Identifier: GPL-2.0-only
//
// The two kinds of entries that look different: discards, and requests whose
// segments lie in a page of their own.

#include "tests/ring/decode_fixture.hpp"

#include <cstdint>
#include <cstring>
#include <random>

namespace {

// --- discards ------------------------------------------------------------------------------------

class DecodeDiscard : public Decode {
protected:
    DecodeDiscard()
    {
        disk.discard = true;
        discard.id = 0x1122334455667788;
        discard.sector = 8;
        discard.sectors = 1016;
    }
    blkif_verdict decode() { return decode_head(discard); }

    guest::Discard discard;
};

INSTANTIATE_TEST_SUITE_P(Abi, DecodeDiscard, testing::ValuesIn(guest::kAbis),
                         [](const auto& info) { return guest::name(info.param); });

TEST_P(DecodeDiscard, IsARangeWithoutData)
{
    ASSERT_EQ(decode(), BLKIF_VALID);
    EXPECT_EQ(request.op, BLKIF_OP_DISCARD);
    EXPECT_EQ(request.id, discard.id);
    EXPECT_EQ(request.sector, 8u);
    EXPECT_EQ(request.discard_sectors, 1016u);
    EXPECT_EQ(request.nr_segs, 0u);
    EXPECT_EQ(request.bytes, 0u);
    EXPECT_FALSE(request.secure);
    EXPECT_FALSE(request.indirect);
}

// Its flag lies where other requests count their segments.
TEST_P(DecodeDiscard, OnlyItsLowestFlagMeansAnything)
{
    disk.secure_discard = true;
    for (int flag = 0; flag < 256; flag++) {
        discard.flag = static_cast<std::uint8_t>(flag);
        EXPECT_EQ(decode(), BLKIF_VALID);
        EXPECT_EQ(request.secure, flag % 2 == 1);
        EXPECT_EQ(request.nr_segs, 0u);
    }
}

TEST_P(DecodeDiscard, TheSecureFlagIsIgnoredWhereItWasNotOffered)
{
    discard.flag = guest::Discard::kSecure;
    EXPECT_EQ(decode(), BLKIF_VALID);
    EXPECT_FALSE(request.secure);
    disk.secure_discard = true;
    EXPECT_EQ(decode(), BLKIF_VALID);
    EXPECT_TRUE(request.secure);
}

TEST_P(DecodeDiscard, WhatWasNotOfferedIsUnknown)
{
    disk.discard = false;
    for (const std::uint8_t flag : {std::uint8_t{0}, guest::Discard::kSecure}) {
        discard.flag = flag;
        EXPECT_EQ(decode(), BLKIF_UNKNOWN_OPERATION);
    }
}

TEST_P(DecodeDiscard, TheRangeEndsWhereTheDiskEnds)
{
    struct Case {
        std::uint64_t sectors, first, count;
        bool good;
    };
    for (const Case& c : {Case{1024, 0, 1024, true}, Case{1024, 0, 1025, false},
                          Case{1024, 1023, 1, true}, Case{1024, 1023, 2, false},
                          Case{1024, 1024, 1, false}, Case{1024, 0, kMax, false},
                          Case{1024, kMax, 1, false}, Case{1024, 2, kMax, false},
                          Case{1024, kMax, kMax, false}, Case{1024, 1ull << 63, 1ull << 63, false},
                          Case{kMax, 0, kMax, true}, Case{kMax, 1, kMax, false}}) {
        disk.sectors = c.sectors;
        discard.sector = c.first;
        discard.sectors = c.count;
        EXPECT_EQ(decode(), c.good ? BLKIF_VALID : BLKIF_OUT_OF_RANGE)
            << c.count << " from " << c.first << " of " << c.sectors;
    }
}

TEST_P(DecodeDiscard, TheReasonsComeInTheirDocumentedOrder)
{
    disk = make_disk(1024, 4096, true);
    discard.sectors = 0;
    discard.sector = kMax;
    EXPECT_EQ(decode(), BLKIF_UNKNOWN_OPERATION);
    disk.discard = true;
    EXPECT_EQ(decode(), BLKIF_READ_ONLY_DISK);
    disk.read_only = false;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT_COUNT);
    discard.sectors = 12;
    EXPECT_EQ(decode(), BLKIF_MISALIGNED);
    discard.sectors = 16;
    EXPECT_EQ(decode(), BLKIF_MISALIGNED); // the sector number
    discard.sector = 1016;
    EXPECT_EQ(decode(), BLKIF_OUT_OF_RANGE);
    discard.sector = 1008;
    EXPECT_EQ(decode(), BLKIF_VALID);
}

// --- indirect requests ---------------------------------------------------------------------------

class DecodeIndirect : public Decode {
protected:
    DecodeIndirect()
    {
        disk.max_indirect = BLKTAP_SEGS_MAX;
        disk.sectors = 1 << 20;
        indirect.indirect_op = BLKIF_OP_WRITE;
        indirect.nr_segments = BLKTAP_SEGS_MAX;
        indirect.id = 0x1122334455667788;
        indirect.sector = 8;
        indirect.pages = {71, 72, 73, 74, 75, 76, 77, 78};
        page.fill({7, 0, 7, 0});
    }
    blkif_verdict decode()
    {
        const blkif_verdict verdict = decode_head(indirect);
        if (verdict != BLKIF_VALID)
            return verdict;
        return blkif_decode_segments(&request, seg.data(), page.data(), &disk);
    }

    guest::Indirect indirect;
    // The caller's copy of the page that it names.
    std::array<blkif_wire_segment, guest::Indirect::kSegmentsPerPage> page;
};

INSTANTIATE_TEST_SUITE_P(Abi, DecodeIndirect, testing::ValuesIn(guest::kAbis),
                         [](const auto& info) { return guest::name(info.param); });

TEST_P(DecodeIndirect, IsTheRequestThatIsMeant)
{
    for (std::uint8_t op : {BLKIF_OP_READ, BLKIF_OP_WRITE}) {
        indirect.indirect_op = op;
        ASSERT_EQ(decode(), BLKIF_VALID);
        EXPECT_EQ(request.op, op);
        EXPECT_TRUE(request.indirect);
        EXPECT_EQ(request.id, indirect.id);
        EXPECT_EQ(request.sector, 8u);
        EXPECT_EQ(request.nr_segs, BLKTAP_SEGS_MAX);
        EXPECT_EQ(request.descriptors, 71u);
        EXPECT_EQ(request.bytes, BLKTAP_SEGS_MAX * 4096);
        EXPECT_EQ(request.discard_sectors, 0u);
    }
}

TEST_P(DecodeIndirect, EverySegmentComesOutAsItWentIn)
{
    std::mt19937_64 random(1);
    for (blkif_wire_segment& s : page) {
        s.gref = static_cast<std::uint32_t>(random());
        s.first_sect = static_cast<std::uint8_t>(random() % 8);
        s.last_sect = static_cast<std::uint8_t>(s.first_sect + random() % (8u - s.first_sect));
        s.pad = static_cast<std::uint16_t>(random());
    }
    ASSERT_EQ(decode(), BLKIF_VALID);
    std::uint32_t bytes = 0;
    for (std::size_t i = 0; i < BLKTAP_SEGS_MAX; i++) {
        ASSERT_EQ(seg[i].gref, page[i].gref);
        ASSERT_EQ(seg[i].offset, page[i].first_sect * 512u);
        ASSERT_EQ(seg[i].length, (page[i].last_sect - page[i].first_sect + 1) * 512u);
        bytes += seg[i].length;
    }
    EXPECT_EQ(request.bytes, bytes);
}

TEST_P(DecodeIndirect, SegmentsCanBeDecodedWhereTheyLie)
{
    ASSERT_EQ(decode(), BLKIF_VALID);
    const auto apart = seg;
    std::memcpy(seg.data(), page.data(), sizeof seg);
    ASSERT_EQ(decode_head(indirect), BLKIF_VALID);
    ASSERT_EQ(blkif_decode_segments(&request, seg.data(), seg.data(), &disk), BLKIF_VALID);
    EXPECT_EQ(std::memcmp(seg.data(), apart.data(), sizeof seg), 0);
}

TEST_P(DecodeIndirect, AtMostAsManySegmentsAsWereOffered)
{
    for (std::uint16_t most : {1, 32, 256}) {
        disk.max_indirect = most;
        for (unsigned n = 0; n < 65536; n++) {
            indirect.nr_segments = static_cast<std::uint16_t>(n);
            ASSERT_EQ(decode_head(indirect),
                      n >= 1 && n <= most ? BLKIF_VALID : BLKIF_BAD_SEGMENT_COUNT) << n;
        }
    }
}

TEST_P(DecodeIndirect, ReadsOrWritesAndNothingElse)
{
    for (int op = 0; op < 256; op++) {
        indirect.indirect_op = static_cast<std::uint8_t>(op);
        EXPECT_EQ(decode(), op <= BLKIF_OP_WRITE ? BLKIF_VALID : BLKIF_BAD_INDIRECT) << op;
        EXPECT_EQ(request.id, indirect.id);
    }
}

TEST_P(DecodeIndirect, ABadSegmentIsFoundInEveryPlace)
{
    for (std::size_t i = 0; i < page.size(); i++) {
        page[i].last_sect = 8;
        EXPECT_EQ(decode(), i < BLKTAP_SEGS_MAX ? BLKIF_BAD_SEGMENT : BLKIF_VALID) << i;
        page[i].last_sect = 7;
    }
}

TEST_P(DecodeIndirect, TheReasonsComeInTheirDocumentedOrder)
{
    disk = make_disk(4096, 4096, true);
    indirect.indirect_op = BLKIF_OP_DISCARD;
    indirect.nr_segments = 0;
    indirect.sector = kMax;
    page[0] = {7, 3, 2, 0};
    page[1] = {7, 1, 7, 0};
    EXPECT_EQ(decode(), BLKIF_UNKNOWN_OPERATION);
    disk.max_indirect = BLKTAP_SEGS_MAX;
    EXPECT_EQ(decode(), BLKIF_BAD_INDIRECT);
    indirect.indirect_op = BLKIF_OP_WRITE;
    EXPECT_EQ(decode(), BLKIF_READ_ONLY_DISK);
    disk.read_only = false;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT_COUNT);
    indirect.nr_segments = 256;
    EXPECT_EQ(decode(), BLKIF_BAD_SEGMENT);
    page[0] = {7, 0, 7, 0};
    EXPECT_EQ(decode(), BLKIF_MISALIGNED);
    page[1] = {7, 0, 7, 0};
    EXPECT_EQ(decode(), BLKIF_MISALIGNED); // the sector number
    indirect.sector = 2056;
    EXPECT_EQ(decode(), BLKIF_OUT_OF_RANGE);
    indirect.sector = 2048;
    EXPECT_EQ(decode(), BLKIF_VALID);
}

TEST(PhysicalSectorSize, DividesTheDisk)
{
    struct Case {
        std::uint64_t sectors;
        std::uint32_t sector_size, wanted, said;
    };
    for (const auto& [sectors, sector_size, wanted, said] :
         {Case{2048, 512, 4096, 4096}, {2049, 512, 4096, 512}, {2050, 512, 4096, 1024},
          {2052, 512, 4096, 2048}, {2056, 512, 4096, 4096}, {2056, 512, 512, 512},
          {2056, 4096, 4096, 4096}, {2056, 4096, 1u << 20, 4096}, {1, 512, 1u << 31, 512},
          {~0ull, 512, 4096, 512}, {1ull << 55, 512, 1u << 31, 1u << 31}}) {
        blkif_disk disk{};
        disk.sectors = sectors;
        disk.sector_size = sector_size;
        EXPECT_EQ(blkif_physical_sector_size(&disk, wanted), said) << sectors << " " << wanted;
    }
}

} // namespace
