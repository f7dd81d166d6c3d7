/* SPDX-License-Identifier: GPL-2.0-only */
/* Watching the guest's ring before an event is asked for. */
#ifndef BLKTAP_POLL_H
#define BLKTAP_POLL_H

#include <linux/types.h>

struct blktap_queue;

/* Whether blktap_poll() is worth a call. queue.lock need not be held. */
bool blktap_poll_wanted(const struct blktap_queue *queue);

/*
 * Whether there is something to do on the queue, now or within its poll_us: the
 * caller, who collects, does it. False: an event has to be asked for. queue.lock
 * is held.
 */
bool blktap_poll(struct blktap_queue *queue);

/* For a new tapdisk. queue.lock is held. */
void blktap_poll_start(struct blktap_queue *queue, unsigned int poll_us);

#endif
