/* SPDX-License-Identifier: GPL-2.0-only */
/* Everything of a queue that tapdisk can see, but the windows. queue.lock is held. */
#ifndef BLKTAP_USER_RING_H
#define BLKTAP_USER_RING_H

#include <linux/types.h>

#include "ring/ring.h"

struct blktap_attach;
struct blktap_queue;
struct list_head;
struct vm_area_struct;

/* The ring to tapdisk. */
struct blktap_user_ring {
	void *descriptors;               /* vmalloc_user; tapdisk maps it read-only    */
	void *commands;                  /* vmalloc_user; tapdisk writes it            */
	u32 announced;                   /* requests put on the ring                   */
	u32 rejected;
	struct ring_consumer taken;
};

/* Process context, before anybody knows the queue. */
int blktap_user_init(struct blktap_queue *queue);
void blktap_user_free(struct blktap_queue *queue);

/*
 * A new tapdisk starts with empty rings. No process has them mapped; but I/O that
 * the last one left behind may still write into its commands, so the next gets
 * others. -ENOMEM: nothing has changed.
 */
int blktap_user_renew(struct blktap_queue *queue);

/* Tells a tapdisk that attaches what is where. */
void blktap_user_layout(struct blktap_attach *attach);

/* BLKTAP_STATE_*, for tapdisk to see when it looks. */
void blktap_user_state(struct blktap_queue *queue, u32 state);

/* Gives all `slots` to tapdisk, in order, and empties the list. Returns how many. */
int blktap_user_announce(struct blktap_queue *queue, struct list_head *slots);

/*
 * Takes tapdisk's commands; what it submits joins `starts`. -EPROTO: its index cannot be, nothing
 * was taken.
 */
int blktap_user_collect(struct blktap_queue *queue, struct list_head *starts);

/* Both: mmap_lock is held for writing, and queue.lock is not. */
int blktap_user_mmap_descriptors(struct blktap_queue *queue, struct vm_area_struct *vma);
int blktap_user_mmap_commands(struct blktap_queue *queue, struct vm_area_struct *vma);

#endif
