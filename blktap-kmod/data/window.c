// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window: a user VMA in which tapdisk sees the pages of the requests it
 * owns, and in which O_DIRECT finds their struct pages.
 *
 * This is the VM_FOREIGN VMA of 2005, made of today's parts. In a PV domain the
 * only user PTE onto a foreign frame that Xen accepts is one that Xen writes
 * itself: a second grant map of the PTE (GNTMAP_contains_pte). Such a PTE says
 * nothing about a struct page, so it is marked special, and the VMA's
 * find_special_page leads get_user_pages through the page map (the slots'
 * pages) to the page behind the kernel's own mapping.
 *
 * The user handle is separate from the kernel handle: it can be taken back at
 * any moment, synchronously, whatever I/O is in flight on the page. Before the
 * kernel may touch a user PTE itself (munmap, exit, mremap, MADV_DONTNEED) the
 * mmu notifier has had it unmapped by Xen and find_special_page answers NULL.
 * Zapping a granted PTE would corrupt page counts and leak the grant.
 *
 * In an auto-translated domain a page is mapped by the kernel like any other,
 * and neither the notifier nor find_special_page is needed: user_page.c.
 *
 * There are two windows because what a guest writes to disk is granted
 * read-only: a store through a read-only granted PTE in a writable VMA would
 * fault for ever. Pages of guest writes are only ever in the window whose VMA
 * cannot become writable.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "base/compat.h"
#include "base/stats.h"
#include "data/user_page.h"
#include "data/window.h"
#include "disk/vbd.h"
#include "guest/keep.h"
#include "guest/user_pte.h"
#include "queue/queue.h"

struct vm_area_struct *blktap_window_vma(struct blktap_window *window, struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	if (READ_ONCE(window->mm) != mm)
		return NULL;
	vma = vma_lookup(mm, window->start);
	return vma && vma->vm_private_data == window ? vma : NULL;
}

static bool is_prepared(const struct blktap_window *window)
{
	return blktap_is_auto_translated() || READ_ONCE(window->noted);
}

void blktap_window_prepare(struct blktap_queue *queue, struct mm_struct *mm)
{
	struct blktap_window *window;
	int which;

	for (which = 0; queue->prefault && which < BLKTAP_WINDOWS; which++) {
		window = &queue->windows.window[which];
		if (!is_prepared(window) && blktap_window_vma(window, mm))
			blktap_user_pte_prepare(window);
	}
}

int blktap_window_fill(struct blktap_window *window, struct vm_area_struct *vma,
		       const struct blktap_run *runs, unsigned int nr)
{
	int err;

	if (blktap_is_auto_translated())
		return blktap_user_page_fill(window, vma, runs, nr);
	err = blktap_user_pte_fill(window, runs, nr);
	if (err == -ENOSPC)
		blktap_keep_less();
	return err;
}

/* The kernel is about to change user PTEs in `range`: Xen must have removed its own before. */
static bool invalidate_window(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range, unsigned long sequence)
{
	struct blktap_window *window = container_of(notifier, struct blktap_window, notifier);
	struct blktap_windows *windows = &window->queue->windows;
	unsigned long start = max(range->start, window->start);
	unsigned long end = min(range->end, window->start + BLKTAP_WINDOW_BYTES);
	unsigned int end_page = end > start ? blktap_window_page(window, end - 1) + 1 : 0;
	unsigned int count = 0;
	unsigned int page;

	if (!mmu_notifier_range_blockable(range))
		return false;
	mutex_lock(&windows->lock);
	mmu_interval_set_seq(notifier, sequence);
	/* Page tables may go away. Those of pages that stay live keep where they are. */
	window->noted = false;
	for (page = blktap_window_page(window, start); page < end_page; page++)
		blktap_user_pte_withdraw(window, &count, page);
	blktap_user_pte_clear(windows, count);
	mutex_unlock(&windows->lock);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = { .invalidate = invalidate_window };

/* What may be shown with a page: the run of its request, or the one persistent page. */
static bool find_run(struct blktap_window *window, unsigned int page, struct blktap_run *run)
{
	struct blktap_queue *queue = window->queue;
	bool found;

	mutex_lock(&queue->windows.lock);
	found = test_bit(page, window->exposed);
	if (found && blktap_page_is_persistent(page))
		*run = (struct blktap_run){ page, 1 };
	else if (found)
		*run = blktap_run_of(blktap_slot_of(&queue->slots, page));
	mutex_unlock(&queue->windows.lock);
	return found;
}

/* On demand: the first touch of any page of a request brings all of them. */
static vm_fault_t fault_window(struct vm_fault *vmf)
{
	struct blktap_window *window = vmf->vma->vm_private_data;
	struct blktap_run run;
	unsigned int page;
	int err;

	/* A child that got the VMA by MADV_DOFORK owns nothing. */
	if (vmf->vma->vm_mm != window->mm)
		return VM_FAULT_SIGBUS;
	page = blktap_window_page(window, vmf->address);
	if (page >= BLKTAP_WINDOW_PAGES)
		return VM_FAULT_SIGBUS;
	/* Who locks its memory tries the first page of each mapping. */
	if (!find_run(window, page, &run))
		return VM_FAULT_SIGBUS;
	blktap_count(window->queue->vbd, window_faults, 1);
	err = is_prepared(window) ? 0 : blktap_user_pte_prepare(window);
	err = err ?: blktap_window_fill(window, vmf->vma, &run, 1);
	/* An access is tried again, and an I/O ends with ENOMEM. */
	if (err == -ENOMEM || err == -ENOSPC)
		return VM_FAULT_OOM;
	/* At EAGAIN it is touched once more. */
	return err && err != -EAGAIN ? VM_FAULT_SIGBUS : VM_FAULT_NOPAGE;
}

/*
 * The page map. Called under the page table lock by get_user_pages, which has
 * mmap_lock for reading. Whoever has it for writing and looks (clear_refs of
 * /proc, which no notifier announces) would write to the PTE, which Xen refuses.
 */
static struct page *find_special_page(struct vm_area_struct *vma, unsigned long address)
{
	struct blktap_window *window = vma->vm_private_data;
	unsigned int page = blktap_window_page(window, address);

	if (page >= BLKTAP_WINDOW_PAGES || !test_bit(page, window->live) ||
	    blktap_mmap_is_write_locked(vma->vm_mm))
		return NULL;
	return window->queue->pages[page];
}

/*
 * mremap makes a copy of the VMA before it asks whether it may, and drops it
 * after our refusal, so VMAs are counted and only the last one ends the window.
 */
static void open_window(struct vm_area_struct *vma)
{
	struct blktap_window *window = vma->vm_private_data;

	atomic_inc(&window->opens);
}

static void close_window(struct vm_area_struct *vma)
{
	struct blktap_window *window = vma->vm_private_data;
	struct mm_struct *mm = window->mm;

	if (!atomic_dec_and_test(&window->opens))
		return;
	/* Who finds the window free uses the notifier: that must have ended its service here. */
	if (!blktap_is_auto_translated())
		mmu_interval_notifier_remove(&window->notifier);
	mutex_lock(&window->queue->windows.lock);
	window->mm = NULL;
	mutex_unlock(&window->queue->windows.lock);
	mmdrop(mm);
}

static int refuse_split(struct vm_area_struct *vma, unsigned long address)
{
	return -EINVAL;
}

static int refuse_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

static int refuse_mprotect(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			   unsigned long flags)
{
	return -EINVAL;
}

static const struct vm_operations_struct window_operations = {
	.open = open_window,
	.close = close_window,
	.may_split = refuse_split,
	.mremap = refuse_mremap,
	.mprotect = refuse_mprotect,
	.fault = fault_window,
	.find_special_page = find_special_page,
};

int blktap_window_mmap(struct blktap_queue *queue, struct vm_area_struct *vma, int which)
{
	struct blktap_windows *windows = &queue->windows;
	struct blktap_window *window = &windows->window[which];
	struct blktap_window *other = &windows->window[!which];
	int err;

	if (vma->vm_end - vma->vm_start != BLKTAP_WINDOW_BYTES || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if ((vma->vm_flags & VM_EXEC) ||
	    (!blktap_window_is_writable(window) && (vma->vm_flags & VM_WRITE)))
		return -EPERM;

	mutex_lock(&windows->lock);
	if (window->mm)
		err = -EBUSY;
	else if (other->mm && other->mm != vma->vm_mm)
		err = -EPERM;
	else
		err = 0;
	if (!err) {
		/* Whoever sees the process goes by the rest. */
		if (blktap_is_auto_translated())
			blktap_user_page_place(window, vma);
		window->mm = vma->vm_mm;
		window->start = vma->vm_start;
		window->noted = false;
	}
	mutex_unlock(&windows->lock);
	if (err)
		return err;

	if (!blktap_is_auto_translated())
		err = mmu_interval_notifier_insert_locked(&window->notifier, vma->vm_mm,
							  vma->vm_start, BLKTAP_WINDOW_BYTES,
							  &notifier_ops);
	if (err) {
		mutex_lock(&windows->lock);
		window->mm = NULL;
		mutex_unlock(&windows->lock);
		return err;
	}
	/* By its address the process is known. */
	mmgrab(vma->vm_mm);

	/*
	 * A process can undo DONTCOPY and WIPEONFORK (madvise). But of a shared mapping of a file
	 * that is neither PFNMAP nor MIXEDMAP, fork copies no page tables. Where it may be
	 * MIXEDMAP, copies do no harm.
	 */
	if (blktap_is_auto_translated())
		vm_flags_set(vma, VM_MIXEDMAP);
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY | VM_WIPEONFORK);
	vm_flags_clear(vma, VM_MAYEXEC | (blktap_window_is_writable(window) ? 0 : VM_MAYWRITE));
	vma->vm_ops = &window_operations;
	vma->vm_private_data = window;
	atomic_set(&window->opens, 1);
	return 0;
}

bool blktap_window_owned_by(struct blktap_queue *queue, const struct mm_struct *mm)
{
	const struct blktap_window *window = queue->windows.window;

	return mm && READ_ONCE(window[BLKTAP_WINDOW_RW].mm) == mm &&
		READ_ONCE(window[BLKTAP_WINDOW_RO].mm) == mm;
}

int blktap_window_init(struct blktap_queue *queue)
{
	struct blktap_windows *windows = &queue->windows;
	int which;

	mutex_init(&windows->lock);
	for (which = 0; which < BLKTAP_WINDOWS; which++) {
		windows->window[which].queue = queue;
		windows->window[which].which = which;
	}
	windows->handle = kvcalloc(BLKTAP_WINDOW_PAGES, sizeof(*windows->handle), GFP_KERNEL);
	windows->map = kvcalloc(BLKTAP_PAGES, sizeof(*windows->map), GFP_KERNEL);
	/* A munmap takes all of a window away at once. */
	windows->unmap = kvcalloc(BLKTAP_WINDOW_PAGES, sizeof(*windows->unmap), GFP_KERNEL);
	return windows->handle && windows->map && windows->unmap ? 0 : -ENOMEM;
}

void blktap_window_free(struct blktap_queue *queue)
{
	kvfree(queue->windows.handle);
	kvfree(queue->windows.map);
	kvfree(queue->windows.unmap);
}
