// SPDX-License-Identifier: GPL-2.0-only
/* The slots of a queue, and the runs of segments that their requests have. */
#include <linux/bitmap.h>
#include <linux/mm.h>

#include "base/slots.h"

int blktap_slots_init(struct blktap_slots *slots, struct blktap_queue *queue)
{
	struct slot_state *states = kvcalloc(BLKTAP_DEPTH_MAX, sizeof(*states), GFP_KERNEL);
	unsigned int i;

	INIT_LIST_HEAD(&slots->done);
	slots->table.state = states;
	slots->slot = kvcalloc(BLKTAP_DEPTH_MAX, sizeof(*slots->slot), GFP_KERNEL);
	slots->slot_of = kvcalloc(BLKTAP_PAGES, sizeof(*slots->slot_of), GFP_KERNEL);
	slots->free = kvcalloc(BLKTAP_DEPTH_MAX, sizeof(*slots->free), GFP_KERNEL);
	if (!states || !slots->slot || !slots->slot_of || !slots->free)
		return -ENOMEM;
	slot_table_init(&slots->table, states, BLKTAP_DEPTH_MAX);
	for (i = 0; i < BLKTAP_DEPTH_MAX; i++) {
		slots->slot[i].queue = queue;
		slots->slot[i].index = i;
		slots->free[i] = BLKTAP_DEPTH_MAX - 1 - i;
	}
	return 0;
}

void blktap_slots_free(struct blktap_slots *slots)
{
	kvfree(slots->free);
	kvfree(slots->slot_of);
	kvfree(slots->slot);
	kvfree(slots->table.state);
}

void blktap_slot_free(struct blktap_slots *slots, struct blktap_slot *slot)
{
	bitmap_clear(slots->taken, slot->first, slot->request.nr_segs);
	slots->free[slots->table.nr[SLOT_FREE]] = slot->index;
	blktap_slot_move(slots, slot, SLOT_FREE, NULL);
}

bool blktap_slot_take_run(struct blktap_slots *slots, struct blktap_slot *slot)
{
	unsigned int count = slot->request.nr_segs;
	unsigned long first;
	unsigned int i;

	slot->first = 0;
	if (!count)
		return true;
	/* The page tables of the lowest are the warmest. */
	first = bitmap_find_next_zero_area(slots->taken, BLKTAP_PAGES, 0, count, 0);
	if (first >= BLKTAP_PAGES)
		return false;
	bitmap_set(slots->taken, first, count);
	slot->first = first;
	for (i = 0; i < count; i++)
		slots->slot_of[first + i] = slot->index;
	return true;
}
