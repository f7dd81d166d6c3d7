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

static unsigned long kernel_address(const struct blktap_queue *queue, unsigned int page)
{
	return (unsigned long)pfn_to_kaddr(page_to_pfn(queue->pages[page]));
}

static void add_unmap(struct blktap_queue *queue, unsigned int *count, unsigned int page)
{
	gnttab_set_unmap_op(&queue->unmap[*count], kernel_address(queue, page), GNTMAP_host_map,
			    queue->handle[page]);
	queue->batch[(*count)++] = queue->pages[page];
}

static void refuse_grant(struct blktap_queue *queue, struct blktap_slot *slot, grant_ref_t ref,
			 s16 status)
{
	slot->status = BLKIF_RSP_ERROR;
	blktap_count(queue->vbd, bad_grants, 1);
	pr_warn_ratelimited("blktap: vbd-%u-%u: grant %u of the guest cannot be used (%d)\n",
			    queue->vbd->domid, queue->vbd->devid, ref, status);
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
		queue->handle[slot->first + i] = op[i].handle;
		if (op[i].status != GNTST_okay && slot->status == BLKIF_RSP_OKAY)
			refuse_grant(queue, slot, op[i].ref, op[i].status);
	}
	if (slot->status == BLKIF_RSP_OKAY)
		return;
	for (i = 0; i < slot->request.nr_segs; i++)
		if (op[i].status == GNTST_okay)
			add_unmap(queue, failed, slot->first + i);
}

/*
 * Maps the pages of all `slots` that are good so far. Those that cannot be
 * mapped are left in the list with an error status and nothing mapped.
 */
void blktap_grant_map(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	unsigned int count = 0;
	unsigned int failed = 0;
	unsigned int op = 0;
	unsigned int page;

	list_for_each_entry(slot, slots, node) {
		if (slot->status != BLKIF_RSP_OKAY)
			continue;
		for (page = slot->first; page < slot->first + slot->request.nr_segs; page++) {
			gnttab_set_map_op(&queue->map[count], kernel_address(queue, page),
					  map_flags(slot), queue->segs[page].gref,
					  queue->vbd->domid);
			/* Stands if the hypercall is not carried out at all. */
			queue->map[count].status = GNTST_general_error;
			queue->batch[count++] = queue->pages[page];
		}
	}
	if (!count)
		return;

	/* Each operation has its own status, so the result of the whole says nothing new. */
	(void)gnttab_map_refs(queue->map, NULL, queue->batch, count);
	blktap_count(queue->vbd, hypercalls, 1);
	blktap_count(queue->vbd, kernel_map_ops, count);

	list_for_each_entry(slot, slots, node) {
		if (slot->status != BLKIF_RSP_OKAY)
			continue;
		judge_slot(queue, slot, &queue->map[op], &failed);
		op += slot->request.nr_segs;
	}
	unmap_pages(queue, failed);
}

/* Unmaps the pages of all `slots`, which nobody references any more. */
void blktap_grant_unmap(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	unsigned int count = 0;
	unsigned int page;

	list_for_each_entry(slot, slots, node)
		for (page = slot->first; page < slot->first + slot->request.nr_segs; page++)
			add_unmap(queue, &count, page);
	unmap_pages(queue, count);
}

/* Segments are copied in a few operations at a time; a run of them lies in two pages at most. */
#define COPY_OPS 16

struct copy_batch {
	unsigned int count;
	struct gnttab_copy op[COPY_OPS];
	struct blktap_slot *slot[COPY_OPS];
};

static void carry_out_copies(struct blktap_queue *queue, struct copy_batch *batch)
{
	unsigned int i;

	if (!batch->count)
		return;
	gnttab_batch_copy(batch->op, batch->count);
	blktap_count(queue->vbd, hypercalls, 1);
	blktap_count(queue->vbd, grant_copy_ops, batch->count);
	for (i = 0; i < batch->count; i++)
		if (batch->op[i].status != GNTST_okay &&
		    batch->slot[i]->status == BLKIF_RSP_OKAY)
			refuse_grant(queue, batch->slot[i], batch->op[i].source.u.ref,
				     batch->op[i].status);
	batch->count = 0;
}

static void add_copy(struct blktap_queue *queue, struct copy_batch *batch,
		     struct blktap_slot *slot, unsigned int from, void *to, unsigned int bytes)
{
	struct gnttab_copy *op = &batch->op[batch->count];

	op->source.u.ref = slot->request.descriptors;
	op->source.domid = queue->vbd->domid;
	op->source.offset = from;
	op->dest.u.gmfn = virt_to_gfn(to);
	op->dest.domid = DOMID_SELF;
	op->dest.offset = offset_in_page(to);
	op->len = bytes;
	op->flags = GNTCOPY_source_gref;
	op->status = GNTST_general_error;
	batch->slot[batch->count++] = slot;
}

/*
 * Takes private copies of the segments of indirect requests out of the guest's
 * descriptor pages, to where segments are judged. Those that cannot be copied
 * get an error status.
 */
void blktap_grant_copy_segments(struct blktap_queue *queue, struct list_head *slots)
{
	struct copy_batch batch = { .count = 0 };
	struct blktap_slot *slot;

	list_for_each_entry(slot, slots, node) {
		void *to = &queue->segs[slot->first];
		unsigned int bytes = slot->request.nr_segs * sizeof(*queue->segs);
		unsigned int head = min_t(unsigned int, bytes, PAGE_SIZE - offset_in_page(to));

		if (!slot->request.indirect)
			continue;
		if (batch.count + 2 > COPY_OPS)
			carry_out_copies(queue, &batch);
		add_copy(queue, &batch, slot, 0, to, head);
		if (bytes > head)
			add_copy(queue, &batch, slot, head, to + head, bytes - head);
	}
	carry_out_copies(queue, &batch);
}

/*
 * Whether an I/O, a socket buffer or anything else still holds a page of the
 * slot. The pages' own reference is one; whoever got a page through the
 * window holds another (6.1) or a pin (6.12). Meaningful only after
 * blktap_window_revoke(): then no new reference can be taken.
 */
bool blktap_grant_referenced(const struct blktap_queue *queue, const struct blktap_slot *slot)
{
	unsigned int page;

	for (page = slot->first; page < slot->first + slot->request.nr_segs; page++)
		if (page_count(queue->pages[page]) > 1)
			return true;
	return false;
}
