/* SPDX-License-Identifier: GPL-2.0-only */
/* What happens on a queue when tapdisk does not do it. */
#ifndef BLKTAP_ORPHAN_H
#define BLKTAP_ORPHAN_H

#include <linux/types.h>

struct blktap_queue;
struct work_struct;

/* The queue's delayed work. */
void blktap_orphan_work(struct work_struct *work);

/* Any context. The first time at once, then less and less often while pages stay in use. */
void blktap_orphan_kick(struct blktap_queue *queue);

/*
 * The process that was attached is gone. Its windows went with it, but its
 * I/O may be in flight (io_uring's outlives the process): such pages are
 * waited for by the worker, never by the caller. `keeps`: another will come.
 */
void blktap_orphan_detach(struct blktap_queue *queue, bool keeps);

#endif
