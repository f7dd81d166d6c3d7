// SPDX-License-Identifier: GPL-2.0-only
/* /dev/blktap/vbd-D-V: tapdisk's entrance. Everything here runs in its context. */
#include <linux/fs.h>
#include <linux/nospec.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "data/area.h"
#include "data/delegate.h"
#include "data/window.h"
#include "disk/attach.h"
#include "disk/chardev.h"
#include "disk/successor.h"
#include "disk/vbd.h"
#include "guest/xenbus.h"
#include "queue/backlog.h"
#include "queue/doorbell.h"
#include "queue/orphan.h"
#include "queue/poll.h"
#include "queue/queue.h"
#include "queue/queue_memory.h"
#include "queue/user_ring.h"
#include "queue/worker.h"

/* One open of the node. */
struct seat {
	struct blktap_vbd *vbd;
	struct blktap_queue *queue;      /* NULL until attached; set once, under vbd.lock */
};

static int open_vbd(struct inode *inode, struct file *file)
{
	struct seat *seat = kzalloc(sizeof(*seat), GFP_KERNEL);

	if (!seat)
		return -ENOMEM;
	seat->vbd = container_of(inode->i_cdev, struct blktap_vbd, cdev);
	get_device(&seat->vbd->dev);
	file->private_data = seat;
	return nonseekable_open(inode, file);
}

static void detach_queue(struct blktap_vbd *vbd, struct blktap_queue *queue)
{
	bool keeps = blktap_successor_is_awaited(vbd);

	mutex_lock(&queue->lock);
	if (queue->index == 0) {
		WRITE_ONCE(vbd->tapdisk_pid, 0);
		put_pid(vbd->tapdisk);
		vbd->tapdisk = NULL;
		if (keeps)
			dev_warn_ratelimited(&vbd->dev, "tapdisk left a connected disk: its requests wait for another for %u ms\n",
					     blktap_successor_time_left(vbd));
		else if (vbd->state == BLKTAP_CONNECTED && !queue->gone)
			dev_warn_ratelimited(&vbd->dev, "tapdisk left a connected disk: its requests fail until another attaches\n");
	}
	blktap_orphan_detach(queue, keeps);
	mutex_unlock(&queue->lock);
	if (keeps)
		blktap_successor_expect(vbd);
}

/* The last reference to this open is gone, and with it every mapping made through it. */
static int release_vbd(struct inode *inode, struct file *file)
{
	struct seat *seat = file->private_data;
	struct blktap_vbd *vbd = seat->vbd;

	mutex_lock(&vbd->lock);
	if (seat->queue == vbd->queues)
		blktap_delegate_drop(vbd);
	if (seat->queue)
		detach_queue(vbd, seat->queue);
	mutex_unlock(&vbd->lock);
	put_device(&vbd->dev);
	kfree(seat);
	return 0;
}

/* Queue 0 says what the disk is. */
static void take_over_disk(struct blktap_vbd *vbd, const struct blktap_attach *attach)
{
	WRITE_ONCE(vbd->disk.sectors, attach->sectors);
	vbd->disk.sector_size = attach->sector_size;
	vbd->disk.read_only = attach->disk_flags & BLKTAP_DISK_READ_ONLY;
	vbd->disk.discard = attach->disk_flags & BLKTAP_DISK_DISCARD;
	vbd->disk.secure_discard = attach->disk_flags & BLKTAP_DISK_SECURE;
	vbd->physical_sector_size = attach->physical_sector_size;
	vbd->discard_granularity = attach->discard_granularity;
	vbd->discard_alignment = attach->discard_alignment;
	vbd->disk_flags = attach->disk_flags;
	vbd->keep_ms = attach->keep_ms;
	memcpy(vbd->image_id, attach->image_id, sizeof(vbd->image_id));
	vbd->generation++;
	vbd->tapdisk = get_pid(task_tgid(current));
	WRITE_ONCE(vbd->tapdisk_pid, task_tgid_nr(current));
}

/* Those after the first. vbd.lock is held. */
static bool other_queues_are_free(const struct blktap_vbd *vbd)
{
	unsigned int i;

	for (i = 1; i < vbd->nr_queues; i++)
		if (vbd->queues[i].owner)
			return false;
	return true;
}

/* Both locks are held, and the vbd is not removed. */
static int attach_locked(struct blktap_vbd *vbd, struct blktap_queue *queue, struct file *file,
			 struct blktap_attach *attach, const struct blktap_wishes *wishes)
{
	int err;

	/* All queues are one process's, and the first of them speaks for it. */
	if (queue->owner || (!queue->index && !other_queues_are_free(vbd)))
		return -EBUSY;
	if (queue->index && vbd->tapdisk != task_tgid(current))
		return -EPERM;
	err = blktap_attach_agree(vbd, attach, wishes);
	if (err)
		return err;
	if (blktap_backlog_is_fencing(queue))
		return -EAGAIN;
	err = blktap_queue_alloc_pages(queue, attach->disk_flags & BLKTAP_DISK_PERSISTENT,
				       attach->copy_bytes) ?: blktap_user_renew(queue);
	if (err)
		return err;

	if (queue->index == 0)
		take_over_disk(vbd, attach);
	queue->prefault = attach->features & BLKTAP_FEATURE_PREFAULT;
	queue->submits = attach->features & BLKTAP_FEATURE_SUBMIT;
	queue->copy_bytes = attach->copy_bytes;
	blktap_poll_start(queue, attach->poll_us);
	queue->held = false;
	queue->keeps = false;
	blktap_user_state(queue, vbd->state == BLKTAP_CONNECTED ? BLKTAP_STATE_CONNECTED :
			  BLKTAP_STATE_WAITING);
	blktap_user_layout(attach);
	attach->queues = vbd->nr_queues;
	attach->generation = vbd->generation;
	attach->disk_flags_out = vbd->disk_flags;
	queue->tapdisk = get_task_struct(current);
	WRITE_ONCE(queue->owner, file);
	/* The guest may have been waiting: the first poll() does not sleep. */
	WRITE_ONCE(queue->pending, true);
	return 0;
}

static long ioctl_attach(struct seat *seat, struct file *file, void __user *argument)
{
	struct blktap_vbd *vbd = seat->vbd;
	struct blktap_attach attach;
	struct blktap_wishes wishes;
	struct blktap_queue *queue;
	bool connected;
	u64 before;
	int err;

	if (copy_from_user(&attach, argument, sizeof(attach)))
		return -EFAULT;
	err = blktap_attach_check(&attach);
	if (err)
		return err;
	if (attach.queue >= vbd->nr_queues)
		return -EINVAL;
	queue = &vbd->queues[array_index_nospec(attach.queue, vbd->nr_queues)];
	err = blktap_attach_ask(vbd, &wishes);
	if (err)
		return err;

	mutex_lock(&vbd->lock);
	connected = vbd->state == BLKTAP_CONNECTED;
	before = vbd->disk.sectors;
	if (!vbd->xenbus)
		err = -ENODEV;
	else if (attach.features & BLKTAP_FEATURE_SUBMIT)
		err = blktap_worker_hire(vbd);
	if (err)
		goto unlock;
	mutex_lock(&queue->lock);
	err = seat->queue ? -EBUSY : attach_locked(vbd, queue, file, &attach, &wishes);
	mutex_unlock(&queue->lock);
	if (!err) {
		smp_store_release(&seat->queue, queue);
		blktap_xenbus_kick(vbd);
		/* It has grown since the guest connected, which learns so now or when it asks. */
		if (connected && vbd->disk.sectors != before && blktap_xenbus_tell_size(vbd))
			dev_warn(&vbd->dev, "the guest could not be told the disk's new size\n");
	}
unlock:
	mutex_unlock(&vbd->lock);
	if (err)
		return err;
	return copy_to_user(argument, &attach, sizeof(attach)) ? -EFAULT : 0;
}

/* The queue that this open is attached to, or NULL. */
static struct blktap_queue *queue_of(const struct file *file)
{
	const struct seat *seat = file->private_data;

	return smp_load_acquire(&seat->queue);
}

/* vbd.lock is held. */
static int resize_locked(struct blktap_vbd *vbd, u64 sectors)
{
	u64 before = vbd->disk.sectors;
	int err;

	if (!vbd->xenbus)
		return -ENODEV;
	if (sectors < vbd->disk.sectors || sectors % (vbd->disk.sector_size / RING_SECTOR_SIZE))
		return -EINVAL;
	if (sectors == vbd->disk.sectors)
		return 0;
	/* Queues may be judging requests by it: right by the old size and by the new. */
	WRITE_ONCE(vbd->disk.sectors, sectors);
	err = blktap_xenbus_tell_size(vbd);
	if (err)
		WRITE_ONCE(vbd->disk.sectors, before);
	return err;
}

static long ioctl_resize(const struct seat *seat, const void __user *argument)
{
	struct blktap_vbd *vbd = seat->vbd;
	u64 sectors;
	int err;

	if (copy_from_user(&sectors, argument, sizeof(sectors)))
		return -EFAULT;
	mutex_lock(&vbd->lock);
	err = seat->queue == vbd->queues ? resize_locked(vbd, sectors) : -ENXIO;
	mutex_unlock(&vbd->lock);
	return err;
}

static long ioctl_delegate(const struct seat *seat, const void __user *argument)
{
	struct blktap_vbd *vbd = seat->vbd;
	struct blktap_extent extent;
	int err;

	if (copy_from_user(&extent, argument, sizeof(extent)))
		return -EFAULT;
	mutex_lock(&vbd->lock);
	if (seat->queue != vbd->queues)
		err = -ENXIO;
	else
		err = vbd->xenbus ? blktap_delegate_add(vbd, &extent) : -ENODEV;
	mutex_unlock(&vbd->lock);
	return err;
}

static long ioctl_withdraw(const struct seat *seat, const void __user *argument)
{
	struct blktap_range range;

	if (copy_from_user(&range, argument, sizeof(range)))
		return -EFAULT;
	/* A seat never changes its queue. */
	if (smp_load_acquire(&seat->queue) != seat->vbd->queues)
		return -ENXIO;
	return blktap_delegate_withdraw(seat->vbd, &range);
}

static long ioctl_vbd(struct file *file, unsigned int command, unsigned long argument)
{
	struct blktap_queue *queue = queue_of(file);

	switch (command) {
	case BLKTAP_IOC_RUN:
		if (argument & ~(unsigned long)BLKTAP_RUN_KNOWN)
			return -EINVAL;
		return queue ? blktap_doorbell_run(queue, file, argument) : -ENXIO;
	case BLKTAP_IOC_WAKE:
		return queue ? blktap_doorbell_wake(queue, file) : -ENXIO;
	case BLKTAP_IOC_ATTACH:
		return ioctl_attach(file->private_data, file, (void __user *)argument);
	case BLKTAP_IOC_RESIZE:
		return ioctl_resize(file->private_data, (const void __user *)argument);
	case BLKTAP_IOC_DELEGATE:
		return ioctl_delegate(file->private_data, (const void __user *)argument);
	case BLKTAP_IOC_WITHDRAW:
		return ioctl_withdraw(file->private_data, (const void __user *)argument);
	default:
		return -ENOTTY;
	}
}

/* Only an attached open may map. Nothing is freed while it exists. */
static int mmap_vbd(struct file *file, struct vm_area_struct *vma)
{
	struct blktap_queue *queue = queue_of(file);

	if (!queue)
		return -ENXIO;
	switch ((u64)vma->vm_pgoff << PAGE_SHIFT) {
	case BLKTAP_MAP_DESCRIPTORS:
		return blktap_user_mmap_descriptors(queue, vma);
	case BLKTAP_MAP_COMMANDS:
		return blktap_user_mmap_commands(queue, vma);
	case BLKTAP_MAP_WINDOW_RW:
		return blktap_window_mmap(queue, vma, BLKTAP_WINDOW_RW);
	case BLKTAP_MAP_WINDOW_RO:
		return blktap_window_mmap(queue, vma, BLKTAP_WINDOW_RO);
	case BLKTAP_MAP_COPIES:
		return blktap_area_mmap(queue, vma);
	default:
		return -EINVAL;
	}
}

static __poll_t poll_vbd(struct file *file, poll_table *table)
{
	struct blktap_queue *queue = queue_of(file);
	__poll_t events = 0;

	if (!queue)
		return EPOLLERR;
	poll_wait(file, &queue->wait, table);
	if (READ_ONCE(queue->gone))
		events |= EPOLLHUP;
	if (READ_ONCE(queue->pending))
		events |= EPOLLIN;
	return events;
}

const struct file_operations blktap_chardev_operations = {
	.owner = THIS_MODULE,
	.open = open_vbd,
	.release = release_vbd,
	.unlocked_ioctl = ioctl_vbd,
	.mmap = mmap_vbd,
	.poll = poll_vbd,
};
