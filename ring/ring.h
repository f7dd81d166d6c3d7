/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Index arithmetic of a single-producer single-consumer ring.
 *
 * Used for both rings: the guest's (Xen's public/io/ring.h) and the one
 * between module and tapdisk. Indices are free-running 32-bit numbers, sizes
 * powers of two, and the peer's index is hostile.
 */
#ifndef RING_RING_H
#define RING_RING_H

#include "barrier.h"

/* The consumer's side: what it has seen is its own business and never read back. */
struct ring_consumer {
	__u32 seen; /* next entry to read */
	__u32 size; /* entries, power of two, fixed when the ring is set up */
};

/*
 * How many entries the peer has produced beyond `seen`.
 *
 * The index is loaded once. A distance larger than the ring cannot be honest,
 * so it is -EPROTO rather than a large number. Entries 0..n-1 from `seen` may
 * be read afterwards: the acquire orders their loads behind the index.
 */
static inline int ring_available(const struct ring_consumer *ring, const __u32 *peer_produced)
{
	__u32 distance = ring_load_acquire_u32(peer_produced) - ring->seen;

	return distance <= ring->size ? (int)distance : -EPROTO;
}

/* Position of the next entry inside the ring. */
static inline __u32 ring_position(const struct ring_consumer *ring)
{
	return ring->seen & (ring->size - 1);
}

/*
 * Whether a producer that moved its index from `before` to `after` has to wake
 * the consumer, who asked to be woken when entry number `event` - 1 appears.
 *
 * `event` is the peer's: any value is safe, a wrong one costs the peer a
 * wake-up or brings it one too many.
 */
static inline bool ring_needs_notify(__u32 before, __u32 after, __u32 event)
{
	return (__u32)(after - event) < (__u32)(after - before);
}

/*
 * Asks to be woken by the next entry and says whether one came in the
 * meantime. Only a caller that gets `false` may sleep.
 *
 * The fence makes the peer see the request for an event before we look at its
 * index; a peer that produced before it saw the request is found by the look.
 */
static inline bool ring_arm_event(const struct ring_consumer *ring, __u32 *event,
				  const __u32 *peer_produced)
{
	ring_store_u32(event, ring->seen + 1);
	ring_fence();
	return ring_load_u32(peer_produced) != ring->seen;
}

/*
 * Takes that back, for a consumer that will look by itself: no entry near has
 * the number that is asked for. One may be on its way; and before it sleeps, the
 * consumer has to arm again.
 */
static inline void ring_disarm_event(const struct ring_consumer *ring, __u32 *event)
{
	ring_store_u32(event, ring->seen + 0x80000000u);
}

#endif
