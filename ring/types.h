/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the C of this folder needs from its surroundings, and nothing else.
 *
 * Included by the module, by tapdisk and by the tests. No allocation, no libc
 * calls; the fixed-width types are the kernel's in all three worlds.
 *
 * RING_CHECK() is for what no peer can bring about: a test dies of it, and a kernel
 * that is built to be debugged (CONFIG_DEBUG_VM) says so.
 */
#ifndef RING_TYPES_H
#define RING_TYPES_H

#ifdef __KERNEL__
#include <linux/build_bug.h>
#include <linux/errno.h>
#include <linux/mmdebug.h>
#include <linux/stddef.h>
#include <linux/types.h>

#define RING_CHECK(condition) VM_WARN_ON_ONCE(!(condition))
#else
#include <assert.h>
#include <errno.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#define RING_CHECK(condition) ((condition) ? (void)0 : __builtin_trap())
#endif

/* The unit of the blkif ring and of every capacity here, whatever `sector-size` says. */
#define RING_SECTOR_SHIFT 9
#define RING_SECTOR_SIZE  512u

/* blkif is defined on 4 KiB pages, also where the back end's own pages are larger. */
#define RING_PAGE_SIZE         4096u
#define RING_SECTORS_PER_PAGE  (RING_PAGE_SIZE / RING_SECTOR_SIZE)

#endif
