// SPDX-License-Identifier: GPL-2.0-only
//
// Any bytes in a guest's ring entry and in the page of segments that it may
// name, any disk, any ABI.
//
// The oracle reads the entry by its wire struct and judges it sector by sector
// in arithmetic that cannot overflow. Both must agree on what is let through.

#include "ring/blkif_decode.h"
#include "ring/blktap_abi.h"
#include "tests/fuzz/input.h"
#include "tests/support/guest_entry.h"

#include <array>

namespace {

using Wide = unsigned __int128;

// What the guest said, whichever form it took.
struct Said {
    std::uint8_t operation = 0; // the one that is meant, of an indirect request
    bool indirect = false;
    std::uint64_t id = 0;
    std::uint64_t sector = 0;
    unsigned segments = 0;
    const blkif_wire_segment* seg = nullptr;
    std::uint32_t descriptors = 0;
    std::uint64_t discard_sectors = 0;
    bool secure = false;
};

template <class Wire>
Wire read_as(const void* entry)
{
    Wire wire;
    std::memcpy(&wire, entry, sizeof wire);
    return wire;
}

template <class Direct, class Indirect, class Discard>
Said listen(const void* entry, std::array<blkif_wire_segment, BLKIF_SEGS_PER_REQUEST>& direct_seg,
            const blkif_wire_segment* page)
{
    Said said;
    const auto direct = read_as<Direct>(entry);
    said.operation = direct.operation;
    said.id = direct.id;
    said.sector = direct.sector_number;
    if (direct.operation == BLKIF_OP_DISCARD) {
        const auto discard = read_as<Discard>(entry);
        FUZZ_CHECK(discard.id == said.id && discard.sector_number == said.sector);
        said.discard_sectors = discard.nr_sectors;
        said.secure = discard.flag & guest::Discard::kSecure;
    } else if (direct.operation == BLKIF_OP_INDIRECT) {
        const auto indirect = read_as<Indirect>(entry);
        FUZZ_CHECK(indirect.id == said.id && indirect.sector_number == said.sector);
        said.operation = indirect.indirect_op;
        said.indirect = true;
        said.segments = indirect.nr_segments;
        said.seg = page;
        std::memcpy(&said.descriptors, indirect.grefs, sizeof said.descriptors);
    } else {
        said.segments = direct.nr_segments;
        std::memcpy(direct_seg.data(), direct.seg, sizeof direct.seg);
        said.seg = direct_seg.data();
    }
    return said;
}

bool range_is_good(Wide sector, Wide sectors, const blkif_disk& disk)
{
    const unsigned block = disk.sector_size / 512;
    return sector % block == 0 && sectors % block == 0 && sector + sectors <= disk.sectors;
}

bool offered(const Said& said, const blkif_disk& disk)
{
    if (said.indirect)
        return disk.max_indirect && said.operation <= BLKIF_OP_WRITE;
    if (said.operation == BLKIF_OP_DISCARD)
        return disk.discard;
    return said.operation <= BLKIF_OP_FLUSH_DISKCACHE;
}

bool acceptable(const Said& said, const blkif_disk& disk)
{
    if (!offered(said, disk))
        return false;
    if (said.operation == BLKIF_OP_DISCARD)
        return !disk.read_only && said.discard_sectors &&
               range_is_good(said.sector, said.discard_sectors, disk);
    if (said.segments == 0)
        return said.operation == BLKIF_OP_FLUSH_DISKCACHE ||
               said.operation == BLKIF_OP_WRITE_BARRIER;
    if (said.segments > (said.indirect ? disk.max_indirect : unsigned{BLKIF_SEGS_PER_REQUEST}))
        return false;
    if (disk.read_only && said.operation != BLKIF_OP_READ)
        return false;

    const unsigned block = disk.sector_size / 512;
    Wide sectors = 0;
    for (unsigned i = 0; i < said.segments; i++) {
        const blkif_wire_segment& seg = said.seg[i];
        if (seg.first_sect > seg.last_sect || seg.last_sect > 7)
            return false;
        if (seg.first_sect % block || (seg.last_sect + 1) % block)
            return false;
        sectors += seg.last_sect + 1u - seg.first_sect;
    }
    return range_is_good(said.sector, sectors, disk);
}

void check_same(const blkif_request& request, const blkif_segment* seg, const Said& said,
                const blkif_disk& disk)
{
    std::uint32_t bytes = 0;
    for (unsigned i = 0; i < said.segments; i++) {
        FUZZ_CHECK(seg[i].gref == said.seg[i].gref);
        FUZZ_CHECK(seg[i].offset == 512 * said.seg[i].first_sect);
        FUZZ_CHECK(seg[i].offset + seg[i].length == 512 * (said.seg[i].last_sect + 1));
        bytes += seg[i].length;
    }
    const bool discards = said.operation == BLKIF_OP_DISCARD;
    FUZZ_CHECK(request.op == said.operation);
    FUZZ_CHECK(request.indirect == said.indirect);
    FUZZ_CHECK(request.descriptors == said.descriptors);
    FUZZ_CHECK(request.nr_segs == said.segments);
    FUZZ_CHECK(request.bytes == bytes);
    FUZZ_CHECK(request.sector == (bytes || discards ? said.sector : 0));
    FUZZ_CHECK(request.discard_sectors == said.discard_sectors);
    FUZZ_CHECK(request.secure == (said.secure && disk.secure_discard));
}

blkif_disk take_disk(Input& input)
{
    const auto shape = input.take<std::uint8_t>();
    blkif_disk disk{};
    disk.sector_size = 512u << (shape & 3);
    disk.read_only = shape & 4;
    disk.discard = shape & 8;
    disk.secure_discard = shape & 16;
    disk.max_indirect = input.take<std::uint16_t>() % (BLKTAP_SEGS_MAX + 1);
    disk.sectors = input.take<std::uint64_t>();
    return disk;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes)
{
    Input input(data, bytes);
    const guest::Abi abi = guest::kAbis[input.take<std::uint8_t>() % guest::kAbis.size()];
    const auto position = input.take<std::uint8_t>() % 32u;
    const blkif_disk disk = take_disk(input);

    alignas(8) std::uint8_t page[RING_PAGE_SIZE] = {};
    auto* ring = reinterpret_cast<blkif_sring*>(page);
    std::uint8_t* at = guest::entry_at(page, abi, position);
    input.take(at, guest::request_bytes(abi));
    std::array<blkif_wire_segment, BLKTAP_SEGS_MAX> descriptors;
    input.take(descriptors.data(), sizeof descriptors);

    std::array<blkif_wire_segment, BLKIF_SEGS_PER_REQUEST> direct_seg{};
    const auto listen_in = [&] {
        switch (abi) {
        case guest::Abi::x86_32:
            return listen<blkif_wire_request_x86_32, guest::wire::IndirectX86_32,
                          guest::wire::DiscardX86_32>(at, direct_seg, descriptors.data());
        case guest::Abi::x86_64:
            return listen<blkif_wire_request_x86_64, guest::wire::IndirectX86_64,
                          guest::wire::DiscardX86_64>(at, direct_seg, descriptors.data());
        case guest::Abi::native: break;
        }
        return listen<blkif_wire_request_native, guest::wire::IndirectNative,
                      guest::wire::DiscardNative>(at, direct_seg, descriptors.data());
    };
    const Said said = listen_in();
    const std::uint8_t operation = *at;

    blkif_entry entry;
    blkif_request request;
    std::array<blkif_segment, BLKTAP_SEGS_MAX> seg;
    blkif_fetch(&entry, &guest::table(abi), ring, position);
    blkif_verdict verdict = blkif_decode(&request, &guest::table(abi), &entry, &disk);
    if (verdict == BLKIF_VALID && request.nr_segs) {
        // Where an indirect request's copy lies, its segments are decoded.
        std::memcpy(seg.data(), descriptors.data(), sizeof seg);
        verdict = blkif_decode_segments(&request, seg.data(),
                                        request.indirect
                                            ? seg.data()
                                            : blkif_direct_segments(&guest::table(abi), &entry),
                                        &disk);
    }
    FUZZ_CHECK((verdict == BLKIF_VALID) == acceptable(said, disk));
    FUZZ_CHECK(request.id == said.id);
    FUZZ_CHECK(request.op == operation || (said.indirect && request.op == said.operation));
    if (verdict == BLKIF_VALID)
        check_same(request, seg.data(), said, disk);

    const std::int16_t status = verdict == BLKIF_VALID ? BLKIF_RSP_OKAY : blkif_refusal(verdict);
    blkif_put_response(&guest::table(abi), ring, position, request.id, request.op, status);
    FUZZ_CHECK(guest::take_response(at, abi) == (guest::Response{said.id, request.op, status}));
    return 0;
}
