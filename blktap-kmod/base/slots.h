/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The slots of a queue, of which each request under way has one, and a run of the
 * queue's segments. ring/slot.h says where a slot may be and where it may go. Unless
 * a comment says otherwise, queue.lock is held.
 *
 * A kernel that checks its lists, as Debian's do, calls a function for each addition
 * and removal: so a slot is in a list only while somebody looks for it there.
 */
#ifndef BLKTAP_SLOTS_H
#define BLKTAP_SLOTS_H

#include <linux/atomic.h>
#include <linux/bio.h>
#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/llist.h>
#include <linux/types.h>

#include "ring/blkif_decode.h"
#include "ring/blktap_abi.h"
#include "ring/slot.h"

struct blktap_delegation;
struct blktap_queue;
struct blktap_window;

/* Consecutive segments, or pages. */
struct blktap_run {
	u16 first;
	u16 count;
};

/* Where the module does I/O by itself. */
struct blktap_target {
	struct file *file;
	struct block_device *device;     /* NULL: not, or not straight                 */
	int iocb_flags;
};

/* One guest request, from its fetch until its answer. */
struct blktap_slot {
	struct list_head node;           /* of a list: while it waits, or is done      */
	struct blkif_request request;    /* the private copy; valid by construction            */
	u64 arrival;
	u64 generation;                  /* vbd.generation when it was taken                   */
	s16 status;                      /* BLKIF_RSP_*, once the slot is done                 */
	u16 index;
	u16 first;                       /* of its run of segments                             */
	bool copied;                     /* its data goes through pages of area.c              */
	bool lent;                       /* which are there for it alone                       */
	bool submitted;                  /* all its I/O was the module's own, and has ended    */
	bool bounced;                    /* the module has tried, and tapdisk has to           */
	bool lingers;                    /* done, but in use for longer than one waits         */
	bool again;                      /* not answered: it waits for the next tapdisk        */
	bool replayed;                   /* a tapdisk that is gone had it                      */
	u8 losses;                       /* of these, those that were not about to leave       */
	/* under windows.lock */
	struct blktap_window *window;    /* where tapdisk may see the pages; NULL: nowhere     */
	bool shown;                      /* some page had a user PTE during this use           */
	/* submit.c */
	struct blktap_queue *queue;
	struct blktap_target target;     /* of its I/O, and                                    */
	loff_t position;                 /* where in it                                        */
	struct blktap_delegation *delegation; /* whose that is; NULL: the slot has the file    */
	union {
		struct kiocb iocb;
		struct bio bio;
	};
	atomic_t iocb_users;             /* whoever started the I/O, and the I/O               */
	struct llist_node completed;     /* of queue.completed                                 */
	long moved;                      /* bytes, or a negative errno                         */
};

struct blktap_slots {
	struct blktap_slot *slot;        /* BLKTAP_DEPTH_MAX                           */
	struct slot_table table;
	u16 *free;                       /* a stack of those that are: the warmest last */
	struct list_head done;
	u16 *slot_of;                    /* whose the segment is                       */
	DECLARE_BITMAP(taken, BLKTAP_PAGES); /* segments                               */
};

/* All slots are free. Process context, before anybody knows the queue. -ENOMEM. */
int blktap_slots_init(struct blktap_slots *slots, struct blktap_queue *queue);
void blktap_slots_free(struct blktap_slots *slots);

/* The one to use next, which is still free; NULL: none is. */
static inline struct blktap_slot *blktap_slot_next(struct blktap_slots *slots)
{
	u32 count = slots->table.nr[SLOT_FREE];

	return count ? &slots->slot[slots->free[count - 1]] : NULL;
}

/* A run of segments for the slot's request, the lowest there is. False: there is none. */
bool blktap_slot_take_run(struct blktap_slots *slots, struct blktap_slot *slot);

/* The slot and its run are free. */
void blktap_slot_free(struct blktap_slots *slots, struct blktap_slot *slot);

static inline bool blktap_slot_is_listed(const struct blktap_slots *slots,
					 const struct blktap_slot *slot)
{
	u8 place = slots->table.state[slot->index].place;

	return place == SLOT_BACKLOG || place == SLOT_DONE;
}

/* Moves the slot to `place`, and to the end of `list`; NULL: to none. */
static inline void blktap_slot_move(struct blktap_slots *slots, struct blktap_slot *slot,
				    enum slot_place place, struct list_head *list)
{
	if (blktap_slot_is_listed(slots, slot))
		list_del(&slot->node);
	slot_move(&slots->table, slot->index, place);
	if (list)
		list_add_tail(&slot->node, list);
}

/*
 * Gives the slot to tapdisk, whose answer will name it. Returns the generation. The
 * caller does so with all of a list, which it then forgets.
 */
static inline u32 blktap_slot_offer(struct blktap_slots *slots, struct blktap_slot *slot,
				    bool submittable)
{
	return slot_offer(&slots->table, slot->index, submittable);
}

/* I/O of the module's own is about to begin, for all of a list, which is then forgotten, too. */
static inline void blktap_slot_start(struct blktap_slots *slots, struct blktap_slot *slot)
{
	slot_move(&slots->table, slot->index, SLOT_STARTED);
}

/* The request is done, whatever it has come to. */
static inline void blktap_slot_done(struct blktap_slots *slots, struct blktap_slot *slot)
{
	blktap_slot_move(slots, slot, SLOT_DONE, &slots->done);
}

static inline unsigned int blktap_slots_in(const struct blktap_slots *slots,
					   enum slot_place place)
{
	return slots->table.nr[place];
}

/* How many are not free. Any context. */
static inline unsigned int blktap_slots_busy(const struct blktap_slots *slots)
{
	return BLKTAP_DEPTH_MAX - READ_ONCE(slots->table.nr[SLOT_FREE]);
}

/* Whose a segment is that is in use. */
static inline struct blktap_slot *blktap_slot_of(const struct blktap_slots *slots,
						 unsigned int seg)
{
	return &slots->slot[slots->slot_of[seg]];
}

static inline struct blktap_run blktap_run_of(const struct blktap_slot *slot)
{
	return (struct blktap_run){ slot->first, slot->request.nr_segs };
}

/* Whether its I/O can be the module's: not a flush, a barrier or a discard, nor tried before. */
static inline bool blktap_may_submit(const struct blktap_slot *slot)
{
	return !slot->bounced && (slot->request.op == BLKIF_OP_READ ||
				  slot->request.op == BLKIF_OP_WRITE);
}

#endif
