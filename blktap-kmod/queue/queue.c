// SPDX-License-Identifier: GPL-2.0-only
/*
 * One queue: the line along which requests pass, and the slots they occupy.
 *
 * Order of completion, never otherwise: the window is revoked, every page
 * reference is back, the kernel's grants are unmapped (or what was read is
 * copied to the guest), the guest is answered.
 * A frontend that finds a page of an answered request still mapped gives its
 * disk up.
 */
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "base/stats.h"
#include "base/trace.h"
#include "data/expose.h"
#include "data/submit.h"
#include "data/window.h"
#include "disk/vbd.h"
#include "guest/copy.h"
#include "guest/grant.h"
#include "guest/persistent.h"
#include "guest/ring.h"
#include "guest/xenbus.h"
#include "queue/backlog.h"
#include "queue/orphan.h"
#include "queue/poll.h"
#include "queue/queue.h"
#include "queue/user_ring.h"
#include "queue/worker.h"

/* Direct I/O reports completion a moment before it drops its page references. */
#define SETTLE_US 20

void blktap_queue_wake(struct blktap_queue *queue)
{
	if (!READ_ONCE(queue->owner)) {
		blktap_orphan_kick(queue);
		return;
	}
	/* Who takes it (doorbell.c) sees what it is about. */
	smp_store_release(&queue->pending, true);
	if (wq_has_sleeper(&queue->wait)) {
		blktap_count(queue->vbd, tapdisk_wakeups, 1);
		wake_up_poll(&queue->wait, EPOLLIN);
	}
}

void blktap_queue_knock(struct blktap_queue *queue)
{
	if (!READ_ONCE(queue->owner) || mtree_empty(&queue->vbd->delegations)) {
		blktap_queue_wake(queue);
		return;
	}
	/* Who sees an extent sees the worker that was there before it. */
	smp_rmb();
	blktap_worker_kick(queue);
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
	if (slot->copied || (vbd->disk_flags & BLKTAP_DISK_BUFFERED))
		blktap_count(vbd, bytes_copied, bytes);
	else
		blktap_count(vbd, bytes_zero_copy, bytes);
}

bool blktap_queue_is_busy(const struct blktap_queue *queue)
{
	return blktap_slots_busy(&queue->slots) || blktap_persistent_is_leaving(&queue->persistent);
}

void blktap_queue_leave(struct blktap_queue *queue)
{
	/* Closing waits for this. After removal nobody does: the work item may be gone. */
	if (!queue->taking && !queue->gone && !blktap_queue_is_busy(queue))
		blktap_xenbus_kick(queue->vbd);
}

void blktap_queue_stop_writes(struct blktap_queue *queue)
{
	struct blktap_vbd *vbd = queue->vbd;

	if (READ_ONCE(vbd->writes_fail) || !queue->guest.sring)
		return;
	WRITE_ONCE(vbd->writes_fail, true);
	/* Of one that leaves, nobody waits for more. */
	if (queue->taking)
		dev_err_ratelimited(&vbd->dev, "a flush of the guest failed: its writes fail, too, until the disk is detached and attached again\n");
}

void blktap_queue_answer(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_vbd *vbd = queue->vbd;

	if (slot->status == BLKIF_RSP_SYNC_ERROR)
		blktap_queue_stop_writes(queue);
	else if (slot->status == BLKIF_RSP_OKAY && blktap_vbd_refuses(vbd, &slot->request))
		slot->status = blkif_status(slot->request.op, -EIO);
	if (slot->status == BLKIF_RSP_OKAY)
		count_bytes(vbd, slot);
	blktap_guest_answer(queue, &slot->request, slot->status);
	trace_blktap_answer(vbd->domid, vbd->devid, slot->index, slot->request.op,
			    slot->request.sector, slot->request.bytes, slot->status);
	blktap_copy_forget(queue, slot);
	blktap_backlog_acquit(vbd, slot);
	queue->barriers -= slot->request.op == BLKIF_OP_WRITE_BARRIER;
	blktap_slot_free(&queue->slots, slot);
	blktap_queue_leave(queue);
}

/*
 * Whether the slot's pages are free, or become so before `deadline`, which the
 * first wait sets. A slot is waited for once, and after that only looked at.
 */
static bool has_settled(struct blktap_queue *queue, struct blktap_slot *slot, ktime_t *deadline)
{
	while (blktap_grant_referenced(queue, slot)) {
		if (slot->lingers)
			return false;
		if (!*deadline) {
			*deadline = ktime_add_us(ktime_get(), SETTLE_US);
		} else if (ktime_after(ktime_get(), *deadline)) {
			slot->lingers = true;
			blktap_count(queue->vbd, busy_waits, 1);
		}
		cpu_relax();
	}
	return true;
}

static void finish_done(struct blktap_queue *queue)
{
	struct list_head *done = &queue->slots.done;
	ktime_t deadline = 0;
	struct blktap_slot *slot;
	struct blktap_slot *next;
	LIST_HEAD(busy);

	if (!blktap_window_revoke(queue, done))
		return;
	list_for_each_entry_safe(slot, next, done, node) {
		if (!has_settled(queue, slot, &deadline))
			list_move_tail(&slot->node, &busy);
	}
	blktap_copy_out(queue, done);
	blktap_grant_unmap(queue, done);
	list_for_each_entry_safe(slot, next, done, node) {
		if (!slot->again) {
			blktap_queue_answer(queue, slot);
			continue;
		}
		blktap_copy_forget(queue, slot);
		blktap_backlog_keep(queue, slot);
	}
	list_splice(&busy, done);
	blktap_guest_publish(queue);
}

bool blktap_queue_waits(const struct blktap_queue *queue)
{
	return blktap_slots_in(&queue->slots, SLOT_DONE) || queue->one_by_one || queue->zombie ||
		blktap_persistent_waits(queue) ||
		(blktap_slots_in(&queue->slots, SLOT_STARTED) && !queue->owner);
}

void blktap_queue_finish(struct blktap_queue *queue)
{
	blktap_submit_collect(queue);
	if (blktap_slots_in(&queue->slots, SLOT_DONE))
		finish_done(queue);
	blktap_persistent_settle(queue);
	if (blktap_queue_waits(queue))
		blktap_orphan_kick(queue);
}

void blktap_queue_revoke(struct blktap_queue *queue)
{
	unsigned int i;

	blktap_backlog_set_aside_all(queue, &queue->waiting);
	if (!queue->keeps)
		blktap_backlog_refuse(queue);
	for (i = 0; i < BLKTAP_DEPTH_MAX; i++) {
		struct blktap_slot *slot = &queue->slots.slot[i];

		if (queue->slots.table.state[i].place != SLOT_OFFERED)
			continue;
		slot->replayed = true;
		slot->losses += !queue->held;
		blktap_backlog_set_aside(queue, slot);
	}
	blktap_queue_finish(queue);
}

/* Once the frontend has left, not what came for another tapdisk: this one's disk may be another. */
static bool may_be_handed_over(const struct blktap_queue *queue, const struct blktap_slot *slot)
{
	return queue->taking || slot->generation == queue->vbd->generation;
}

static void fail_what_is_not_tapdisks(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;

	list_for_each_entry_safe(slot, next, slots, node) {
		if (may_be_handed_over(queue, slot))
			continue;
		slot->status = blkif_status(slot->request.op, -EIO);
		blktap_slot_done(&queue->slots, slot);
	}
}

int blktap_queue_hand_over(struct blktap_queue *queue, struct list_head *slots)
{
	int n;

	if (list_empty(slots))
		return 0;
	if (!queue->owner || queue->gone) {
		blktap_backlog_set_aside_all(queue, slots);
		return 0;
	}
	fail_what_is_not_tapdisks(queue, slots);
	/* A barrier that waits comes after these, and would pass them if they waited, too. */
	if (!blktap_window_expose(queue, slots) && list_empty(&queue->waiting))
		blktap_backlog_take_back(queue, slots);
	n = blktap_user_announce(queue, slots);
	if (!blktap_window_owned_by(queue, current->mm))
		blktap_queue_wake(queue);
	return n;
}

bool blktap_queue_barrier_waits(const struct blktap_queue *queue)
{
	return blktap_slots_in(&queue->slots, SLOT_STARTED) ||
		(queue->submits && blktap_slots_in(&queue->slots, SLOT_OFFERED));
}

int blktap_queue_take(struct blktap_queue *queue, struct list_head *starts)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	LIST_HEAD(deferred);
	LIST_HEAD(taken);
	int n;

	if (!list_empty(&queue->waiting)) {
		/* Whoever lets the barrier go looks again. */
		queue->guest.starved = true;
		return 0;
	}
	n = blktap_backlog_take(queue, &taken) ? !list_empty(&taken) :
						 blktap_guest_take(queue, &taken);
	if (n > 0) {
		blktap_copy_in(queue, &taken);
		blktap_grant_map(queue, &taken, &deferred);
		blktap_backlog_no_room(queue, &deferred, &taken);
		list_for_each_entry_safe(slot, next, &taken, node)
			if (slot->status != BLKIF_RSP_OKAY)
				blktap_queue_answer(queue, slot);
		blktap_submit_choose(queue, &taken, starts);
		if (queue->barriers && blktap_queue_barrier_waits(queue))
			list_splice_tail_init(&taken, &queue->waiting);
		n = blktap_queue_hand_over(queue, &taken);
	}
	/* Refused requests have been answered on the way. */
	if (n >= 0)
		blktap_guest_publish(queue);
	return n;
}

bool blktap_queue_serve(struct blktap_queue *queue, struct list_head *starts)
{
	bool takes = queue->owner && queue->taking && !queue->held;
	int n;

	/* Before the guest has its answers, and is about to ask again. */
	if (takes && blktap_poll_wanted(queue))
		blktap_guest_disarm(queue);
	blktap_queue_finish(queue);
	if (!takes)
		return false;
	n = blktap_queue_take(queue, starts);
	if (n < 0) {
		blktap_xenbus_kick(queue->vbd);
		return false;
	}
	return n || !list_empty(starts) || blktap_poll(queue) || blktap_guest_arm(queue);
}
