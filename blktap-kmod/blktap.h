/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's own header: its objects, and who does what in which context.
 *
 * A request's way:  guest_ring (fetch, judge) -> grant (map) -> expose
 * -> user_ring (announce) -> tapdisk -> user_ring (collect) -> expose (revoke)
 * -> grant (unmap) -> guest_ring (answer). queue.c is the line through them.
 *
 * Locks, outermost first:
 *   vbd.lock              xenbus state, attach, connect, close
 *   queue.lock            rings, slots and pages; one at a time
 *   mmap_lock             of the process that mapped the windows
 *   windows.populating    one filler of user PTEs at a time; may allocate
 *   windows.lock          what is visible to user space; a leaf that the mmu
 *                         notifier takes: never allocate or fault under it
 */
#ifndef BLKTAP_H
#define BLKTAP_H

#include <linux/atomic.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/grant_table.h>
#include <xen/xenbus.h>

#include "ring/blkif_decode.h"
#include "ring/blktap_abi.h"
#include "ring/ring.h"
#include "ring/slot.h"
#include "stats.h"

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
	DECLARE_BITMAP(exposed, BLKTAP_WINDOW_PAGES); /* pages that tapdisk may see here */
	DECLARE_BITMAP(live, BLKTAP_WINDOW_PAGES);    /* of these, those with a user PTE */
	u64 table[BLKTAP_WINDOW_TABLES]; /* machine addresses of the page tables      */
	bool noted[BLKTAP_WINDOW_TABLES]; /* whether that holds for new mappings      */
	/* under mmap_lock for writing */
	unsigned int opens;              /* VMAs that carry this window               */
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

struct blktap_windows {
	struct mutex populating;
	struct mutex lock;
	struct blktap_window window[BLKTAP_WINDOWS];
	grant_handle_t *handle;               /* of the live pages                    */
	struct gnttab_map_grant_ref *map;     /* scratch */
	struct gnttab_unmap_grant_ref *unmap; /* scratch */
};

/* One guest request, from its fetch until its answer. */
struct blktap_slot {
	struct list_head node;           /* queue.free, queue.done, or a batch on the stack;
					    none while tapdisk owns it or it is in limbo       */
	struct blkif_request request;    /* the private copy; valid by construction            */
	u64 arrival;
	s16 status;                      /* BLKIF_RSP_*, once the slot is done                 */
	u16 index;
	u16 first;                       /* of the run of pages: one for each segment          */
	/* under windows.lock */
	struct blktap_window *window;    /* where tapdisk may see the pages; NULL: nowhere     */
	bool shown;                      /* some page had a user PTE during this use           */
};

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
};

struct blktap_persistent {
	bool on;                         /* this frontend uses them                    */
	bool full;                       /* one found no room                          */
	bool dropping;                   /* all have to go                             */
	bool counted;                    /* and are one use of the queue until then    */
	unsigned int limit;
	unsigned int count;              /* that are not free                          */
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
	struct file *owner;              /* the open that is attached; NULL: orphaned  */
	bool prefault;
	bool taking;                     /* new requests are taken off the guest ring  */
	bool gone;                       /* the vbd is removed: tapdisk shall leave    */
	struct blktap_guest_ring guest;
	struct blktap_user_ring user;
	struct blktap_windows windows;
	struct blktap_persistent persistent;

	struct blktap_slot *slots;       /* BLKTAP_DEPTH_MAX                           */
	struct slot_state *states;       /* of the slots                               */
	struct list_head free;
	struct list_head done;           /* answered or revoked, not yet unmapped      */
	unsigned int in_use;             /* slots; and one while persistent grants leave */
	u64 arrivals;

	/*
	 * The queue's pages, which stand for the guest's. A request takes a run of
	 * them, so page, segment and place in the window have one number. Behind
	 * them are those of persistent grants, which segments may use instead.
	 */
	struct page **pages;             /* BLKTAP_WINDOW_PAGES; NULL until attached   */
	struct blkif_segment *segs;      /* BLKTAP_PAGES; kmalloc: Xen writes it       */
	u16 *page_of;                    /* which page the segment uses                */
	u16 *slot_of;                    /* whose the segment is                       */
	grant_handle_t *handle;          /* of the kernel's mapping of the page        */
	DECLARE_BITMAP(taken, BLKTAP_PAGES);
	struct gnttab_map_grant_ref *map;     /* scratch */
	struct gnttab_unmap_grant_ref *unmap; /* scratch */
	struct page **batch;                  /* scratch */

	wait_queue_head_t wait;          /* tapdisk in poll()                          */
	bool pending;                    /* there is a reason to call RUN              */
	wait_queue_head_t idle;          /* woken when the last slot is free           */
	struct delayed_work work;        /* orphan.c: what must happen without tapdisk */
	unsigned int backoff;
	bool zombie;                     /* removed with slots in use: free when idle  */
};

enum blktap_state {
	BLKTAP_INITWAIT,                 /* waiting for tapdisk and for the frontend   */
	BLKTAP_CONNECTED,
	BLKTAP_CLOSING,                  /* draining                                   */
	BLKTAP_CLOSED,                   /* the frontend may come back                 */
	BLKTAP_ERROR,                    /* the frontend broke a rule                  */
};

/* A virtual block device. Lives as long as anything refers to vbd.dev. */
struct blktap_vbd {
	struct device dev;               /* /sys/class/blktap/vbd-D-V                  */
	struct cdev cdev;                /* /dev/blktap/vbd-D-V                        */
	struct list_head node;           /* of all living vbds, stats.c                */
	domid_t domid;
	unsigned int devid;
	struct mutex lock;
	struct xenbus_device *xenbus;    /* NULL once removed                          */
	enum blktap_state state;
	bool frontend_ready;             /* the frontend has written its keys          */
	unsigned long close_by;          /* jiffies: when draining turns into revoking */
	struct delayed_work work;        /* of xenbus.c                                */
	u64 generation;                  /* attaches of queue 0 so far                 */
	pid_t tapdisk_pid;
	u32 disk_flags;
	u32 physical_sector_size;
	u32 discard_granularity;
	u32 discard_alignment;
	struct blkif_disk disk;
	unsigned int max_ring_order;     /* offered to the frontend                    */
	unsigned int nr_queues;          /* offered to the frontend                    */
	unsigned int nr_connected;       /* that it uses; the first ones               */
	struct blktap_queue *queues;
	struct blktap_stats __percpu *stats;
};

#define blktap_for_each_queue(vbd, queue) \
	for ((queue) = (vbd)->queues; (queue) < (vbd)->queues + (vbd)->nr_queues; (queue)++)

extern struct workqueue_struct *blktap_workqueue;
extern struct class *blktap_class;
extern unsigned int blktap_max_pages;
extern unsigned int blktap_max_queues;
extern unsigned int blktap_max_ring_order;
extern unsigned int blktap_max_indirect;
extern unsigned int blktap_max_persistent;

/* claim.c: process context */
int blktap_claim_start(struct xenbus_driver *driver);
void blktap_claim_stop(struct xenbus_driver *driver);

/* xenbus.c: xenwatch thread, ioctl, workqueue */
extern struct xenbus_driver blktap_xenbus_driver;
void blktap_xenbus_connect(struct blktap_vbd *vbd);            /* vbd.lock held */
int blktap_xenbus_tell_size(struct blktap_vbd *vbd);            /* vbd.lock held */
void blktap_xenbus_work(struct work_struct *work);
void blktap_xenbus_kick(struct blktap_vbd *vbd);               /* any context */

/* negotiate.c: process context, vbd.lock held */
/* What the frontend has chosen. */
struct blktap_frontend_keys {
	unsigned int queues;
	unsigned int ring_pages;
	const struct blkif_abi *abi;
	bool persistent;
	struct {
		grant_ref_t refs[BLKIF_RING_PAGES_MAX];
		evtchn_port_t event_channel;
	} queue[];
};

int blktap_negotiate_offer(struct blktap_vbd *vbd);
struct blktap_frontend_keys *blktap_negotiate_read(const struct blktap_vbd *vbd);
int blktap_negotiate_describe(const struct blktap_vbd *vbd);
int blktap_negotiate_size(const struct blktap_vbd *vbd);

/* vbd.c: process context */
struct blktap_vbd *blktap_vbd_create(struct xenbus_device *xenbus, unsigned int devid);
int blktap_vbd_show(struct blktap_vbd *vbd);
void blktap_vbd_hide(struct blktap_vbd *vbd);
int blktap_vbd_init(void);
void blktap_vbd_exit(void);

/* chardev.c: tapdisk's context */
extern const struct file_operations blktap_chardev_operations;

/* queue.c: process context */
int blktap_queue_init(struct blktap_queue *queue, struct blktap_vbd *vbd, unsigned int index);
int blktap_queue_alloc_pages(struct blktap_queue *queue, bool persistent);
void blktap_queue_free(struct blktap_queue *queue);
int blktap_queue_run(struct blktap_queue *queue, struct file *file, unsigned int flags);
void blktap_queue_finish(struct blktap_queue *queue);          /* queue.lock held */
void blktap_queue_revoke(struct blktap_queue *queue);          /* queue.lock held */
void blktap_queue_answer(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_queue_give_back(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_queue_leave(struct blktap_queue *queue);
bool blktap_queue_waits(const struct blktap_queue *queue);
void blktap_queue_forget_tapdisk(struct blktap_queue *queue);
void blktap_queue_wake(struct blktap_queue *queue);            /* any context     */

/* guest_ring.c: everything that touches memory the guest can write. queue.lock held */
int blktap_guest_connect(struct blktap_queue *queue, grant_ref_t *refs, unsigned int pages,
			 evtchn_port_t port, const struct blkif_abi *abi);
void blktap_guest_disconnect(struct blktap_queue *queue);
int blktap_guest_take(struct blktap_queue *queue, struct list_head *taken);
void blktap_guest_answer(struct blktap_queue *queue, const struct blkif_request *request,
			 s16 status);
void blktap_guest_publish(struct blktap_queue *queue);
bool blktap_guest_arm(struct blktap_queue *queue);

/* grant.c: kernel mappings of the guest's pages. queue.lock held */
void blktap_grant_map(struct blktap_queue *queue, struct list_head *slots);
void blktap_grant_unmap(struct blktap_queue *queue, struct list_head *slots);
void blktap_grant_add_unmap(struct blktap_queue *queue, unsigned int *count, unsigned int page);
void blktap_grant_unmap_added(struct blktap_queue *queue, unsigned int count);
void blktap_grant_copy_segments(struct blktap_queue *queue, struct list_head *slots);
bool blktap_grant_referenced(const struct blktap_queue *queue, const struct blktap_slot *slot);

/* persistent.c: grants that stay mapped. queue.lock held */
void blktap_persistent_init(struct blktap_queue *queue);
int blktap_persistent_alloc(struct blktap_queue *queue);
void blktap_persistent_free(struct blktap_queue *queue);
void blktap_persistent_start(struct blktap_queue *queue, bool on);
unsigned int blktap_persistent_get(struct blktap_queue *queue, grant_ref_t ref,
				   unsigned int otherwise, bool *is_new);
enum blktap_grant_state blktap_persistent_state(struct blktap_queue *queue, unsigned int page);
void blktap_persistent_mapped(struct blktap_queue *queue, unsigned int page, bool good);
void blktap_persistent_put(struct blktap_queue *queue, unsigned int page);
void blktap_persistent_settle(struct blktap_queue *queue);
void blktap_persistent_drop(struct blktap_queue *queue);

static inline bool blktap_page_is_persistent(unsigned int page)
{
	return page >= BLKTAP_PAGES;
}

/* expose.c: which of them tapdisk sees. queue.lock held */
void blktap_window_expose(struct blktap_queue *queue, struct list_head *slots);
void blktap_window_revoke(struct blktap_queue *queue, struct list_head *slots);
void blktap_window_hide(struct blktap_queue *queue, const unsigned long *persistent);

/* window.c: the VMAs in which it does */
int blktap_window_init(struct blktap_queue *queue);
void blktap_window_free(struct blktap_queue *queue);
int blktap_window_mmap(struct blktap_queue *queue, struct vm_area_struct *vma, int which);
bool blktap_window_owned_by(struct blktap_queue *queue, const struct mm_struct *mm);
bool blktap_window_is_mapped(struct blktap_window *window, struct mm_struct *mm);

/* user_pte.c: how a page gets and loses its place in a window. windows.lock held, but to fill */
int blktap_user_pte_fill(struct blktap_window *window, const struct blktap_run *runs,
			 unsigned int nr);
void blktap_user_pte_withdraw(struct blktap_window *window, unsigned int *count,
			      unsigned int page);
void blktap_user_pte_forget(struct blktap_window *window, unsigned int page);
void blktap_user_pte_clear(struct blktap_windows *windows, unsigned int count);
void blktap_user_pte_visit(struct mm_struct *mm, const struct blktap_window *window,
			   struct blktap_run run, unsigned long *seen);

/* user_ring.c: everything that tapdisk can see, but the window. queue.lock held */
int blktap_user_init(struct blktap_queue *queue);
void blktap_user_free(struct blktap_queue *queue);
void blktap_user_reset(struct blktap_queue *queue);
void blktap_user_layout(struct blktap_attach *attach);
void blktap_user_state(struct blktap_queue *queue, u32 state);
int blktap_user_announce(struct blktap_queue *queue, struct list_head *slots);
int blktap_user_collect(struct blktap_queue *queue);
int blktap_user_mmap_descriptors(struct blktap_queue *queue, struct vm_area_struct *vma);
int blktap_user_mmap_commands(struct blktap_queue *queue, struct vm_area_struct *vma);

/* orphan.c: what happens when tapdisk does not do it */
void blktap_orphan_work(struct work_struct *work);
void blktap_orphan_detach(struct blktap_queue *queue);         /* queue.lock held */
void blktap_orphan_kick(struct blktap_queue *queue);

#endif
