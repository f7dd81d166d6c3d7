/* SPDX-License-Identifier: GPL-2.0-only */
/* Kernel mappings of the guest's pages. queue.lock is held. */
#ifndef BLKTAP_GRANT_H
#define BLKTAP_GRANT_H

#include <linux/types.h>
#include <xen/grant_table.h>

struct blktap_queue;
struct blktap_slot;
struct list_head;

/*
 * Maps the pages of all `slots` that are good so far and not copied. Those that cannot be
 * mapped are left in the list with an error status and nothing mapped. The first for which Xen
 * has no room, and all after it, join `deferred` with nothing mapped.
 */
void blktap_grant_map(struct blktap_queue *queue, struct list_head *slots,
		      struct list_head *deferred);

/* Unmaps what was mapped for `slots`, which nobody references any more. */
void blktap_grant_unmap(struct blktap_queue *queue, struct list_head *slots);

/* Adds a page that nobody references to those to be unmapped: `count` of them so far. */
void blktap_grant_add_unmap(struct blktap_queue *queue, unsigned int *count, unsigned int page);

/* Carries out what blktap_grant_add_unmap() has gathered. */
void blktap_grant_unmap_added(struct blktap_queue *queue, unsigned int count);

/* The request fails, because Xen said `status` of one of its grants. */
void blktap_grant_refuse(struct blktap_queue *queue, struct blktap_slot *slot, grant_ref_t ref,
			 s16 status);

/* Whether an I/O, a socket buffer or anything else holds a page. */
bool blktap_page_referenced(const struct blktap_queue *queue, unsigned int page);

/*
 * Whether a page of the slot is still in use. Meaningful only after
 * blktap_window_revoke(): then no new reference can be taken. What our own I/O
 * used does not matter if it stays: that I/O has ended. Nor does who uses a copy,
 * as long as the area is that tapdisk's: its answer says that it is done.
 */
bool blktap_grant_referenced(const struct blktap_queue *queue, const struct blktap_slot *slot);

#endif
