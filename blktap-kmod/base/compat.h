/* SPDX-License-Identifier: GPL-2.0-only */
/* Every test of the kernel's version. The rest of the module is written for the newest. */
#ifndef BLKTAP_COMPAT_H
#define BLKTAP_COMPAT_H

#include <linux/device.h>
#include <linux/mm.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define blktap_class_create(name) class_create(THIS_MODULE, (name))
#else
#define blktap_class_create(name) class_create(name)
#endif

/*
 * Whether anybody has mmap_lock for writing. Then no reader has it: seen by one
 * who has it either way, it tells which.
 */
static inline bool blktap_mmap_is_write_locked(const struct mm_struct *mm)
{
#ifdef CONFIG_PREEMPT_RT
	return atomic_read(&mm->mmap_lock.rwbase.readers) == WRITER_BIAS;
#else
	return atomic_long_read(&mm->mmap_lock.count) & 1; /* RWSEM_WRITER_LOCKED */
#endif
}

/* How many user PTEs the page has: 6.12 knows folios only, 6.1 has no such function for modules. */
static inline int blktap_page_mapcount(struct page *page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	return page_mapcount(page);
#else
	return folio_mapcount(page_folio(page));
#endif
}

/* class.devnode takes a const device since 6.2. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define BLKTAP_DEVNODE_CONST
#else
#define BLKTAP_DEVNODE_CONST const
#endif

#endif
