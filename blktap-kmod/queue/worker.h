/* SPDX-License-Identifier: GPL-2.0-only */
/* Who collects I/O of the module's own that has ended: the queue's thread, and tapdisk. */
#ifndef BLKTAP_WORKER_H
#define BLKTAP_WORKER_H

struct blktap_queue;
struct blktap_vbd;
struct list_head;

/* The thread comes with blktap_worker_hire(). */
void blktap_worker_init(struct blktap_queue *queue);

/* Sees to it that each queue of the vbd has its thread. vbd.lock is held. */
int blktap_worker_hire(struct blktap_vbd *vbd);

/*
 * The worker, there once anything was or may be submitted, shall look. When it is
 * gone there is nothing to look for. Any context.
 */
void blktap_worker_kick(struct blktap_queue *queue);

/* The queue is removed and has nothing in use any more. */
void blktap_worker_quit(struct blktap_queue *queue);

/* Whoever collects, from here to blktap_collect_end(), need not be woken. */
void blktap_collect_begin(struct blktap_queue *queue);
void blktap_collect_end(struct blktap_queue *queue);

/*
 * Whoever collects is about to sleep for I/O that it starts, for as long as the
 * device likes. Until it resumes, the orphans' worker does it. Any context.
 */
void blktap_collect_pause(struct blktap_queue *queue);

/* It looks what has ended before it rests. */
void blktap_collect_resume(struct blktap_queue *queue);

/* The first I/O has ended after what was collected before. Any context. */
void blktap_collect_wanted(struct blktap_queue *queue);

/* blktap_submit() by tapdisk, which collects at once what has ended by then. */
void blktap_submit_and_collect(struct blktap_queue *queue, struct list_head *slots);

#endif
