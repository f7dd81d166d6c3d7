/* SPDX-License-Identifier: GPL-2.0-only */
/* What Xen copies from and to the guest's pages. queue.lock is held. */
#ifndef BLKTAP_COPY_H
#define BLKTAP_COPY_H

#include <xen/grant_table.h>

struct blktap_queue;
struct blktap_slot;
struct list_head;

/* Copy operations that go with one hypercall. */
#define BLKTAP_COPY_OPS 64

/* The scratch of a batch. */
struct blktap_copies {
	unsigned int count;
	struct gnttab_copy op[BLKTAP_COPY_OPS];
	struct blktap_slot *slot[BLKTAP_COPY_OPS];
	grant_ref_t ref[BLKTAP_COPY_OPS];
};

/*
 * Takes private copies of the segments of indirect requests out of the guest's
 * descriptor pages, to where segments are judged. Those that cannot be copied
 * get an error status.
 */
void blktap_copy_segments(struct blktap_queue *queue, struct list_head *slots);

/*
 * Chooses those of `slots` whose data is copied, gives them their pages, and
 * fetches what they write. The others are left to blktap_grant_map(). Those that
 * cannot be copied get an error status. queue.lock is held.
 */
void blktap_copy_in(struct blktap_queue *queue, struct list_head *slots);

/*
 * The same for `slots` that have nothing mapped, since Xen had no room: from the
 * first on, as many as there are pages for join `ready`. queue.lock is held.
 */
void blktap_copy_instead(struct blktap_queue *queue, struct list_head *slots,
			 struct list_head *ready);

/*
 * Gives the guest what `slots` have read for it. No I/O is under way on their
 * pages. Those whose guest's pages cannot be written to get an error status.
 * So do all once the frontend has left: while nothing of it is mapped nothing
 * keeps it from granting another page by the same reference. queue.lock is held.
 */
void blktap_copy_out(struct blktap_queue *queue, struct list_head *slots);

/* The request ends. queue.lock is held. */
void blktap_copy_forget(struct blktap_queue *queue, struct blktap_slot *slot);

#endif
