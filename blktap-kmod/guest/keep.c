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
#include <linux/moduleparam.h>
#include <linux/spinlock.h>

#include "base/workqueue.h"
#include "guest/keep.h"
#include "queue/orphan.h"
#include "queue/queue.h"

/* With two of Xen's entries for each, half of the table that it has by default. */
static unsigned int max_pages = 65536;
module_param_named(max_pages, max_pages, uint, 0644);
MODULE_PARM_DESC(max_pages,
		 "pages of guests that are kept mapped at most, over all disks (default 65536); all others are mapped for a request at a time");

static unsigned int persistent_seconds = 60;
module_param_named(persistent_grant_unused_seconds, persistent_seconds, uint, 0644);
MODULE_PARM_DESC(persistent_grant_unused_seconds,
		 "for how long a grant that no request uses is kept mapped (default 60); 0: until the disk is closed, or Xen has no room");

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
	unsigned int seconds = clamp(READ_ONCE(persistent_seconds), 1u, 3600u);

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

void blktap_keep_stop(void)
{
	cancel_delayed_work_sync(&tick);
}

bool blktap_keep_is_old(u8 round)
{
	return READ_ONCE(persistent_seconds) &&
		(u8)(READ_ONCE(blktap_keep.round) - round) > ROUNDS;
}

bool blktap_keep_begin(struct blktap_queue *queue)
{
	if (time_before(jiffies, READ_ONCE(asked) + HZ))
		return false;
	if (atomic_inc_return(&kept) > (int)min(READ_ONCE(max_pages), (u32)INT_MAX)) {
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

void blktap_keep_end(struct blktap_queue *queue)
{
	atomic_dec(&kept);
	if (--queue->persistent.count)
		return;
	spin_lock(&keep_lock);
	list_del(&queue->persistent.keeper);
	spin_unlock(&keep_lock);
}

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
