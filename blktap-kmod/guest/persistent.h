/* SPDX-License-Identifier: GPL-2.0-only */
/* Grants that stay mapped. queue.lock is held. */
#ifndef BLKTAP_PERSISTENT_H
#define BLKTAP_PERSISTENT_H

#include <linux/bitmap.h>
#include <linux/list.h>
#include <linux/types.h>
#include <xen/grant_table.h>

#include "ring/blktap_abi.h"

struct blktap_queue;

enum blktap_grant_state {
	BLKTAP_GRANT_NEW,                /* about to be mapped, in this batch          */
	BLKTAP_GRANT_MAPPED,
	BLKTAP_GRANT_BAD,                /* Xen would not map it                       */
};

/* One of them. */
struct blktap_persistent_grant {
	struct list_head node;           /* persistent.free, unused or leaving; none while used */
	struct hlist_node hash;          /* of persistent.buckets                      */
	grant_ref_t ref;
	u16 users;                       /* segments of requests under way             */
	u8 state;                        /* enum blktap_grant_state                    */
	u8 round;                        /* in which it was used last                  */
};

struct blktap_persistent {
	bool on;                         /* this frontend uses them                    */
	bool full;                       /* one found no room                          */
	bool dropping;                   /* all have to go                             */
	bool leaves;                     /* and some have not gone yet                 */
	unsigned int limit;
	unsigned int count;              /* that are not free                          */
	struct list_head keeper;         /* of all queues that have some               */
	unsigned int round;              /* in which the old ones were looked for last */
	unsigned int shortage;           /* the last one that it has heeded            */
	struct list_head free;
	struct list_head unused;         /* the least recently used first              */
	struct list_head leaving;        /* out of sight, but perhaps held by some I/O */
	struct hlist_head *buckets;      /* by grant reference                         */
	struct blktap_persistent_grant *grants; /* BLKTAP_PERSISTENT_MAX; NULL: never offered */
	DECLARE_BITMAP(fresh, BLKTAP_PERSISTENT_MAX); /* not in the window yet         */
};

/* For disks that come from now on: how many a queue keeps at most; 0: none are offered. */
extern unsigned int blktap_max_persistent;

/* Process context, before anybody knows the queue. */
void blktap_persistent_init(struct blktap_queue *queue);

/* Room for the grants. Idempotent; the pages are the queue's. */
int blktap_persistent_alloc(struct blktap_queue *queue);

/* None is mapped. */
void blktap_persistent_free(struct blktap_queue *queue);

/* A frontend connects. `on`: it was offered persistent grants and wants them. */
void blktap_persistent_start(struct blktap_queue *queue, bool on);

/*
 * The page of a grant, for one more user, or `otherwise` if it has to be mapped
 * for its request alone. `is_new`: the caller has to map it.
 */
unsigned int blktap_persistent_get(struct blktap_queue *queue, grant_ref_t ref,
				   unsigned int otherwise, bool *is_new);

/* Of the grant that has the page. */
enum blktap_grant_state blktap_persistent_state(struct blktap_queue *queue, unsigned int page);

/* Xen has mapped a NEW one, or not: then all its users fail, and nobody finds it again. */
void blktap_persistent_mapped(struct blktap_queue *queue, unsigned int page, bool good);

/* One user less. */
void blktap_persistent_put(struct blktap_queue *queue, unsigned int page);

/* Whether some have to go that no request uses. */
bool blktap_persistent_waits(const struct blktap_queue *queue);

/* Goes on with what has to go: some, for want of room, or all. What I/O still holds stays. */
void blktap_persistent_settle(struct blktap_queue *queue);

/* Whether some of a frontend that has left are still mapped. Any context. */
static inline bool blktap_persistent_is_leaving(const struct blktap_persistent *persistent)
{
	return READ_ONCE(persistent->leaves);
}

/* The frontend is leaving: all go. Until the last is gone the queue is busy. */
void blktap_persistent_drop(struct blktap_queue *queue);

#endif
