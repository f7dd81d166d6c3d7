// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests for whose pages Xen has no room: its table of what this domain has
 * mapped (maptrack) is full. All queues of the host are asked to let go of what they
 * keep mapped and do not use, and such a request is copied (area.c): that needs no
 * room. Only if there is no page for its data either it waits, with nothing mapped,
 * in its order and before all that is still on the guest's ring, until something
 * has been unmapped or given back. Such are tried one by one, for together they
 * might keep each other from what each needs.
 */
#include <linux/ratelimit.h>

#include "blktap.h"

/* Moves the first of those that wait, if any, to `taken`, for another try. queue.lock is held. */
bool blktap_deferred_take(struct blktap_queue *queue, struct list_head *taken)
{
	if (list_empty(&queue->deferred))
		return false;
	list_move(queue->deferred.next, taken);
	queue->guest.starved = false;
	return true;
}

/* All that wait fail. queue.lock is held. */
void blktap_deferred_refuse(struct blktap_queue *queue)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;

	list_for_each_entry_safe(slot, next, &queue->deferred, node) {
		slot->status = blkif_status(slot->request.op, -EIO);
		blktap_queue_answer(queue, slot);
	}
	blktap_guest_publish(queue);
}

static void note_shortage(struct blktap_queue *queue)
{
	static DEFINE_RATELIMIT_STATE(hourly, 60 * 60 * HZ, 1);

	blktap_keep_less();
	if (__ratelimit(&hourly))
		pr_warn("blktap: vbd-%u-%u: Xen cannot map more pages of guests for this domain, so data is copied: raise its gnttab_max_maptrack_frames\n",
			queue->vbd->domid, queue->vbd->devid);
}

/*
 * For the first of `slots` there is no room. They have nothing mapped. Those that
 * can be copied join `ready`, some of them with an error status; the others wait.
 */
void blktap_deferred_add(struct blktap_queue *queue, struct list_head *slots,
			 struct list_head *ready)
{
	const struct blktap_slot *slot;

	if (list_empty(slots))
		return;
	list_for_each_entry(slot, slots, node)
		blktap_count(queue->vbd, requests_no_room, 1);
	note_shortage(queue);
	blktap_copy_instead(queue, slots, ready);
	if (list_empty(slots))
		return;
	list_for_each_entry(slot, slots, node)
		blktap_count(queue->vbd, requests_deferred, 1);
	list_splice_init(slots, &queue->deferred);
	/* Whoever unmaps some tries again, and so does the orphans' worker. */
	queue->guest.starved = true;
	blktap_orphan_kick(queue);
}

static bool any_referenced(const struct blktap_queue *queue, const struct list_head *slots)
{
	const struct blktap_slot *slot;

	list_for_each_entry(slot, slots, node)
		if (blktap_grant_referenced(queue, slot))
			return true;
	return false;
}

/*
 * Of `slots`, which have been exposed to tapdisk and not announced yet, takes
 * back the first that it cannot see for want of room, and all after it. Those
 * stay in the list that can be copied. queue.lock is held, in tapdisk's doorbell.
 */
void blktap_deferred_take_back(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	bool found = false;
	LIST_HEAD(copied);
	LIST_HEAD(back);

	list_for_each_entry_safe(slot, next, slots, node) {
		found = found || !blktap_window_shows(queue, slot);
		if (found)
			list_move_tail(&slot->node, &back);
	}
	if (!blktap_window_revoke(queue, &back)) {
		list_splice_tail(&back, slots);
		return;
	}
	/* Somebody has been quick to use what was not announced, or has persistent pages in use. */
	if (any_referenced(queue, &back)) {
		blktap_window_expose(queue, &back);
		list_splice_tail(&back, slots);
		return;
	}
	blktap_grant_unmap(queue, &back);
	blktap_deferred_add(queue, &back, &copied);
	list_for_each_entry_safe(slot, next, &copied, node)
		if (slot->status != BLKIF_RSP_OKAY)
			list_move_tail(&slot->node, &queue->done);
	list_splice_tail(&copied, slots);
	if (!list_empty(&queue->done))
		blktap_orphan_kick(queue);
}
