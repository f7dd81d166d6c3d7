// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests for whose pages Xen has no room: its table of what this domain has
 * mapped (maptrack) is full. With nothing mapped they wait, in their order and
 * before all that is still on the guest's ring, until something has been
 * unmapped, of whatever disk or device. They are tried one by one, for together
 * they might keep each other from what each needs. What takes too long fails.
 */
#include <linux/jiffies.h>
#include <linux/ratelimit.h>

#include "blktap.h"

#define PATIENCE (10 * HZ)

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
	queue->deferred_until = 0;
	blktap_guest_publish(queue);
}

/* For the first of `slots` there is no room. They have nothing mapped, and wait. */
void blktap_deferred_add(struct blktap_queue *queue, struct list_head *slots)
{
	const struct blktap_slot *slot;

	if (list_empty(slots))
		return;
	list_for_each_entry(slot, slots, node)
		blktap_count(queue->vbd, requests_deferred, 1);
	list_splice_init(slots, &queue->deferred);
	if (queue->deferred_until && time_after(jiffies, queue->deferred_until)) {
		pr_warn_ratelimited("blktap: vbd-%u-%u: requests fail, because Xen cannot map more pages for this domain: raise its gnttab_max_maptrack_frames\n",
				    queue->vbd->domid, queue->vbd->devid);
		blktap_deferred_refuse(queue);
		return;
	}
	if (!queue->deferred_until)
		queue->deferred_until = (jiffies + PATIENCE) | 1;
	/* Whoever unmaps some tries again, and so does the orphans' worker. */
	queue->guest.starved = true;
	/* What is mapped in case that it is used again has to give way. */
	queue->persistent.full |= !list_empty(&queue->persistent.unused);
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
 * back the first that it cannot see for want of room, and all after it.
 * queue.lock is held, in tapdisk's doorbell.
 */
void blktap_deferred_take_back(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	bool found = false;
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
	blktap_deferred_add(queue, &back);
}

/* The queue has looked for requests. Patience is for each anew. queue.lock is held. */
void blktap_deferred_settle(struct blktap_queue *queue)
{
	if (list_empty(&queue->deferred) || !queue->guest.starved)
		queue->deferred_until = 0;
}
