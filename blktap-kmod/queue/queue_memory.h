/* SPDX-License-Identifier: GPL-2.0-only */
/* The memory of a queue. Process context. */
#ifndef BLKTAP_QUEUE_MEMORY_H
#define BLKTAP_QUEUE_MEMORY_H

#include <linux/types.h>

struct blktap_queue;
struct blktap_vbd;

/* On an error what it has taken is left for blktap_queue_free(). */
int blktap_queue_init(struct blktap_queue *queue, struct blktap_vbd *vbd, unsigned int index);

/*
 * Reserves the pages that stand for the guest's, which on Debian's kernels are
 * address space without memory behind it, and renews the area, with memory for
 * copies if there are to be some. -EAGAIN: what was copied for the tapdisk before
 * is still in use. queue.lock is held.
 */
int blktap_queue_alloc_pages(struct blktap_queue *queue, bool persistent, bool copies);

/* No slot is in use and no process has anything of the queue mapped. */
void blktap_queue_free(struct blktap_queue *queue);

#endif
