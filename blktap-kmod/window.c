// SPDX-License-Identifier: GPL-2.0-only
/*
 * The window: a user VMA in which tapdisk sees the pages of the requests it
 * owns, and in which O_DIRECT finds their struct pages.
 *
 * This is the VM_FOREIGN VMA of 2005, made of today's parts. On a PV host the
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
 * There are two windows because what a guest writes to disk is granted
 * read-only: a store through a read-only granted PTE in a writable VMA would
 * fault for ever. Pages of guest writes are only ever in the window whose VMA
 * cannot become writable.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "blktap.h"
#include "compat.h"

static struct blktap_window *window_for(struct blktap_queue *queue, const struct blktap_slot *slot)
{
	return &queue->windows.window[blkif_op_writes(slot->request.op) ?
				      BLKTAP_WINDOW_RO : BLKTAP_WINDOW_RW];
}

/*
 * Whether the window's VMA is in `mm`, whose mmap_lock is held. window.mm alone
 * does not tell: munmap lets go of the write lock before it calls close.
 */
static bool is_mapped(struct blktap_window *window, struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	if (READ_ONCE(window->mm) != mm)
		return false;
	vma = vma_lookup(mm, window->start);
	return vma && vma->vm_private_data == window;
}

/* How many requests are filled in with one hypercall. */
#define RUNS_MAX 64

static void prefault(struct blktap_window *window, const struct list_head *slots)
{
	struct blktap_run runs[RUNS_MAX];
	struct blktap_slot *slot;
	unsigned int nr = 0;

	list_for_each_entry(slot, slots, node) {
		if (slot->window != window)
			continue;
		runs[nr++] = (struct blktap_run){ slot->first, slot->request.nr_segs };
		if (nr == RUNS_MAX) {
			blktap_user_pte_fill(window, runs, nr);
			nr = 0;
		}
	}
	if (nr)
		blktap_user_pte_fill(window, runs, nr);
}

/*
 * Shows the slots' pages to tapdisk: at once if it asked for that, else at the
 * first touch. queue.lock is held; the context is tapdisk's.
 *
 * A page that cannot be shown is no error here: tapdisk's access fails then,
 * and it answers the request accordingly.
 */
void blktap_window_expose(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_windows *windows = &queue->windows;
	struct blktap_slot *slot;
	int which;

	mutex_lock(&windows->lock);
	list_for_each_entry(slot, slots, node) {
		if (!slot->request.nr_segs)
			continue;
		slot->window = window_for(queue, slot);
		bitmap_set(slot->window->exposed, slot->first, slot->request.nr_segs);
	}
	mutex_unlock(&windows->lock);
	if (!queue->prefault)
		return;

	mmap_read_lock(current->mm);
	for (which = 0; which < BLKTAP_WINDOWS; which++)
		if (is_mapped(&windows->window[which], current->mm))
			prefault(&windows->window[which], slots);
	mmap_read_unlock(current->mm);
}

static bool any_exposed(const struct list_head *slots)
{
	const struct blktap_slot *slot;

	list_for_each_entry(slot, slots, node)
		if (slot->window)
			return true;
	return false;
}

static struct mm_struct *get_mm(struct blktap_windows *windows)
{
	struct mm_struct *mm = NULL;
	int which;

	mutex_lock(&windows->lock);
	for (which = 0; which < BLKTAP_WINDOWS && !mm; which++)
		mm = windows->window[which].mm;
	if (mm && !mmget_not_zero(mm))
		mm = NULL;
	mutex_unlock(&windows->lock);
	return mm;
}

/* Denies the slot's pages and adds those with a user PTE to the unmap scratch. */
static void withdraw(struct blktap_slot *slot, unsigned int *count)
{
	struct blktap_window *window = slot->window;
	unsigned int page;

	if (!window)
		return;
	bitmap_clear(window->exposed, slot->first, slot->request.nr_segs);
	for (page = slot->first; page < slot->first + slot->request.nr_segs; page++)
		blktap_user_pte_withdraw(window, count, page);
}

/*
 * Takes the slots' pages away from tapdisk. After it no new reference to them
 * can be taken through the window, and blktap_grant_referenced() tells the
 * truth. queue.lock is held, in any process.
 *
 * get_user_pages asks find_special_page and takes its reference under the page
 * table lock, so taking that lock once per table after the bits are cleared
 * makes every reference that was still granted visible. If the process or the
 * VMA is gone, so is every such walk: they hold mm_users and mmap_lock.
 */
void blktap_window_revoke(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_windows *windows = &queue->windows;
	unsigned long seen[BLKTAP_WINDOWS] = { 0 };
	struct mm_struct *mm;
	struct blktap_slot *slot;
	unsigned int count = 0;

	if (!any_exposed(slots))
		return;
	mm = get_mm(windows);
	if (mm)
		mmap_read_lock(mm);
	mutex_lock(&windows->lock);
	list_for_each_entry(slot, slots, node)
		withdraw(slot, &count);
	list_for_each_entry(slot, slots, node) {
		if (mm && slot->shown && is_mapped(slot->window, mm))
			blktap_user_pte_visit(mm, slot->window, slot, &seen[slot->window->which]);
		slot->window = NULL;
		slot->shown = false;
	}
	blktap_user_pte_clear(windows, count);
	mutex_unlock(&windows->lock);
	if (mm) {
		mmap_read_unlock(mm);
		mmput_async(mm);
	}
}

/* The kernel is about to change user PTEs in `range`: Xen must have removed its own before. */
static bool invalidate(struct mmu_interval_notifier *notifier,
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
	for (page = blktap_window_page(window, start); page < end_page; page++) {
		blktap_user_pte_withdraw(window, &count, page);
		blktap_user_pte_forget(window, page);
	}
	blktap_user_pte_clear(windows, count);
	mutex_unlock(&windows->lock);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = { .invalidate = invalidate };

/* The run of the request that a page belongs to, if the window may show it. */
static bool find_run(struct blktap_window *window, unsigned int page, struct blktap_run *run)
{
	struct blktap_queue *queue = window->queue;
	const struct blktap_slot *slot;
	bool found;

	mutex_lock(&queue->windows.lock);
	found = test_bit(page, window->exposed);
	if (found) {
		slot = &queue->slots[queue->slot_of[page]];
		*run = (struct blktap_run){ slot->first, slot->request.nr_segs };
	}
	mutex_unlock(&queue->windows.lock);
	return found;
}

/* On demand: the first touch of any page of a request brings all of them. */
static vm_fault_t fault(struct vm_fault *vmf)
{
	struct blktap_window *window = vmf->vma->vm_private_data;
	struct blktap_run run;
	unsigned int page;

	/* A child that got the VMA by MADV_DOFORK owns nothing. */
	if (vmf->vma->vm_mm != window->mm)
		return VM_FAULT_SIGBUS;
	page = blktap_window_page(window, vmf->address);
	if (page >= BLKTAP_PAGES)
		return VM_FAULT_SIGBUS;
	blktap_count(window->queue->vbd, window_faults, 1);
	if (!find_run(window, page, &run) || blktap_user_pte_fill(window, &run, 1))
		return VM_FAULT_SIGBUS;
	return VM_FAULT_NOPAGE;
}

/* The page map. Called under the page table lock by get_user_pages and by zap. */
static struct page *find_special_page(struct vm_area_struct *vma, unsigned long address)
{
	struct blktap_window *window = vma->vm_private_data;
	unsigned int page = blktap_window_page(window, address);

	if (page >= BLKTAP_PAGES || !test_bit(page, window->live))
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

	window->opens++;
}

static void close_window(struct vm_area_struct *vma)
{
	struct blktap_window *window = vma->vm_private_data;

	if (--window->opens)
		return;
	mutex_lock(&window->queue->windows.lock);
	window->mm = NULL;
	mutex_unlock(&window->queue->windows.lock);
	mmu_interval_notifier_remove(&window->notifier);
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
	.fault = fault,
	.find_special_page = find_special_page,
};

/*
 * Maps a whole window, once, for one process. -EINVAL: not whole, or private;
 * -EPERM: writable where it must not be, executable, or another process has
 * the other window; -EBUSY: mapped already. mmap_lock is held for writing.
 */
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
		window->mm = vma->vm_mm;
		window->start = vma->vm_start;
		memset(window->noted, 0, sizeof(window->noted));
	}
	mutex_unlock(&windows->lock);
	if (err)
		return err;

	err = mmu_interval_notifier_insert_locked(&window->notifier, vma->vm_mm, vma->vm_start,
						  BLKTAP_WINDOW_BYTES, &notifier_ops);
	if (err) {
		mutex_lock(&windows->lock);
		window->mm = NULL;
		mutex_unlock(&windows->lock);
		return err;
	}

	/* DONTCOPY can be undone by MADV_DOFORK; WIPEONFORK cannot. */
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY | VM_WIPEONFORK | VM_MIXEDMAP);
	vm_flags_clear(vma, VM_MAYEXEC | (blktap_window_is_writable(window) ? 0 : VM_MAYWRITE));
	vma->vm_ops = &window_operations;
	vma->vm_private_data = window;
	window->opens = 1;
	return 0;
}

/* Whether `mm` has both windows mapped: only that process may ring the doorbell. */
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

	mutex_init(&windows->populating);
	mutex_init(&windows->lock);
	for (which = 0; which < BLKTAP_WINDOWS; which++) {
		windows->window[which].queue = queue;
		windows->window[which].which = which;
	}
	windows->handle = kvcalloc(BLKTAP_PAGES, sizeof(*windows->handle), GFP_KERNEL);
	windows->map = kvcalloc(BLKTAP_PAGES, sizeof(*windows->map), GFP_KERNEL);
	windows->unmap = kvcalloc(BLKTAP_PAGES, sizeof(*windows->unmap), GFP_KERNEL);
	return windows->handle && windows->map && windows->unmap ? 0 : -ENOMEM;
}

void blktap_window_free(struct blktap_queue *queue)
{
	kvfree(queue->windows.handle);
	kvfree(queue->windows.map);
	kvfree(queue->windows.unmap);
}
