// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that wait, with nothing mapped, in their order and before all that is
 * still on the guest's ring.
 *
 * Those of a tapdisk that is gone wait for the next one, in a queue that keeps:
 * what it had been shown first loses its pages (the fence: finish_done() of
 * queue.c), so that nothing of the old one comes after what the next one does.
 * The next one gets them as if they were new, what is written fetched again from
 * the guest. Its data is what it was, and carrying it out twice is safe, as long
 * as the guest has no answer.
 *
 * And those for whose pages Xen has no room: its table of what this domain has
 * mapped (maptrack) is full. All queues of the host are asked to let go of what they
 * keep mapped and do not use, and such a request is copied (area.c): that needs no
 * room. Only if there is no page for its data either it waits, until something
 * has been unmapped or given back. Such are tried one by one, for together they
 * might keep each other from what each needs.
 *
 * What has been in the hands of two tapdisks that are gone is tried one by one, too,
 * over all queues: if it is the end of a third it fails, and nothing else with it.
 */
#include <linux/ratelimit.h>

#include "base/stats.h"
#include "data/expose.h"
#include "disk/vbd.h"
#include "guest/copy.h"
#include "guest/grant.h"
#include "guest/keep.h"
#include "guest/ring.h"
#include "queue/backlog.h"
#include "queue/orphan.h"
#include "queue/queue.h"

/* So many tapdisks did not live to answer a request: no other is offered it. */
#define LOSSES_MAX 3

/* The next loss would be the last. */
static bool is_suspect(const struct blktap_slot *slot)
{
	return slot->losses >= LOSSES_MAX - 1;
}

/* Of all queues, one suspect is tried at a time: so no other fails for what that one does. */
static bool may_be_tried(struct blktap_vbd *vbd, struct blktap_slot *slot)
{
	struct blktap_slot *before = cmpxchg(&vbd->tried, NULL, slot);

	return !before || before == slot;
}

void blktap_backlog_acquit(struct blktap_vbd *vbd, struct blktap_slot *slot)
{
	if (unlikely(slot->losses))
		cmpxchg(&vbd->tried, slot, NULL);
}

bool blktap_backlog_take(struct blktap_queue *queue, struct list_head *taken)
{
	struct blktap_slot *slot;

	if (list_empty(&queue->backlog))
		return false;
	do {
		slot = list_first_entry(&queue->backlog, struct blktap_slot, node);
		if (is_suspect(slot) && !may_be_tried(queue->vbd, slot))
			break;
		list_move_tail(&slot->node, taken);
	} while (!list_empty(&queue->backlog) && !queue->one_by_one && !is_suspect(slot));
	queue->one_by_one = !list_empty(&queue->backlog);
	queue->guest.starved = list_empty(taken);
	/* It is another queue's request that is waited for, and that queue does not know us. */
	if (list_empty(taken))
		blktap_orphan_kick(queue);
	return true;
}

void blktap_backlog_set_aside(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_vbd *vbd = queue->vbd;

	slot->again = queue->keeps && slot->losses < LOSSES_MAX;
	/* As one that has failed it is not written to the guest. */
	slot->status = blkif_status(slot->request.op, -EIO);
	blktap_slot_done(&queue->slots, slot);
	if (slot->again)
		blktap_count(vbd, requests_kept, 1);
	else if (queue->keeps)
		dev_err_ratelimited(&vbd->dev, "a request (op %u, sector %llu, %u bytes) has been the end of %u tapdisks: it fails\n",
				    slot->request.op, slot->request.sector, slot->request.bytes,
				    slot->losses);
}

void blktap_backlog_set_aside_all(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;

	list_for_each_entry_safe(slot, next, slots, node)
		blktap_backlog_set_aside(queue, slot);
}

void blktap_backlog_keep(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_slot *before;

	slot->again = false;
	slot->status = BLKIF_RSP_OKAY;
	/* Most often it is the last. */
	list_for_each_entry_reverse(before, &queue->backlog, node)
		if (before->arrival < slot->arrival)
			break;
	blktap_slot_move(&queue->slots, slot, SLOT_BACKLOG, before->node.next);
}

void blktap_backlog_refuse(struct blktap_queue *queue)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;

	list_for_each_entry_safe(slot, next, &queue->backlog, node) {
		slot->status = blkif_status(slot->request.op, -EIO);
		blktap_queue_answer(queue, slot);
	}
	queue->one_by_one = false;
	blktap_guest_publish(queue);
}

bool blktap_backlog_is_fencing(const struct blktap_queue *queue)
{
	const struct blktap_slot *slot;

	list_for_each_entry(slot, &queue->slots.done, node)
		if (slot->again)
			return true;
	return false;
}

void blktap_backlog_give_up(struct blktap_queue *queue)
{
	struct blktap_slot *slot;

	if (!queue->keeps)
		return;
	queue->keeps = false;
	list_for_each_entry(slot, &queue->slots.done, node)
		slot->again = false;
	blktap_backlog_refuse(queue);
	blktap_orphan_kick(queue);
}

static void note_shortage(struct blktap_queue *queue)
{
	static DEFINE_RATELIMIT_STATE(hourly, 60 * 60 * HZ, 1);

	blktap_keep_less();
	if (__ratelimit(&hourly))
		pr_warn("blktap: vbd-%u-%u: Xen cannot map more pages of guests for this domain, so data is copied: raise its gnttab_max_maptrack_frames\n",
			queue->vbd->domid, queue->vbd->devid);
}

void blktap_backlog_no_room(struct blktap_queue *queue, struct list_head *slots,
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
	list_splice_init(slots, &queue->backlog);
	queue->one_by_one = true;
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

void blktap_backlog_take_back(struct blktap_queue *queue, struct list_head *slots)
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
	blktap_backlog_no_room(queue, &back, &copied);
	list_for_each_entry_safe(slot, next, &copied, node)
		if (slot->status != BLKIF_RSP_OKAY)
			blktap_slot_done(&queue->slots, slot);
	list_splice_tail(&copied, slots);
	if (blktap_slots_in(&queue->slots, SLOT_DONE))
		blktap_orphan_kick(queue);
}
