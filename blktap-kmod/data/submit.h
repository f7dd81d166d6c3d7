/* SPDX-License-Identifier: GPL-2.0-only */
/* I/O of the module's own, from its start until it is collected. */
#ifndef BLKTAP_SUBMIT_H
#define BLKTAP_SUBMIT_H

#include <linux/types.h>

struct blktap_queue;
struct blktap_slot;
struct list_head;

/*
 * Moves those of `taken` that lie in a delegated extent to `starts`. While a
 * barrier is under way there are none: tapdisk sees all requests, and their order.
 * queue.lock is held.
 */
void blktap_submit_choose(struct blktap_queue *queue, struct list_head *taken,
			  struct list_head *starts);

/*
 * tapdisk, whose context this is, has submitted a read or write, which joins
 * `starts`. It bounces if the module cannot use the file. queue.lock is held.
 */
void blktap_submit_ask(struct blktap_queue *queue, struct blktap_slot *slot, int fd, u64 offset,
		       struct list_head *starts);

/* Starts the I/O of all `slots`, which are nobody else's, and empties the list. No lock is held. */
void blktap_submit(struct list_head *slots);

/*
 * Takes what has ended: to the slots that are done, or to tapdisk. Then the
 * barrier that waited for it may go. queue.lock is held.
 */
void blktap_submit_collect(struct blktap_queue *queue);

#endif
