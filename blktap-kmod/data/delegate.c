// SPDX-License-Identifier: GPL-2.0-only
/*
 * Delegated extents: ranges of the disk that the module may serve by itself,
 * and the files they are in.
 *
 * They are changed under vbd.lock. Requests look them up without a lock, and
 * each that uses one holds a reference until its I/O has ended, so that an
 * extent may be withdrawn, and tapdisk leave, while I/O is under way.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "data/delegate.h"
#include "disk/vbd.h"
#include "queue/queue.h"
#include "queue/worker.h"

static u64 last_sector(const struct blktap_delegation *delegation)
{
	return delegation->sector + delegation->sectors - 1;
}

/* Whether every request in the extent has a place in the file, so that none needs a check. */
static int check_extent(const struct blktap_vbd *vbd, const struct blktap_extent *extent)
{
	const u64 capacity = vbd->disk.sectors;
	u64 end;

	if (memchr_inv(extent->reserved, 0, sizeof(extent->reserved)) || !extent->flags ||
	    (extent->flags & ~BLKTAP_EXTENT_KNOWN))
		return -EINVAL;
	if (!extent->sectors || extent->sector >= capacity ||
	    extent->sectors > capacity - extent->sector)
		return -EINVAL;
	if ((extent->sector | extent->sectors) % (vbd->disk.sector_size / RING_SECTOR_SIZE) ||
	    extent->offset % vbd->disk.sector_size)
		return -EINVAL;
	if (extent->sectors > LLONG_MAX / RING_SECTOR_SIZE ||
	    check_add_overflow(extent->offset, extent->sectors * RING_SECTOR_SIZE, &end) ||
	    end > LLONG_MAX)
		return -EINVAL;
	if ((extent->flags & BLKTAP_EXTENT_WRITE) && vbd->disk.read_only)
		return -EROFS;
	return 0;
}

/* Whether I/O on the file is what tapdisk could do itself, and never waits for a file system. */
static int check_file(const struct file *file, u32 flags)
{
	umode_t mode = file_inode(file)->i_mode;

	if (((flags & BLKTAP_EXTENT_READ) && !(file->f_mode & FMODE_READ)) ||
	    ((flags & BLKTAP_EXTENT_WRITE) && !(file->f_mode & FMODE_WRITE)))
		return -EBADF;
	if (!S_ISREG(mode) && !S_ISBLK(mode))
		return -EINVAL;
	if (!(file->f_flags & O_DIRECT) || (file->f_flags & O_APPEND))
		return -EINVAL;
	if (!file->f_op->read_iter || !file->f_op->write_iter)
		return -EOPNOTSUPP;
	if (S_ISREG(mode) && !(file->f_mode & FMODE_NOWAIT))
		return -EOPNOTSUPP;
	return 0;
}

/*
 * The device, if requests may go straight to it: their segments lie on whole
 * sectors, and that has to be enough for it. NULL: by way of the file.
 */
static struct block_device *plain_device(const struct file *file)
{
	struct block_device *device;

	if (!S_ISBLK(file_inode(file)->i_mode) || (file->f_iocb_flags & IOCB_DSYNC))
		return NULL;
	device = I_BDEV(file->f_mapping->host);
	return bdev_dma_alignment(device) < RING_SECTOR_SIZE ? device : NULL;
}

int blktap_target_open(struct blktap_target *target, int fd, u32 flags)
{
	struct file *file = fget(fd);
	int err;

	if (!file)
		return -EBADF;
	err = check_file(file, flags);
	if (err) {
		fput(file);
		return err;
	}
	target->file = file;
	target->device = plain_device(file);
	/* As they are now: what fcntl() changes later is not asked again. */
	target->iocb_flags = (file->f_iocb_flags | IOCB_DIRECT) & ~IOCB_APPEND;
	/* A full queue of a device is waited for; a file system may take much longer. */
	if (S_ISREG(file_inode(file)->i_mode))
		target->iocb_flags |= IOCB_NOWAIT;
	return 0;
}

static struct blktap_delegation *create_delegation(const struct blktap_extent *extent,
						   const struct blktap_target *target)
{
	struct blktap_delegation *delegation = kzalloc(sizeof(*delegation), GFP_KERNEL);

	if (!delegation)
		return NULL;
	delegation->target = *target;
	delegation->sector = extent->sector;
	delegation->sectors = extent->sectors;
	delegation->offset = extent->offset;
	delegation->flags = extent->flags;
	refcount_set(&delegation->users, 1);
	return delegation;
}

int blktap_delegate_add(struct blktap_vbd *vbd, const struct blktap_extent *extent)
{
	struct blktap_delegation *delegation;
	struct blktap_target target;
	int err;

	err = check_extent(vbd, extent);
	if (err)
		return err;
	if (vbd->nr_delegations >= BLKTAP_EXTENTS_MAX)
		return -ENOSPC;
	err = blktap_worker_hire(vbd);
	if (err)
		return err;
	err = blktap_target_open(&target, extent->fd, extent->flags);
	if (err)
		return err;
	delegation = create_delegation(extent, &target);
	if (!delegation) {
		err = -ENOMEM;
		goto put;
	}
	err = mtree_insert_range(&vbd->delegations, delegation->sector, last_sector(delegation),
				 delegation, GFP_KERNEL);
	if (err) {
		kfree(delegation);
		goto put;
	}
	vbd->nr_delegations++;
	return 0;

put:
	fput(target.file);
	return err;
}

void blktap_delegation_put(struct blktap_vbd *vbd, struct blktap_delegation *delegation)
{
	if (refcount_dec_and_test(&delegation->users)) {
		fput(delegation->target.file);
		kfree(delegation);
	}
	/* Whoever withdraws waits for the last but one, and looks after it has queued itself. */
	if (wq_has_sleeper(&vbd->withdrawing))
		wake_up(&vbd->withdrawing);
}

/* From now on nobody finds those that have a sector of first..last. vbd.lock is held. */
static void take_out(struct blktap_vbd *vbd, unsigned long first, unsigned long last,
		     struct list_head *out)
{
	struct blktap_delegation *delegation;
	unsigned long index = first;

	while ((delegation = mt_find(&vbd->delegations, &index, last))) {
		/* It is about to be freed, and mtree_erase() may leave it where memory is short. */
		mtree_store_range(&vbd->delegations, delegation->sector, last_sector(delegation),
				  NULL, GFP_KERNEL | __GFP_NOFAIL);
		vbd->nr_delegations--;
		list_add_tail(&delegation->node, out);
	}
	/* Guesses of queues may be among them. Who sees the count cannot find them any more. */
	smp_store_release(&vbd->withdrawals, vbd->withdrawals + 1);
}

int blktap_delegate_withdraw(struct blktap_vbd *vbd, const struct blktap_range *range)
{
	struct blktap_delegation *delegation;
	struct blktap_delegation *next;
	LIST_HEAD(out);
	u64 last;
	int err = 0;

	if (!range->sectors)
		return 0;
	if (check_add_overflow(range->sector, range->sectors - 1, &last))
		last = ULONG_MAX;
	mutex_lock(&vbd->lock);
	take_out(vbd, range->sector, last, &out);
	mutex_unlock(&vbd->lock);
	if (list_empty(&out))
		return 0;
	/* Whoever found one in time has its reference now. */
	synchronize_rcu();
	list_for_each_entry_safe(delegation, next, &out, node) {
		if (!err && wait_event_killable(vbd->withdrawing,
						refcount_read(&delegation->users) == 1))
			err = -EINTR;
		blktap_delegation_put(vbd, delegation);
	}
	return err;
}

void blktap_delegate_drop(struct blktap_vbd *vbd)
{
	struct blktap_delegation *delegation;
	struct blktap_delegation *next;
	LIST_HEAD(out);

	take_out(vbd, 0, ULONG_MAX, &out);
	if (list_empty(&out))
		return;
	synchronize_rcu();
	list_for_each_entry_safe(delegation, next, &out, node)
		blktap_delegation_put(vbd, delegation);
}

static bool serves_request(const struct blktap_delegation *delegation,
			   const struct blkif_request *request)
{
	u32 needed = blkif_op_writes(request->op) ? BLKTAP_EXTENT_WRITE : BLKTAP_EXTENT_READ;
	u64 from;

	if (!(delegation->flags & needed) || request->sector < delegation->sector)
		return false;
	from = request->sector - delegation->sector;
	return from < delegation->sectors &&
		request->bytes / RING_SECTOR_SIZE <= delegation->sectors - from;
}

/*
 * The one that the queue used last is looked at first, unless any has been
 * withdrawn since: then it may be gone.
 */
struct blktap_delegation *blktap_delegation_get(struct blktap_queue *queue,
						const struct blkif_request *request)
{
	struct blktap_vbd *vbd = queue->vbd;
	/* Before the tree is looked at, see take_out(). */
	unsigned long withdrawals = smp_load_acquire(&vbd->withdrawals);
	struct blktap_delegation *delegation =
		queue->guessed_at == withdrawals ? queue->guess : NULL;

	if (!delegation || !serves_request(delegation, request))
		delegation = mtree_load(&vbd->delegations, request->sector);
	if (!delegation || !serves_request(delegation, request))
		return NULL;
	queue->guess = delegation;
	queue->guessed_at = withdrawals;
	/* The tree's own reference is there until all readers have left. */
	refcount_inc(&delegation->users);
	return delegation;
}
