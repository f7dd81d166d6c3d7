/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a queue is made of. Unless a comment says otherwise, queue.lock guards it.
 */
#ifndef BLKTAP_QUEUE_H
#define BLKTAP_QUEUE_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/bvec.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/grant_table.h>

#include "ring/blkif_decode.h"
#include "ring/blktap_abi.h"
#include "ring/ring.h"
#include "ring/slot.h"

#define BLKTAP_ALL_PAGES     (BLKTAP_WINDOW_PAGES + BLKTAP_PAGES)
#define BLKTAP_WINDOW_BYTES  (BLKTAP_WINDOW_PAGES * PAGE_SIZE)
/* Page tables that a window can lie in, whatever its alignment. */
#define BLKTAP_WINDOW_TABLES (BLKTAP_WINDOW_BYTES / PMD_SIZE + 1)

struct blktap_queue;
struct blktap_vbd;

enum { BLKTAP_WINDOW_RW, BLKTAP_WINDOW_RO, BLKTAP_WINDOWS };

/* One user mapping of the queue's pages: for guest reads, or for guest writes. */
struct blktap_window {
	struct blktap_queue *queue;
	u8 which;                        /* BLKTAP_WINDOW_*                           */
	/* under windows.lock */
	struct mm_struct *mm;            /* NULL: not mapped                          */
	unsigned long start;             /* user address                              */
	struct address_space *mapping;   /* auto-translated: where its VMAs are, and  */
	unsigned long pgoff;             /* at which page of that                     */
	DECLARE_BITMAP(exposed, BLKTAP_WINDOW_PAGES); /* pages that tapdisk may see here */
	DECLARE_BITMAP(live, BLKTAP_WINDOW_PAGES);    /* of these, those with a user PTE */
	u64 table[BLKTAP_WINDOW_TABLES]; /* machine addresses of the page tables      */
	bool noted;                      /* whether that holds for new mappings       */
	atomic_t opens;                  /* VMAs that carry this window, of any process */
	struct mmu_interval_notifier notifier;
};

static inline bool blktap_window_is_writable(const struct blktap_window *window)
{
	return window->which == BLKTAP_WINDOW_RW;
}

static inline unsigned long blktap_window_address(const struct blktap_window *window,
						  unsigned int page)
{
	return window->start + page * PAGE_SIZE;
}

/* Number of the page at `address`, or BLKTAP_WINDOW_PAGES if it lies outside the window. */
static inline unsigned int blktap_window_page(const struct blktap_window *window,
					      unsigned long address)
{
	return min_t(unsigned long, (address - window->start) / PAGE_SIZE, BLKTAP_WINDOW_PAGES);
}

/* Consecutive pages. */
struct blktap_run {
	u16 first;
	u16 count;
};

/* Copy operations that go with one hypercall. */
#define BLKTAP_COPY_OPS     64
#define BLKTAP_COPIES_BYTES (BLKTAP_PAGES * PAGE_SIZE)

struct blktap_copies {
	struct address_space *mapping;   /* by which tapdisk sees the area; NULL: not  */
	bool whole;                      /* all its pages are there                    */
	unsigned int lent;               /* if not, how many                           */
	unsigned int users;              /* slots whose data is there                  */
	bool abandoned;                  /* the tapdisk that had it has gone           */
	unsigned int count;              /* of what follows, the scratch of a batch    */
	struct gnttab_copy op[BLKTAP_COPY_OPS];
	struct blktap_slot *slot[BLKTAP_COPY_OPS];
	grant_ref_t ref[BLKTAP_COPY_OPS];
};

struct blktap_windows {
	struct mutex lock;
	struct blktap_window window[BLKTAP_WINDOWS];
	grant_handle_t *handle;               /* of the live pages                    */
	struct gnttab_map_grant_ref *map;     /* scratch */
	struct gnttab_unmap_grant_ref *unmap; /* scratch */
};

/* Where the module does I/O by itself: delegate.c. */
struct blktap_target {
	struct file *file;
	struct block_device *device;     /* NULL: not, or not straight                 */
	int iocb_flags;
};

/* A range of the disk that it serves without asking. */
struct blktap_delegation {
	struct list_head node;           /* of those that are taken out                */
	struct blktap_target target;
	u64 sector;                      /* the first                                  */
	u64 sectors;
	u64 offset;                      /* bytes, of its start in the file            */
	u32 flags;                       /* BLKTAP_EXTENT_*                            */
	refcount_t users;                /* requests, and one while it is in the tree  */
};

/* One guest request, from its fetch until its answer. */
struct blktap_slot {
	struct list_head node;           /* queue.free, done or waiting, or a batch on the stack;
					    none while tapdisk owns it or it is in limbo; stale
					    while its I/O is under way                         */
	struct blkif_request request;    /* the private copy; valid by construction            */
	u64 arrival;
	u64 generation;                  /* vbd.generation when it was taken                   */
	s16 status;                      /* BLKIF_RSP_*, once the slot is done                 */
	u16 index;
	u16 first;                       /* of the run of pages: one for each segment          */
	bool copied;                     /* its data goes through pages of area.c              */
	bool lent;                       /* which are there for it alone                       */
	bool submitted;                  /* all its I/O was the module's own, and has ended    */
	bool bounced;                    /* the module has tried, and tapdisk has to           */
	bool lingers;                    /* done, but in use for longer than one waits         */
	bool again;                      /* not answered: it waits for the next tapdisk        */
	u8 losses;                       /* tapdisks that went with it in hand                 */
	/* under windows.lock */
	struct blktap_window *window;    /* where tapdisk may see the pages; NULL: nowhere     */
	bool shown;                      /* some page had a user PTE during this use           */
	/* submit.c */
	struct blktap_queue *queue;
	struct blktap_target target;     /* of its I/O, and                                    */
	loff_t position;                 /* where in it                                        */
	struct blktap_delegation *delegation; /* whose that is; NULL: the slot has the file    */
	union {
		struct kiocb iocb;
		struct bio bio;
	};
	atomic_t iocb_users;             /* whoever started the I/O, and the I/O               */
	struct llist_node completed;     /* of queue.completed                                 */
	long moved;                      /* bytes, or a negative errno                         */
};

/* Whether its I/O can be the module's: not a flush, a barrier or a discard, nor tried before. */
static inline bool blktap_may_submit(const struct blktap_slot *slot)
{
	return !slot->bounced && (slot->request.op == BLKIF_OP_READ ||
				  slot->request.op == BLKIF_OP_WRITE);
}

static inline struct blktap_run blktap_run_of(const struct blktap_slot *slot)
{
	return (struct blktap_run){ slot->first, slot->request.nr_segs };
}

enum blktap_grant_state {
	BLKTAP_GRANT_NEW,                /* about to be mapped, in this batch          */
	BLKTAP_GRANT_MAPPED,
	BLKTAP_GRANT_BAD,                /* Xen would not map it                       */
};

/* A grant that stays mapped: persistent.c. */
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
	bool counted;                    /* and are one use of the queue until then    */
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

/* The guest's ring. */
struct blktap_guest_ring {
	struct blkif_sring *sring;       /* NULL: not connected                        */
	const struct blkif_abi *abi;
	struct ring_consumer requests;
	struct blkif_entry entry;        /* the private copy of the next request, if   */
	bool fetched;                    /* it has been made                           */
	bool starved;                    /* that request waits for a slot or for pages */
	u32 responses;                   /* produced; published when they differ from  */
	u32 published;                   /* what the guest has been shown              */
	int irq;
	bool lied;                       /* the guest broke the protocol: never read again */
	atomic_t eoi_owed;               /* an event came and its source is still masked   */
	u32 eoi_seen;                    /* requests.seen at the last EOI              */
};

/* The ring to tapdisk. */
struct blktap_user_ring {
	void *descriptors;               /* vmalloc_user; tapdisk maps it read-only    */
	void *commands;                  /* vmalloc_user; tapdisk writes it            */
	u32 announced;                   /* requests put on the ring                   */
	u32 rejected;
	struct ring_consumer taken;
};

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
	struct blktap_copies copies;

	struct blktap_slot *slots;       /* BLKTAP_DEPTH_MAX                           */
	struct slot_state *states;       /* of the slots                               */
	struct list_head free;
	struct list_head done;           /* answered or revoked, not yet unmapped      */
	struct list_head waiting;        /* a barrier, and what came with it, until
					    !blktap_queue_barrier_waits()              */
	struct list_head backlog;        /* taken, with nothing mapped: backlog.c      */
	bool short_of_room;              /* that is why some of them wait              */
	bool keeps;                      /* without a tapdisk requests wait for the next */
	unsigned int in_use;             /* slots; and one while persistent grants leave */
	unsigned int offered;            /* of these: tapdisk owns them                */
	unsigned int submitted;          /* of these: I/O of the module's own is under way */
	unsigned int barriers;           /* of these: barriers                         */
	unsigned int limbo;              /* slots in limbo                             */
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
	u16 *slot_of;                    /* whose the segment is                       */
	struct bio_vec *pieces;          /* the segment's data, while it is submitted  */
	grant_handle_t *handle;          /* of the kernel's mapping of the page        */
	DECLARE_BITMAP(taken, BLKTAP_PAGES);
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
	struct delayed_work work;        /* orphan.c: what must happen without tapdisk */
	unsigned int backoff;
	bool zombie;                     /* removed: free when idle, the thread ended  */
	unsigned long warn_at;           /* jiffies: the log tells if it still is one  */
};

#endif
