/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A queue, what it is made of, and the line along which its requests pass. Unless
 * a comment says otherwise, queue.lock guards it, and callers hold it.
 *
 * Locks, outermost first:
 *   vbd.lock              xenbus state, attach, connect, close
 *   mmap_lock             of the process that mapped the windows, by its own doorbell;
 *                         who has queue.lock already only tries it: this process
 *                         must not make others wait
 *   queue.lock            rings, slots and pages; one at a time
 *   windows.lock          what is visible to user space; in a PV domain a leaf that
 *                         the mmu notifier takes: never allocate or fault under it
 */
#ifndef BLKTAP_QUEUE_H
#define BLKTAP_QUEUE_H

#include <linux/atomic.h>
#include <linux/bvec.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mutex.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/grant_table.h>

#include "base/slots.h"
#include "data/area.h"
#include "data/delegate.h"
#include "data/window.h"
#include "guest/copy.h"
#include "guest/persistent.h"
#include "guest/ring.h"
#include "queue/user_ring.h"
#include "ring/blktap_abi.h"

struct blktap_vbd;

struct blktap_queue {
	struct blktap_vbd *vbd;
	unsigned int index;              /* of vbd.queues                              */
	struct mutex lock;
	struct mm_struct *locked_mm;     /* whose mmap_lock goes with the lock; or NULL */
	struct file *owner;              /* the open that is attached; NULL: orphaned  */
	struct task_struct *tapdisk;     /* the thread that attached it; NULL without owner */
	bool prefault;
	bool submits;                    /* tapdisk may answer with BLKTAP_CMD_SUBMIT  */
	u32 copy_bytes;                  /* of a request, up to which its data is copied */
	unsigned int poll_us;            /* poll.c; 0: never                           */
	int poll_misses;                 /* in a row                                   */
	ktime_t poll_after;              /* not before                                 */
	bool awaited;                    /* by tapdisk: it wants the lock              */
	bool taking;                     /* new requests are taken off the guest ring  */
	bool held;                       /* but not now: tapdisk wants none            */
	bool gone;                       /* the vbd is removed: tapdisk shall leave    */
	struct blktap_guest_ring guest;
	struct blktap_user_ring user;
	struct blktap_windows windows;
	struct blktap_persistent persistent;
	struct blktap_area area;
	struct blktap_copies copies;

	struct blktap_slots slots;
	struct list_head waiting;        /* a barrier, and what came with it, until
					    !blktap_queue_barrier_waits()              */
	struct list_head backlog;        /* taken, with nothing mapped: backlog.c      */
	bool one_by_one;                 /* some of them: each is tried by itself      */
	bool keeps;                      /* without a tapdisk requests wait for the next */
	unsigned int barriers;           /* slots that are not free and have one       */
	u64 arrivals;

	/*
	 * The queue's pages, which stand for the guest's. A request takes a run of
	 * them, so page, segment and place in the window have one number. Behind
	 * them are those of persistent grants, which segments may use instead, and
	 * behind these as many as there are segments, for data that is copied.
	 */
	struct page **pages;             /* BLKTAP_ALL_PAGES; NULL until attached      */
	struct blkif_segment *segs;      /* BLKTAP_PAGES; kmalloc: Xen writes it       */
	u16 *page_of;                    /* which page the segment uses                */
	struct bio_vec *pieces;          /* the segment's data, while it is submitted  */
	grant_handle_t *handle;          /* of the kernel's mapping of the page        */
	struct gnttab_map_grant_ref *map;     /* scratch */
	struct gnttab_unmap_grant_ref *unmap; /* scratch */
	struct page **batch;                  /* scratch */

	wait_queue_head_t wait;          /* tapdisk in poll()                          */
	bool pending;                    /* there is a reason to call RUN              */
	struct llist_head completed;     /* slots whose I/O has ended                  */
	atomic_t collectors;             /* are at it, and look again for what has ended */
	atomic_t sleepers;               /* of these, in the submission of the next     */
	struct blktap_delegation *guess; /* the extent used last                       */
	unsigned long guessed_at;        /* vbd.withdrawals then: valid until it changes */
	struct kthread_work submit_work; /* worker.c                                   */
	struct kthread_worker *worker;   /* NULL until something is delegated          */
	struct cgroup_subsys_state *charged; /* the worker's: whose I/O it starts      */
	struct delayed_work work;        /* orphan.c: what must happen without tapdisk */
	unsigned int backoff;
	bool zombie;                     /* removed: free when idle, the thread ended  */
	unsigned long warn_at;           /* jiffies: the log tells if it still is one  */
};

#define BLKTAP_ALL_PAGES (BLKTAP_WINDOW_PAGES + BLKTAP_PAGES)

static inline bool blktap_page_is_persistent(unsigned int page)
{
	return page >= BLKTAP_PAGES && page < BLKTAP_WINDOW_PAGES;
}

/* No request's own: a persistent grant's, or one of copy.c. tapdisk sees it all the time. */
static inline bool blktap_page_is_resident(unsigned int page)
{
	return page >= BLKTAP_PAGES;
}

/* Something wants attention: tapdisk's, or without one the orphans' worker's. Any context. */
void blktap_queue_wake(struct blktap_queue *queue);

/* The guest has something, or there is room for it again. Any context. */
void blktap_queue_knock(struct blktap_queue *queue);

/*
 * From the guest's ring to tapdisk's, or to `starts`: what the module serves by
 * itself, to be submitted when the lock is released. Returns the requests
 * announced, or -EPROTO. queue.lock is held.
 */
int blktap_queue_take(struct blktap_queue *queue, struct list_head *starts);

/* Gives requests to tapdisk and empties the list. Without one they fail. Returns how many went. */
int blktap_queue_hand_over(struct blktap_queue *queue, struct list_head *slots);

/*
 * One look at all there is, for worker.c. False: there was nothing to do, and an
 * event comes with the next request. queue.lock is held.
 */
bool blktap_queue_serve(struct blktap_queue *queue, struct list_head *starts);

/*
 * Brings the slots that are done to their end, as one batch. Those whose pages
 * are still referenced (I/O of a process that died or lied), and those of a
 * process that keeps its mappings locked, stay, and the worker comes back for
 * them: nothing here waits for I/O or for tapdisk.
 */
void blktap_queue_finish(struct blktap_queue *queue);

/* Whether some I/O still holds pages that have to go, and nobody else will come for them. */
bool blktap_queue_waits(const struct blktap_queue *queue);

/*
 * Whether a barrier has to wait, with all that came with it, for I/O of whose
 * end tapdisk does not hear: the module's own, and what tapdisk may yet submit.
 */
bool blktap_queue_barrier_waits(const struct blktap_queue *queue);

/* The guest is about to be told that a flush has failed, and Linux never asks for another. */
void blktap_queue_stop_writes(struct blktap_queue *queue);

/*
 * Answers the guest and frees the slot, which is in some list and has no page
 * mapped. After a failed flush, nothing that changes the disk succeeds any more.
 */
void blktap_queue_answer(struct blktap_queue *queue, struct blktap_slot *slot);

/* Whether anything is under way: a request, or the end of grants that stayed. Any context. */
bool blktap_queue_is_busy(const struct blktap_queue *queue);

/* Something that was has ended, perhaps the last. */
void blktap_queue_leave(struct blktap_queue *queue);

/*
 * tapdisk is gone. What it owned, and what waits for it, fails, but in a queue that
 * keeps it.
 */
void blktap_queue_revoke(struct blktap_queue *queue);

#endif
