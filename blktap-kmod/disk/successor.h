/* SPDX-License-Identifier: GPL-2.0-only */
/* How long a disk waits for its next tapdisk. */
#ifndef BLKTAP_SUCCESSOR_H
#define BLKTAP_SUCCESSOR_H

#include <linux/types.h>

struct blktap_vbd;
struct work_struct;

/*
 * A tapdisk is gone from one of the vbd's queues. Returns whether its requests are to
 * be kept. vbd.lock is held.
 */
bool blktap_successor_is_awaited(struct blktap_vbd *vbd);

/*
 * A queue keeps its requests from now on, which ends in time. Later than that, or the
 * end might have come and not found it. vbd.lock is held, since the vbd was asked.
 */
void blktap_successor_expect(struct blktap_vbd *vbd);

/* What waits for a successor waits no more. Process context. */
void blktap_successor_give_up(struct blktap_vbd *vbd);

/* The vbd's keep_work. */
void blktap_successor_work(struct work_struct *work);

/* A tapdisk has rung: the next loss is another one. Any context. */
void blktap_successor_serves(struct blktap_vbd *vbd);

/* For how long requests are still kept, in ms; 0: nobody is missing. */
unsigned int blktap_successor_time_left(const struct blktap_vbd *vbd);

/* How many requests wait, those on the guest's rings not among them. */
unsigned int blktap_successor_kept(const struct blktap_vbd *vbd);

#endif
