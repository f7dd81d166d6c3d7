/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module's own header: its objects, and who does what in which context.
 *
 * A request's way:  guest_ring (fetch, judge) -> grant (map) -> expose
 * -> user_ring (announce) -> tapdisk -> user_ring (collect) -> expose (revoke)
 * -> grant (unmap) -> guest_ring (answer). queue.c is the line through them.
 * Where its data is copied, copy takes the part of grant.
 * In a delegated extent: grant (map) -> submit -> the file -> submit (collect)
 * -> grant (unmap).
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
#ifndef BLKTAP_H
#define BLKTAP_H

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/maple_tree.h>
#include <linux/poll.h>
#include <xen/features.h>
#include <xen/xenbus.h>

#include "queue.h"
#include "ring/vbd_state.h"
#include "stats.h"

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
	bool met;                        /* see struct vbd_facts                       */
	unsigned long close_by;          /* jiffies: when draining turns into revoking */
	struct delayed_work work;        /* of xenbus.c                                */
	u64 generation;                  /* attaches of queue 0 so far                 */
	struct pid *tapdisk;             /* the process that has queue 0; NULL: none   */
	pid_t tapdisk_pid;               /* its number, to be shown                    */
	u32 keep_ms;                     /* how long to wait for the next one          */
	unsigned long keep_by;           /* jiffies: until when; 0: nobody is missing  */
	struct delayed_work keep_work;   /* of successor.c                             */
	u64 image_id[2];                 /* as tapdisk has said                        */
	bool writes_fail;                /* the frontend knows of a flush that failed  */
	u64 unsynced;                    /* generation of the tapdisk that could not; 0: none */
	u32 disk_flags;
	u32 physical_sector_size;
	u32 discard_granularity;
	u32 discard_alignment;
	struct blkif_disk disk;
	struct maple_tree delegations;   /* by sector; changed under vbd.lock, read under RCU */
	unsigned int nr_delegations;
	unsigned long withdrawals;       /* so far                                     */
	wait_queue_head_t withdrawing;   /* woken when a request gives one back        */
	unsigned int max_ring_order;     /* offered to the frontend                    */
	unsigned int nr_queues;          /* offered to the frontend                    */
	unsigned int nr_connected;       /* that it uses; the first ones               */
	struct blktap_queue *queues;
	struct blktap_stats __percpu *stats;
};

/*
 * Whether the request would change the disk, and must not: the frontend may have
 * stopped to ask for flushes, so nothing would make it durable.
 */
static inline bool blktap_vbd_refuses(const struct blktap_vbd *vbd,
				      const struct blkif_request *request)
{
	return READ_ONCE(vbd->writes_fail) && blkif_op_writes(request->op);
}

/* Whether this is a PVH or HVM domain, or on Arm: user_page.c. Else it is PV: user_pte.c. */
static inline bool blktap_is_auto_translated(void)
{
	return xen_feature(XENFEAT_auto_translated_physmap);
}

#define blktap_for_each_queue(vbd, queue) \
	for ((queue) = (vbd)->queues; (queue) < (vbd)->queues + (vbd)->nr_queues; (queue)++)

extern struct workqueue_struct *blktap_workqueue;
extern struct class *blktap_class;
extern unsigned int blktap_max_pages;
extern unsigned int blktap_max_queues;
extern unsigned int blktap_max_ring_order;
extern unsigned int blktap_max_indirect;
extern unsigned int blktap_max_persistent;
extern unsigned int blktap_persistent_seconds;

/* claim.c: process context */
int blktap_claim_start(struct xenbus_driver *driver);
void blktap_claim_stop(struct xenbus_driver *driver);

/* driver.c: xenwatch thread */
extern struct xenbus_driver blktap_xenbus_driver;

/* xenbus.c: workqueue, ioctl */
int blktap_xenbus_tell_size(struct blktap_vbd *vbd);            /* vbd.lock held */
void blktap_xenbus_work(struct work_struct *work);
void blktap_xenbus_kick(struct blktap_vbd *vbd);               /* any context */
void blktap_xenbus_leave(struct blktap_vbd *vbd);

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

int blktap_negotiate_check(struct xenbus_device *dev);
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

/* attach.c: tapdisk's context */
int blktap_attach_check(const struct blktap_attach *attach);
int blktap_attach_agree(const struct blktap_vbd *vbd, struct blktap_attach *attach); /* vbd.lock */

/* chardev.c: tapdisk's context */
extern const struct file_operations blktap_chardev_operations;

/* queue_memory.c, queue.c: process context */
int blktap_queue_init(struct blktap_queue *queue, struct blktap_vbd *vbd, unsigned int index);
int blktap_queue_alloc_pages(struct blktap_queue *queue, bool persistent, bool copies);
void blktap_queue_free(struct blktap_queue *queue);
void blktap_queue_finish(struct blktap_queue *queue);          /* queue.lock held */
void blktap_queue_revoke(struct blktap_queue *queue);          /* queue.lock held */
void blktap_queue_answer(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_queue_give_back(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_queue_leave(struct blktap_queue *queue);
bool blktap_queue_waits(const struct blktap_queue *queue);
bool blktap_queue_barrier_waits(const struct blktap_queue *queue);
void blktap_queue_forget_tapdisk(struct blktap_queue *queue);
int blktap_queue_hand_over(struct blktap_queue *queue, struct list_head *slots);
int blktap_queue_take(struct blktap_queue *queue, struct list_head *starts);
bool blktap_queue_serve(struct blktap_queue *queue, struct list_head *starts);
void blktap_queue_wake(struct blktap_queue *queue);            /* any context     */
void blktap_queue_knock(struct blktap_queue *queue);           /* any context     */

/* doorbell.c: tapdisk's context */
int blktap_doorbell_run(struct blktap_queue *queue, struct file *file, unsigned int flags);
int blktap_doorbell_wake(struct blktap_queue *queue, struct file *file);

/* poll.c */
bool blktap_poll_wanted(const struct blktap_queue *queue);
bool blktap_poll(struct blktap_queue *queue);                  /* queue.lock held */
void blktap_poll_start(struct blktap_queue *queue, unsigned int poll_us);

/* guest_ring.c: everything that touches memory the guest can write. queue.lock held */
int blktap_guest_connect(struct blktap_queue *queue, grant_ref_t *refs, unsigned int pages,
			 evtchn_port_t port, const struct blkif_abi *abi);
void blktap_guest_disconnect(struct blktap_queue *queue);
int blktap_guest_take(struct blktap_queue *queue, struct list_head *taken);
void blktap_guest_answer(struct blktap_queue *queue, const struct blkif_request *request,
			 s16 status);
void blktap_guest_publish(struct blktap_queue *queue);
void blktap_guest_disarm(struct blktap_queue *queue);
bool blktap_guest_arm(struct blktap_queue *queue);

/* grant.c: kernel mappings of the guest's pages. queue.lock held */
void blktap_grant_map(struct blktap_queue *queue, struct list_head *slots,
		      struct list_head *deferred);
void blktap_grant_unmap(struct blktap_queue *queue, struct list_head *slots);
void blktap_grant_add_unmap(struct blktap_queue *queue, unsigned int *count, unsigned int page);
void blktap_grant_unmap_added(struct blktap_queue *queue, unsigned int count);
void blktap_grant_refuse(struct blktap_queue *queue, struct blktap_slot *slot, grant_ref_t ref,
			 s16 status);
bool blktap_page_referenced(const struct blktap_queue *queue, unsigned int page);
bool blktap_grant_referenced(const struct blktap_queue *queue, const struct blktap_slot *slot);

/* copy.c: what is not mapped, but copied. queue.lock held */
void blktap_copy_segments(struct blktap_queue *queue, struct list_head *slots);
void blktap_copy_in(struct blktap_queue *queue, struct list_head *slots);
void blktap_copy_out(struct blktap_queue *queue, struct list_head *slots);
void blktap_copy_forget(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_copy_instead(struct blktap_queue *queue, struct list_head *slots,
			 struct list_head *ready);

/* area.c: through which pages. queue.lock held, but for mmap */
int blktap_area_init(void);                                    /* module load     */
void blktap_area_exit(void);
int blktap_area_renew(struct blktap_queue *queue, bool whole);
void blktap_area_abandon(struct blktap_queue *queue);
void blktap_area_free(struct blktap_queue *queue);
bool blktap_area_lend(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_area_take_back(struct blktap_queue *queue, struct blktap_slot *slot);
int blktap_area_mmap(struct blktap_queue *queue, struct vm_area_struct *vma);

/* backlog.c: what is taken and has to wait. queue.lock held */
bool blktap_backlog_take(struct blktap_queue *queue, struct list_head *taken);
void blktap_backlog_no_room(struct blktap_queue *queue, struct list_head *slots,
			    struct list_head *ready);
void blktap_backlog_take_back(struct blktap_queue *queue, struct list_head *slots);
void blktap_backlog_set_aside(struct blktap_queue *queue, struct blktap_slot *slot);
void blktap_backlog_set_aside_all(struct blktap_queue *queue, struct list_head *slots);
void blktap_backlog_keep(struct blktap_queue *queue, struct blktap_slot *slot);
bool blktap_backlog_is_fencing(const struct blktap_queue *queue);
void blktap_backlog_give_up(struct blktap_queue *queue);
void blktap_backlog_refuse(struct blktap_queue *queue);

/* successor.c: how long it waits for the next tapdisk */
bool blktap_successor_is_awaited(struct blktap_vbd *vbd);      /* vbd.lock held   */
void blktap_successor_give_up(struct blktap_vbd *vbd);         /* process context */
void blktap_successor_work(struct work_struct *work);
void blktap_successor_serves(struct blktap_vbd *vbd);          /* any context     */
unsigned int blktap_successor_time_left(const struct blktap_vbd *vbd);
unsigned int blktap_successor_kept(const struct blktap_vbd *vbd);

/* map_refs.c: gnttab_map_refs() for less */
void blktap_map_refs(struct gnttab_map_grant_ref *map, struct page **pages, unsigned int count);

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
bool blktap_persistent_waits(const struct blktap_queue *queue);
void blktap_persistent_settle(struct blktap_queue *queue);
void blktap_persistent_drop(struct blktap_queue *queue);

/* keep.c: how much all queues keep mapped so, and for how long */
struct blktap_keep {
	unsigned int round;              /* by which grants age                        */
	unsigned int shortage;           /* how often all were asked to let go         */
};

extern struct blktap_keep blktap_keep;

void blktap_keep_stop(void);                                   /* module unload   */
bool blktap_keep_is_old(u8 round);
bool blktap_keep_begin(struct blktap_queue *queue);            /* queue.lock held */
void blktap_keep_end(struct blktap_queue *queue);              /* queue.lock held */
void blktap_keep_less(void);                                   /* process context */

static inline bool blktap_page_is_persistent(unsigned int page)
{
	return page >= BLKTAP_PAGES && page < BLKTAP_WINDOW_PAGES;
}

/* No request's own: a persistent grant's, or one of copy.c. tapdisk sees it all the time. */
static inline bool blktap_page_is_resident(unsigned int page)
{
	return page >= BLKTAP_PAGES;
}

/* delegate.c: what the module may serve by itself, and where */
int blktap_target_open(struct blktap_target *target, int fd, u32 flags);
int blktap_delegate_add(struct blktap_vbd *vbd, const struct blktap_extent *extent);
int blktap_delegate_withdraw(struct blktap_vbd *vbd, const struct blktap_range *range);
void blktap_delegate_drop(struct blktap_vbd *vbd);             /* vbd.lock held   */
struct blktap_delegation *blktap_delegation_get(struct blktap_queue *queue,
						const struct blkif_request *request);
void blktap_delegation_put(struct blktap_vbd *vbd, struct blktap_delegation *delegation);

/* submit.c: and how it does */
void blktap_submit_choose(struct blktap_queue *queue, struct list_head *taken,
			  struct list_head *starts);
void blktap_submit_ask(struct blktap_queue *queue, struct blktap_slot *slot, int fd, u64 offset,
		       struct list_head *starts);
void blktap_submit(struct list_head *slots);                   /* no lock held    */
void blktap_submit_collect(struct blktap_queue *queue);

/* worker.c: who does that, and collects */
void blktap_worker_init(struct blktap_queue *queue);
int blktap_worker_hire(struct blktap_vbd *vbd);                 /* vbd.lock held   */
void blktap_worker_kick(struct blktap_queue *queue);           /* any context     */
void blktap_worker_quit(struct blktap_queue *queue);
void blktap_collect_begin(struct blktap_queue *queue);         /* any context     */
void blktap_collect_end(struct blktap_queue *queue);
void blktap_collect_pause(struct blktap_queue *queue);
void blktap_collect_resume(struct blktap_queue *queue);
void blktap_collect_wanted(struct blktap_queue *queue);
/* no lock held */
void blktap_submit_and_collect(struct blktap_queue *queue, struct list_head *slots);

/* expose.c: which of them tapdisk sees. queue.lock held */
bool blktap_window_expose(struct blktap_queue *queue, struct list_head *slots);
bool blktap_window_shows(struct blktap_queue *queue, const struct blktap_slot *slot);
bool blktap_window_revoke(struct blktap_queue *queue, struct list_head *slots);
bool blktap_window_hide(struct blktap_queue *queue, const unsigned long *persistent);

/* window.c: the VMAs in which it does */
int blktap_window_init(struct blktap_queue *queue);
void blktap_window_free(struct blktap_queue *queue);
int blktap_window_mmap(struct blktap_queue *queue, struct vm_area_struct *vma, int which);
bool blktap_window_owned_by(struct blktap_queue *queue, const struct mm_struct *mm);
struct vm_area_struct *blktap_window_vma(struct blktap_window *window, struct mm_struct *mm);
void blktap_window_prepare(struct blktap_queue *queue, struct mm_struct *mm);
int blktap_window_fill(struct blktap_window *window, struct vm_area_struct *vma,
		       const struct blktap_run *runs, unsigned int nr);

/* How a page gets and loses its place in a window. windows.lock held, but to prepare and fill */
/* user_pte.c: in a PV domain */
int blktap_user_pte_prepare(struct blktap_window *window);
int blktap_user_pte_fill(struct blktap_window *window, const struct blktap_run *runs,
			 unsigned int nr);
void blktap_user_pte_withdraw(struct blktap_window *window, unsigned int *count,
			      unsigned int page);
void blktap_user_pte_clear(struct blktap_windows *windows, unsigned int count);
void blktap_user_pte_visit(struct mm_struct *mm, const struct blktap_window *window,
			   struct blktap_run run, unsigned long *seen);
/* user_page.c: in an auto-translated one */
void blktap_user_page_place(struct blktap_window *window, struct vm_area_struct *vma);
int blktap_user_page_fill(struct blktap_window *window, struct vm_area_struct *vma,
			  const struct blktap_run *runs, unsigned int nr);
void blktap_user_page_withdraw(struct blktap_window *window, struct blktap_run run);

/* user_ring.c: everything that tapdisk can see, but the window. queue.lock held */
int blktap_user_init(struct blktap_queue *queue);
void blktap_user_free(struct blktap_queue *queue);
int blktap_user_renew(struct blktap_queue *queue);
void blktap_user_layout(struct blktap_attach *attach);
void blktap_user_state(struct blktap_queue *queue, u32 state);
int blktap_user_announce(struct blktap_queue *queue, struct list_head *slots);
int blktap_user_collect(struct blktap_queue *queue, struct list_head *starts);
int blktap_user_mmap_descriptors(struct blktap_queue *queue, struct vm_area_struct *vma);
int blktap_user_mmap_commands(struct blktap_queue *queue, struct vm_area_struct *vma);

/* orphan.c: what happens when tapdisk does not do it */
void blktap_orphan_work(struct work_struct *work);
/* queue.lock held */
void blktap_orphan_detach(struct blktap_queue *queue, bool keeps);
void blktap_orphan_kick(struct blktap_queue *queue);

#endif
