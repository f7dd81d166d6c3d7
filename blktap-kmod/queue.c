// SPDX-License-Identifier: GPL-2.0-only
/*
 * One queue: the line along which requests pass, and the slots they occupy.
 *
 * Order of completion, never otherwise: the window is revoked, every page
 * reference is back, the kernel's grants are unmapped, the guest is answered.
 * A frontend that finds a page of an answered request still mapped gives its
 * disk up.
 */
#include <linux/bitmap.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "blktap.h"
#include "trace.h"

/* Direct I/O reports completion a moment before it drops its page references. */
#define SETTLE_US 20

/* How often one doorbell looks at the guest's ring again before tapdisk gets its turn. */
#define ROUNDS_MAX 4

static atomic_t pages_in_use = ATOMIC_INIT(0);

int blktap_queue_init(struct blktap_queue *queue, struct blktap_vbd *vbd, unsigned int index)
{
	unsigned int i;
	int err;

	/* The scratch of a batch serves both kinds of pages. */
	BUILD_BUG_ON(BLKTAP_PERSISTENT_MAX > BLKTAP_PAGES);
	queue->vbd = vbd;
	queue->index = index;
	mutex_init(&queue->lock);
	INIT_LIST_HEAD(&queue->free);
	INIT_LIST_HEAD(&queue->done);
	init_waitqueue_head(&queue->wait);
	init_waitqueue_head(&queue->idle);
	INIT_DELAYED_WORK(&queue->work, blktap_orphan_work);
	blktap_persistent_init(queue);

	queue->slots = kvcalloc(BLKTAP_DEPTH_MAX, sizeof(*queue->slots), GFP_KERNEL);
	queue->states = kvcalloc(BLKTAP_DEPTH_MAX, sizeof(*queue->states), GFP_KERNEL);
	queue->segs = kcalloc(BLKTAP_PAGES, sizeof(*queue->segs), GFP_KERNEL);
	queue->page_of = kvcalloc(BLKTAP_PAGES, sizeof(*queue->page_of), GFP_KERNEL);
	queue->slot_of = kvcalloc(BLKTAP_PAGES, sizeof(*queue->slot_of), GFP_KERNEL);
	queue->handle = kvcalloc(BLKTAP_WINDOW_PAGES, sizeof(*queue->handle), GFP_KERNEL);
	queue->map = kvcalloc(BLKTAP_PAGES, sizeof(*queue->map), GFP_KERNEL);
	queue->unmap = kvcalloc(BLKTAP_PAGES, sizeof(*queue->unmap), GFP_KERNEL);
	queue->batch = kvcalloc(BLKTAP_PAGES, sizeof(*queue->batch), GFP_KERNEL);
	if (!queue->slots || !queue->states || !queue->segs || !queue->page_of ||
	    !queue->slot_of || !queue->handle || !queue->map || !queue->unmap || !queue->batch)
		return -ENOMEM;
	for (i = 0; i < BLKTAP_DEPTH_MAX; i++) {
		queue->slots[i].index = i;
		list_add_tail(&queue->slots[i].node, &queue->free);
	}
	err = blktap_window_init(queue);
	return err ?: blktap_user_init(queue);
}

/* -ENOSPC: max_pages would be passed. */
static int reserve_pages(struct page **pages, unsigned int count)
{
	int err;

	err = atomic_add_return(count, &pages_in_use) > (int)READ_ONCE(blktap_max_pages) ?
		-ENOSPC : gnttab_alloc_pages(count, pages);
	if (err) {
		atomic_sub(count, &pages_in_use);
		memset(pages, 0, count * sizeof(*pages));
	}
	return err;
}

static void give_pages_back(struct page **pages, unsigned int count)
{
	gnttab_free_pages(count, pages);
	atomic_sub(count, &pages_in_use);
}

/*
 * Reserves the pages that stand for the guest's. On Debian's kernels they are
 * address space without memory behind it. Idempotent. -ENOSPC: max_pages would
 * be passed.
 */
int blktap_queue_alloc_pages(struct blktap_queue *queue, bool persistent)
{
	struct page **pages = queue->pages;
	int err;

	if (!pages) {
		pages = kvcalloc(BLKTAP_WINDOW_PAGES, sizeof(*pages), GFP_KERNEL);
		err = pages ? reserve_pages(pages, BLKTAP_PAGES) : -ENOMEM;
		if (err) {
			kvfree(pages);
			return err;
		}
		queue->pages = pages;
	}
	if (persistent && !pages[BLKTAP_PAGES]) {
		err = blktap_persistent_alloc(queue);
		return err ?: reserve_pages(pages + BLKTAP_PAGES, BLKTAP_PERSISTENT_MAX);
	}
	return 0;
}

/* No slot is in use and no process has anything of the queue mapped. */
void blktap_queue_free(struct blktap_queue *queue)
{
	if (queue->pages) {
		give_pages_back(queue->pages, BLKTAP_PAGES);
		if (queue->pages[BLKTAP_PAGES])
			give_pages_back(queue->pages + BLKTAP_PAGES, BLKTAP_PERSISTENT_MAX);
	}
	blktap_persistent_free(queue);
	kvfree(queue->pages);
	blktap_user_free(queue);
	blktap_window_free(queue);
	kvfree(queue->batch);
	kvfree(queue->unmap);
	kvfree(queue->map);
	kvfree(queue->handle);
	kvfree(queue->slot_of);
	kvfree(queue->page_of);
	kfree(queue->segs);
	kvfree(queue->states);
	kvfree(queue->slots);
}

/* Something wants attention: tapdisk's, or without one the worker's. Any context. */
void blktap_queue_wake(struct blktap_queue *queue)
{
	if (!READ_ONCE(queue->owner)) {
		blktap_orphan_kick(queue);
		return;
	}
	WRITE_ONCE(queue->pending, true);
	if (wq_has_sleeper(&queue->wait)) {
		blktap_count(queue->vbd, tapdisk_wakeups, 1);
		wake_up_poll(&queue->wait, EPOLLIN);
	}
}

static void count_bytes(struct blktap_vbd *vbd, const struct blktap_slot *slot)
{
	u32 bytes = slot->request.bytes;

	if (!bytes)
		return;
	if (slot->request.op == BLKIF_OP_READ)
		blktap_count(vbd, bytes_read, bytes);
	else
		blktap_count(vbd, bytes_written, bytes);
	if (vbd->disk_flags & BLKTAP_DISK_BUFFERED)
		blktap_count(vbd, bytes_copied, bytes);
	else
		blktap_count(vbd, bytes_zero_copy, bytes);
}

static void free_slot(struct blktap_queue *queue, struct blktap_slot *slot)
{
	queue->states[slot->index].owner = SLOT_FREE;
	bitmap_clear(queue->taken, slot->first, slot->request.nr_segs);
	/* To the front: its tables are the warmest. */
	list_move(&slot->node, &queue->free);
}

/* tapdisk has answered a request that had been taken back from it. */
void blktap_queue_give_back(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct slot_state *state = &queue->states[slot->index];

	slot_answered(state);
	if (state->owner == SLOT_LIMBO)
		free_slot(queue, slot);
}

/* Nobody is left who could answer what is owed. */
void blktap_queue_forget_tapdisk(struct blktap_queue *queue)
{
	unsigned int i;

	for (i = 0; i < BLKTAP_DEPTH_MAX; i++)
		if (queue->states[i].owed)
			blktap_queue_give_back(queue, &queue->slots[i]);
}

/* One use of the queue has ended. */
void blktap_queue_leave(struct blktap_queue *queue)
{
	if (--queue->in_use)
		return;
	wake_up(&queue->idle);
	/* Closing waits for this. After removal nobody does: the work item may be gone. */
	if (!queue->taking && !queue->gone)
		blktap_xenbus_kick(queue->vbd);
}

/* Answers the guest and frees the slot, which is in some list and has no page mapped. */
void blktap_queue_answer(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_vbd *vbd = queue->vbd;

	if (slot->status == BLKIF_RSP_OKAY)
		count_bytes(vbd, slot);
	blktap_guest_answer(queue, &slot->request, slot->status);
	trace_blktap_answer(vbd->domid, vbd->devid, slot->index, slot->request.op,
			    slot->request.sector, slot->request.bytes, slot->status);
	if (queue->states[slot->index].owed) {
		queue->states[slot->index].owner = SLOT_LIMBO;
		list_del_init(&slot->node);
	} else {
		free_slot(queue, slot);
	}
	blktap_queue_leave(queue);
}

/* Whether the slot's pages are free, or become so before `deadline`, which the first wait sets. */
static bool settled(const struct blktap_queue *queue, const struct blktap_slot *slot,
		    ktime_t *deadline)
{
	while (blktap_grant_referenced(queue, slot)) {
		if (!*deadline)
			*deadline = ktime_add_us(ktime_get(), SETTLE_US);
		else if (ktime_after(ktime_get(), *deadline))
			return false;
		cpu_relax();
	}
	return true;
}

static void finish_done(struct blktap_queue *queue)
{
	ktime_t deadline = 0;
	struct blktap_slot *slot;
	struct blktap_slot *next;
	LIST_HEAD(ready);

	blktap_window_revoke(queue, &queue->done);
	list_for_each_entry_safe(slot, next, &queue->done, node)
		if (settled(queue, slot, &deadline))
			list_move_tail(&slot->node, &ready);
		else
			blktap_count(queue->vbd, busy_waits, 1);
	blktap_grant_unmap(queue, &ready);
	list_for_each_entry_safe(slot, next, &ready, node)
		blktap_queue_answer(queue, slot);
	blktap_guest_publish(queue);
}

/* Whether some I/O still holds pages that have to go. */
bool blktap_queue_waits(const struct blktap_queue *queue)
{
	return !list_empty(&queue->done) || !list_empty(&queue->persistent.leaving);
}

/*
 * Brings the slots in queue.done to their end, as one batch. Those whose pages
 * are still referenced (I/O of a process that died or lied) stay, and the
 * worker comes back for them: nothing here waits for I/O.
 */
void blktap_queue_finish(struct blktap_queue *queue)
{
	if (!list_empty(&queue->done))
		finish_done(queue);
	blktap_persistent_settle(queue);
	if (blktap_queue_waits(queue))
		blktap_orphan_kick(queue);
}

/* Takes back every slot that tapdisk owns. Its requests fail. */
void blktap_queue_revoke(struct blktap_queue *queue)
{
	unsigned int i;

	for (i = 0; i < BLKTAP_DEPTH_MAX; i++) {
		struct blktap_slot *slot = &queue->slots[i];

		if (queue->states[i].owner != SLOT_TAPDISK)
			continue;
		slot_revoke(&queue->states[i]);
		slot->status = BLKIF_RSP_ERROR;
		list_add_tail(&slot->node, &queue->done);
	}
	blktap_queue_finish(queue);
}

/* From the guest's ring to tapdisk's. Returns the requests announced, or -EPROTO. */
static int take(struct blktap_queue *queue)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	LIST_HEAD(taken);
	int n = blktap_guest_take(queue, &taken);

	if (n > 0) {
		blktap_grant_map(queue, &taken);
		list_for_each_entry_safe(slot, next, &taken, node)
			if (slot->status != BLKIF_RSP_OKAY)
				blktap_queue_answer(queue, slot);
		blktap_window_expose(queue, &taken);
		n = blktap_user_announce(queue, &taken);
	}
	/* Refused requests have been answered on the way. */
	if (n >= 0)
		blktap_guest_publish(queue);
	return n;
}

static int take_until_armed(struct blktap_queue *queue, unsigned int flags)
{
	int announced = 0;
	int round;
	int n;

	for (round = 0; round < ROUNDS_MAX; round++) {
		n = take(queue);
		if (n < 0) {
			blktap_xenbus_kick(queue->vbd);
			return announced;
		}
		announced += n;
		if (!(flags & BLKTAP_RUN_ARM) || !blktap_guest_arm(queue))
			return announced;
	}
	/* Still more: poll() must not sleep. */
	WRITE_ONCE(queue->pending, true);
	return announced;
}

/* The doorbell, see blktap_abi.h. `file` is the open through which it was rung. */
int blktap_queue_run(struct blktap_queue *queue, struct file *file, unsigned int flags)
{
	int err;

	if (mutex_lock_interruptible(&queue->lock))
		return -EINTR;
	if (queue->owner != file) {
		err = -ENXIO;
		goto out;
	}
	if (!blktap_window_owned_by(queue, current->mm)) {
		err = -EPERM;
		goto out;
	}
	blktap_count(queue->vbd, runs, 1);
	/* Whatever sets it from here on is about something that we may not see below. */
	smp_store_mb(queue->pending, false);

	err = blktap_user_collect(queue);
	blktap_queue_finish(queue);
	if (!err && queue->gone)
		err = -ENODEV;
	else if (!err && queue->taking && !(flags & BLKTAP_RUN_HOLD))
		err = take_until_armed(queue, flags);
out:
	mutex_unlock(&queue->lock);
	return err;
}
