// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Xen copies from and to the guest's pages: the segments of indirect
 * requests, and the data of small requests, where tapdisk allows it.
 *
 * Copied data passes through pages of the module's own, one for each segment
 * (area.c). tapdisk sees them, and delegated I/O uses them as it does the guest's.
 * So nothing of the guest is mapped for such a request, and nothing unmapped: it
 * costs no TLB flush and no room in Xen, but memory bandwidth. Where the one is
 * cheaper than the other depends on the machine; tapdisk says up to which size.
 * What Xen has no room to map is copied whatever its size.
 *
 * The area is one tapdisk's. So while it lives nobody has to ask what else uses a
 * page, and it may pin all of them for good, as registered buffers.
 */
#include <linux/mm.h>
#include <xen/page.h>

#include "base/stats.h"
#include "data/area.h"
#include "disk/vbd.h"
#include "guest/copy.h"
#include "guest/grant.h"
#include "queue/queue.h"

static struct gnttab_copy *add_copy(struct blktap_queue *queue, struct blktap_slot *slot,
				    grant_ref_t ref)
{
	struct blktap_copies *copies = &queue->copies;
	unsigned int i = copies->count++;

	copies->slot[i] = slot;
	copies->ref[i] = ref;
	/* The status stands if the hypercall is not carried out at all. */
	copies->op[i] = (struct gnttab_copy){ .status = GNTST_general_error };
	return &copies->op[i];
}

static bool is_full(const struct blktap_queue *queue)
{
	return queue->copies.count == BLKTAP_COPY_OPS;
}

static void carry_out(struct blktap_queue *queue)
{
	struct blktap_copies *copies = &queue->copies;
	unsigned int i;

	if (!copies->count)
		return;
	gnttab_batch_copy(copies->op, copies->count);
	blktap_count(queue->vbd, hypercalls, 1);
	blktap_count(queue->vbd, grant_copy_ops, copies->count);
	for (i = 0; i < copies->count; i++)
		if (copies->op[i].status != GNTST_okay &&
		    copies->slot[i]->status == BLKIF_RSP_OKAY)
			blktap_grant_refuse(queue, copies->slot[i], copies->ref[i],
					    copies->op[i].status);
	copies->count = 0;
}

static void copy_from_guest(struct blktap_queue *queue, struct blktap_slot *slot, grant_ref_t ref,
			    unsigned int from, struct page *page, unsigned int to,
			    unsigned int bytes)
{
	struct gnttab_copy *op;

	if (is_full(queue))
		carry_out(queue);
	op = add_copy(queue, slot, ref);
	op->source.u.ref = ref;
	op->source.domid = queue->vbd->domid;
	op->source.offset = from;
	op->dest.u.gmfn = xen_page_to_gfn(page);
	op->dest.domid = DOMID_SELF;
	op->dest.offset = to;
	op->len = bytes;
	op->flags = GNTCOPY_source_gref;
}

static void copy_to_guest(struct blktap_queue *queue, struct blktap_slot *slot, unsigned int seg)
{
	const struct blkif_segment *piece = &queue->segs[seg];
	struct gnttab_copy *op;

	if (is_full(queue))
		carry_out(queue);
	op = add_copy(queue, slot, piece->gref);
	op->source.u.gmfn = xen_page_to_gfn(queue->pages[queue->page_of[seg]]);
	op->source.domid = DOMID_SELF;
	op->source.offset = piece->offset;
	op->dest.u.ref = piece->gref;
	op->dest.domid = queue->vbd->domid;
	op->dest.offset = piece->offset;
	op->len = piece->length;
	op->flags = GNTCOPY_dest_gref;
}

void blktap_copy_segments(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;

	list_for_each_entry(slot, slots, node) {
		void *to = &queue->segs[slot->first];
		unsigned int bytes = slot->request.nr_segs * sizeof(*queue->segs);
		/* They lie in two pages at most. */
		unsigned int head = min_t(unsigned int, bytes, PAGE_SIZE - offset_in_page(to));
		grant_ref_t ref = slot->request.descriptors;

		if (!slot->request.indirect)
			continue;
		copy_from_guest(queue, slot, ref, 0, virt_to_page(to), offset_in_page(to), head);
		if (bytes > head)
			copy_from_guest(queue, slot, ref, head, virt_to_page(to + head), 0,
					bytes - head);
	}
	carry_out(queue);
}

/* Whether the data is to be copied. What a persistent grant has mapped costs nothing to use. */
static bool is_to_be_copied(const struct blktap_queue *queue, const struct blktap_slot *slot)
{
	return slot->status == BLKIF_RSP_OKAY && slot->request.bytes &&
	       slot->request.bytes <= queue->copy_bytes && !queue->persistent.on;
}

static void set_copied(struct blktap_queue *queue, struct blktap_slot *slot, bool copied)
{
	queue->area.users += copied - slot->copied;
	slot->copied = copied;
}

/* The slot gets its pages, and when all is carried out, they have what it writes. */
static void copy_one(struct blktap_queue *queue, struct blktap_slot *slot)
{
	unsigned int seg;

	set_copied(queue, slot, true);
	blktap_count(queue->vbd, requests_copied, 1);
	for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++) {
		const struct blkif_segment *piece = &queue->segs[seg];
		unsigned int page = BLKTAP_WINDOW_PAGES + seg;

		queue->page_of[seg] = page;
		if (blkif_op_writes(slot->request.op))
			copy_from_guest(queue, slot, piece->gref, piece->offset,
					queue->pages[page], piece->offset, piece->length);
	}
}

void blktap_copy_in(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;

	list_for_each_entry(slot, slots, node) {
		set_copied(queue, slot, false);
		if (is_to_be_copied(queue, slot))
			copy_one(queue, slot);
	}
	carry_out(queue);
}

void blktap_copy_instead(struct blktap_queue *queue, struct list_head *slots,
			 struct list_head *ready)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;

	list_for_each_entry_safe(slot, next, slots, node) {
		if (slot->status == BLKIF_RSP_OKAY && slot->request.bytes && !slot->copied) {
			if (!blktap_area_lend(queue, slot))
				break;
			copy_one(queue, slot);
		}
		list_move_tail(&slot->node, ready);
	}
	carry_out(queue);
}

void blktap_copy_out(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	unsigned int seg;

	list_for_each_entry(slot, slots, node) {
		if (!slot->copied || slot->request.op != BLKIF_OP_READ ||
		    slot->status != BLKIF_RSP_OKAY)
			continue;
		if (!queue->taking) {
			slot->status = BLKIF_RSP_ERROR;
			continue;
		}
		for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++)
			copy_to_guest(queue, slot, seg);
	}
	carry_out(queue);
}

void blktap_copy_forget(struct blktap_queue *queue, struct blktap_slot *slot)
{
	set_copied(queue, slot, false);
	blktap_area_take_back(queue, slot);
}
