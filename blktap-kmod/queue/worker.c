// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who collects what submit.c has started: a thread of the queue's own, and
 * tapdisk in its doorbell. The thread also takes what comes to be served without
 * tapdisk off the guest's ring.
 */
#include <linux/cgroup.h>
#include <linux/kthread.h>

#include "base/stats.h"
#include "data/submit.h"
#include "disk/vbd.h"
#include "queue/orphan.h"
#include "queue/queue.h"
#include "queue/worker.h"

static void serve_queue(struct kthread_work *work);
static void charge_nobody(struct kthread_work *work);

void blktap_worker_init(struct blktap_queue *queue)
{
	kthread_init_work(&queue->submit_work, serve_queue);
}

/*
 * Each queue gets a thread of its own: one that waits for a dead device, or that a
 * busy guest keeps at work, is nobody else's; and to wake a thread costs less than
 * to queue a work item.
 */
int blktap_worker_hire(struct blktap_vbd *vbd)
{
	struct kthread_worker *worker;
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		if (queue->worker)
			continue;
		worker = kthread_create_worker(0, "blktap-%u-%u.%u", vbd->domid, vbd->devid,
					       queue->index);
		if (IS_ERR(worker))
			return PTR_ERR(worker);
		WRITE_ONCE(queue->worker, worker);
	}
	return 0;
}

void blktap_worker_kick(struct blktap_queue *queue)
{
	struct kthread_worker *worker;

	rcu_read_lock();
	worker = READ_ONCE(queue->worker);
	if (worker)
		kthread_queue_work(worker, &queue->submit_work);
	rcu_read_unlock();
}

void blktap_worker_quit(struct blktap_queue *queue)
{
	struct kthread_worker *worker = queue->worker;
	struct kthread_work last = KTHREAD_WORK_INIT(last, charge_nobody);

	if (!worker)
		return;
	/* tapdisk may be on its way out of a doorbell, the last completion out of its interrupt. */
	WRITE_ONCE(queue->worker, NULL);
	synchronize_rcu();
	/* It queues itself again. */
	kthread_cancel_work_sync(&queue->submit_work);
	kthread_queue_work(worker, &last);
	kthread_destroy_worker(worker);
}

void blktap_collect_begin(struct blktap_queue *queue)
{
	atomic_inc(&queue->collectors);
	smp_mb__after_atomic();
}

void blktap_collect_end(struct blktap_queue *queue)
{
	/* Whoever saw us at it has left the rest to us. */
	atomic_dec(&queue->collectors);
	smp_mb__after_atomic();
	if (!llist_empty(&queue->completed))
		blktap_worker_kick(queue);
}

void blktap_collect_pause(struct blktap_queue *queue)
{
	atomic_inc(&queue->sleepers);
	smp_mb__after_atomic();
	if (!llist_empty(&queue->completed))
		blktap_orphan_kick(queue);
}

void blktap_collect_resume(struct blktap_queue *queue)
{
	atomic_dec(&queue->sleepers);
}

void blktap_collect_wanted(struct blktap_queue *queue)
{
	if (!READ_ONCE(queue->owner) || atomic_read(&queue->sleepers))
		blktap_orphan_kick(queue);
	else if (!atomic_read(&queue->collectors))
		blktap_worker_kick(queue);
}

void blktap_submit_and_collect(struct blktap_queue *queue, struct list_head *slots)
{
	if (list_empty(slots))
		return;
	blktap_collect_begin(queue);
	blktap_submit(slots);
	if (!llist_empty(&queue->completed)) {
		mutex_lock(&queue->lock);
		blktap_queue_finish(queue);
		/* For what waits on the ring there may be slots now. */
		if (queue->guest.starved)
			blktap_worker_kick(queue);
		mutex_unlock(&queue->lock);
	}
	blktap_collect_end(queue);
}

/*
 * What the worker, whose thread this is, starts from here on counts as tapdisk's:
 * limits of its control groups are limits of the disk. Looked up each time, for
 * tapdisk may be moved to another group, and is when the first limit is set. It
 * stays so while the thread sleeps, until tapdisk leaves. queue.lock is held.
 */
static void charge_tapdisk(struct blktap_queue *queue)
{
#ifdef CONFIG_BLK_CGROUP
	struct cgroup_subsys_state *css = NULL;
	bool same;

	if (queue->tapdisk) {
		rcu_read_lock();
		same = task_css(queue->tapdisk, io_cgrp_id) == queue->charged;
		rcu_read_unlock();
		if (same)
			return;
		css = task_get_css(queue->tapdisk, io_cgrp_id);
	}
	/* The thread has a reference of its own. */
	kthread_associate_blkcg(css);
	queue->charged = css;
	if (css)
		css_put(css);
#endif
}

/* In the worker: it charges nobody any more. */
static void charge_nobody(struct kthread_work *work)
{
	kthread_associate_blkcg(NULL);
}

/* The worker: all that RUN does, but for what is tapdisk's alone. */
static void serve_queue(struct kthread_work *work)
{
	struct blktap_queue *queue = container_of(work, struct blktap_queue, submit_work);
	bool idle = false;

	blktap_count(queue->vbd, worker_runs, 1);
	blktap_collect_begin(queue);
	while (!idle) {
		LIST_HEAD(starts);

		mutex_lock(&queue->lock);
		idle = !blktap_queue_serve(queue, &starts);
		if (!list_empty(&starts) || !queue->tapdisk)
			charge_tapdisk(queue);
		mutex_unlock(&queue->lock);
		blktap_submit(&starts);
		/* A guest that never rests must not hold up RCU's tasks. */
		if (!idle)
			cond_resched_tasks_rcu_qs();
	}
	blktap_collect_end(queue);
}
