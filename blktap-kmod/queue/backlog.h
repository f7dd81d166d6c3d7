/* SPDX-License-Identifier: GPL-2.0-only */
/* What is taken and has to wait, with nothing mapped. queue.lock is held. */
#ifndef BLKTAP_BACKLOG_H
#define BLKTAP_BACKLOG_H

#include <linux/types.h>

struct blktap_queue;
struct blktap_slot;
struct blktap_vbd;
struct list_head;

/*
 * Moves those that wait and may be tried now to `taken`. False if none waits: then
 * what is on the guest's ring may be taken. queue.lock is held.
 */
bool blktap_backlog_take(struct blktap_queue *queue, struct list_head *taken);

/*
 * For the first of `slots` there is no room. They have nothing mapped. Those that
 * can be copied join `ready`, some of them with an error status; the others wait.
 */
void blktap_backlog_no_room(struct blktap_queue *queue, struct list_head *slots,
			    struct list_head *ready);

/*
 * Of `slots`, which have been exposed to tapdisk and not announced yet, takes
 * back the first that it cannot see for want of room, and all after it. Those
 * stay in the list that can be copied. queue.lock is held, in tapdisk's doorbell.
 */
void blktap_backlog_take_back(struct blktap_queue *queue, struct list_head *slots);

/* The request is about to be answered: another may be tried by itself. Any context. */
void blktap_backlog_acquit(struct blktap_vbd *vbd, struct blktap_slot *slot);

/* A request that nobody serves now fails, or waits for the next tapdisk. */
void blktap_backlog_set_aside(struct blktap_queue *queue, struct blktap_slot *slot);

/* The same for all of a list, which is empty then. */
void blktap_backlog_set_aside_all(struct blktap_queue *queue, struct list_head *slots);

/* The slot, which has nothing mapped and no answer, waits for the next tapdisk. */
void blktap_backlog_keep(struct blktap_queue *queue, struct blktap_slot *slot);

/* Whether something of a tapdisk that is gone may still do I/O for requests that are kept. */
bool blktap_backlog_is_fencing(const struct blktap_queue *queue);

/* The requests of a queue that keeps them fail, and so do new ones. */
void blktap_backlog_give_up(struct blktap_queue *queue);

/* All that wait fail. queue.lock is held. */
void blktap_backlog_refuse(struct blktap_queue *queue);

#endif
