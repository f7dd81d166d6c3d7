/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who owns a slot, and the judgement on tapdisk's commands.
 *
 * Each arrow has one writer, the module; tapdisk only asks:
 *
 *     FREE --take--> KERNEL --offer--> TAPDISK --answer--> KERNEL --free--> FREE
 *
 * The generation changes with every offer, so an answer to an earlier use of the
 * slot is recognised. Nothing is taken back from a tapdisk that lives: until it
 * answers, its I/O names the slot's pages.
 */
#ifndef RING_SLOT_H
#define RING_SLOT_H

#include "blktap_abi.h"

enum slot_owner {
	SLOT_FREE = 0,
	SLOT_KERNEL,
	SLOT_TAPDISK,
};

struct slot_state {
	__u32 generation;
	__u8 owner; /* enum slot_owner                             */
	bool submittable; /* of this offer: BLKTAP_REQ_SUBMITTABLE */
};

enum cmd_verdict {
	CMD_VALID = 0,
	CMD_STALE,        /* an earlier generation: ignore, count                  */
	CMD_UNKNOWN_VERB, /* this and the following are breaches: refuse, count    */
	CMD_UNKNOWN_FLAG,
	CMD_RESERVED_SET,
	CMD_NO_SUCH_SLOT,
	CMD_NOT_OWNED,    /* never offered in this generation, or answered already */
	CMD_BAD_RESULT,
	CMD_NOT_SUBMITTABLE,
};

/* Gives the slot to tapdisk under a new generation, which it returns. Never 0. */
static inline __u32 slot_offer(struct slot_state *slot, bool submittable)
{
	slot->owner = SLOT_TAPDISK;
	slot->submittable = submittable;
	if (++slot->generation == 0)
		slot->generation = 1;
	return slot->generation;
}

/* tapdisk has answered, or is gone. */
static inline void slot_take_back(struct slot_state *slot)
{
	slot->owner = SLOT_KERNEL;
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
	if (slot->owner != SLOT_TAPDISK)
		return CMD_NOT_OWNED;
	if (submit && !slot->submittable)
		return CMD_NOT_SUBMITTABLE;
	return CMD_VALID;
}

#endif
