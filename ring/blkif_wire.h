/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The blkif ring page as it lies in the guest's memory.
 *
 * Facts from Xen's public/io/blkif.h, public/io/ring.h and
 * public/io/protocols.h. There are three ABIs: `native` (this machine's),
 * `x86_32` (64-bit fields aligned to 4) and `x86_64`. They differ only in
 * where fields lie, so an ABI is a table of offsets and there is one decoder.
 * The structs here are never laid over shared memory: they exist so that
 * layout.c can prove the tables at compile time.
 */
#ifndef RING_BLKIF_WIRE_H
#define RING_BLKIF_WIRE_H

#include "types.h"

/* Operations (blkif.h BLKIF_OP_*). */
enum blkif_op {
	BLKIF_OP_READ = 0,
	BLKIF_OP_WRITE = 1,
	BLKIF_OP_WRITE_BARRIER = 2,
	BLKIF_OP_FLUSH_DISKCACHE = 3,
	BLKIF_OP_DISCARD = 5,
	BLKIF_OP_INDIRECT = 6,
};

/* Answers (blkif.h BLKIF_RSP_*, but for the last). */
enum blkif_rsp {
	BLKIF_RSP_OKAY = 0,
	BLKIF_RSP_ERROR = -1,
	BLKIF_RSP_EOPNOTSUPP = -2,
	BLKIF_RSP_SYNC_ERROR = -5, /* to a flush or barrier: blkif_status() */
};

#define BLKIF_SEGS_PER_REQUEST 11

/* An indirect request names pages full of segments. */
#define BLKIF_INDIRECT_PAGES_PER_REQUEST 8
#define BLKIF_SEGS_PER_INDIRECT_PAGE     512

/* In the `flag` of a discard (blkif.h BLKIF_DISCARD_SECURE). */
#define BLKIF_DISCARD_SECURE 1

/* Pages of one ring: 1 << order (`ring-page-order`). */
#define BLKIF_RING_ORDER_MAX 4
#define BLKIF_RING_PAGES_MAX (1 << BLKIF_RING_ORDER_MAX)

/* Both directions share one entry, so its size is the larger of the two. */
#define BLKIF_ENTRY_BYTES_MAX 112
#define BLKIF_RESPONSE_BYTES_MAX 16

/* Head of the ring page; the entries follow at offset 64 in every ABI. */
struct blkif_sring {
	__u32 req_prod;  /* guest writes: requests produced                    */
	__u32 req_event; /* we write: wake us when req_prod passes this        */
	__u32 rsp_prod;  /* we write: responses produced                       */
	__u32 rsp_event; /* guest writes: wake it when rsp_prod passes this    */
	__u8 pad[48];
};

/* One page, or a part of one, of a request. 512-byte sectors inside the page, both inclusive. */
struct blkif_wire_segment {
	__u32 gref;
	__u8 first_sect;
	__u8 last_sect;
	__u16 pad;
};

struct blkif_wire_request_x86_32 {
	__u8 operation;
	__u8 nr_segments;
	__u16 handle;
	__u64 id;
	__u64 sector_number; /* units of 512 B */
	struct blkif_wire_segment seg[BLKIF_SEGS_PER_REQUEST];
} __attribute__((packed));

struct blkif_wire_request_x86_64 {
	__u8 operation;
	__u8 nr_segments;
	__u16 handle;
	__u32 pad;
	__u64 id;
	__u64 sector_number; /* units of 512 B */
	struct blkif_wire_segment seg[BLKIF_SEGS_PER_REQUEST];
} __attribute__((packed));

struct blkif_wire_indirect_x86_32 {
	__u8 operation; /* BLKIF_OP_INDIRECT */
	__u8 indirect_op;
	__u16 nr_segments;
	__u64 id;
	__u64 sector_number;
	__u16 handle;
	__u16 pad;
	__u32 indirect_grefs[BLKIF_INDIRECT_PAGES_PER_REQUEST];
} __attribute__((packed));

struct blkif_wire_indirect_x86_64 {
	__u8 operation;
	__u8 indirect_op;
	__u16 nr_segments;
	__u32 pad1;
	__u64 id;
	__u64 sector_number;
	__u16 handle;
	__u16 pad2;
	__u32 indirect_grefs[BLKIF_INDIRECT_PAGES_PER_REQUEST];
} __attribute__((packed));

struct blkif_wire_discard_x86_32 {
	__u8 operation; /* BLKIF_OP_DISCARD */
	__u8 flag;
	__u16 handle;
	__u64 id;
	__u64 sector_number;
	__u64 nr_sectors;
} __attribute__((packed));

struct blkif_wire_discard_x86_64 {
	__u8 operation;
	__u8 flag;
	__u16 handle;
	__u32 pad;
	__u64 id;
	__u64 sector_number;
	__u64 nr_sectors;
} __attribute__((packed));

struct blkif_wire_response_x86_32 {
	__u64 id;
	__u8 operation;
	__u8 pad;
	__s16 status;
} __attribute__((packed));

struct blkif_wire_response_x86_64 {
	__u64 id;
	__u8 operation;
	__u8 pad1;
	__s16 status;
	__u32 pad2;
} __attribute__((packed));

/* The same two as a compiler of this machine lays them out: the native ABI. */
struct blkif_wire_request_native {
	__u8 operation;
	__u8 nr_segments;
	__u16 handle;
	__u64 id;
	__u64 sector_number;
	struct blkif_wire_segment seg[BLKIF_SEGS_PER_REQUEST];
};

struct blkif_wire_indirect_native {
	__u8 operation;
	__u8 indirect_op;
	__u16 nr_segments;
	__u64 id;
	__u64 sector_number;
	__u16 handle;
	__u32 indirect_grefs[BLKIF_INDIRECT_PAGES_PER_REQUEST];
};

struct blkif_wire_discard_native {
	__u8 operation;
	__u8 flag;
	__u16 handle;
	__u64 id;
	__u64 sector_number;
	__u64 nr_sectors;
};

struct blkif_wire_response_native {
	__u64 id;
	__u8 operation;
	__s16 status;
};

/* Where the fields of one ABI lie, in bytes from the start of an entry. */
struct blkif_abi {
	__u16 entry_bytes;    /* distance from entry to entry: that of a request, the larger one */
	__u16 response_bytes;
	__u16 id;             /* of a request; a response has its id at 0 */
	__u16 sector;
	__u16 segments;       /* of a direct request                            */
	__u16 indirect_grefs; /* of an indirect one                             */
	__u16 nr_sectors;     /* of a discard                                   */
};

enum {
	/* The same in all ABIs. */
	BLKIF_AT_OPERATION = 0,
	BLKIF_AT_NR_SEGMENTS = 1,           /* of a direct request, 8 bits    */
	BLKIF_AT_INDIRECT_OPERATION = 1,
	BLKIF_AT_INDIRECT_NR_SEGMENTS = 2,  /* 16 bits                        */
	BLKIF_AT_DISCARD_FLAG = 1,
	BLKIF_AT_RESPONSE_ID = 0,
	BLKIF_AT_RESPONSE_OPERATION = 8,
	BLKIF_AT_RESPONSE_STATUS = 10,
};

static const struct blkif_abi blkif_abi_x86_32 = { 108, 12, 4, 12, 20, 24, 20 };
static const struct blkif_abi blkif_abi_x86_64 = { 112, 16, 8, 16, 24, 28, 24 };
static const struct blkif_abi blkif_abi_native = {
	sizeof(struct blkif_wire_request_native),
	sizeof(struct blkif_wire_response_native),
	offsetof(struct blkif_wire_request_native, id),
	offsetof(struct blkif_wire_request_native, sector_number),
	offsetof(struct blkif_wire_request_native, seg),
	offsetof(struct blkif_wire_indirect_native, indirect_grefs),
	offsetof(struct blkif_wire_discard_native, nr_sectors),
};

/*
 * Entries in a ring of `bytes` bytes (a power of two times RING_PAGE_SIZE):
 * what fits behind the head, rounded down to a power of two (ring.h __RING_SIZE).
 */
static inline __u32 blkif_ring_entries(const struct blkif_abi *abi, __u32 bytes)
{
	__u32 fit = (bytes - (__u32)sizeof(struct blkif_sring)) / abi->entry_bytes;
	__u32 entries = 1;

	while (entries * 2 <= fit)
		entries *= 2;
	return entries;
}

#endif
