/* SPDX-License-Identifier: GPL-2.0-only */
/* Which pages tapdisk sees in its windows, and when. queue.lock is held. */
#ifndef BLKTAP_EXPOSE_H
#define BLKTAP_EXPOSE_H

#include <linux/types.h>

struct blktap_queue;
struct blktap_slot;
struct list_head;

/*
 * Shows the slots' pages to tapdisk: at once if it asked for that and this is
 * its doorbell, else at the first touch. queue.lock is held.
 *
 * A page that cannot be shown is no error here: tapdisk's access fails then,
 * and it answers the request accordingly. But false: Xen has no room for some.
 */
bool blktap_window_expose(struct blktap_queue *queue, struct list_head *slots);

/* Whether tapdisk sees all pages of the guest that the slot uses, at the moment. */
bool blktap_window_shows(struct blktap_queue *queue, const struct blktap_slot *slot);

/*
 * Takes the slots' pages away from tapdisk. After it no new reference to them
 * can be taken through the window, and blktap_grant_referenced() tells the
 * truth. False: that has to be tried again. queue.lock is held, in any process.
 */
bool blktap_window_revoke(struct blktap_queue *queue, struct list_head *slots);

/* The same for persistent grants: `persistent` has a bit for each that goes. queue.lock is held. */
bool blktap_window_hide(struct blktap_queue *queue, const unsigned long *persistent);

#endif
