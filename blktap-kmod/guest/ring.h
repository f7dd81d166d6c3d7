/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest's ring: everything that touches memory the guest can write. queue.lock is held. */
#ifndef BLKTAP_GUEST_RING_H
#define BLKTAP_GUEST_RING_H

#include <linux/atomic.h>
#include <linux/types.h>
#include <xen/grant_table.h>
#include <xen/interface/event_channel.h>

#include "ring/blkif_decode.h"
#include "ring/ring.h"

struct blktap_queue;
struct list_head;

struct blktap_guest_ring {
	struct blkif_sring *sring;       /* NULL: not connected                        */
	const struct blkif_abi *abi;
	struct ring_consumer requests;
	struct blkif_entry entry;        /* the private copy of the next request, if   */
	bool fetched;                    /* it has been made                           */
	bool starved;                    /* that request waits for a slot or for pages */
	u32 responses;                   /* produced; published when they differ from  */
	u32 published;                   /* what the guest has been shown              */
	int irq;
	bool lied;                       /* the guest broke the protocol: never read again */
	atomic_t eoi_owed;               /* an event came and its source is still masked   */
	u32 eoi_seen;                    /* requests.seen at the last EOI              */
};

/*
 * Maps the ring, `pages` pages that the frontend has granted, and binds to its
 * event channel. The frontend may be taking up a ring that was in use before:
 * indices start where the shared page says, if they can be true.
 */
int blktap_guest_connect(struct blktap_queue *queue, grant_ref_t *refs, unsigned int pages,
			 evtchn_port_t port, const struct blkif_abi *abi);

/* Idempotent. Requests still in slots get no answer any more. */
void blktap_guest_disconnect(struct blktap_queue *queue);

/*
 * Moves the guest's new requests from the free slots to `taken`. Those that
 * turned out to be bad are among them, with an error status. Returns how many,
 * or -EPROTO if the producer index cannot be: then nothing is read from this
 * ring ever again.
 */
int blktap_guest_take(struct blktap_queue *queue, struct list_head *taken);

/* Writes a response; the guest sees it at the next blktap_guest_publish(). */
void blktap_guest_answer(struct blktap_queue *queue, const struct blkif_request *request,
			 s16 status);

/* Shows all responses written so far, with one event at most. */
void blktap_guest_publish(struct blktap_queue *queue);

/* For whoever will look by itself, until blktap_guest_arm(). Nothing if there is no ring. */
void blktap_guest_disarm(struct blktap_queue *queue);

/*
 * Asks the guest to send an event with its next request and lets the event
 * source go. Returns true if a request is there already: the caller must look
 * again before it sleeps.
 */
bool blktap_guest_arm(struct blktap_queue *queue);

#endif
