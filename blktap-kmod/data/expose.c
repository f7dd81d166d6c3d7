// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages tapdisk may see, and when: those of a request while it owns the
 * slot, those of persistent grants while the frontend is there.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include "data/expose.h"
#include "data/user_page.h"
#include "data/window.h"
#include "guest/user_pte.h"
#include "queue/queue.h"

static struct blktap_window *window_for(struct blktap_queue *queue, const struct blktap_slot *slot)
{
	return &queue->windows.window[blkif_op_writes(slot->request.op) ?
				      BLKTAP_WINDOW_RO : BLKTAP_WINDOW_RW];
}

/* How many requests are filled in with one hypercall. */
#define RUNS_MAX 64

/* False: Xen has no room for some. */
static bool prefault_requests(struct blktap_window *window, struct vm_area_struct *vma,
			      const struct list_head *slots)
{
	struct blktap_run runs[RUNS_MAX];
	struct blktap_slot *slot;
	unsigned int nr = 0;
	bool room = true;

	list_for_each_entry(slot, slots, node) {
		if (slot->window != window)
			continue;
		runs[nr++] = blktap_run_of(slot);
		if (nr == RUNS_MAX) {
			room &= blktap_window_fill(window, vma, runs, nr) != -ENOSPC;
			nr = 0;
		}
	}
	if (nr)
		room &= blktap_window_fill(window, vma, runs, nr) != -ENOSPC;
	return room;
}

/* Persistent grants that came with these requests. False: Xen has no room for some. */
static bool prefault_persistent(struct blktap_window *window, struct vm_area_struct *vma,
				const unsigned long *fresh)
{
	struct blktap_run run;
	unsigned long start;
	unsigned long end;
	bool room = true;

	for_each_set_bitrange(start, end, fresh, BLKTAP_PERSISTENT_MAX) {
		run = (struct blktap_run){ BLKTAP_PAGES + start, end - start };
		room &= blktap_window_fill(window, vma, &run, 1) != -ENOSPC;
	}
	return room;
}

/* Lets tapdisk see the pages that are the slot's own. windows.lock is held. */
static void expose_slot(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_window *window = window_for(queue, slot);
	unsigned int seg;

	for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++) {
		if (blktap_page_is_resident(queue->page_of[seg]))
			continue;
		__set_bit(seg, window->exposed);
		slot->window = window;
	}
}

bool blktap_window_expose(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_windows *windows = &queue->windows;
	struct blktap_window *rw = &windows->window[BLKTAP_WINDOW_RW];
	DECLARE_BITMAP(fresh, BLKTAP_PERSISTENT_MAX);
	struct vm_area_struct *vma;
	struct blktap_slot *slot;
	bool room = true;
	unsigned int i;
	int which;

	bitmap_copy(fresh, queue->persistent.fresh, BLKTAP_PERSISTENT_MAX);
	bitmap_zero(queue->persistent.fresh, BLKTAP_PERSISTENT_MAX);
	mutex_lock(&windows->lock);
	list_for_each_entry(slot, slots, node)
		expose_slot(queue, slot);
	for_each_set_bit(i, fresh, BLKTAP_PERSISTENT_MAX)
		__set_bit(BLKTAP_PAGES + i, rw->exposed);
	mutex_unlock(&windows->lock);
	if (!queue->prefault || !queue->locked_mm)
		return true;

	for (which = 0; which < BLKTAP_WINDOWS; which++) {
		vma = blktap_window_vma(&windows->window[which], queue->locked_mm);
		if (vma)
			room &= prefault_requests(&windows->window[which], vma, slots);
	}
	vma = blktap_window_vma(rw, queue->locked_mm);
	if (vma && !prefault_persistent(rw, vma, fresh)) {
		/* They come with the next ones. */
		bitmap_or(queue->persistent.fresh, queue->persistent.fresh, fresh,
			  BLKTAP_PERSISTENT_MAX);
		room = false;
	}
	return room;
}

bool blktap_window_shows(struct blktap_queue *queue, const struct blktap_slot *slot)
{
	const struct blktap_window *rw = &queue->windows.window[BLKTAP_WINDOW_RW];
	const struct blktap_window *window;
	unsigned int page;
	unsigned int seg;

	for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++) {
		page = queue->page_of[seg];
		window = blktap_page_is_persistent(page) ? rw : slot->window;
		if (page < BLKTAP_WINDOW_PAGES && window && !test_bit(page, window->live))
			return false;
	}
	return true;
}

static bool any_exposed(const struct list_head *slots)
{
	const struct blktap_slot *slot;

	list_for_each_entry(slot, slots, node)
		if (slot->window)
			return true;
	return false;
}

/* The process that has the windows. NULL: none, or it is at its end. windows.lock is held. */
static struct mm_struct *mm_of(const struct blktap_windows *windows)
{
	struct mm_struct *mm = NULL;
	int which;

	for (which = 0; which < BLKTAP_WINDOWS && !mm; which++)
		mm = windows->window[which].mm;
	return mm && atomic_read(&mm->mm_users) ? mm : NULL;
}

static struct mm_struct *get_mm(struct blktap_windows *windows)
{
	struct mm_struct *mm;

	mutex_lock(&windows->lock);
	mm = mm_of(windows);
	if (mm && !mmget_not_zero(mm))
		mm = NULL;
	mutex_unlock(&windows->lock);
	return mm;
}

static void unlock_windows(struct blktap_queue *queue, struct mm_struct *mm)
{
	mutex_unlock(&queue->windows.lock);
	if (!mm || mm == queue->locked_mm)
		return;
	mmap_read_unlock(mm);
	mmput_async(mm);
}

/*
 * Locks what the windows show, and the process that has them, *mm; NULL if
 * there is none. False: not now, for that process is changing its mappings, or
 * has just handed the windows on.
 */
static bool lock_windows(struct blktap_queue *queue, struct mm_struct **mm)
{
	struct blktap_windows *windows = &queue->windows;
	struct mm_struct *owner;

	if (blktap_is_auto_translated()) {
		/* Nothing of the process is needed. */
		mutex_lock(&windows->lock);
		*mm = NULL;
		return true;
	}
	*mm = queue->locked_mm ?: get_mm(windows);
	if (*mm && *mm != queue->locked_mm && !mmap_read_trylock(*mm)) {
		mmput_async(*mm);
		return false;
	}
	mutex_lock(&windows->lock);
	owner = mm_of(windows);
	if (!owner || owner == *mm)
		return true;
	unlock_windows(queue, *mm);
	return false;
}

/*
 * Denies pages. In a PV domain those with a user PTE join the unmap scratch,
 * else they lose it. windows.lock is held.
 */
static void withdraw_run(struct blktap_window *window, struct blktap_run run, unsigned int *count)
{
	unsigned int page;

	bitmap_clear(window->exposed, run.first, run.count);
	if (blktap_is_auto_translated()) {
		blktap_user_page_withdraw(window, run);
		return;
	}
	for (page = run.first; page < run.first + run.count; page++)
		blktap_user_pte_withdraw(window, count, page);
}

/*
 * Of new references: in a PV domain get_user_pages asks find_special_page and takes
 * its own under the page table lock, so taking that lock once per table after the bits
 * are cleared makes every reference that was still granted visible. If the
 * process or the VMA is gone, so is every such walk: they hold mm_users and
 * mmap_lock.
 */
bool blktap_window_revoke(struct blktap_queue *queue, struct list_head *slots)
{
	unsigned long seen[BLKTAP_WINDOWS] = { 0 };
	struct mm_struct *mm;
	struct blktap_slot *slot;
	unsigned int count = 0;

	if (!any_exposed(slots))
		return true;
	if (!lock_windows(queue, &mm))
		return false;
	list_for_each_entry(slot, slots, node)
		if (slot->window)
			withdraw_run(slot->window, blktap_run_of(slot), &count);
	list_for_each_entry(slot, slots, node) {
		if (mm && slot->shown && blktap_window_vma(slot->window, mm))
			blktap_user_pte_visit(mm, slot->window, blktap_run_of(slot),
					      &seen[slot->window->which]);
		slot->window = NULL;
		slot->shown = false;
	}
	blktap_user_pte_clear(&queue->windows, count);
	unlock_windows(queue, mm);
	return true;
}

bool blktap_window_hide(struct blktap_queue *queue, const unsigned long *persistent)
{
	struct blktap_window *window = &queue->windows.window[BLKTAP_WINDOW_RW];
	struct mm_struct *mm;
	unsigned long seen = 0;
	unsigned int count = 0;
	unsigned int i;

	if (bitmap_empty(persistent, BLKTAP_PERSISTENT_MAX))
		return true;
	if (!lock_windows(queue, &mm))
		return false;
	for_each_set_bit(i, persistent, BLKTAP_PERSISTENT_MAX)
		withdraw_run(window, (struct blktap_run){ BLKTAP_PAGES + i, 1 }, &count);
	/* Of those without a PTE, too: it may have gone a moment ago, after somebody saw it. */
	if (mm && blktap_window_vma(window, mm))
		for_each_set_bit(i, persistent, BLKTAP_PERSISTENT_MAX)
			blktap_user_pte_visit(mm, window,
					      (struct blktap_run){ BLKTAP_PAGES + i, 1 }, &seen);
	blktap_user_pte_clear(&queue->windows, count);
	unlock_windows(queue, mm);
	return true;
}
