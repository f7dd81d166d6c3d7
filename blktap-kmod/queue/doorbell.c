// SPDX-License-Identifier: GPL-2.0-only
/*
 * The doorbell of tapdisk, BLKTAP_IOC_RUN of blktap_abi.h: all the work on a
 * queue that is done in tapdisk's own context. Where tapdisk has nothing else to
 * wait for, it sleeps in here: that takes one system call for a request, where
 * poll() and its like take several.
 */
#include <linux/mm.h>
#include <linux/sched.h>

#include "base/stats.h"
#include "data/window.h"
#include "disk/successor.h"
#include "disk/vbd.h"
#include "guest/ring.h"
#include "guest/xenbus.h"
#include "queue/doorbell.h"
#include "queue/poll.h"
#include "queue/queue.h"
#include "queue/user_ring.h"
#include "queue/worker.h"

/* How often one doorbell looks at the guest's ring again before tapdisk gets its turn or sleeps. */
#define ROUNDS_MAX 4

static void take_until_armed(struct blktap_queue *queue, unsigned int flags,
			     struct list_head *starts)
{
	int round;

	for (round = 0; round < ROUNDS_MAX; round++) {
		if (blktap_queue_take(queue, starts) < 0) {
			blktap_xenbus_kick(queue->vbd);
			return;
		}
		if (!(flags & BLKTAP_RUN_ARM) || !blktap_guest_arm(queue))
			return;
	}
	/* Still more, for which no event comes: tapdisk must not sleep, wherever it does. */
	blktap_queue_wake(queue);
}

/* `woken` is set if there was a reason to ring: perhaps requests that a worker has announced. */
static int run_once(struct blktap_queue *queue, struct file *file, unsigned int flags, bool *woken)
{
	struct mm_struct *mm = current->mm;
	LIST_HEAD(starts);
	u32 before = 0;
	int err;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	blktap_window_prepare(queue, mm);
	/* A worker that has nothing to do but to watch the ring lets us have the lock. */
	WRITE_ONCE(queue->awaited, true);
	err = mutex_lock_interruptible(&queue->lock);
	WRITE_ONCE(queue->awaited, false);
	if (err) {
		mmap_read_unlock(mm);
		return err;
	}
	if (queue->owner != file) {
		err = -ENXIO;
		goto out;
	}
	if (!blktap_window_owned_by(queue, mm)) {
		err = -EPERM;
		goto out;
	}
	queue->locked_mm = mm;
	blktap_count(queue->vbd, runs, 1);
	blktap_successor_serves(queue->vbd);
	if ((flags & BLKTAP_RUN_UNSYNCED) && queue->guest.sring) {
		blktap_vbd_distrust(queue->vbd);
		blktap_queue_stop_writes(queue);
	}
	/* run_watched(): before the guest has its answers, and is about to ask again. */
	if ((flags & BLKTAP_RUN_WAIT) && !(flags & BLKTAP_RUN_ARM))
		blktap_guest_disarm(queue);
	/* Whatever sets it from here on is about something that we may not see below. */
	if (xchg(&queue->pending, false))
		*woken = true;

	before = queue->user.announced;
	queue->held = flags & BLKTAP_RUN_HOLD;
	err = blktap_user_collect(queue, &starts);
	blktap_queue_finish(queue);
	if (!err && queue->gone)
		err = -ENODEV;
	else if (!err && queue->taking && !queue->held)
		take_until_armed(queue, flags, &starts);
out:
	queue->locked_mm = NULL;
	mutex_unlock(&queue->lock);
	mmap_read_unlock(mm);
	blktap_submit_and_collect(queue, &starts);
	/* With those whose I/O of the module's own has failed by now. */
	return err ?: READ_ONCE(queue->user.announced) - before;
}

/* Whether something came. False: an event comes with the next request, if any is taken. */
static bool poll_or_arm(struct blktap_queue *queue, bool polls)
{
	bool found;

	mutex_lock(&queue->lock);
	found = polls && blktap_poll(queue);
	if (!found && queue->taking && blktap_guest_arm(queue))
		blktap_queue_wake(queue);
	mutex_unlock(&queue->lock);
	return found;
}

/* run_once() with the ring watched, too. Whatever it returns, an event has been asked for. */
static int run_watched(struct blktap_queue *queue, struct file *file, unsigned int flags,
		       bool *woken)
{
	int round = 0;
	int n;

	blktap_collect_begin(queue);
	do {
		n = run_once(queue, file, flags & ~BLKTAP_RUN_ARM, woken);
	} while (poll_or_arm(queue, !n && !*woken && round++ < ROUNDS_MAX));
	blktap_collect_end(queue);
	return n;
}

int blktap_doorbell_run(struct blktap_queue *queue, struct file *file, unsigned int flags)
{
	bool waits = flags & BLKTAP_RUN_WAIT;
	bool woken = false;
	int n;

	if (waits && (flags & (BLKTAP_RUN_ARM | BLKTAP_RUN_HOLD)) != BLKTAP_RUN_ARM)
		return -EINVAL;
	if (waits && blktap_poll_wanted(queue))
		n = run_watched(queue, file, flags, &woken);
	else
		n = run_once(queue, file, flags, &woken);
	if (n || woken || !waits)
		return n;
	if (wait_event_interruptible(queue->wait, READ_ONCE(queue->pending) ||
						  READ_ONCE(queue->gone)))
		return -EINTR;
	return run_once(queue, file, flags, &woken);
}

int blktap_doorbell_wake(struct blktap_queue *queue, struct file *file)
{
	if (READ_ONCE(queue->owner) != file)
		return -ENXIO;
	blktap_queue_wake(queue);
	return 0;
}
