// SPDX-License-Identifier: GPL-2.0-only
/*
 * User PTEs onto the guest's pages, as a PV domain has them: Xen writes them, as a
 * second grant map of the PTE itself, and Xen removes them. window.c decides
 * which page may be seen when.
 */
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <xen/grant_table.h>
#include <xen/page.h>
#include <asm/xen/hypercall.h>

#include "base/stats.h"
#include "data/window.h"
#include "disk/vbd.h"
#include "guest/user_pte.h"
#include "queue/queue.h"

#define USER_FLAGS \
	(GNTMAP_host_map | GNTMAP_application_map | GNTMAP_contains_pte | \
	 (1 << _GNTMAP_guest_avail0))

static unsigned int user_flags(const struct blktap_window *window)
{
	return blktap_window_is_writable(window) ? USER_FLAGS : USER_FLAGS | GNTMAP_readonly;
}

/* Which of the page tables that the window lies in holds the PTE of a page. */
static unsigned int table_of(const struct blktap_window *window, unsigned int page)
{
	return (blktap_window_address(window, page) >> PMD_SHIFT) - (window->start >> PMD_SHIFT);
}

/* A page table is one page, so its PTEs follow from where it lies. */
static u64 pte_of(const struct blktap_window *window, unsigned int page)
{
	return window->table[table_of(window, page)] +
		pte_index(blktap_window_address(window, page)) * sizeof(pte_t);
}

static int note_table(pte_t *pte, unsigned long address, void *data)
{
	u64 *table = data;

	*table = arbitrary_virt_to_machine(pte).maddr - pte_index(address) * sizeof(pte_t);
	return 0;
}

int blktap_user_pte_prepare(struct blktap_window *window)
{
	struct mutex *lock = &window->queue->windows.lock;
	unsigned int last = table_of(window, BLKTAP_WINDOW_PAGES - 1);
	unsigned long address = window->start;
	u64 tables[BLKTAP_WINDOW_TABLES];
	unsigned long sequence;
	unsigned int table;
	int err = 0;

	sequence = mmu_interval_read_begin(&window->notifier);
	for (table = 0; table <= last && !err; table++) {
		err = apply_to_page_range(window->mm, address, PAGE_SIZE, note_table,
					  &tables[table]);
		address = ALIGN(address + 1, PMD_SIZE);
	}
	if (err)
		return err;
	mutex_lock(lock);
	if (mmu_interval_read_retry(&window->notifier, sequence)) {
		err = -EAGAIN;
	} else {
		memcpy(window->table, tables, (last + 1) * sizeof(*tables));
		window->noted = true;
	}
	mutex_unlock(lock);
	return err;
}

static grant_ref_t gref_of(const struct blktap_queue *queue, unsigned int page)
{
	return blktap_page_is_persistent(page) ?
		queue->persistent.grants[page - BLKTAP_PAGES].ref : queue->segs[page].gref;
}

/* The pages of a run that tapdisk may see and that have no user PTE yet: `op` of them. */
static unsigned int add_maps(struct blktap_window *window, struct blktap_run run, unsigned int op)
{
	struct blktap_queue *queue = window->queue;
	unsigned int page;

	for (page = run.first; page < run.first + run.count; page++) {
		if (!test_bit(page, window->exposed) || test_bit(page, window->live))
			continue;
		gnttab_set_map_op(&queue->windows.map[op], pte_of(window, page),
				  user_flags(window), gref_of(queue, page), queue->vbd->domid);
		queue->windows.map[op++].status = GNTST_general_error;
	}
	return op;
}

/* Takes over the statuses of what add_maps() asked for. *err is set if one is bad. */
static void judge_maps(struct blktap_window *window, struct blktap_run run, unsigned int *op,
		       int *err)
{
	struct blktap_queue *queue = window->queue;
	const struct gnttab_map_grant_ref *map;
	unsigned int page;

	for (page = run.first; page < run.first + run.count; page++) {
		if (!test_bit(page, window->exposed) || test_bit(page, window->live))
			continue;
		map = &queue->windows.map[(*op)++];
		if (map->status == GNTST_no_space)
			*err = -ENOSPC;
		else if (map->status != GNTST_okay && *err != -ENOSPC)
			*err = -EFAULT;
		if (map->status != GNTST_okay)
			continue;
		queue->windows.handle[page] = map->handle;
		if (!blktap_page_is_persistent(page))
			blktap_slot_of(&queue->slots, page)->shown = true;
		set_bit(page, window->live);
	}
}

/*
 * Where the page tables lie is known until the notifier runs, which takes
 * windows.lock, too.
 */
int blktap_user_pte_fill(struct blktap_window *window, const struct blktap_run *runs,
			 unsigned int nr)
{
	struct blktap_windows *windows = &window->queue->windows;
	struct blktap_vbd *vbd = window->queue->vbd;
	unsigned int count = 0;
	unsigned int op = 0;
	unsigned int r;
	int err = 0;

	mutex_lock(&windows->lock);
	if (!window->noted) {
		mutex_unlock(&windows->lock);
		return -EAGAIN;
	}
	for (r = 0; r < nr; r++)
		count = add_maps(window, runs[r], count);
	if (count) {
		gnttab_batch_map(windows->map, count);
		blktap_count(vbd, hypercalls, 1);
		blktap_count(vbd, user_map_ops, count);
	}
	for (r = 0; r < nr && op < count; r++)
		judge_maps(window, runs[r], &op, &err);
	mutex_unlock(&windows->lock);
	return err;
}

void blktap_user_pte_withdraw(struct blktap_window *window, unsigned int *count, unsigned int page)
{
	struct blktap_windows *windows = &window->queue->windows;

	if (test_and_clear_bit(page, window->live))
		gnttab_set_unmap_op(&windows->unmap[(*count)++], pte_of(window, page),
				    user_flags(window), windows->handle[page]);
}

void blktap_user_pte_clear(struct blktap_windows *windows, unsigned int count)
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

void blktap_user_pte_visit(struct mm_struct *mm, const struct blktap_window *window,
			   struct blktap_run run, unsigned long *seen)
{
	unsigned int last = table_of(window, run.first + run.count - 1);
	unsigned long address = blktap_window_address(window, run.first);
	unsigned int table;

	for (table = table_of(window, run.first); table <= last; table++) {
		if (!__test_and_set_bit(table, seen))
			apply_to_existing_page_range(mm, address, PAGE_SIZE, touch_pte, NULL);
		address = ALIGN(address + 1, PMD_SIZE);
	}
}
