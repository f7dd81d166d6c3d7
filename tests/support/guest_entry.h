// SPDX-License-Identifier: GPL-2.0-only
//
// The guest's half of the blkif ring, for tests: puts requests into a ring
// page and takes responses out of it.
//
// Written against the wire structs, not against the offset tables that the
// product decodes by, so that the two check each other.
#ifndef TESTS_SUPPORT_GUEST_ENTRY_H
#define TESTS_SUPPORT_GUEST_ENTRY_H

#include "ring/blkif_wire.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace guest {

// What a guest can say in one entry; nothing here has been checked.
struct Request {
    std::uint8_t operation = BLKIF_OP_READ;
    std::uint8_t nr_segments = 0;
    std::uint16_t handle = 0;
    std::uint64_t id = 0;
    std::uint64_t sector = 0; // units of 512 B
    std::array<blkif_wire_segment, BLKIF_SEGS_PER_REQUEST> seg{};
};

// BLKIF_OP_DISCARD: no pages, a range of sectors.
struct Discard {
    static constexpr std::uint8_t kSecure = 1; // in `flag`

    std::uint8_t operation = BLKIF_OP_DISCARD;
    std::uint8_t flag = 0;
    std::uint16_t handle = 0;
    std::uint64_t id = 0;
    std::uint64_t sector = 0;  // units of 512 B
    std::uint64_t sectors = 0; // units of 512 B
};

// BLKIF_OP_INDIRECT: the segments lie in pages of their own.
struct Indirect {
    static constexpr std::size_t kPages = 8;
    static constexpr std::size_t kSegmentsPerPage = 4096 / sizeof(blkif_wire_segment);

    std::uint8_t operation = BLKIF_OP_INDIRECT;
    std::uint8_t indirect_op = BLKIF_OP_READ;
    std::uint16_t nr_segments = 0;
    std::uint16_t handle = 0;
    std::uint64_t id = 0;
    std::uint64_t sector = 0; // units of 512 B
    std::array<std::uint32_t, kPages> pages{}; // grants
};

// The operation of the response. For an indirect request it is the inner one: Linux' blkfront takes
// its disk offline when it finds another.
inline std::uint8_t answered_as(const Request& request)
{
    // Where a direct request has its number of segments, an indirect one has its inner operation.
    return request.operation == BLKIF_OP_INDIRECT ? request.nr_segments : request.operation;
}
inline std::uint8_t answered_as(const Discard& request) { return request.operation; }
inline std::uint8_t answered_as(const Indirect& request) { return request.indirect_op; }

struct Response {
    std::uint64_t id = 0;
    std::uint8_t operation = 0;
    std::int16_t status = 0;

    bool operator==(const Response&) const = default;
};

enum class Abi { native, x86_32, x86_64 };

inline constexpr std::array kAbis{Abi::native, Abi::x86_32, Abi::x86_64};

inline const char* name(Abi abi)
{
    switch (abi) {
    case Abi::native: return "native";
    case Abi::x86_32: return "x86_32";
    case Abi::x86_64: return "x86_64";
    }
    return "?";
}

inline const blkif_abi& table(Abi abi)
{
    switch (abi) {
    case Abi::x86_32: return blkif_abi_x86_32;
    case Abi::x86_64: return blkif_abi_x86_64;
    case Abi::native: break;
    }
    return blkif_abi_native;
}

// As Xen's public/io/blkif.h has them, for 32-bit and 64-bit x86. What the compiler of this machine
// makes of them is the third of each, the native one.
namespace wire {

struct DiscardX86_32 {
    std::uint8_t operation;
    std::uint8_t flag;
    std::uint16_t handle;
    std::uint64_t id;
    std::uint64_t sector_number;
    std::uint64_t nr_sectors;
} __attribute__((packed));

struct DiscardX86_64 {
    std::uint8_t operation;
    std::uint8_t flag;
    std::uint16_t handle;
    std::uint32_t pad;
    std::uint64_t id;
    std::uint64_t sector_number;
    std::uint64_t nr_sectors;
} __attribute__((packed));

struct DiscardNative {
    std::uint8_t operation;
    std::uint8_t flag;
    std::uint16_t handle;
    std::uint64_t id;
    std::uint64_t sector_number;
    std::uint64_t nr_sectors;
};

struct IndirectX86_32 {
    std::uint8_t operation;
    std::uint8_t indirect_op;
    std::uint16_t nr_segments;
    std::uint64_t id;
    std::uint64_t sector_number;
    std::uint16_t handle;
    std::uint16_t pad;
    std::uint32_t grefs[Indirect::kPages];
} __attribute__((packed));

struct IndirectX86_64 {
    std::uint8_t operation;
    std::uint8_t indirect_op;
    std::uint16_t nr_segments;
    std::uint32_t pad1;
    std::uint64_t id;
    std::uint64_t sector_number;
    std::uint16_t handle;
    std::uint16_t pad2;
    std::uint32_t grefs[Indirect::kPages];
} __attribute__((packed));

struct IndirectNative {
    std::uint8_t operation;
    std::uint8_t indirect_op;
    std::uint16_t nr_segments;
    std::uint64_t id;
    std::uint64_t sector_number;
    std::uint16_t handle;
    std::uint32_t grefs[Indirect::kPages];
};

} // namespace wire

namespace detail {

template <class Wire>
void put(void* entry, const Request& request)
{
    Wire wire;
    std::memset(&wire, 0, sizeof wire);
    wire.operation = request.operation;
    wire.nr_segments = request.nr_segments;
    wire.handle = request.handle;
    wire.id = request.id;
    wire.sector_number = request.sector;
    std::memcpy(wire.seg, request.seg.data(), sizeof wire.seg);
    std::memcpy(entry, &wire, sizeof wire);
}

template <class Wire>
void put(void* entry, const Discard& request)
{
    Wire wire;
    std::memset(&wire, 0, sizeof wire);
    wire.operation = request.operation;
    wire.flag = request.flag;
    wire.handle = request.handle;
    wire.id = request.id;
    wire.sector_number = request.sector;
    wire.nr_sectors = request.sectors;
    std::memcpy(entry, &wire, sizeof wire);
}

template <class Wire>
void put(void* entry, const Indirect& request)
{
    Wire wire;
    std::memset(&wire, 0, sizeof wire);
    wire.operation = request.operation;
    wire.indirect_op = request.indirect_op;
    wire.nr_segments = request.nr_segments;
    wire.handle = request.handle;
    wire.id = request.id;
    wire.sector_number = request.sector;
    std::memcpy(wire.grefs, request.pages.data(), sizeof wire.grefs);
    std::memcpy(entry, &wire, sizeof wire);
}

template <class Wire>
Response take(const void* entry)
{
    Wire wire;
    std::memcpy(&wire, entry, sizeof wire);
    return {wire.id, wire.operation, wire.status};
}

} // namespace detail

inline std::size_t request_bytes(Abi abi)
{
    switch (abi) {
    case Abi::x86_32: return sizeof(blkif_wire_request_x86_32);
    case Abi::x86_64: return sizeof(blkif_wire_request_x86_64);
    case Abi::native: break;
    }
    return sizeof(blkif_wire_request_native);
}

inline std::size_t response_bytes(Abi abi)
{
    switch (abi) {
    case Abi::x86_32: return sizeof(blkif_wire_response_x86_32);
    case Abi::x86_64: return sizeof(blkif_wire_response_x86_64);
    case Abi::native: break;
    }
    return sizeof(blkif_wire_response_native);
}

// Entries of a ring of 2^order pages: ring.h's __RING_SIZE.
inline std::uint32_t ring_entries(Abi abi, unsigned order)
{
    return std::bit_floor(static_cast<std::uint32_t>(
        ((std::size_t{4096} << order) - sizeof(blkif_sring)) / request_bytes(abi)));
}

// Entry number `position` of a ring. A request is never smaller than a
// response, so it is what sets the distance.
inline std::uint8_t* entry_at(void* page, Abi abi, std::uint32_t position)
{
    return static_cast<std::uint8_t*>(page) + sizeof(blkif_sring) + position * request_bytes(abi);
}

inline void put_request(void* entry, Abi abi, const Request& request)
{
    switch (abi) {
    case Abi::native: return detail::put<blkif_wire_request_native>(entry, request);
    case Abi::x86_32: return detail::put<blkif_wire_request_x86_32>(entry, request);
    case Abi::x86_64: return detail::put<blkif_wire_request_x86_64>(entry, request);
    }
}

inline void put_request(void* entry, Abi abi, const Discard& request)
{
    switch (abi) {
    case Abi::native: return detail::put<wire::DiscardNative>(entry, request);
    case Abi::x86_32: return detail::put<wire::DiscardX86_32>(entry, request);
    case Abi::x86_64: return detail::put<wire::DiscardX86_64>(entry, request);
    }
}

inline void put_request(void* entry, Abi abi, const Indirect& request)
{
    switch (abi) {
    case Abi::native: return detail::put<wire::IndirectNative>(entry, request);
    case Abi::x86_32: return detail::put<wire::IndirectX86_32>(entry, request);
    case Abi::x86_64: return detail::put<wire::IndirectX86_64>(entry, request);
    }
}

inline Response take_response(const void* entry, Abi abi)
{
    switch (abi) {
    case Abi::x86_32: return detail::take<blkif_wire_response_x86_32>(entry);
    case Abi::x86_64: return detail::take<blkif_wire_response_x86_64>(entry);
    case Abi::native: break;
    }
    return detail::take<blkif_wire_response_native>(entry);
}

} // namespace guest

#endif
