/* SPDX-License-Identifier: GPL-2.0-only */
/* The module's one workqueue: main.c makes it before anything that uses it. */
#ifndef BLKTAP_WORKQUEUE_H
#define BLKTAP_WORKQUEUE_H

struct workqueue_struct;

extern struct workqueue_struct *blktap_workqueue;

#endif
