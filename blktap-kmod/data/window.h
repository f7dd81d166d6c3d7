/* SPDX-License-Identifier: GPL-2.0-only */
/* The windows: two user VMAs in which tapdisk sees pages of the guest. */
#ifndef BLKTAP_WINDOW_H
#define BLKTAP_WINDOW_H

#include <linux/atomic.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <xen/grant_table.h>

#include "base/slots.h"
#include "ring/blktap_abi.h"

#define BLKTAP_WINDOW_BYTES  (BLKTAP_WINDOW_PAGES * PAGE_SIZE)
/* Page tables that a window can lie in, whatever its alignment. */
#define BLKTAP_WINDOW_TABLES (BLKTAP_WINDOW_BYTES / PMD_SIZE + 1)

struct blktap_queue;

enum { BLKTAP_WINDOW_RW, BLKTAP_WINDOW_RO, BLKTAP_WINDOWS };

/* One user mapping of the queue's pages: for guest reads, or for guest writes. */
struct blktap_window {
	struct blktap_queue *queue;
	u8 which;                        /* BLKTAP_WINDOW_*                           */
	/* under windows.lock */
	struct mm_struct *mm;            /* NULL: not mapped                          */
	unsigned long start;             /* user address                              */
	struct address_space *mapping;   /* auto-translated: where its VMAs are, and  */
	unsigned long pgoff;             /* at which page of that                     */
	DECLARE_BITMAP(exposed, BLKTAP_WINDOW_PAGES); /* pages that tapdisk may see here */
	DECLARE_BITMAP(live, BLKTAP_WINDOW_PAGES);    /* of these, those with a user PTE */
	u64 table[BLKTAP_WINDOW_TABLES]; /* machine addresses of the page tables      */
	bool noted;                      /* whether that holds for new mappings       */
	atomic_t opens;                  /* VMAs that carry this window, of any process */
	struct mmu_interval_notifier notifier;
};

struct blktap_windows {
	struct mutex lock;
	struct blktap_window window[BLKTAP_WINDOWS];
	grant_handle_t *handle;               /* of the live pages                    */
	struct gnttab_map_grant_ref *map;     /* scratch */
	struct gnttab_unmap_grant_ref *unmap; /* scratch */
};

static inline bool blktap_window_is_writable(const struct blktap_window *window)
{
	return window->which == BLKTAP_WINDOW_RW;
}

static inline unsigned long blktap_window_address(const struct blktap_window *window,
						  unsigned int page)
{
	return window->start + page * PAGE_SIZE;
}

/* Number of the page at `address`, or BLKTAP_WINDOW_PAGES if it lies outside the window. */
static inline unsigned int blktap_window_page(const struct blktap_window *window,
					      unsigned long address)
{
	return min_t(unsigned long, (address - window->start) / PAGE_SIZE, BLKTAP_WINDOW_PAGES);
}

/* Process context. */
int blktap_window_init(struct blktap_queue *queue);
void blktap_window_free(struct blktap_queue *queue);

/*
 * Maps a whole window, once, for one process. -EINVAL: not whole, or private;
 * -EPERM: writable where it must not be, executable, or another process has
 * the other window; -EBUSY: mapped already. mmap_lock is held for writing.
 */
int blktap_window_mmap(struct blktap_queue *queue, struct vm_area_struct *vma, int which);

/* Whether `mm` has both windows mapped: only that process may ring the doorbell. */
bool blktap_window_owned_by(struct blktap_queue *queue, const struct mm_struct *mm);

/*
 * The window's VMA, if it is in `mm`, whose mmap_lock is held; else NULL.
 * window.mm alone does not tell: munmap lets go of the write lock before it
 * calls close.
 */
struct vm_area_struct *blktap_window_vma(struct blktap_window *window, struct mm_struct *mm);

/*
 * Makes the windows ready for what prefaulting fills in; what is not ready then
 * comes at the first touch. mmap_lock is held, for reading at least. May wait for
 * the process: not under queue.lock.
 */
void blktap_window_prepare(struct blktap_queue *queue, struct mm_struct *mm);

/*
 * Fills in the user PTEs of the pages in `runs` that this window may show and
 * that are not filled yet. mmap_lock is held, for reading at least. Not all of
 * them: -EFAULT; -EAGAIN: it is not prepared; -ENOMEM, -ENOSPC: for want of
 * memory, or of room in Xen.
 */
int blktap_window_fill(struct blktap_window *window, struct vm_area_struct *vma,
		       const struct blktap_run *runs, unsigned int nr);

#endif
