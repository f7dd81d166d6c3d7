// SPDX-License-Identifier: GPL-2.0-only
/*
 * Before an event is asked for, the ring may be watched for a while: a request
 * that comes meanwhile needs no event of the guest, no interrupt here and no
 * wake-up. It takes CPU time, so tapdisk says for how long (blktap_attach.poll_us);
 * and where nothing comes, it is done less and less often.
 */
#include <linux/ktime.h>
#include <linux/minmax.h>
#include <linux/sched.h>

#include "base/stats.h"
#include "disk/vbd.h"
#include "queue/poll.h"
#include "queue/queue.h"

/* After so many misses in a row, it rests 2 ^ 10 times as long as it would watch. */
#define MISSES_MAX 10

bool blktap_poll_wanted(const struct blktap_queue *queue)
{
	return READ_ONCE(queue->poll_us) &&
		ktime_after(ktime_get(), READ_ONCE(queue->poll_after));
}

static bool has_request(const struct blktap_guest_ring *ring)
{
	return ring_load_u32(&ring->sring->req_prod) != ring->requests.seen;
}

static bool watch_until(const struct blktap_queue *queue, ktime_t deadline)
{
	while (!has_request(&queue->guest) && llist_empty(&queue->completed)) {
		/* Whoever wants this CPU may be the one who is waited for. */
		if (need_resched() || READ_ONCE(queue->awaited) ||
		    ktime_after(ktime_get(), deadline))
			return false;
		cpu_relax();
	}
	return true;
}

bool blktap_poll(struct blktap_queue *queue)
{
	const struct blktap_guest_ring *ring = &queue->guest;
	ktime_t deadline;

	if (!blktap_poll_wanted(queue) || !queue->taking || !ring->sring || ring->lied ||
	    ring->starved)
		return false;
	deadline = ktime_add_us(ktime_get(), queue->poll_us);
	if (watch_until(queue, deadline)) {
		/* That I/O ends soon does not tell how long the guest takes. */
		if (has_request(ring)) {
			blktap_count(queue->vbd, polls_found, 1);
			queue->poll_misses = 0;
		}
		return true;
	}
	blktap_count(queue->vbd, polls_missed, 1);
	queue->poll_misses = min(queue->poll_misses + 1, MISSES_MAX);
	WRITE_ONCE(queue->poll_after,
		   ktime_add_us(deadline, (u64)queue->poll_us << queue->poll_misses));
	return false;
}

void blktap_poll_start(struct blktap_queue *queue, unsigned int poll_us)
{
	WRITE_ONCE(queue->poll_us, poll_us);
	WRITE_ONCE(queue->poll_after, 0);
	queue->poll_misses = 0;
}
