// SPDX-License-Identifier: GPL-2.0-only
//
// What a guest puts on its ring, as it comes out of the decoder; in each ABI.
#ifndef TESTS_RING_DECODE_FIXTURE_HPP
#define TESTS_RING_DECODE_FIXTURE_HPP

#include "ring/blkif_decode.h"
#include "ring/blktap_abi.h"
#include "tests/support/guest_entry.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>

inline constexpr std::uint64_t kMax = UINT64_MAX;

inline blkif_disk make_disk(std::uint64_t sectors, std::uint32_t sector_size,
                            bool read_only = false)
{
    blkif_disk disk{};
    disk.sectors = sectors;
    disk.sector_size = sector_size;
    disk.read_only = read_only;
    return disk;
}

class Decode : public testing::TestWithParam<guest::Abi> {
protected:
    Decode()
    {
        wire.operation = BLKIF_OP_WRITE;
        wire.nr_segments = 1;
        wire.id = 0x1122334455667788;
        wire.seg[0] = {7, 0, 7, 0};
    }

    // All but the segments of what the guest put on its ring.
    template <class Wire>
    blkif_verdict decode_head(const Wire& what, unsigned char beyond = 0xee)
    {
        alignas(8) unsigned char page[RING_PAGE_SIZE];
        std::memset(page, beyond, sizeof page);
        guest::put_request(guest::entry_at(page, GetParam(), 3), GetParam(), what);
        std::memset(&entry, beyond, sizeof entry);
        blkif_fetch(&entry, &abi, reinterpret_cast<blkif_sring*>(page), 3);
        return blkif_decode(&request, &abi, &entry, &disk);
    }

    blkif_verdict decode(unsigned char beyond = 0xee)
    {
        const blkif_verdict verdict = decode_head(wire, beyond);
        if (verdict != BLKIF_VALID)
            return verdict;
        return blkif_decode_segments(&request, seg.data(), blkif_direct_segments(&abi, &entry),
                                     &disk);
    }

    const blkif_abi& abi = guest::table(GetParam());
    blkif_disk disk = make_disk(1024, 512);
    guest::Request wire;
    blkif_entry entry;
    blkif_request request{};
    std::array<blkif_segment, BLKTAP_SEGS_MAX> seg{};
};

#endif
