// SPDX-License-Identifier: GPL-2.0-only
/*
 * Persistent grants: pages that a frontend promises to use again, so they stay
 * mapped, for the kernel and in the window, from their first request until they
 * have not been used for a while (keep.c) or the frontend leaves. A request whose
 * pages are all known costs no mapping at all. (It costs the guest a copy: its own
 * pages are not the ones it grants.)
 *
 * Each queue keeps so many. When they are all taken, those that were used least
 * recently make room at the end of the batch; until then a request gets its
 * pages mapped for itself, as without any of this. queue.lock is held.
 */
#include <linux/bitmap.h>
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "base/stats.h"
#include "data/expose.h"
#include "disk/vbd.h"
#include "guest/grant.h"
#include "guest/keep.h"
#include "guest/persistent.h"
#include "queue/queue.h"

unsigned int blktap_max_persistent = BLKTAP_PERSISTENT_MAX;
module_param_named(max_persistent_grants, blktap_max_persistent, uint, 0644);
MODULE_PARM_DESC(max_persistent_grants,
		 "grants that a queue keeps mapped at most, for disks that offer it, up to 1024 (default); 0: none does");

#define BUCKET_BITS 10

/* What part of them makes room at a time: each time costs a TLB flush. */
#define TRIM_SHARE  16

static unsigned int page_of(const struct blktap_persistent *persistent,
			    const struct blktap_persistent_grant *grant)
{
	return BLKTAP_PAGES + (grant - persistent->grants);
}

static struct blktap_persistent_grant *grant_of(struct blktap_persistent *persistent,
						unsigned int page)
{
	return &persistent->grants[page - BLKTAP_PAGES];
}

int blktap_persistent_alloc(struct blktap_queue *queue)
{
	struct blktap_persistent *persistent = &queue->persistent;
	unsigned int i;

	if (persistent->grants)
		return 0;
	persistent->buckets = kvcalloc(1u << BUCKET_BITS, sizeof(*persistent->buckets),
				       GFP_KERNEL);
	persistent->grants = kvcalloc(BLKTAP_PERSISTENT_MAX, sizeof(*persistent->grants),
				      GFP_KERNEL);
	if (!persistent->buckets || !persistent->grants) {
		blktap_persistent_free(queue);
		return -ENOMEM;
	}
	for (i = 0; i < BLKTAP_PERSISTENT_MAX; i++)
		list_add_tail(&persistent->grants[i].node, &persistent->free);
	return 0;
}

void blktap_persistent_init(struct blktap_queue *queue)
{
	INIT_LIST_HEAD(&queue->persistent.free);
	INIT_LIST_HEAD(&queue->persistent.unused);
	INIT_LIST_HEAD(&queue->persistent.leaving);
}

void blktap_persistent_free(struct blktap_queue *queue)
{
	kvfree(queue->persistent.grants);
	kvfree(queue->persistent.buckets);
	queue->persistent.grants = NULL;
	queue->persistent.buckets = NULL;
}

void blktap_persistent_start(struct blktap_queue *queue, bool on)
{
	struct blktap_persistent *persistent = &queue->persistent;

	persistent->on = on && persistent->grants;
	persistent->limit = min(READ_ONCE(blktap_max_persistent), BLKTAP_PERSISTENT_MAX);
	persistent->dropping = false;
	persistent->full = false;
	persistent->round = READ_ONCE(blktap_keep.round);
	persistent->shortage = READ_ONCE(blktap_keep.shortage);
}

static struct hlist_head *bucket_of(struct blktap_persistent *persistent, grant_ref_t ref)
{
	return &persistent->buckets[hash_32(ref, BUCKET_BITS)];
}

static struct blktap_persistent_grant *find_grant(struct blktap_persistent *persistent,
						  grant_ref_t ref)
{
	struct blktap_persistent_grant *grant;

	hlist_for_each_entry(grant, bucket_of(persistent, ref), hash)
		if (grant->ref == ref)
			return grant;
	return NULL;
}

static struct blktap_persistent_grant *add_grant(struct blktap_queue *queue, grant_ref_t ref)
{
	struct blktap_persistent *persistent = &queue->persistent;
	struct blktap_persistent_grant *grant =
		list_first_entry_or_null(&persistent->free, struct blktap_persistent_grant, node);

	if (!grant || persistent->count >= persistent->limit) {
		persistent->full = true;
		return NULL;
	}
	if (!blktap_keep_begin(queue))
		return NULL;
	list_del_init(&grant->node);
	hlist_add_head(&grant->hash, bucket_of(persistent, ref));
	grant->ref = ref;
	grant->state = BLKTAP_GRANT_NEW;
	return grant;
}

unsigned int blktap_persistent_get(struct blktap_queue *queue, grant_ref_t ref,
				   unsigned int otherwise, bool *is_new)
{
	struct blktap_persistent *persistent = &queue->persistent;
	struct blktap_persistent_grant *grant;

	*is_new = true;
	if (!persistent->on)
		return otherwise;
	grant = find_grant(persistent, ref);
	*is_new = !grant;
	if (grant)
		blktap_count(queue->vbd, persistent_hits, 1);
	else
		grant = add_grant(queue, ref);
	if (!grant)
		return otherwise;
	if (!grant->users++)
		list_del_init(&grant->node);
	return page_of(persistent, grant);
}

enum blktap_grant_state blktap_persistent_state(struct blktap_queue *queue, unsigned int page)
{
	return grant_of(&queue->persistent, page)->state;
}

void blktap_persistent_mapped(struct blktap_queue *queue, unsigned int page, bool good)
{
	struct blktap_persistent *persistent = &queue->persistent;
	struct blktap_persistent_grant *grant = grant_of(persistent, page);

	if (good) {
		grant->state = BLKTAP_GRANT_MAPPED;
		__set_bit(page - BLKTAP_PAGES, persistent->fresh);
		blktap_count(queue->vbd, persistent_maps, 1);
	} else {
		grant->state = BLKTAP_GRANT_BAD;
		hlist_del_init(&grant->hash);
	}
}

static void forget_grant(struct blktap_queue *queue, struct blktap_persistent_grant *grant)
{
	list_move(&grant->node, &queue->persistent.free);
	blktap_keep_end(queue);
}

void blktap_persistent_put(struct blktap_queue *queue, unsigned int page)
{
	struct blktap_persistent *persistent = &queue->persistent;
	struct blktap_persistent_grant *grant = grant_of(persistent, page);

	if (--grant->users)
		return;
	grant->round = READ_ONCE(blktap_keep.round);
	if (grant->state == BLKTAP_GRANT_BAD)
		forget_grant(queue, grant);
	else
		list_move_tail(&grant->node, &persistent->unused);
}

/*
 * Takes unused ones out of sight, the oldest first: of tapdisk and of the next
 * requests. False: tapdisk's process lets nobody at its mappings now.
 */
static bool retire_unused(struct blktap_queue *queue, unsigned int count)
{
	struct blktap_persistent *persistent = &queue->persistent;
	DECLARE_BITMAP(pages, BLKTAP_PERSISTENT_MAX);
	struct blktap_persistent_grant *grant;
	struct blktap_persistent_grant *next;
	unsigned int left = count;

	bitmap_zero(pages, BLKTAP_PERSISTENT_MAX);
	list_for_each_entry(grant, &persistent->unused, node) {
		if (!left--)
			break;
		__set_bit(grant - persistent->grants, pages);
	}
	if (!blktap_window_hide(queue, pages))
		return false;
	list_for_each_entry_safe(grant, next, &persistent->unused, node) {
		if (!test_bit(grant - persistent->grants, pages))
			break;
		hlist_del_init(&grant->hash);
		__clear_bit(grant - persistent->grants, persistent->fresh);
		list_move_tail(&grant->node, &persistent->leaving);
	}
	return true;
}

/* Unmaps those that are leaving and that no I/O holds any more. */
static void unmap_retired(struct blktap_queue *queue)
{
	struct blktap_persistent *persistent = &queue->persistent;
	struct blktap_persistent_grant *grant;
	struct blktap_persistent_grant *next;
	unsigned int count = 0;

	list_for_each_entry_safe(grant, next, &persistent->leaving, node) {
		unsigned int page = page_of(persistent, grant);

		if (page_count(queue->pages[page]) != 1)
			continue;
		blktap_grant_add_unmap(queue, &count, page);
		forget_grant(queue, grant);
	}
	blktap_count(queue->vbd, persistent_unmaps, count);
	blktap_grant_unmap_added(queue, count);
}

bool blktap_persistent_waits(const struct blktap_queue *queue)
{
	const struct blktap_persistent *persistent = &queue->persistent;

	return !list_empty(&persistent->leaving) ||
		(persistent->dropping && !list_empty(&persistent->unused));
}

static unsigned int count_old(const struct blktap_persistent *persistent)
{
	const struct blktap_persistent_grant *grant;
	unsigned int count = 0;

	list_for_each_entry(grant, &persistent->unused, node) {
		if (!blktap_keep_is_old(grant->round))
			break;
		count++;
	}
	return count;
}

/* Whether keep.c wants something to go that is not used. */
static bool is_called(const struct blktap_persistent *persistent)
{
	return persistent->round != READ_ONCE(blktap_keep.round) ||
		persistent->shortage != READ_ONCE(blktap_keep.shortage);
}

/* False: not now. */
static bool retire_called(struct blktap_queue *queue)
{
	struct blktap_persistent *persistent = &queue->persistent;
	unsigned int round = READ_ONCE(blktap_keep.round);
	unsigned int shortage = READ_ONCE(blktap_keep.shortage);

	if (!retire_unused(queue, shortage != persistent->shortage ? BLKTAP_PERSISTENT_MAX :
			   count_old(persistent)))
		return false;
	persistent->round = round;
	persistent->shortage = shortage;
	return true;
}

void blktap_persistent_settle(struct blktap_queue *queue)
{
	struct blktap_persistent *persistent = &queue->persistent;

	if (!persistent->full && !persistent->dropping && list_empty(&persistent->leaving) &&
	    !is_called(persistent))
		return;
	if (persistent->dropping)
		(void)retire_unused(queue, BLKTAP_PERSISTENT_MAX);
	else if (is_called(persistent))
		(void)retire_called(queue);
	else if (persistent->full)
		persistent->full = !retire_unused(queue, persistent->limit / TRIM_SHARE + 1);
	unmap_retired(queue);
	if (persistent->leaves && !persistent->count) {
		WRITE_ONCE(persistent->leaves, false);
		blktap_queue_leave(queue);
	}
}

void blktap_persistent_drop(struct blktap_queue *queue)
{
	struct blktap_persistent *persistent = &queue->persistent;

	persistent->on = false;
	if (!persistent->count || persistent->dropping)
		return;
	persistent->dropping = true;
	WRITE_ONCE(persistent->leaves, true);
	blktap_queue_finish(queue);
}
