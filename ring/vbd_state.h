/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a back end does next about its frontend: a function of what is true now.
 *
 *   INITWAIT ──connect──► CONNECTED ──drain──► CLOSING ──finish──► CLOSED
 *       ▲                                                             │
 *       └──────────────────────────── invite ◄────────────────────────┘
 *
 * ERROR, from INITWAIT or CONNECTED, is left by CLOSING like any other.
 *
 * A frontend's states are read when somebody has time to look, so some may be
 * missed, and events say only that there is a reason to look. Whoever performs an
 * action looks and asks again until there is nothing to do; whoever changes one of
 * the facts makes that somebody look. So nothing is lost for having come too early:
 * what a frontend said while its old requests were ending still stands when they
 * have ended.
 */
#ifndef RING_VBD_STATE_H
#define RING_VBD_STATE_H

#include "types.h"

enum blktap_state {
	BLKTAP_INITWAIT,  /* waiting for tapdisk and for the frontend                  */
	BLKTAP_CONNECTED,
	BLKTAP_CLOSING,   /* the frontend has left; what it had asked for is ending    */
	BLKTAP_CLOSED,    /* it may come back                                          */
	BLKTAP_ERROR,     /* it broke a rule, has been told so, and has to leave first */
};

/* What each end says of itself in xenstore: the numbers of Xen's public/io/xenbus.h. */
enum vbd_says {
	VBD_SAYS_NOTHING = 0, /* or its directory is gone */
	VBD_SAYS_INITIALISING = 1,
	VBD_SAYS_INITWAIT = 2,
	VBD_SAYS_INITIALISED = 3,
	VBD_SAYS_CONNECTED = 4,
	VBD_SAYS_CLOSING = 5,
	VBD_SAYS_CLOSED = 6,
};

struct vbd_facts {
	enum blktap_state state;
	__u32 said;     /* what we say; whatever the toolstack may have written over it */
	__u32 frontend; /* what the frontend says now: any number                       */
	bool met;       /* it has said Connected since we are                           */
	bool online;    /* the toolstack wants this disk                                */
	bool retired;   /* it did not, once: that is final                              */
	bool served;    /* somebody is there to do the I/O                              */
	bool idle;      /* nothing that the frontend asked for is under way             */
	bool lied;      /* it broke the rules of a ring                                 */
};

enum vbd_action {
	VBD_REST,        /* until some fact has changed                                   */
	VBD_INVITE,      /* to INITWAIT, and say so                                       */
	VBD_CONNECT,     /* to CONNECTED, and say so; or to ERROR, if its keys are bad    */
	VBD_DRAIN,       /* to CLOSING: take no new requests                              */
	VBD_FINISH,      /* to CLOSED: let the rings go                                   */
	VBD_RETIRE,      /* tapdisk shall leave                                           */
	VBD_CUT_OFF,     /* to ERROR: let the rings go, and nothing more is answered      */
	VBD_SAY_CLOSING,
	VBD_SAY_CLOSED,
};

static inline enum vbd_action vbd_say(const struct vbd_facts *facts, __u32 what,
				      enum vbd_action say)
{
	return facts->said == what ? VBD_REST : say;
}

/* Has its keys written, or is about to. */
static inline bool vbd_frontend_comes(const struct vbd_facts *facts)
{
	return facts->frontend == VBD_SAYS_INITIALISING ||
	       facts->frontend == VBD_SAYS_INITIALISED || facts->frontend == VBD_SAYS_CONNECTED;
}

static inline bool vbd_frontend_is_away(const struct vbd_facts *facts)
{
	return facts->frontend == VBD_SAYS_NOTHING || facts->frontend == VBD_SAYS_CLOSED;
}

/* Whether the rings that it had when we connected, or could not, are no longer its. */
static inline bool vbd_frontend_has_left(const struct vbd_facts *facts)
{
	/* Before it says Connected it stays in Initialised; after that these are new rings. */
	return vbd_frontend_is_away(facts) || facts->frontend == VBD_SAYS_INITIALISING ||
	       (facts->frontend == VBD_SAYS_INITIALISED && facts->met);
}

static inline enum vbd_action vbd_decide_initwait(const struct vbd_facts *facts)
{
	if (vbd_frontend_is_away(facts))
		return VBD_DRAIN;
	if (facts->frontend == VBD_SAYS_CLOSING)
		return vbd_say(facts, VBD_SAYS_CLOSING, VBD_SAY_CLOSING);
	/* Who takes the disk away has said Closing over what we say. It stands. */
	if (!facts->online || !vbd_frontend_comes(facts))
		return VBD_REST;
	if (facts->said != VBD_SAYS_INITWAIT)
		return VBD_INVITE;
	return facts->served && facts->frontend != VBD_SAYS_INITIALISING ? VBD_CONNECT : VBD_REST;
}

static inline enum vbd_action vbd_decide_closed(const struct vbd_facts *facts)
{
	if (!facts->online && !facts->retired)
		return VBD_RETIRE;
	/* Without Closed in between: a frontend that already is elsewhere would give up. */
	if (!facts->retired && vbd_frontend_comes(facts))
		return VBD_INVITE;
	if (!facts->retired && facts->frontend == VBD_SAYS_CLOSING)
		return vbd_say(facts, VBD_SAYS_CLOSING, VBD_SAY_CLOSING);
	return vbd_say(facts, VBD_SAYS_CLOSED, VBD_SAY_CLOSED);
}

static inline enum vbd_action vbd_decide(const struct vbd_facts *facts)
{
	switch (facts->state) {
	case BLKTAP_INITWAIT:
		return vbd_decide_initwait(facts);
	case BLKTAP_CONNECTED:
		if (facts->lied)
			return VBD_CUT_OFF;
		/* Seen in Closing, and then no more: Closed was missed. */
		if (vbd_frontend_has_left(facts) ||
		    (facts->said == VBD_SAYS_CLOSING && vbd_frontend_comes(facts)))
			return VBD_DRAIN;
		/* It may still have requests under way: they are served until it says Closed. */
		if (facts->frontend == VBD_SAYS_CLOSING)
			return vbd_say(facts, VBD_SAYS_CLOSING, VBD_SAY_CLOSING);
		return VBD_REST;
	case BLKTAP_CLOSING:
		return facts->idle ? VBD_FINISH : VBD_REST;
	case BLKTAP_CLOSED:
		return vbd_decide_closed(facts);
	case BLKTAP_ERROR:
		/* The rings are gone; what it says while it stays is about the same bad ones. */
		return vbd_frontend_has_left(facts) || facts->frontend == VBD_SAYS_CLOSING ?
			       VBD_DRAIN : VBD_REST;
	}
	return VBD_REST;
}

#endif
