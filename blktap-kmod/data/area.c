// SPDX-License-Identifier: GPL-2.0-only
/*
 * The area: pages of the module's own for data that copy.c copies, one for each
 * segment of a queue. tapdisk maps it, as a file of which not all is there.
 *
 * Where tapdisk allows copies, all of it is there from its attach on, so that no
 * memory is taken on the data path. Else a page is there only while a request uses
 * it for whose own pages Xen has no room: it is lent. Some are kept for that, lest
 * it fail for want of memory, and a queue gets no more than one request may need,
 * lest one guest take them all.
 *
 * The area is one tapdisk's: I/O that it leaves behind cannot hit the data of the
 * next one's requests.
 */
#include <linux/mempool.h>
#include <linux/mm.h>

#include "base/compat.h"
#include "data/area.h"
#include "data/window.h"
#include "queue/queue.h"

#define AREA_BYTES (BLKTAP_PAGES * PAGE_SIZE)

/* What one request may need. */
#define LENT_MAX BLKTAP_SEGS_MAX

static mempool_t *spare;

int blktap_area_init(void)
{
	spare = mempool_create_page_pool(LENT_MAX, 0);
	return spare ? 0 : -ENOMEM;
}

void blktap_area_exit(void)
{
	mempool_destroy(spare);
}

static struct page **place_of(struct blktap_queue *queue, unsigned int seg)
{
	return &queue->pages[BLKTAP_WINDOW_PAGES + seg];
}

/* Where a queue's area lies in the space of offsets that all mappings of the node share. */
static pgoff_t offset_of(const struct blktap_queue *queue, unsigned int seg)
{
	return (BLKTAP_MAP_COPIES >> PAGE_SHIFT) + queue->index * BLKTAP_PAGES + seg;
}

static int fill_area(struct blktap_queue *queue)
{
	unsigned int seg;

	for (seg = 0; seg < BLKTAP_PAGES; seg++) {
		*place_of(queue, seg) = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!*place_of(queue, seg)) {
			blktap_area_free(queue);
			return -ENOMEM;
		}
	}
	queue->area.whole = true;
	return 0;
}

int blktap_area_renew(struct blktap_queue *queue, bool whole)
{
	if (queue->area.users)
		return -EAGAIN;
	blktap_area_free(queue);
	queue->area.abandoned = false;
	return whole ? fill_area(queue) : 0;
}

void blktap_area_abandon(struct blktap_queue *queue)
{
	queue->area.abandoned = true;
	queue->area.mapping = NULL;
}

void blktap_area_free(struct blktap_queue *queue)
{
	unsigned int seg;

	for (seg = 0; queue->pages && seg < BLKTAP_PAGES; seg++) {
		if (*place_of(queue, seg))
			put_page(*place_of(queue, seg));
		*place_of(queue, seg) = NULL;
	}
	queue->area.whole = false;
}

/* From the mempool to its place, for tapdisk to see, and clean of what others had in it. */
static bool lend_page(struct blktap_queue *queue, unsigned int seg)
{
	struct page *page = mempool_alloc(spare, GFP_NOWAIT | __GFP_NOWARN);

	if (!page)
		return false;
	clear_highpage(page);
	smp_store_release(place_of(queue, seg), page);
	queue->area.lent++;
	return true;
}

/* Takes the pages of `run` away from tapdisk. Some I/O of a liar may keep one for itself. */
static void take_back(struct blktap_queue *queue, struct blktap_run run)
{
	unsigned int i;

	/* Who faults sees a page whole, and with a reference, or not at all. */
	mutex_lock(&queue->windows.lock);
	for (i = 0; i < run.count; i++) {
		queue->batch[i] = *place_of(queue, run.first + i);
		*place_of(queue, run.first + i) = NULL;
	}
	mutex_unlock(&queue->windows.lock);
	if (queue->area.mapping)
		unmap_mapping_range(queue->area.mapping,
				    (loff_t)offset_of(queue, run.first) << PAGE_SHIFT,
				    run.count * PAGE_SIZE, 1);
	for (i = 0; i < run.count; i++) {
		if (page_count(queue->batch[i]) == 1)
			mempool_free(queue->batch[i], spare);
		else
			put_page(queue->batch[i]);
	}
	queue->area.lent -= run.count;
}

bool blktap_area_lend(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_run run = blktap_run_of(slot);
	unsigned int i;

	if (queue->area.whole)
		return true;
	if (!queue->area.mapping || queue->area.lent + run.count > LENT_MAX)
		return false;
	for (i = 0; i < run.count; i++) {
		if (!lend_page(queue, run.first + i)) {
			take_back(queue, (struct blktap_run){ run.first, i });
			return false;
		}
	}
	slot->lent = true;
	return true;
}

void blktap_area_take_back(struct blktap_queue *queue, struct blktap_slot *slot)
{
	if (slot->lent)
		take_back(queue, blktap_run_of(slot));
	slot->lent = false;
}

static vm_fault_t fault_area(struct vm_fault *vmf)
{
	struct blktap_queue *queue = vmf->vma->vm_private_data;
	unsigned long seg = vmf->pgoff - offset_of(queue, 0);
	struct page *page;

	if (seg >= BLKTAP_PAGES)
		return VM_FAULT_SIGBUS;
	mutex_lock(&queue->windows.lock);
	page = smp_load_acquire(place_of(queue, seg));
	if (page)
		get_page(page);
	mutex_unlock(&queue->windows.lock);
	vmf->page = page;
	return page ? 0 : VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct area_operations = { .fault = fault_area };

int blktap_area_mmap(struct blktap_queue *queue, struct vm_area_struct *vma)
{
	if (vma->vm_end - vma->vm_start != AREA_BYTES || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	vm_flags_clear(vma, VM_MAYEXEC);
	vma->vm_pgoff = offset_of(queue, 0);
	vma->vm_ops = &area_operations;
	vma->vm_private_data = queue;
	WRITE_ONCE(queue->area.mapping, vma->vm_file->f_mapping);
	return queue->area.whole ? vm_map_pages_zero(vma, place_of(queue, 0), BLKTAP_PAGES) : 0;
}
