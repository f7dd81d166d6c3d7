// SPDX-License-Identifier: GPL-2.0-only
/*
 * How much all queues together keep mapped for grants that stay (persistent.c), and
 * for how long. Xen's table of what a domain has mapped is shared by all its
 * devices, so what is not used goes: after a while by itself, and at once if Xen
 * has no room for somebody. Then no more is kept for a second.
 *
 * A tick counts rounds, while anything is kept at all, and wakes the queues' orphans'
 * worker, which lets go of what was not used in the last of them. On the data path it
 * costs to remember the round.
 */
#include <linux/jiffies.h>
#include <linux/spinlock.h>

#include "blktap.h"

/* Whole ones, in which a grant has to be idle. */
#define ROUNDS 3

/* How often all are asked to let go, at most. */
#define PAUSE (HZ / 10)

struct blktap_keep blktap_keep;

static DEFINE_SPINLOCK(keep_lock);
static LIST_HEAD(keepers);             /* queues that keep some, by persistent.keeper */
static atomic_t kept = ATOMIC_INIT(0); /* grants */
static unsigned long asked;            /* jiffies: when all were asked last           */

static void start_round(struct work_struct *work);
static DECLARE_DELAYED_WORK(tick, start_round);

/* keep_lock is held. */
static void kick_keepers(void)
{
	struct blktap_queue *queue;

	list_for_each_entry(queue, &keepers, persistent.keeper)
		blktap_orphan_kick(queue);
}

/* keep_lock is held. */
static void tick_later(void)
{
	unsigned int seconds = clamp(READ_ONCE(blktap_persistent_seconds), 1u, 3600u);

	mod_delayed_work(blktap_workqueue, &tick, seconds * HZ / ROUNDS);
}

static void start_round(struct work_struct *work)
{
	spin_lock(&keep_lock);
	WRITE_ONCE(blktap_keep.round, blktap_keep.round + 1);
	kick_keepers();
	if (!list_empty(&keepers))
		tick_later();
	spin_unlock(&keep_lock);
}

/* No vbd is left. */
void blktap_keep_stop(void)
{
	cancel_delayed_work_sync(&tick);
}

/* Whether what was used in `round` last has been idle for as long as it may. */
bool blktap_keep_is_old(u8 round)
{
	return READ_ONCE(blktap_persistent_seconds) &&
		(u8)(READ_ONCE(blktap_keep.round) - round) > ROUNDS;
}

/* One more stays mapped. False: it may not. queue.lock is held. */
bool blktap_keep_begin(struct blktap_queue *queue)
{
	if (time_before(jiffies, READ_ONCE(asked) + HZ))
		return false;
	if (atomic_inc_return(&kept) > (int)min(READ_ONCE(blktap_max_pages), (u32)INT_MAX)) {
		atomic_dec(&kept);
		return false;
	}
	if (queue->persistent.count++)
		return true;
	spin_lock(&keep_lock);
	if (list_empty(&keepers))
		tick_later();
	list_add_tail(&queue->persistent.keeper, &keepers);
	spin_unlock(&keep_lock);
	return true;
}

/* One less. queue.lock is held. */
void blktap_keep_end(struct blktap_queue *queue)
{
	atomic_dec(&kept);
	if (--queue->persistent.count)
		return;
	spin_lock(&keep_lock);
	list_del(&queue->persistent.keeper);
	spin_unlock(&keep_lock);
}

/* Xen has no room: everybody lets go of what is not used. Process context. */
void blktap_keep_less(void)
{
	spin_lock(&keep_lock);
	if (!time_before(jiffies, asked + PAUSE)) {
		WRITE_ONCE(asked, jiffies);
		WRITE_ONCE(blktap_keep.shortage, blktap_keep.shortage + 1);
		kick_keepers();
	}
	spin_unlock(&keep_lock);
}
