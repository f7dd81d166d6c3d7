/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only ways in which this project touches memory that a peer can write.
 *
 *   ring_load_*      one load that the compiler may neither split, repeat nor drop
 *   ring_store_*     one store of the same kind
 *   ring_load_acquire_u32   what follows sees at least what the peer wrote before it stored
 *   ring_store_release_u32  the peer that loads this sees everything we wrote before it
 *   ring_fence       our stores before it are visible before our loads after it are made
 *
 * In the kernel these are the virt_ flavours: the peer may sit on another
 * (virtual) CPU even when this kernel runs on one.
 *
 * A test may define RING_TRACE_LOAD(address, bytes) before the first include;
 * it is called for every load, which is how "each shared byte is read at most
 * once per request" is proven.
 */
#ifndef RING_BARRIER_H
#define RING_BARRIER_H

#include "types.h"

#ifndef RING_TRACE_LOAD
#define RING_TRACE_LOAD(address, bytes) ((void)0)
#endif

#ifdef __KERNEL__

#include <asm/barrier.h>
#include <linux/compiler.h>

#define ring_raw_load(p)         READ_ONCE(*(p))
#define ring_raw_store(p, v)     WRITE_ONCE(*(p), (v))
#define ring_raw_acquire(p)      virt_load_acquire(p)
#define ring_raw_release(p, v)   virt_store_release((p), (v))
#define ring_raw_fence()         virt_mb()

#else

#define ring_raw_load(p)         __atomic_load_n((p), __ATOMIC_RELAXED)
#define ring_raw_store(p, v)     __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define ring_raw_acquire(p)      __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define ring_raw_release(p, v)   __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ring_raw_fence()         __atomic_thread_fence(__ATOMIC_SEQ_CST)

#endif

static inline __u32 ring_load_u32(const __u32 *p)
{
	RING_TRACE_LOAD(p, sizeof(*p));
	return ring_raw_load(p);
}

static inline void ring_store_u32(__u32 *p, __u32 value)
{
	ring_raw_store(p, value);
}

static inline __u32 ring_load_acquire_u32(const __u32 *p)
{
	RING_TRACE_LOAD(p, sizeof(*p));
	return ring_raw_acquire(p);
}

static inline void ring_store_release_u32(__u32 *p, __u32 value)
{
	ring_raw_release(p, value);
}

static inline void ring_fence(void)
{
	ring_raw_fence();
}

/* The words of a record, whatever types its fields have. */
typedef __u32 __attribute__((may_alias)) ring_word;

/*
 * Takes a private copy of `bytes` bytes that a peer may be changing.
 *
 * Each shared byte is loaded exactly once. `shared` and `bytes` are multiples
 * of 4; whatever mixture of old and new the copy holds, it does not change
 * any more, so it is what gets validated and used.
 */
static inline void ring_copy_in(void *copy, const void *shared, __u32 bytes)
{
	ring_word *to = (ring_word *)copy;
	const ring_word *from = (const ring_word *)shared;
	__u32 i;

	for (i = 0; i < bytes / sizeof(*from); i++) {
		RING_TRACE_LOAD(&from[i], sizeof(*from));
		to[i] = ring_raw_load(&from[i]);
	}
}

#endif
