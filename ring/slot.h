/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where a request is between its fetch and its answer, and the judgement on
 * tapdisk's commands. A request is a slot, and a slot is in one place:
 *
 *     FREE ──► BACKLOG ──► OFFERED ──► DONE ──► FREE      BACKLOG ──► FREE      refused
 *                 │           ▼         ▲                 BACKLOG ──► DONE      not served
 *                 └───────► STARTED ────┘                 STARTED ──► BACKLOG   bounced
 *                                                         DONE ──► BACKLOG      kept
 *
 * Each arrow has one writer, the module; tapdisk only asks. The generation changes
 * with every offer, so an answer to an earlier use of the slot is recognised.
 * Nothing is taken back from a tapdisk that lives: until it answers, its I/O names
 * the slot's pages.
 */
#ifndef RING_SLOT_H
#define RING_SLOT_H

#include "blktap_abi.h"

enum slot_place {
	SLOT_FREE = 0,
	SLOT_BACKLOG,     /* taken off the guest's ring, and in nobody's hands        */
	SLOT_OFFERED,     /* tapdisk's                                                */
	SLOT_STARTED,     /* I/O of the module's own is under way                     */
	SLOT_DONE,        /* it has ended; what it had mapped is on its way back      */
	SLOT_PLACES,
};

struct slot_state {
	__u32 generation;
	__u8 place;       /* enum slot_place                                          */
	bool submittable; /* of the latest offer: BLKTAP_REQ_SUBMITTABLE              */
};

struct slot_table {
	struct slot_state *state;
	__u32 nr[SLOT_PLACES]; /* of them, in each place */
};

enum cmd_verdict {
	CMD_VALID = 0,
	CMD_STALE,        /* an earlier generation: ignore, count                     */
	CMD_UNKNOWN_VERB, /* this and the following are breaches: refuse, count       */
	CMD_UNKNOWN_FLAG,
	CMD_RESERVED_SET,
	CMD_NO_SUCH_SLOT,
	CMD_NOT_OWNED,    /* never offered in this generation, or answered already    */
	CMD_BAD_RESULT,
	CMD_NOT_SUBMITTABLE,
};

static inline bool slot_may_move(enum slot_place from, enum slot_place to)
{
	static const __u8 moves[SLOT_PLACES] = {
		1u << SLOT_BACKLOG, /* from FREE, and so on in their order */
		1u << SLOT_OFFERED | 1u << SLOT_STARTED | 1u << SLOT_DONE | 1u << SLOT_FREE,
		1u << SLOT_STARTED | 1u << SLOT_DONE,
		1u << SLOT_DONE | 1u << SLOT_BACKLOG,
		1u << SLOT_FREE | 1u << SLOT_BACKLOG,
	};

	return moves[from] >> to & 1;
}

/* `state` holds `count` slots: all of them are free, and their generations what they were. */
static inline void slot_table_init(struct slot_table *table, struct slot_state *state,
				   __u32 count)
{
	__u32 i;

	for (i = 0; i < SLOT_PLACES; i++)
		table->nr[i] = 0;
	for (i = 0; i < count; i++)
		state[i].place = SLOT_FREE;
	table->nr[SLOT_FREE] = count;
	table->state = state;
}

/* The one function by which a slot gets anywhere. */
static inline void slot_move(struct slot_table *table, __u32 slot, enum slot_place to)
{
	struct slot_state *state = &table->state[slot];

	RING_CHECK(slot_may_move((enum slot_place)state->place, to));
	table->nr[state->place]--;
	table->nr[to]++;
	state->place = (__u8)to;
}

/* Gives the slot to tapdisk under a new generation, which it returns. Never 0. */
static inline __u32 slot_offer(struct slot_table *table, __u32 slot, bool submittable)
{
	struct slot_state *state = &table->state[slot];

	slot_move(table, slot, SLOT_OFFERED);
	state->submittable = submittable;
	if (++state->generation == 0)
		state->generation = 1;
	return state->generation;
}

/*
 * The slot that a command names; never one beyond the table, not even where a processor goes on
 * before it knows that the command is refused for it. `depth` is a power of two.
 */
static inline __u32 cmd_slot(const struct blktap_cmd *cmd, __u32 depth)
{
	__u32 slot = cmd->slot;

	/* Or the compiler, which sees the check, leaves the mask out. */
	__asm__("" : "+r"(slot));
	return slot & (depth - 1);
}

/*
 * Judges a private copy of a command against the slots, of which there is a power of two. Changes
 * nothing.
 */
static inline enum cmd_verdict cmd_judge(const struct blktap_cmd *cmd,
					 const struct slot_state *slots, __u32 depth)
{
	const bool submit = cmd->verb == BLKTAP_CMD_SUBMIT;
	const struct slot_state *slot;

	if (!submit && cmd->verb != BLKTAP_CMD_COMPLETE)
		return CMD_UNKNOWN_VERB;
	if (cmd->flags)
		return CMD_UNKNOWN_FLAG;
	if (cmd->reserved || (!submit && (cmd->fd || cmd->offset)))
		return CMD_RESERVED_SET;
	if (cmd->slot >= depth)
		return CMD_NO_SUCH_SLOT;
	if (submit ? cmd->result : cmd->result > 0 || cmd->result < -4095)
		return CMD_BAD_RESULT;
	slot = &slots[cmd_slot(cmd, depth)];
	if (cmd->generation != slot->generation)
		return CMD_STALE;
	if (slot->place != SLOT_OFFERED)
		return CMD_NOT_OWNED;
	if (submit && !slot->submittable)
		return CMD_NOT_SUBMITTABLE;
	return CMD_VALID;
}

#endif
