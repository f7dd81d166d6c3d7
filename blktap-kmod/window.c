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
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <xen/page.h>
#include <asm/xen/hypercall.h>

#include "blktap.h"
#include "compat.h"

#define USER_FLAGS \
	(GNTMAP_host_map | GNTMAP_application_map | GNTMAP_contains_pte | \
	 (1 << _GNTMAP_guest_avail0))

static bool is_writable(const struct blktap_window *window)
{
	return window->which == BLKTAP_WINDOW_RW;
}

static unsigned int user_flags(const struct blktap_window *window)
{
	return is_writable(window) ? USER_FLAGS : USER_FLAGS | GNTMAP_readonly;
}

static struct blktap_window *window_for(struct blktap_queue *queue, const struct blktap_slot *slot)
{
	return &queue->windows.window[blkif_op_writes(slot->request.op) ?
				      BLKTAP_WINDOW_RO : BLKTAP_WINDOW_RW];
}

/* Number of the page at `address`, or BLKTAP_PAGES_PER_VBD if it lies outside the window. */
static unsigned int page_at(const struct blktap_window *window, unsigned long address)
{
	unsigned long offset = address - window->start;

	return min_t(unsigned long, offset / PAGE_SIZE, BLKTAP_PAGES_PER_VBD);
}

static unsigned long slot_address(const struct blktap_window *window,
				  const struct blktap_slot *slot)
{
	return window->start + slot->index * BLKTAP_SLOT_BYTES;
}

struct noting {
	const struct blktap_window *window;
	struct blktap_slot *slot;
};

/* Machine addresses of a slot's user PTEs: all of them, whatever its present request needs. */
static int note_pte(pte_t *pte, unsigned long address, void *data)
{
	const struct noting *note = data;
	unsigned int page = page_at(note->window, address) % BLKTAP_SEGS_MAX;

	note->slot->pte[note->window->which][page] = arbitrary_virt_to_machine(pte).maddr;
	return 0;
}

static int note_ptes(struct blktap_window *window, struct blktap_slot *slot)
{
	struct noting note = { window, slot };

	return apply_to_page_range(window->mm, slot_address(window, slot), BLKTAP_SLOT_BYTES,
				   note_pte, &note);
}

/*
 * Fills in the user PTEs of the slots in `batch` that this window may show and
 * that are not filled yet: one hypercall for all of them. mmap_lock is held,
 * for reading at least, and the VMA is known to be there.
 *
 * Page tables are made first, because nothing may be allocated under
 * windows.lock. Where the PTEs of a slot lie is remembered until the notifier
 * runs; if it ran in between, the addresses may be stale and are taken again.
 */
static int populate(struct blktap_window *window, struct blktap_slot **batch, unsigned int slots)
{
	struct blktap_windows *windows = &window->queue->windows;
	struct blktap_vbd *vbd = window->queue->vbd;
	unsigned long sequence;
	unsigned int count;
	unsigned int op;
	unsigned int s;
	unsigned int i;
	int err = 0;

	mutex_lock(&windows->populating);
again:
	sequence = mmu_interval_read_begin(&window->notifier);
	for (s = 0; s < slots && !err; s++)
		if (!READ_ONCE(batch[s]->noted[window->which]))
			err = note_ptes(window, batch[s]);
	if (err)
		goto out;

	mutex_lock(&windows->lock);
	if (mmu_interval_read_retry(&window->notifier, sequence)) {
		mutex_unlock(&windows->lock);
		goto again;
	}
	count = 0;
	for (s = 0; s < slots; s++) {
		struct blktap_slot *slot = batch[s];

		WRITE_ONCE(slot->noted[window->which], true);
		if (slot->window != window)
			continue;
		for (i = 0; i < slot->request.nr_segs; i++) {
			if (test_bit(i, slot->live))
				continue;
			gnttab_set_map_op(&windows->map[count], slot->pte[window->which][i],
					  user_flags(window), slot->request.seg[i].gref,
					  vbd->domid);
			windows->map[count++].status = GNTST_general_error;
		}
	}
	if (!count)
		goto unlock;

	gnttab_batch_map(windows->map, count);
	blktap_count(vbd, hypercalls, 1);
	blktap_count(vbd, user_map_ops, count);
	op = 0;
	for (s = 0; s < slots; s++) {
		struct blktap_slot *slot = batch[s];

		if (slot->window != window)
			continue;
		for (i = 0; i < slot->request.nr_segs; i++) {
			if (test_bit(i, slot->live))
				continue;
			if (windows->map[op].status == GNTST_okay) {
				slot->user_handle[i] = windows->map[op].handle;
				slot->shown = true;
				set_bit(i, slot->live);
			} else {
				err = -EFAULT;
			}
			op++;
		}
	}
unlock:
	mutex_unlock(&windows->lock);
out:
	mutex_unlock(&windows->populating);
	return err;
}

/*
 * Adds page i of a slot in `window` to the unmap scratch, if it is live, and
 * makes find_special_page deny it. windows.lock is held.
 */
static void add_unmap(struct blktap_window *window, unsigned int *count,
		      struct blktap_slot *slot, unsigned int i)
{
	struct blktap_windows *windows = &window->queue->windows;

	if (test_and_clear_bit(i, slot->live))
		gnttab_set_unmap_op(&windows->unmap[(*count)++], slot->pte[window->which][i],
				    user_flags(window), slot->user_handle[i]);
}

/* Carries the scratch out. windows.lock is held; Xen flushes the TLBs. */
static void unmap_pages(struct blktap_windows *windows, unsigned int count)
{
	struct blktap_vbd *vbd = container_of(windows, struct blktap_queue, windows)->vbd;
	unsigned int i;
	int err;

	if (!count)
		return;
	err = HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, windows->unmap, count);
	blktap_count(vbd, hypercalls, 1);
	blktap_count(vbd, user_unmap_ops, count);
	for (i = 0; !err && i < count; i++)
		err = windows->unmap[i].status;
	/* Xen refuses only if the PTE is not the one it wrote: a bug of ours. */
	WARN_ONCE(err, "blktap: vbd-%u-%u: user mappings could not be removed (%d)\n",
		  vbd->domid, vbd->devid, err);
}

static int touch_pte(pte_t *pte, unsigned long address, void *data)
{
	return 0;
}

/* A window is smaller than what one page table covers, so it lies in two at most. */
static_assert(BLKTAP_WINDOW_BYTES <= PMD_SIZE, "a window touches two page tables at most");

/*
 * Takes and drops the locks of the page tables that hold the slot's PTEs, each
 * once for a batch: `seen` has a bit for either table.
 */
static void visit_tables(struct mm_struct *mm, const struct blktap_window *window,
			 const struct blktap_slot *slot, unsigned long *seen)
{
	unsigned long first = slot_address(window, slot);
	unsigned long last = first + (slot->request.nr_segs - 1) * PAGE_SIZE;
	unsigned long page;

	for (page = first; page <= last; page += PAGE_SIZE)
		if (!__test_and_set_bit((page >> PMD_SHIFT) - (window->start >> PMD_SHIFT), seen))
			apply_to_existing_page_range(mm, page, PAGE_SIZE, touch_pte, NULL);
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
	struct blktap_slot *batch[BLKTAP_DEPTH_MAX];
	struct blktap_slot *slot;
	unsigned int count;
	int which;

	mutex_lock(&windows->lock);
	list_for_each_entry(slot, slots, node)
		if (slot->request.nr_segs)
			slot->window = window_for(queue, slot);
	mutex_unlock(&windows->lock);
	if (!queue->prefault)
		return;

	mmap_read_lock(current->mm);
	for (which = 0; which < BLKTAP_WINDOWS; which++) {
		struct blktap_window *window = &windows->window[which];

		count = 0;
		list_for_each_entry(slot, slots, node)
			if (slot->window == window)
				batch[count++] = slot;
		if (count && is_mapped(window, current->mm))
			populate(window, batch, count);
	}
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
	unsigned int i;

	if (!any_exposed(slots))
		return;
	mm = get_mm(windows);
	if (mm)
		mmap_read_lock(mm);
	mutex_lock(&windows->lock);
	list_for_each_entry(slot, slots, node)
		for (i = 0; slot->window && i < slot->request.nr_segs; i++)
			add_unmap(slot->window, &count, slot, i);
	list_for_each_entry(slot, slots, node) {
		if (mm && slot->shown && is_mapped(slot->window, mm))
			visit_tables(mm, slot->window, slot, &seen[slot->window->which]);
		slot->window = NULL;
		slot->shown = false;
	}
	unmap_pages(windows, count);
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
	struct blktap_queue *queue = window->queue;
	struct blktap_windows *windows = &queue->windows;
	unsigned long start = max(range->start, window->start);
	unsigned long end = min(range->end, window->start + BLKTAP_WINDOW_BYTES);
	unsigned int count = 0;
	unsigned long page;

	if (!mmu_notifier_range_blockable(range))
		return false;
	mutex_lock(&windows->lock);
	mmu_interval_set_seq(notifier, sequence);
	for (page = (start - window->start) / PAGE_SIZE;
	     start < end && page <= (end - 1 - window->start) / PAGE_SIZE; page++) {
		struct blktap_slot *slot = &queue->slots[page / BLKTAP_SEGS_MAX];
		unsigned int i = page % BLKTAP_SEGS_MAX;

		WRITE_ONCE(slot->noted[window->which], false);
		if (slot->window == window)
			add_unmap(window, &count, slot, i);
	}
	unmap_pages(windows, count);
	mutex_unlock(&windows->lock);
	return true;
}

static const struct mmu_interval_notifier_ops notifier_ops = { .invalidate = invalidate };

/* On demand: the first touch of any page of a slot brings all of them. */
static vm_fault_t fault(struct vm_fault *vmf)
{
	struct blktap_window *window = vmf->vma->vm_private_data;
	struct blktap_queue *queue = window->queue;
	struct blktap_slot *slot;
	unsigned int page;
	bool shown;

	/* A child that got the VMA by MADV_DOFORK owns nothing. */
	if (vmf->vma->vm_mm != window->mm)
		return VM_FAULT_SIGBUS;
	page = page_at(window, vmf->address);
	if (page >= BLKTAP_PAGES_PER_VBD)
		return VM_FAULT_SIGBUS;
	slot = &queue->slots[page / BLKTAP_SEGS_MAX];
	blktap_count(queue->vbd, window_faults, 1);

	mutex_lock(&queue->windows.lock);
	shown = slot->window == window && page % BLKTAP_SEGS_MAX < slot->request.nr_segs;
	mutex_unlock(&queue->windows.lock);
	if (!shown || populate(window, &slot, 1))
		return VM_FAULT_SIGBUS;
	return VM_FAULT_NOPAGE;
}

/* The page map. Called under the page table lock by get_user_pages and by zap. */
static struct page *find_special_page(struct vm_area_struct *vma, unsigned long address)
{
	struct blktap_window *window = vma->vm_private_data;
	unsigned int page = page_at(window, address);
	unsigned int i = page % BLKTAP_SEGS_MAX;
	struct blktap_slot *slot;

	if (page >= BLKTAP_PAGES_PER_VBD)
		return NULL;
	slot = &window->queue->slots[page / BLKTAP_SEGS_MAX];
	return READ_ONCE(slot->window) == window && test_bit(i, slot->live) ? slot->pages[i] : NULL;
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
	if ((vma->vm_flags & VM_EXEC) || (!is_writable(window) && (vma->vm_flags & VM_WRITE)))
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
	vm_flags_clear(vma, VM_MAYEXEC | (is_writable(window) ? 0 : VM_MAYWRITE));
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
	windows->map = kvcalloc(BLKTAP_PAGES_PER_VBD, sizeof(*windows->map), GFP_KERNEL);
	windows->unmap = kvcalloc(BLKTAP_PAGES_PER_VBD, sizeof(*windows->unmap), GFP_KERNEL);
	return windows->map && windows->unmap ? 0 : -ENOMEM;
}

void blktap_window_free(struct blktap_queue *queue)
{
	kvfree(queue->windows.map);
	kvfree(queue->windows.unmap);
}
