/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * From a guest's ring entry to a request that is valid by construction, and
 * from an answer to a ring entry.
 *
 * The guest may change its memory at any moment, so every shared byte is read
 * once into a private copy, and only the copy is judged, in two steps:
 *
 *     blkif_fetch()            the ring entry, copied
 *     blkif_decode()           all of it but the segments; says how many there are
 *     blkif_decode_segments()  the segments, which are in the entry, or for an
 *                              indirect request in a page that the caller copies
 *
 * What both let through needs no further check: the range lies inside the disk,
 * every segment inside its page, and all arithmetic on it has been shown not to
 * overflow.
 */
#ifndef RING_BLKIF_DECODE_H
#define RING_BLKIF_DECODE_H

#include "barrier.h"
#include "blkif_wire.h"

/* A private copy of one entry. Aligned for the loads of every ABI. */
struct blkif_entry {
	__u8 bytes[BLKIF_ENTRY_BYTES_MAX];
} __attribute__((aligned(8)));

/* What requests are checked against, and what was offered to the guest; fixed while connected. */
struct blkif_disk {
	__u64 sectors;       /* capacity, units of 512 B                         */
	__u32 sector_size;   /* logical block in bytes: power of two, 512..4096  */
	__u16 max_indirect;  /* segments of an indirect request; 0: not offered  */
	bool read_only;
	bool discard;        /* offered */
	bool secure_discard; /* offered */
};

struct blkif_segment {
	__u32 gref;
	__u16 offset; /* bytes into the page          */
	__u16 length; /* bytes, 512..4096, never zero */
};

/* A request that may be acted upon. */
struct blkif_request {
	__u64 id;              /* the guest's name for it, returned unread               */
	__u64 sector;          /* units of 512 B; the range lies inside the disk         */
	__u64 discard_sectors; /* length of a discard's range, units of 512 B            */
	__u32 bytes;           /* sum of the segments' lengths                           */
	__u32 descriptors;     /* of an indirect request: grant of the page of segments  */
	__u16 nr_segs;         /* 0 only for flush, barrier and discard                  */
	__u8 op;               /* READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE or DISCARD */
	bool indirect;
	bool secure;           /* a discard after which nobody can read the data again   */
};

/* Why a request was refused. The order is that of the checks. */
enum blkif_verdict {
	BLKIF_VALID = 0,
	BLKIF_UNKNOWN_OPERATION,
	BLKIF_BAD_INDIRECT,  /* an indirect request to do something else than READ or WRITE */
	BLKIF_READ_ONLY_DISK,
	BLKIF_BAD_SEGMENT_COUNT,
	BLKIF_BAD_SEGMENT,   /* sectors outside the page, or first after last    */
	BLKIF_MISALIGNED,    /* not a multiple of the disk's logical block       */
	BLKIF_OUT_OF_RANGE,  /* past the end of the disk                         */
};

/* The status that the guest gets for a refused request. */
static inline __s16 blkif_refusal(enum blkif_verdict verdict)
{
	return verdict == BLKIF_UNKNOWN_OPERATION ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR;
}

static inline bool blkif_op_syncs(__u8 op)
{
	return op == BLKIF_OP_FLUSH_DISKCACHE || op == BLKIF_OP_WRITE_BARRIER;
}

/*
 * The status that the guest gets for a valid request that has ended with
 * `result`: 0, or a negative errno.
 *
 * Frontends make more of the two failures of blkif.h than that a request has
 * failed. To Linux' blkfront either, of a flush without data, means that there
 * are no flushes: it tells its caller that all went well. Windows' xenvbd makes a
 * success of EOPNOTSUPP, whatever was asked for. All frontends take any other
 * negative status as an I/O error, so that is what a failed flush or barrier
 * gets; and EOPNOTSUPP says only that a discard, which is a hint, had no effect.
 */
static inline __s16 blkif_status(__u8 op, int result)
{
	if (!result)
		return BLKIF_RSP_OKAY;
	if (blkif_op_syncs(op))
		return BLKIF_RSP_SYNC_ERROR;
	return op == BLKIF_OP_DISCARD && result == -EOPNOTSUPP ? BLKIF_RSP_EOPNOTSUPP :
								 BLKIF_RSP_ERROR;
}

static inline const void *blkif_entry_at(const struct blkif_abi *abi,
					 const struct blkif_sring *ring, __u32 position)
{
	return (const __u8 *)(ring + 1) + (size_t)position * abi->entry_bytes;
}

/*
 * Copies entry number `position` (already reduced to the ring's size) out of
 * the shared ring, but for segments that the request, by its own copied count,
 * does not have: most requests are short. Of the copy, these bytes stay as
 * they were.
 */
static inline void blkif_fetch(struct blkif_entry *copy, const struct blkif_abi *abi,
			       const struct blkif_sring *ring, __u32 position)
{
	const __u8 *shared = (const __u8 *)blkif_entry_at(abi, ring, position);
	/* With one segment; what a discard and an indirect request have lies in there, too. */
	const __u32 head = abi->segments + (__u32)sizeof(struct blkif_wire_segment);
	__u32 nr_segs;

	ring_copy_in(copy->bytes, shared, head);
	nr_segs = copy->bytes[BLKIF_AT_NR_SEGMENTS];
	if (nr_segs > BLKIF_SEGS_PER_REQUEST)
		nr_segs = BLKIF_SEGS_PER_REQUEST;
	if (nr_segs > 1)
		ring_copy_in(copy->bytes + head, shared + head,
			     (nr_segs - 1) * (__u32)sizeof(struct blkif_wire_segment));
}

static inline __u64 blkif_entry_u64(const struct blkif_entry *entry, __u32 at)
{
	__u64 value;

	__builtin_memcpy(&value, entry->bytes + at, sizeof(value));
	return value;
}

static inline bool blkif_op_writes(__u8 op)
{
	return op != BLKIF_OP_READ;
}

static inline __u16 blkif_entry_u16(const struct blkif_entry *entry, __u32 at)
{
	__u16 value;

	__builtin_memcpy(&value, entry->bytes + at, sizeof(value));
	return value;
}

static inline __u32 blkif_entry_u32(const struct blkif_entry *entry, __u32 at)
{
	__u32 value;

	__builtin_memcpy(&value, entry->bytes + at, sizeof(value));
	return value;
}

/*
 * What to say in `physical-sector-size`, a power of two and at most `wanted`: the
 * disk has to be a whole number of them.
 */
static inline __u32 blkif_physical_sector_size(const struct blkif_disk *disk, __u32 wanted)
{
	const __u64 bytes = disk->sectors * RING_SECTOR_SIZE;

	while (wanted > disk->sector_size && (bytes & (wanted - 1)))
		wanted /= 2;
	return wanted;
}

/* Whether `sectors` sectors from `sector` are whole blocks inside the disk. */
static inline enum blkif_verdict blkif_judge_range(__u64 sector, __u64 sectors,
						   const struct blkif_disk *disk)
{
	/* It may change at any time, so it is read once. */
	const __u64 end = *(const volatile __u64 *)&disk->sectors;

	if ((sector | sectors) & (disk->sector_size / RING_SECTOR_SIZE - 1))
		return BLKIF_MISALIGNED;
	/* Subtracting on the right keeps a huge sector number from wrapping round. */
	if (sector > end || sectors > end - sector)
		return BLKIF_OUT_OF_RANGE;
	return BLKIF_VALID;
}

/* Checks one segment and turns sectors into bytes. `wire` and `seg` may be the same memory. */
static inline enum blkif_verdict blkif_decode_segment(struct blkif_segment *seg,
						      const void *wire, __u32 sector_size)
{
	struct blkif_wire_segment copy;

	__builtin_memcpy(&copy, wire, sizeof(copy));
	if (copy.last_sect >= RING_SECTORS_PER_PAGE || copy.first_sect > copy.last_sect)
		return BLKIF_BAD_SEGMENT;
	seg->gref = copy.gref;
	seg->offset = (__u16)(copy.first_sect * RING_SECTOR_SIZE);
	seg->length = (__u16)((copy.last_sect - copy.first_sect + 1u) * RING_SECTOR_SIZE);
	if ((seg->offset | seg->length) & (sector_size - 1))
		return BLKIF_MISALIGNED;
	return BLKIF_VALID;
}

static inline enum blkif_verdict blkif_decode_discard(struct blkif_request *request,
						      const struct blkif_abi *abi,
						      const struct blkif_entry *entry,
						      const struct blkif_disk *disk)
{
	request->nr_segs = 0;
	/* Ignored where it was not offered. */
	request->secure = disk->secure_discard &&
			  (entry->bytes[BLKIF_AT_DISCARD_FLAG] & BLKIF_DISCARD_SECURE);
	request->discard_sectors = blkif_entry_u64(entry, abi->nr_sectors);
	if (!disk->discard)
		return BLKIF_UNKNOWN_OPERATION;
	if (disk->read_only)
		return BLKIF_READ_ONLY_DISK;
	if (!request->discard_sectors)
		return BLKIF_BAD_SEGMENT_COUNT;
	return blkif_judge_range(request->sector, request->discard_sectors, disk);
}

/* Replaces the operation by the one that is meant. */
static inline enum blkif_verdict blkif_decode_indirect(struct blkif_request *request,
						       const struct blkif_abi *abi,
						       const struct blkif_entry *entry,
						       const struct blkif_disk *disk)
{
	__u8 op = entry->bytes[BLKIF_AT_INDIRECT_OPERATION];

	request->nr_segs = blkif_entry_u16(entry, BLKIF_AT_INDIRECT_NR_SEGMENTS);
	if (!disk->max_indirect)
		return BLKIF_UNKNOWN_OPERATION;
	request->op = op;
	request->indirect = true;
	if (op != BLKIF_OP_READ && op != BLKIF_OP_WRITE)
		return BLKIF_BAD_INDIRECT;
	request->descriptors = blkif_entry_u32(entry, abi->indirect_grefs);
	if (disk->read_only && blkif_op_writes(op))
		return BLKIF_READ_ONLY_DISK;
	if (!request->nr_segs || request->nr_segs > disk->max_indirect)
		return BLKIF_BAD_SEGMENT_COUNT;
	return BLKIF_VALID;
}

/*
 * Judges a private copy but for its segments, and fills `request`. A request
 * with segments is not valid before blkif_decode_segments() has said so.
 *
 * `id` and `op` are filled whatever the verdict, because a refusal has to be
 * answered under the guest's own id. The handle field is not compared with
 * anything: the ring already says which disk is meant, the field is too narrow
 * for extended device numbers, and no back end reads it. What was not offered
 * is an unknown operation.
 */
static inline enum blkif_verdict blkif_decode(struct blkif_request *request,
					      const struct blkif_abi *abi,
					      const struct blkif_entry *entry,
					      const struct blkif_disk *disk)
{
	request->id = blkif_entry_u64(entry, abi->id);
	request->op = entry->bytes[BLKIF_AT_OPERATION];
	request->sector = blkif_entry_u64(entry, abi->sector);
	request->nr_segs = entry->bytes[BLKIF_AT_NR_SEGMENTS];
	request->discard_sectors = 0;
	request->bytes = 0;
	request->descriptors = 0;
	request->indirect = false;
	request->secure = false;

	switch (request->op) {
	case BLKIF_OP_READ:
	case BLKIF_OP_WRITE:
		if (!request->nr_segs)
			return BLKIF_BAD_SEGMENT_COUNT;
		break;
	case BLKIF_OP_WRITE_BARRIER:
	case BLKIF_OP_FLUSH_DISKCACHE:
		/* Without data it names no sectors; whatever it says there is not looked at. */
		if (!request->nr_segs)
			request->sector = 0;
		break;
	case BLKIF_OP_DISCARD:
		return blkif_decode_discard(request, abi, entry, disk);
	case BLKIF_OP_INDIRECT:
		return blkif_decode_indirect(request, abi, entry, disk);
	default:
		return BLKIF_UNKNOWN_OPERATION;
	}

	/* A flush without data changes nothing, so a read-only disk may be asked for it. */
	if (disk->read_only && blkif_op_writes(request->op) && request->nr_segs)
		return BLKIF_READ_ONLY_DISK;
	if (request->nr_segs > BLKIF_SEGS_PER_REQUEST)
		return BLKIF_BAD_SEGMENT_COUNT;
	return BLKIF_VALID;
}

/* The segments of a direct request, in the private copy; unaligned, in the guest's form. */
static inline const void *blkif_direct_segments(const struct blkif_abi *abi,
						const struct blkif_entry *entry)
{
	return entry->bytes + abi->segments;
}

/*
 * Judges the segments of a request that blkif_decode() let through and fills
 * `seg`, with room for request->nr_segs, and request->bytes. `wire` is a
 * private copy of them in the guest's form; it may be `seg` itself.
 */
static inline enum blkif_verdict blkif_decode_segments(struct blkif_request *request,
						       struct blkif_segment *seg,
						       const void *wire,
						       const struct blkif_disk *disk)
{
	const __u8 *from = (const __u8 *)wire;
	enum blkif_verdict verdict;
	__u32 i;

	for (i = 0; i < request->nr_segs; i++) {
		verdict = blkif_decode_segment(&seg[i],
					       from + i * sizeof(struct blkif_wire_segment),
					       disk->sector_size);
		if (verdict != BLKIF_VALID)
			return verdict;
		request->bytes += seg[i].length;
	}
	return blkif_judge_range(request->sector, request->bytes / RING_SECTOR_SIZE, disk);
}

/*
 * Writes a response over entry number `position`. All of its bytes are
 * written, so nothing of ours leaks through the padding; the caller publishes
 * it by a release store of rsp_prod.
 */
static inline void blkif_put_response(const struct blkif_abi *abi, struct blkif_sring *ring,
				      __u32 position, __u64 id, __u8 op, __s16 status)
{
	__u8 response[BLKIF_RESPONSE_BYTES_MAX] = { 0 };
	__u8 *at = (__u8 *)(ring + 1) + (size_t)position * abi->entry_bytes;

	__builtin_memcpy(response + BLKIF_AT_RESPONSE_ID, &id, sizeof(id));
	response[BLKIF_AT_RESPONSE_OPERATION] = op;
	__builtin_memcpy(response + BLKIF_AT_RESPONSE_STATUS, &status, sizeof(status));
	__builtin_memcpy(at, response, abi->response_bytes);
}

#endif
