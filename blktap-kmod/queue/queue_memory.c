// SPDX-License-Identifier: GPL-2.0-only
/* What a queue holds while it lives: all memory of the data path is taken here. */
#include <linux/mm.h>
#include <linux/slab.h>
#include <xen/grant_table.h>

#include "data/area.h"
#include "data/window.h"
#include "guest/persistent.h"
#include "queue/orphan.h"
#include "queue/queue.h"
#include "queue/queue_memory.h"
#include "queue/user_ring.h"
#include "queue/worker.h"

int blktap_queue_init(struct blktap_queue *queue, struct blktap_vbd *vbd, unsigned int index)
{
	/* The scratch of a batch serves both kinds of pages. */
	BUILD_BUG_ON(BLKTAP_PERSISTENT_MAX > BLKTAP_PAGES);
	queue->vbd = vbd;
	queue->index = index;
	mutex_init(&queue->lock);
	INIT_LIST_HEAD(&queue->waiting);
	INIT_LIST_HEAD(&queue->backlog);
	init_llist_head(&queue->completed);
	init_waitqueue_head(&queue->wait);
	INIT_DELAYED_WORK(&queue->work, blktap_orphan_work);
	blktap_worker_init(queue);
	blktap_persistent_init(queue);

	queue->segs = kcalloc(BLKTAP_PAGES, sizeof(*queue->segs), GFP_KERNEL);
	queue->page_of = kvcalloc(BLKTAP_PAGES, sizeof(*queue->page_of), GFP_KERNEL);
	queue->pieces = kvcalloc(BLKTAP_PAGES, sizeof(*queue->pieces), GFP_KERNEL);
	queue->handle = kvcalloc(BLKTAP_WINDOW_PAGES, sizeof(*queue->handle), GFP_KERNEL);
	queue->map = kvcalloc(BLKTAP_PAGES, sizeof(*queue->map), GFP_KERNEL);
	queue->unmap = kvcalloc(BLKTAP_PAGES, sizeof(*queue->unmap), GFP_KERNEL);
	queue->batch = kvcalloc(BLKTAP_PAGES, sizeof(*queue->batch), GFP_KERNEL);
	if (!queue->segs || !queue->page_of || !queue->pieces || !queue->handle || !queue->map ||
	    !queue->unmap || !queue->batch)
		return -ENOMEM;
	return blktap_slots_init(&queue->slots, queue) ?:
		blktap_window_init(queue) ?: blktap_user_init(queue);
}

static int reserve_pages(struct page **pages, unsigned int count)
{
	int err = gnttab_alloc_pages(count, pages);

	if (err)
		memset(pages, 0, count * sizeof(*pages));
	return err;
}

/*
 * The next user gets them at once. So one that something still holds, which must
 * not be, is lost rather than seen through that by whoever holds it.
 */
static void give_pages_back(struct page **pages, unsigned int count)
{
	unsigned int nr = 0;
	unsigned int i;

	for (i = 0; i < count; i++)
		if (page_count(pages[i]) == 1)
			pages[nr++] = pages[i];
	WARN_ONCE(nr < count, "blktap: %u pages are still held and not given back\n", count - nr);
	gnttab_free_pages(nr, pages);
}

int blktap_queue_alloc_pages(struct blktap_queue *queue, bool persistent, bool copies)
{
	struct page **pages = queue->pages;
	int err;

	if (!pages) {
		pages = kvcalloc(BLKTAP_ALL_PAGES, sizeof(*pages), GFP_KERNEL);
		err = pages ? reserve_pages(pages, BLKTAP_PAGES) : -ENOMEM;
		if (err) {
			kvfree(pages);
			return err;
		}
		queue->pages = pages;
	}
	if (persistent && !pages[BLKTAP_PAGES]) {
		err = blktap_persistent_alloc(queue) ?:
			reserve_pages(pages + BLKTAP_PAGES, BLKTAP_PERSISTENT_MAX);
		if (err)
			return err;
	}
	return blktap_area_renew(queue, copies);
}

void blktap_queue_free(struct blktap_queue *queue)
{
	if (queue->pages) {
		give_pages_back(queue->pages, BLKTAP_PAGES);
		if (queue->pages[BLKTAP_PAGES])
			give_pages_back(queue->pages + BLKTAP_PAGES, BLKTAP_PERSISTENT_MAX);
	}
	blktap_area_free(queue);
	blktap_persistent_free(queue);
	kvfree(queue->pages);
	blktap_user_free(queue);
	blktap_window_free(queue);
	kvfree(queue->batch);
	kvfree(queue->unmap);
	kvfree(queue->map);
	kvfree(queue->handle);
	kvfree(queue->pieces);
	kvfree(queue->page_of);
	kfree(queue->segs);
	blktap_slots_free(&queue->slots);
}
