/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How a page gets and loses its place in a window in a PV domain, and whether this
 * is one.
 */
#ifndef BLKTAP_USER_PTE_H
#define BLKTAP_USER_PTE_H

#include <linux/types.h>
#include <xen/features.h>

#include "data/window.h"

/* Whether this is a PVH or HVM domain, or on Arm: user_page.c. Else it is PV: user_pte.c. */
static inline bool blktap_is_auto_translated(void)
{
	return xen_feature(XENFEAT_auto_translated_physmap);
}

/*
 * Notes where the page tables of the window lie, for those that fill it, and makes
 * them if there are none. It waits for whoever else is changing mappings of the
 * process, for as long as these like: so not under queue.lock. mmap_lock is held,
 * for reading at least. -EAGAIN: they were changed meanwhile; -ENOMEM.
 */
int blktap_user_pte_prepare(struct blktap_window *window);

/* blktap_window_fill(), with one hypercall for all the runs. */
int blktap_user_pte_fill(struct blktap_window *window, const struct blktap_run *runs,
			 unsigned int nr);

/*
 * Adds a page to the unmap scratch, if it is live, and makes find_special_page
 * deny it. windows.lock is held.
 */
void blktap_user_pte_withdraw(struct blktap_window *window, unsigned int *count, unsigned int page);

/* Carries the scratch out. windows.lock is held; Xen flushes the TLBs. */
void blktap_user_pte_clear(struct blktap_windows *windows, unsigned int count);

/*
 * Takes and drops the locks of the page tables that hold the run's PTEs, each
 * once for a batch: `seen` has a bit for each.
 */
void blktap_user_pte_visit(struct mm_struct *mm, const struct blktap_window *window,
			   struct blktap_run run, unsigned long *seen);

#endif
