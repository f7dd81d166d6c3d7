/* SPDX-License-Identifier: GPL-2.0-only */
/* How much all queues together keep mapped for grants that stay, and for how long. */
#ifndef BLKTAP_KEEP_H
#define BLKTAP_KEEP_H

#include <linux/types.h>

struct blktap_queue;

struct blktap_keep {
	unsigned int round;              /* by which grants age                        */
	unsigned int shortage;           /* how often all were asked to let go         */
};

extern struct blktap_keep blktap_keep;

/* No vbd is left. */
void blktap_keep_stop(void);

/* Whether what was used in `round` last has been idle for as long as it may. */
bool blktap_keep_is_old(u8 round);

/* One more stays mapped. False: it may not. queue.lock is held. */
bool blktap_keep_begin(struct blktap_queue *queue);

/* One less. queue.lock is held. */
void blktap_keep_end(struct blktap_queue *queue);

/* Xen has no room: everybody lets go of what is not used. Process context. */
void blktap_keep_less(void);

#endif
