/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The area: pages for data that is copied, which tapdisk maps. queue.lock is held,
 * but for mmap.
 */
#ifndef BLKTAP_AREA_H
#define BLKTAP_AREA_H

#include <linux/types.h>

struct address_space;
struct blktap_queue;
struct blktap_slot;
struct vm_area_struct;

struct blktap_area {
	struct address_space *mapping;   /* by which tapdisk sees it; NULL: not        */
	bool whole;                      /* all its pages are there                    */
	unsigned int lent;               /* if not, how many                           */
	unsigned int users;              /* slots whose data is there                  */
	bool abandoned;                  /* the tapdisk that had it has gone           */
};

/* Module load. */
int blktap_area_init(void);
void blktap_area_exit(void);

/*
 * A new area, for a tapdisk that attaches; `whole` if it allows copies. -EAGAIN:
 * requests of the one before still have data, and perhaps I/O, in the old.
 * queue.lock is held, and no process has the area mapped.
 */
int blktap_area_renew(struct blktap_queue *queue, bool whole);

/* The tapdisk whose area it is has gone, with all its mappings. */
void blktap_area_abandon(struct blktap_queue *queue);

/* Pages that some I/O of a process that is gone still uses are given back when it ends. */
void blktap_area_free(struct blktap_queue *queue);

/*
 * Sees to it that all pages of the slot's run are there. False: not now, for want
 * of memory, or because tapdisk does not look there. queue.lock is held.
 */
bool blktap_area_lend(struct blktap_queue *queue, struct blktap_slot *slot);

/* The slot needs its pages no more. queue.lock is held. */
void blktap_area_take_back(struct blktap_queue *queue, struct blktap_slot *slot);

/* mmap_lock is held for writing, and the queue has the open's attach. */
int blktap_area_mmap(struct blktap_queue *queue, struct vm_area_struct *vma);

#endif
