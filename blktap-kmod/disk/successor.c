// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long a connected disk waits for its next tapdisk, when one is gone: as long as
 * that one had said at its attach, from the first loss on, until a successor rings
 * its doorbell. Then its requests fail, as they do at once where nothing was said.
 * Whoever may write to sysfs can end the wait.
 *
 * One that attaches only to die does not make the guest wait longer. One that has
 * rung was offered all that waits, and what three did not survive fails by itself.
 */
#include "base/workqueue.h"
#include "disk/successor.h"
#include "disk/vbd.h"
#include "queue/backlog.h"
#include "queue/queue.h"

bool blktap_successor_is_awaited(struct blktap_vbd *vbd)
{
	unsigned long time = msecs_to_jiffies(vbd->keep_ms);

	if (!vbd->keep_ms || vbd->state != BLKTAP_CONNECTED || !vbd->xenbus || vbd->queues->gone)
		return false;
	/* 0 stands for none. */
	if (!blktap_successor_time_left(vbd))
		WRITE_ONCE(vbd->keep_by, (jiffies + time) | 1);
	return true;
}

void blktap_successor_expect(struct blktap_vbd *vbd)
{
	mod_delayed_work(blktap_workqueue, &vbd->keep_work,
			 msecs_to_jiffies(blktap_successor_time_left(vbd)));
}

/*
 * The requests of all queues that nobody serves fail, but for those of a loss that is
 * newer. Without vbd.lock: who has that may wait for xenstore, which may wait for
 * these requests.
 */
static void give_up(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue;
	bool any = false;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		if (queue->keeps && !blktap_successor_time_left(vbd)) {
			any = true;
			blktap_backlog_give_up(queue);
		}
		mutex_unlock(&queue->lock);
	}
	if (any)
		dev_warn(&vbd->dev, "no tapdisk has come: requests fail until one does\n");
}

void blktap_successor_give_up(struct blktap_vbd *vbd)
{
	WRITE_ONCE(vbd->keep_by, 0);
	give_up(vbd);
}

void blktap_successor_work(struct work_struct *work)
{
	struct blktap_vbd *vbd = container_of(to_delayed_work(work), struct blktap_vbd, keep_work);
	unsigned int left = blktap_successor_time_left(vbd);

	if (left)
		queue_delayed_work(blktap_workqueue, &vbd->keep_work, msecs_to_jiffies(left));
	else
		give_up(vbd);
}

void blktap_successor_serves(struct blktap_vbd *vbd)
{
	if (unlikely(READ_ONCE(vbd->keep_by)))
		WRITE_ONCE(vbd->keep_by, 0);
}

unsigned int blktap_successor_time_left(const struct blktap_vbd *vbd)
{
	unsigned long by = READ_ONCE(vbd->keep_by);

	return by && time_before(jiffies, by) ? jiffies_to_msecs(by - jiffies) : 0;
}

unsigned int blktap_successor_kept(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;
	unsigned int sum = 0;

	blktap_for_each_queue(vbd, queue)
		if (READ_ONCE(queue->keeps))
			sum += blktap_slots_busy(&queue->slots);
	return sum;
}
