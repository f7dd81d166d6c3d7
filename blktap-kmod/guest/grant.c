// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel mappings of the guest's pages: one hypercall for a batch of requests
 * in either direction, and every status looked at.
 *
 * The kernel mapping is what DMA uses. It outlives the user mapping of
 * window.c, so that a process may die or unmap while its I/O is in flight.
 */
#include <linux/mm.h>
#include <linux/ratelimit.h>
#include <xen/page.h>

#include "base/compat.h"
#include "base/stats.h"
#include "disk/vbd.h"
#include "guest/grant.h"
#include "guest/map_refs.h"
#include "guest/persistent.h"
#include "queue/queue.h"

static unsigned int map_flags(const struct blktap_slot *slot, unsigned int page)
{
	/* What the guest writes to disk it grants read-only, unless it will be used again. */
	return blkif_op_writes(slot->request.op) && !blktap_page_is_persistent(page) ?
		GNTMAP_host_map | GNTMAP_readonly : GNTMAP_host_map;
}

void blktap_grant_unmap_added(struct blktap_queue *queue, unsigned int count)
{
	unsigned int i;
	int err;

	if (!count)
		return;
	err = gnttab_unmap_refs(queue->unmap, NULL, queue->batch, count);
	blktap_count(queue->vbd, hypercalls, 1);
	blktap_count(queue->vbd, kernel_unmap_ops, count);
	for (i = 0; !err && i < count; i++)
		err = queue->unmap[i].status;
	/*
	 * Xen refuses an unmap only for a handle that it never gave out, so this
	 * is a bug of ours, and the state of these pages is unknown.
	 */
	WARN_ONCE(err, "blktap: vbd-%u-%u: grants could not be unmapped (%d)\n",
		  queue->vbd->domid, queue->vbd->devid, err);
}

static unsigned long kernel_address(const struct blktap_queue *queue, unsigned int page)
{
	return (unsigned long)pfn_to_kaddr(page_to_pfn(queue->pages[page]));
}

void blktap_grant_add_unmap(struct blktap_queue *queue, unsigned int *count, unsigned int page)
{
	gnttab_set_unmap_op(&queue->unmap[*count], kernel_address(queue, page), GNTMAP_host_map,
			    queue->handle[page]);
	queue->batch[(*count)++] = queue->pages[page];
}

void blktap_grant_refuse(struct blktap_queue *queue, struct blktap_slot *slot, grant_ref_t ref,
			 s16 status)
{
	slot->status = BLKIF_RSP_ERROR;
	blktap_count(queue->vbd, bad_grants, 1);
	pr_warn_ratelimited("blktap: vbd-%u-%u: grant %u of the guest cannot be used (%d)\n",
			    queue->vbd->domid, queue->vbd->devid, ref, status);
}

static bool needs_map(const struct blktap_slot *slot)
{
	return slot->status == BLKIF_RSP_OKAY && !slot->copied;
}

/* The slot needs its pages no more: persistent ones stay, the others join the batch. */
static void release_page(struct blktap_queue *queue, unsigned int *count, unsigned int page)
{
	if (blktap_page_is_persistent(page))
		blktap_persistent_put(queue, page);
	else
		blktap_grant_add_unmap(queue, count, page);
}

/* What has become of one segment's page. `op` goes on if the page had an operation of its own. */
static s16 judge_page(struct blktap_queue *queue, unsigned int page, unsigned int *op)
{
	const struct gnttab_map_grant_ref *map = &queue->map[*op];

	if (blktap_page_is_persistent(page)) {
		if (blktap_persistent_state(queue, page) != BLKTAP_GRANT_NEW)
			return blktap_persistent_state(queue, page) == BLKTAP_GRANT_BAD ?
				GNTST_general_error : GNTST_okay;
		blktap_persistent_mapped(queue, page, map->status == GNTST_okay);
	}
	(*op)++;
	queue->handle[page] = map->handle;
	return map->status;
}

/*
 * Takes over what the hypercall said about one slot, whose operations begin at
 * `op`. A slot with a page that Xen would not map gets an error status; where Xen
 * had no room it is `no_room`, for this slot and all that follow. The pages that
 * were mapped for such slots are added to the batch to be unmapped.
 */
static void judge_slot(struct blktap_queue *queue, struct blktap_slot *slot, unsigned int *op,
		       unsigned int *failed, bool *no_room)
{
	unsigned int end = slot->first + slot->request.nr_segs;
	DECLARE_BITMAP(mapped, BLKTAP_SEGS_MAX);
	unsigned int seg;
	s16 status;

	for (seg = slot->first; seg < end; seg++) {
		status = judge_page(queue, queue->page_of[seg], op);
		__assign_bit(seg - slot->first, mapped, status == GNTST_okay);
		if (status == GNTST_okay || *no_room || slot->status != BLKIF_RSP_OKAY)
			continue;
		if (status == GNTST_no_space)
			*no_room = true;
		else
			blktap_grant_refuse(queue, slot, queue->segs[seg].gref, status);
	}
	if (slot->status == BLKIF_RSP_OKAY && !*no_room)
		return;
	for (seg = slot->first; seg < end; seg++)
		if (test_bit(seg - slot->first, mapped) ||
		    blktap_page_is_persistent(queue->page_of[seg]))
			release_page(queue, failed, queue->page_of[seg]);
}

/* Adds the map operations that the slot needs: one for each page that is not mapped already. */
static void add_maps(struct blktap_queue *queue, struct blktap_slot *slot, unsigned int *count)
{
	unsigned int end = slot->first + slot->request.nr_segs;
	unsigned int page;
	unsigned int seg;
	bool is_new;

	for (seg = slot->first; seg < end; seg++) {
		page = blktap_persistent_get(queue, queue->segs[seg].gref, seg, &is_new);
		queue->page_of[seg] = page;
		if (!is_new)
			continue;
		gnttab_set_map_op(&queue->map[*count], kernel_address(queue, page),
				  map_flags(slot, page), queue->segs[seg].gref, queue->vbd->domid);
		/* Stands if the hypercall is not carried out at all. */
		queue->map[*count].status = GNTST_general_error;
		queue->batch[(*count)++] = queue->pages[page];
	}
}

void blktap_grant_map(struct blktap_queue *queue, struct list_head *slots,
		      struct list_head *deferred)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	unsigned int count = 0;
	unsigned int failed = 0;
	unsigned int op = 0;
	bool no_room = false;

	list_for_each_entry(slot, slots, node)
		if (needs_map(slot))
			add_maps(queue, slot, &count);
	/* What is mapped already, is mapped well. */
	if (!count)
		return;
	blktap_map_refs(queue->map, queue->batch, count);
	blktap_count(queue->vbd, hypercalls, 1);
	blktap_count(queue->vbd, kernel_map_ops, count);
	list_for_each_entry_safe(slot, next, slots, node) {
		if (needs_map(slot))
			judge_slot(queue, slot, &op, &failed, &no_room);
		if (no_room)
			list_move_tail(&slot->node, deferred);
	}
	blktap_grant_unmap_added(queue, failed);
}

void blktap_grant_unmap(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	unsigned int count = 0;
	unsigned int seg;

	list_for_each_entry(slot, slots, node) {
		if (slot->copied)
			continue;
		for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++)
			release_page(queue, &count, queue->page_of[seg]);
	}
	blktap_grant_unmap_added(queue, count);
}

/*
 * Its own reference is one; whoever got it through the window holds another (6.1)
 * or a pin, which counts as 1024 (6.12): so many can be taken that the count is
 * negative. Resident pages are mapped by tapdisk all the time; its mappings
 * count, too, but a granted PTE's.
 */
bool blktap_page_referenced(const struct blktap_queue *queue, unsigned int page)
{
	int count = page_count(queue->pages[page]);

	if (count != 1 && blktap_page_is_resident(page))
		count -= blktap_page_mapcount(queue->pages[page]);
	return count != 1;
}

bool blktap_grant_referenced(const struct blktap_queue *queue, const struct blktap_slot *slot)
{
	unsigned int page;
	unsigned int seg;

	for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++) {
		page = queue->page_of[seg];
		if (slot->submitted && blktap_page_is_resident(page))
			continue;
		if (page >= BLKTAP_WINDOW_PAGES && !queue->area.abandoned)
			continue;
		if (blktap_page_referenced(queue, page))
			return true;
	}
	return false;
}
