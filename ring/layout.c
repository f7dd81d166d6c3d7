// SPDX-License-Identifier: GPL-2.0-only
/*
 * Compile-time proof of every size and offset in this folder. Compiled into
 * the module and into tapdisk, so both worlds agree or neither builds.
 */
#include "blkif_decode.h"
#include "blktap_abi.h"
#include "slot.h"

#define SIZE_IS(type, bytes) \
	static_assert(sizeof(type) == (bytes), "size of " #type)
#define AT(type, field, offset) \
	static_assert(offsetof(type, field) == (offset), "offset of " #type "." #field)
#define POWER_OF_TWO(n) \
	static_assert(((n) & ((n) - 1)) == 0, #n " is a power of two")

SIZE_IS(struct blkif_sring, 64);
AT(struct blkif_sring, req_prod, 0);
AT(struct blkif_sring, req_event, 4);
AT(struct blkif_sring, rsp_prod, 8);
AT(struct blkif_sring, rsp_event, 12);

SIZE_IS(struct blkif_wire_segment, 8);
AT(struct blkif_wire_segment, first_sect, 4);
AT(struct blkif_wire_segment, last_sect, 5);

SIZE_IS(struct blkif_wire_request_x86_32, 108);
AT(struct blkif_wire_request_x86_32, nr_segments, BLKIF_AT_NR_SEGMENTS);
AT(struct blkif_wire_request_x86_32, id, 4);
AT(struct blkif_wire_request_x86_32, sector_number, 12);
AT(struct blkif_wire_request_x86_32, seg, 20);
SIZE_IS(struct blkif_wire_response_x86_32, 12);

SIZE_IS(struct blkif_wire_request_x86_64, 112);
AT(struct blkif_wire_request_x86_64, nr_segments, BLKIF_AT_NR_SEGMENTS);
AT(struct blkif_wire_request_x86_64, id, 8);
AT(struct blkif_wire_request_x86_64, sector_number, 16);
AT(struct blkif_wire_request_x86_64, seg, 24);
SIZE_IS(struct blkif_wire_response_x86_64, 16);

AT(struct blkif_wire_indirect_x86_32, id, 4);
AT(struct blkif_wire_indirect_x86_32, sector_number, 12);
AT(struct blkif_wire_indirect_x86_32, indirect_grefs, 24);
AT(struct blkif_wire_indirect_x86_64, id, 8);
AT(struct blkif_wire_indirect_x86_64, sector_number, 16);
AT(struct blkif_wire_indirect_x86_64, indirect_grefs, 28);
AT(struct blkif_wire_indirect_native, id, offsetof(struct blkif_wire_request_native, id));
AT(struct blkif_wire_indirect_native, sector_number,
   offsetof(struct blkif_wire_request_native, sector_number));
AT(struct blkif_wire_indirect_native, indirect_op, BLKIF_AT_INDIRECT_OPERATION);
AT(struct blkif_wire_indirect_native, nr_segments, BLKIF_AT_INDIRECT_NR_SEGMENTS);
AT(struct blkif_wire_discard_x86_32, sector_number, 12);
AT(struct blkif_wire_discard_x86_32, nr_sectors, 20);
AT(struct blkif_wire_discard_x86_64, sector_number, 16);
AT(struct blkif_wire_discard_x86_64, nr_sectors, 24);
AT(struct blkif_wire_discard_native, flag, BLKIF_AT_DISCARD_FLAG);

AT(struct blkif_wire_response_x86_32, operation, BLKIF_AT_RESPONSE_OPERATION);
AT(struct blkif_wire_response_x86_32, status, BLKIF_AT_RESPONSE_STATUS);
AT(struct blkif_wire_response_x86_64, operation, BLKIF_AT_RESPONSE_OPERATION);
AT(struct blkif_wire_response_x86_64, status, BLKIF_AT_RESPONSE_STATUS);
AT(struct blkif_wire_response_native, operation, BLKIF_AT_RESPONSE_OPERATION);
AT(struct blkif_wire_response_native, status, BLKIF_AT_RESPONSE_STATUS);
AT(struct blkif_wire_request_native, operation, BLKIF_AT_OPERATION);
AT(struct blkif_wire_request_native, nr_segments, BLKIF_AT_NR_SEGMENTS);

static_assert(sizeof(struct blkif_wire_request_native) <= BLKIF_ENTRY_BYTES_MAX,
	      "a native request fits the private copy");
static_assert(sizeof(struct blkif_wire_response_native) <= BLKIF_RESPONSE_BYTES_MAX,
	      "a native response fits its buffer");
static_assert(sizeof(struct blkif_wire_indirect_native) <= sizeof(struct blkif_wire_request_native),
	      "a direct request is the largest");
static_assert(sizeof(struct blkif_segment) == sizeof(struct blkif_wire_segment),
	      "segments can be decoded where they lie");
static_assert(BLKTAP_SEGS_MAX * RING_PAGE_SIZE <= 0xffffffffu,
	      "the bytes of a request fit 32 bits");
static_assert(BLKTAP_SEGS_MAX <= BLKIF_SEGS_PER_INDIRECT_PAGE,
	      "the segments of a request lie in one descriptor page");

SIZE_IS(struct blktap_attach, 144);
AT(struct blktap_attach, features, 8);
AT(struct blktap_attach, sectors, 16);
AT(struct blktap_attach, queue, 40);
AT(struct blktap_attach, copy_bytes, 44);
AT(struct blktap_attach, poll_us, 48);
AT(struct blktap_attach, keep_ms, 52);
AT(struct blktap_attach, image_id, 64);
AT(struct blktap_attach, generation, 80);
AT(struct blktap_attach, window_bytes, 88);
AT(struct blktap_attach, disk_flags_out, 132);
AT(struct blktap_attach, window_pages, 140);
SIZE_IS(struct blktap_kernel_head, 64);
AT(struct blktap_kernel_head, req_prod, 8);
AT(struct blktap_kernel_head, state, 20);
SIZE_IS(struct blktap_user_head, 64);
SIZE_IS(struct blktap_req, 64);
AT(struct blktap_req, slot, 16);
AT(struct blktap_req, arrival, 24);
AT(struct blktap_req, discard_sectors, 32);
SIZE_IS(struct blktap_seg, 8);
SIZE_IS(struct blktap_cmd, 32);
AT(struct blktap_cmd, generation, 4);
AT(struct blktap_cmd, result, 8);
AT(struct blktap_cmd, fd, 12);
AT(struct blktap_cmd, offset, 16);
SIZE_IS(struct blktap_extent, 48);
AT(struct blktap_extent, fd, 24);
SIZE_IS(struct blktap_range, 16);

POWER_OF_TWO(BLKTAP_DEPTH_MAX);
POWER_OF_TWO(BLKTAP_COMMANDS);
static_assert(BLKTAP_COMMANDS >= BLKTAP_DEPTH_MAX,
	      "every slot can be answered in one batch");
static_assert(BLKTAP_SEGS_MAX >= BLKIF_SEGS_PER_REQUEST,
	      "a slot holds the largest direct request");
static_assert(BLKTAP_PAGES >= BLKTAP_SEGS_MAX,
	      "the largest request fits the window, so every request can be served");
static_assert(BLKTAP_PAGES <= 0xffff, "the number of a page fits 16 bits");
