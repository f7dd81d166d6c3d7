/* SPDX-License-Identifier: GPL-2.0-only */
/* tapdisk's doorbell: its own context, no lock held. */
#ifndef BLKTAP_DOORBELL_H
#define BLKTAP_DOORBELL_H

struct blktap_queue;
struct file;

/* See blktap_abi.h. `file` is the open through which it was rung. */
int blktap_doorbell_run(struct blktap_queue *queue, struct file *file, unsigned int flags);

/* tapdisk shall not sleep, in here or in poll(). `file` is the open that it is attached through. */
int blktap_doorbell_wake(struct blktap_queue *queue, struct file *file);

#endif
