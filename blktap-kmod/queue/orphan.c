// SPDX-License-Identifier: GPL-2.0-only
/*
 * What has to happen when tapdisk does not do it: it died, it lied about being
 * done, or the vbd has been removed.
 *
 * Without a tapdisk the guest's requests wait for the next one (backlog.c) as long
 * as was agreed, new ones on the guest's ring, and then fail.
 * A new tapdisk may attach.
 */
#include <linux/module.h>
#include <linux/sched/task.h>

#include "base/workqueue.h"
#include "data/area.h"
#include "disk/vbd.h"
#include "guest/ring.h"
#include "guest/xenbus.h"
#include "queue/backlog.h"
#include "queue/orphan.h"
#include "queue/queue.h"
#include "queue/worker.h"

#define BACKOFF_MAX (HZ / 10)

void blktap_orphan_kick(struct blktap_queue *queue)
{
	queue_delayed_work(blktap_workqueue, &queue->work, queue->backoff);
}

void blktap_orphan_detach(struct blktap_queue *queue, bool keeps)
{
	WRITE_ONCE(queue->owner, NULL);
	put_task_struct(queue->tapdisk);
	queue->tapdisk = NULL;
	queue->keeps = keeps && queue->taking;
	blktap_area_abandon(queue);
	blktap_queue_revoke(queue);
	if (queue->taking)
		blktap_orphan_kick(queue);
	/* It charges the one that has left. */
	blktap_worker_kick(queue);
}

static void refuse_requests(struct blktap_queue *queue)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	LIST_HEAD(taken);
	int n = blktap_guest_take(queue, &taken);

	list_for_each_entry_safe(slot, next, &taken, node) {
		if (slot->status == BLKIF_RSP_OKAY)
			slot->status = blkif_status(slot->request.op, -EIO);
		blktap_queue_answer(queue, slot);
	}
	if (n < 0)
		blktap_xenbus_kick(queue->vbd);
	else
		blktap_guest_publish(queue);
}

/* What was removed should soon be gone. Says once if it is not: Xen keeps the domain until then. */
static void warn_of_zombie(struct blktap_queue *queue)
{
	if (!queue->zombie || !queue->warn_at || time_before(jiffies, queue->warn_at))
		return;
	queue->warn_at = 0;
	dev_warn(&queue->vbd->dev, "removed, but %u requests still have I/O in flight; their pages are given back when it ends\n",
		 blktap_slots_busy(&queue->slots));
}

void blktap_orphan_work(struct work_struct *work)
{
	struct blktap_queue *queue = container_of(to_delayed_work(work), struct blktap_queue, work);
	struct blktap_vbd *vbd = queue->vbd;
	unsigned int before;
	bool again = false;
	bool freed;
	bool last;

	mutex_lock(&queue->lock);
	before = blktap_slots_busy(&queue->slots);
	blktap_queue_finish(queue);
	freed = blktap_slots_busy(&queue->slots) < before;
	/* Of a queue that takes nothing any more, nobody tries them again. */
	if (!queue->taking)
		blktap_backlog_refuse(queue);
	if (!queue->owner && queue->taking && !queue->keeps) {
		refuse_requests(queue);
		again = blktap_guest_arm(queue);
	} else if (queue->owner && (freed || queue->one_by_one)) {
		/* A request may wait for the slots just freed, or for room made by others. */
		blktap_queue_knock(queue);
	}
	last = queue->zombie && !blktap_queue_is_busy(queue);
	if (last)
		queue->zombie = false;
	if (!blktap_queue_waits(queue))
		queue->backoff = 0;
	else
		queue->backoff = clamp(queue->backoff * 2, 1u, (unsigned int)BACKOFF_MAX);
	if (again || blktap_queue_waits(queue))
		blktap_orphan_kick(queue);
	warn_of_zombie(queue);
	mutex_unlock(&queue->lock);

	if (last) {
		blktap_worker_quit(queue);
		/* A completion that was on its way out may have asked for us once more. */
		cancel_delayed_work(&queue->work);
		put_device(&vbd->dev);
		module_put(THIS_MODULE);
	}
}
