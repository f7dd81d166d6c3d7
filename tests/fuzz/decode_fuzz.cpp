// SPDX-License-Identifier: GPL-2.0-only
//
// Any bytes in a guest's ring entry, any disk, any ABI.
//
// The oracle reads the entry by its wire struct and judges it sector by sector
// in arithmetic that cannot overflow. Both must agree on what is let through.

#include "ring/blkif_decode.h"
#include "tests/fuzz/input.h"
#include "tests/support/guest_entry.h"

namespace {

using Wide = unsigned __int128;

template <class Wire>
guest::Request parse(const void* entry)
{
    Wire wire;
    std::memcpy(&wire, entry, sizeof wire);
    guest::Request request;
    request.operation = wire.operation;
    request.nr_segments = wire.nr_segments;
    request.id = wire.id;
    request.sector = wire.sector_number;
    std::memcpy(request.seg.data(), wire.seg, sizeof wire.seg);
    return request;
}

guest::Request parse(guest::Abi abi, const void* entry)
{
    switch (abi) {
    case guest::Abi::x86_32: return parse<blkif_wire_request_x86_32>(entry);
    case guest::Abi::x86_64: return parse<blkif_wire_request_x86_64>(entry);
    case guest::Abi::native: break;
    }
    return parse<blkif_wire_request_native>(entry);
}

bool acceptable(const guest::Request& r, const blkif_disk& disk)
{
    const bool knows_data_free = r.operation == BLKIF_OP_FLUSH_DISKCACHE ||
                                 r.operation == BLKIF_OP_WRITE_BARRIER;
    if (!knows_data_free && r.operation != BLKIF_OP_READ && r.operation != BLKIF_OP_WRITE)
        return false;
    if (r.nr_segments == 0)
        return knows_data_free;
    if (r.nr_segments > BLKIF_SEGS_PER_REQUEST)
        return false;
    if (disk.read_only && r.operation != BLKIF_OP_READ)
        return false;

    const unsigned block = disk.sector_size / 512;
    Wide sector = r.sector;
    if (sector % block)
        return false;
    for (int i = 0; i < r.nr_segments; i++) {
        const blkif_wire_segment& seg = r.seg[static_cast<std::size_t>(i)];
        if (seg.first_sect > seg.last_sect || seg.last_sect > 7)
            return false;
        if (seg.first_sect % block || (seg.last_sect + 1) % block)
            return false;
        for (int s = seg.first_sect; s <= seg.last_sect; s++)
            if (sector++ >= disk.sectors)
                return false;
    }
    return true;
}

void check_same(const blkif_request& request, const guest::Request& r)
{
    std::uint32_t bytes = 0;
    for (std::size_t i = 0; i < r.nr_segments; i++) {
        FUZZ_CHECK(request.seg[i].gref == r.seg[i].gref);
        FUZZ_CHECK(request.seg[i].offset == 512 * r.seg[i].first_sect);
        FUZZ_CHECK(request.seg[i].offset + request.seg[i].length == 512 * (r.seg[i].last_sect + 1));
        bytes += request.seg[i].length;
    }
    FUZZ_CHECK(request.nr_segs == r.nr_segments);
    FUZZ_CHECK(request.bytes == bytes);
    FUZZ_CHECK(request.sector == (bytes ? r.sector : 0));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes)
{
    Input input(data, bytes);
    const guest::Abi abi = guest::kAbis[input.take<std::uint8_t>() % guest::kAbis.size()];
    const auto shape = input.take<std::uint8_t>();
    const auto position = input.take<std::uint8_t>() % 32u;
    blkif_disk disk{};
    disk.sector_size = 512u << (shape & 3);
    disk.read_only = shape & 4;
    disk.sectors = input.take<std::uint64_t>();

    alignas(8) std::uint8_t page[RING_PAGE_SIZE] = {};
    auto* ring = reinterpret_cast<blkif_sring*>(page);
    input.take(guest::entry_at(page, abi, position), guest::request_bytes(abi));
    const guest::Request truth = parse(abi, guest::entry_at(page, abi, position));

    blkif_entry entry;
    blkif_request request;
    blkif_fetch(&entry, &guest::table(abi), ring, position);
    const blkif_verdict verdict = blkif_decode(&request, &guest::table(abi), &entry, &disk);
    FUZZ_CHECK((verdict == BLKIF_VALID) == acceptable(truth, disk));
    FUZZ_CHECK(request.id == truth.id);
    FUZZ_CHECK(request.op == truth.operation);
    if (verdict == BLKIF_VALID)
        check_same(request, truth);

    const std::int16_t status = verdict == BLKIF_VALID ? BLKIF_RSP_OKAY : blkif_refusal(verdict);
    blkif_put_response(&guest::table(abi), ring, position, request.id, request.op, status);
    FUZZ_CHECK(guest::take_response(guest::entry_at(page, abi, position), abi) ==
               (guest::Response{truth.id, truth.operation, status}));
    return 0;
}
