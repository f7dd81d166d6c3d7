// SPDX-License-Identifier: GPL-2.0-only
/* /dev/blktap/vbd-D-V: tapdisk's entrance. Everything here runs in its context. */
#include <linux/fs.h>
#include <linux/log2.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "blktap.h"

static int open_vbd(struct inode *inode, struct file *file)
{
	struct blktap_vbd *vbd = container_of(inode->i_cdev, struct blktap_vbd, cdev);

	get_device(&vbd->dev);
	file->private_data = vbd;
	return nonseekable_open(inode, file);
}

/* The last reference to this open is gone, and with it every mapping made through it. */
static int release_vbd(struct inode *inode, struct file *file)
{
	struct blktap_vbd *vbd = file->private_data;
	struct blktap_queue *queue = &vbd->queue;

	mutex_lock(&vbd->lock);
	mutex_lock(&queue->lock);
	if (queue->owner == file) {
		WRITE_ONCE(vbd->tapdisk_pid, 0);
		if (vbd->state == BLKTAP_CONNECTED && !queue->gone)
			dev_warn(&vbd->dev, "tapdisk left a connected disk: its requests fail until another attaches\n");
		blktap_orphan_detach(queue);
	}
	mutex_unlock(&queue->lock);
	mutex_unlock(&vbd->lock);
	put_device(&vbd->dev);
	return 0;
}

static bool is_block_size(u32 bytes, u32 min)
{
	return is_power_of_2(bytes) && bytes >= min;
}

/* -EINVAL with nothing changed, if what tapdisk says about the disk makes no sense. */
static int check_attach(const struct blktap_attach *attach)
{
	if (attach->abi != BLKTAP_ABI_VERSION)
		return -EPROTONOSUPPORT;
	if (attach->reserved_in || attach->queue || (attach->disk_flags & ~BLKTAP_DISK_KNOWN) ||
	    (attach->features & ~BLKTAP_FEATURES_KNOWN))
		return -EINVAL;
	if (!is_block_size(attach->sector_size, RING_SECTOR_SIZE) ||
	    attach->sector_size > RING_PAGE_SIZE ||
	    !is_block_size(attach->physical_sector_size, attach->sector_size))
		return -EINVAL;
	if (!attach->sectors || attach->sectors % (attach->sector_size / RING_SECTOR_SIZE))
		return -EINVAL;
	return 0;
}

/* A process that takes over a connected disk must bring the same disk: the guest has seen it. */
static bool is_same_disk(const struct blktap_vbd *vbd, const struct blktap_attach *attach)
{
	const u32 seen = ~BLKTAP_DISK_BUFFERED;

	return vbd->disk.sectors == attach->sectors &&
		vbd->disk.sector_size == attach->sector_size &&
		(vbd->disk_flags & seen) == (attach->disk_flags & seen);
}

/* Both locks are held. */
static int attach_locked(struct blktap_vbd *vbd, struct file *file, struct blktap_attach *attach)
{
	struct blktap_queue *queue = &vbd->queue;
	char *mode;
	int err;

	if (!vbd->xenbus)
		return -ENODEV;
	if (queue->owner)
		return -EBUSY;

	mode = xenbus_read(XBT_NIL, vbd->xenbus->nodename, "mode", NULL);
	if (IS_ERR(mode))
		return PTR_ERR(mode);
	if (!strchr(mode, 'w'))
		attach->disk_flags |= BLKTAP_DISK_READ_ONLY;
	kfree(mode);
	if (vbd->state == BLKTAP_CONNECTED && !is_same_disk(vbd, attach))
		return -ESTALE;
	err = blktap_queue_alloc_pages(queue);
	if (err)
		return err;

	vbd->disk.sectors = attach->sectors;
	vbd->disk.sector_size = attach->sector_size;
	vbd->disk.read_only = attach->disk_flags & BLKTAP_DISK_READ_ONLY;
	vbd->physical_sector_size = attach->physical_sector_size;
	vbd->disk_flags = attach->disk_flags;
	vbd->generation++;
	vbd->tapdisk_pid = task_tgid_vnr(current);
	queue->prefault = attach->features & BLKTAP_FEATURE_PREFAULT;
	blktap_user_reset(queue);
	blktap_user_state(queue, vbd->state == BLKTAP_CONNECTED ? BLKTAP_STATE_CONNECTED :
			  BLKTAP_STATE_WAITING);
	blktap_user_layout(attach);
	attach->generation = vbd->generation;
	attach->disk_flags_out = vbd->disk_flags;
	WRITE_ONCE(queue->owner, file);
	/* The guest may have been waiting: the first poll() does not sleep. */
	WRITE_ONCE(queue->pending, true);
	return 0;
}

static long attach(struct blktap_vbd *vbd, struct file *file, void __user *argument)
{
	struct blktap_attach attach;
	int err;

	if (copy_from_user(&attach, argument, sizeof(attach)))
		return -EFAULT;
	err = check_attach(&attach);
	if (err)
		return err;

	mutex_lock(&vbd->lock);
	mutex_lock(&vbd->queue.lock);
	err = attach_locked(vbd, file, &attach);
	mutex_unlock(&vbd->queue.lock);
	if (!err)
		blktap_xenbus_connect(vbd);
	mutex_unlock(&vbd->lock);
	if (err)
		return err;
	return copy_to_user(argument, &attach, sizeof(attach)) ? -EFAULT : 0;
}

static long ioctl_vbd(struct file *file, unsigned int command, unsigned long argument)
{
	struct blktap_vbd *vbd = file->private_data;

	switch (command) {
	case BLKTAP_IOC_RUN:
		if (argument & ~(unsigned long)BLKTAP_RUN_KNOWN)
			return -EINVAL;
		return blktap_queue_run(&vbd->queue, file, argument);
	case BLKTAP_IOC_ATTACH:
		return attach(vbd, file, (void __user *)argument);
	default:
		return -ENOTTY;
	}
}

/*
 * Only the attached open may map. Nothing is freed while it exists, so the
 * owner is looked at without queue.lock, which ranks above mmap_lock.
 */
static int mmap_vbd(struct file *file, struct vm_area_struct *vma)
{
	struct blktap_vbd *vbd = file->private_data;
	struct blktap_queue *queue = &vbd->queue;

	if (READ_ONCE(queue->owner) != file)
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
	default:
		return -EINVAL;
	}
}

static __poll_t poll_vbd(struct file *file, poll_table *table)
{
	struct blktap_vbd *vbd = file->private_data;
	struct blktap_queue *queue = &vbd->queue;
	__poll_t events = 0;

	poll_wait(file, &queue->wait, table);
	if (READ_ONCE(queue->gone))
		events |= EPOLLHUP;
	if (READ_ONCE(queue->owner) == file && READ_ONCE(queue->pending))
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
