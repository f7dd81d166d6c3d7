/* SPDX-License-Identifier: GPL-2.0-only */
/* Delegated extents: what of the disk the module may serve by itself, and where. */
#ifndef BLKTAP_DELEGATE_H
#define BLKTAP_DELEGATE_H

#include <linux/list.h>
#include <linux/refcount.h>
#include <linux/types.h>

#include "base/slots.h"

struct blkif_request;
struct blktap_extent;
struct blktap_queue;
struct blktap_range;
struct blktap_vbd;

/* A range of the disk that it serves without asking. */
struct blktap_delegation {
	struct list_head node;           /* of those that are taken out                */
	struct blktap_target target;
	u64 sector;                      /* the first                                  */
	u64 sectors;
	u64 offset;                      /* bytes, of its start in the file            */
	u32 flags;                       /* BLKTAP_EXTENT_*                            */
	refcount_t users;                /* requests, and one while it is in the tree  */
};

/*
 * Makes the file behind tapdisk's `fd` a target, with a reference to it. `flags`
 * are the extent's. The context is tapdisk's. Errors are those of BLKTAP_IOC_DELEGATE.
 */
int blktap_target_open(struct blktap_target *target, int fd, u32 flags);

/* vbd.lock is held; the context is tapdisk's. Errors are those of BLKTAP_IOC_DELEGATE. */
int blktap_delegate_add(struct blktap_vbd *vbd, const struct blktap_extent *extent);

/* Errors are those of BLKTAP_IOC_WITHDRAW. No lock is held: requests may take their time. */
int blktap_delegate_withdraw(struct blktap_vbd *vbd, const struct blktap_range *range);

/* All of them, because tapdisk leaves. Requests that use one go on. vbd.lock is held. */
void blktap_delegate_drop(struct blktap_vbd *vbd);

/*
 * The extent that the whole data of a read or write lies in, with a reference
 * for the caller; NULL: there is none that may be used for it. queue.lock and the
 * RCU read lock are held.
 */
struct blktap_delegation *blktap_delegation_get(struct blktap_queue *queue,
						const struct blkif_request *request);

/* Any context but an interrupt. */
void blktap_delegation_put(struct blktap_vbd *vbd, struct blktap_delegation *delegation);

#endif
