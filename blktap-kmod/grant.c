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

#include "blktap.h"

static unsigned int map_flags(const struct blktap_slot *slot)
{
	/* What the guest writes to disk it grants read-only. */
	return blkif_op_writes(slot->request.op) ?
		GNTMAP_host_map | GNTMAP_readonly : GNTMAP_host_map;
}

static void unmap_pages(struct blktap_queue *queue, unsigned int count)
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

static void add_unmap(struct blktap_queue *queue, unsigned int *count,
		      const struct blktap_slot *slot, unsigned int i)
{
	struct page *page = slot->pages[i];

	gnttab_set_unmap_op(&queue->unmap[*count], (unsigned long)pfn_to_kaddr(page_to_pfn(page)),
			    GNTMAP_host_map, slot->kernel_handle[i]);
	queue->batch[(*count)++] = page;
}

/*
 * Takes over what the hypercall said about one slot: `op` are its operations.
 * A slot with a page that Xen would not map gets an error status, and the
 * pages that were mapped are added to the batch to be unmapped.
 */
static void judge_slot(struct blktap_queue *queue, struct blktap_slot *slot,
		       const struct gnttab_map_grant_ref *op, unsigned int *failed)
{
	unsigned int i;

	for (i = 0; i < slot->request.nr_segs; i++) {
		slot->kernel_handle[i] = op[i].handle;
		if (op[i].status == GNTST_okay || slot->status != BLKIF_RSP_OKAY)
			continue;
		slot->status = BLKIF_RSP_ERROR;
		blktap_count(queue->vbd, bad_grants, 1);
		pr_warn_ratelimited("blktap: vbd-%u-%u: grant %u of the guest cannot be mapped (%d)\n",
				    queue->vbd->domid, queue->vbd->devid, op[i].ref, op[i].status);
	}
	if (slot->status == BLKIF_RSP_OKAY)
		return;
	for (i = 0; i < slot->request.nr_segs; i++)
		if (op[i].status == GNTST_okay)
			add_unmap(queue, failed, slot, i);
}

/*
 * Maps the pages of all `slots`. Those that cannot be mapped are left in the
 * list with an error status and nothing mapped.
 */
void blktap_grant_map(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	unsigned int count = 0;
	unsigned int failed = 0;
	unsigned int first = 0;
	unsigned int i;

	list_for_each_entry(slot, slots, node) {
		for (i = 0; i < slot->request.nr_segs; i++) {
			struct page *page = slot->pages[i];

			gnttab_set_map_op(&queue->map[count],
					  (unsigned long)pfn_to_kaddr(page_to_pfn(page)),
					  map_flags(slot), slot->request.seg[i].gref,
					  queue->vbd->domid);
			/* Stands if the hypercall is not carried out at all. */
			queue->map[count].status = GNTST_general_error;
			queue->batch[count++] = page;
		}
	}
	if (!count)
		return;

	/* Each operation has its own status, so the result of the whole says nothing new. */
	(void)gnttab_map_refs(queue->map, NULL, queue->batch, count);
	blktap_count(queue->vbd, hypercalls, 1);
	blktap_count(queue->vbd, kernel_map_ops, count);

	list_for_each_entry(slot, slots, node) {
		judge_slot(queue, slot, &queue->map[first], &failed);
		first += slot->request.nr_segs;
	}
	unmap_pages(queue, failed);
}

/* Unmaps the pages of all `slots`, which nobody references any more. */
void blktap_grant_unmap(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	unsigned int count = 0;
	unsigned int i;

	list_for_each_entry(slot, slots, node)
		for (i = 0; i < slot->request.nr_segs; i++)
			add_unmap(queue, &count, slot, i);
	unmap_pages(queue, count);
}

/*
 * Whether an I/O, a socket buffer or anything else still holds a page of the
 * slot. The pages' own reference is one; whoever got a page through the
 * window holds another (6.1) or a pin (6.12). Meaningful only after
 * blktap_window_revoke(): then no new reference can be taken.
 */
bool blktap_grant_referenced(const struct blktap_slot *slot)
{
	unsigned int i;

	for (i = 0; i < slot->request.nr_segs; i++)
		if (page_count(slot->pages[i]) > 1)
			return true;
	return false;
}
