// SPDX-License-Identifier: GPL-2.0-only
/*
 * User PTEs onto the guest's pages, as an auto-translated host has them (PVH,
 * HVM, Arm). A grant that is mapped there is memory behind an ordinary struct
 * page, and Xen refuses what user_pte.c does. So the kernel itself writes the
 * PTE, counts the page's use by it, and takes it away, from every process that
 * has a copy: whatever ends a mapping needs no help of ours. window.c decides
 * which page may be seen when.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>

#include "base/stats.h"
#include "data/user_page.h"
#include "data/window.h"
#include "disk/vbd.h"
#include "queue/queue.h"

/*
 * All VMAs of an inode share one space of offsets, from which PTEs are taken
 * away. So each queue's windows need a place of their own in it.
 */
void blktap_user_page_place(struct blktap_window *window, struct vm_area_struct *vma)
{
	BUILD_BUG_ON(BLKTAP_QUEUES_MAX * BLKTAP_WINDOW_BYTES >
		     BLKTAP_MAP_WINDOW_RO - BLKTAP_MAP_WINDOW_RW);
	vma->vm_pgoff += window->queue->index * BLKTAP_WINDOW_PAGES;
	window->mapping = vma->vm_file->f_mapping;
	window->pgoff = vma->vm_pgoff;
}

/* Pages of one piece of a run. One that has its PTE has the right one: a place never changes. */
static int insert_pages(struct blktap_window *window, struct vm_area_struct *vma,
			unsigned long page, unsigned long end)
{
	unsigned long left;
	int err;

	while (page < end) {
		left = end - page;
		err = vm_insert_pages(vma, blktap_window_address(window, page),
				      &window->queue->pages[page], &left);
		page = end - left;
		if (err == -EBUSY)
			page++;
		else if (err)
			return err;
	}
	return 0;
}

/* The pages of a run that may be seen. windows.lock is held. */
static int insert_run(struct blktap_window *window, struct vm_area_struct *vma,
		      struct blktap_run run)
{
	unsigned long stop = run.first + run.count;
	unsigned long page = find_next_bit(window->exposed, stop, run.first);
	unsigned long end;
	int err = 0;

	while (page < stop && !err) {
		end = find_next_zero_bit(window->exposed, stop, page);
		bitmap_set(window->live, page, end - page);
		blktap_count(window->queue->vbd, user_map_ops, end - page);
		err = insert_pages(window, vma, page, end);
		page = find_next_bit(window->exposed, stop, end);
	}
	return err;
}

/* No notifier takes windows.lock here, so page tables may be made under it. */
int blktap_user_page_fill(struct blktap_window *window, struct vm_area_struct *vma,
			  const struct blktap_run *runs, unsigned int nr)
{
	struct blktap_windows *windows = &window->queue->windows;
	unsigned int r;
	int err = 0;

	mutex_lock(&windows->lock);
	for (r = 0; r < nr && !err; r++)
		err = insert_run(window, vma, runs[r]);
	mutex_unlock(&windows->lock);
	return err;
}

void blktap_user_page_withdraw(struct blktap_window *window, struct blktap_run run)
{
	unsigned int end = run.first + run.count;

	if (find_next_bit(window->live, end, run.first) >= end)
		return;
	bitmap_clear(window->live, run.first, run.count);
	/* With the last VMA its PTEs have gone, and perhaps the file. */
	if (!window->mm)
		return;
	unmap_mapping_range(window->mapping, (loff_t)(window->pgoff + run.first) << PAGE_SHIFT,
			    run.count * PAGE_SIZE, 0);
	blktap_count(window->queue->vbd, user_unmap_ops, run.count);
}
