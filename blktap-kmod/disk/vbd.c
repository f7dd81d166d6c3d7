// SPDX-License-Identifier: GPL-2.0-only
/* The vbd as an object: its life, its device node, its attributes in sysfs. */
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <xen/xenbus.h>

#include "base/compat.h"
#include "base/stats.h"
#include "disk/chardev.h"
#include "disk/successor.h"
#include "disk/vbd.h"
#include "guest/xenbus.h"
#include "queue/queue.h"
#include "queue/queue_memory.h"

/* 0: one for each CPU, up to four. */
static unsigned int max_queues;
module_param_named(max_queues, max_queues, uint, 0644);
MODULE_PARM_DESC(max_queues,
		 "queues offered to a frontend, for disks that come from now on (default: one for each CPU, up to 4)");

#define VBDS_MAX 4096

static struct class *vbd_class;
static dev_t first_number;
static DEFINE_IDA(minors);

static struct blktap_vbd *to_vbd(struct device *dev)
{
	return container_of(dev, struct blktap_vbd, dev);
}

static const char *const state_names[] = {
	[BLKTAP_INITWAIT] = "initwait",
	[BLKTAP_CONNECTED] = "connected",
	[BLKTAP_CLOSING] = "closing",
	[BLKTAP_CLOSED] = "closed",
	[BLKTAP_ERROR] = "error",
};

static unsigned int in_flight(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;
	unsigned int sum = 0;

	blktap_for_each_queue(vbd, queue)
		sum += blktap_slots_busy(&queue->slots);
	return sum;
}

#define SHOW(name, format, value)                                                            \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attr,        \
				   char *buf)                                                \
	{                                                                                    \
		const struct blktap_vbd *vbd = to_vbd(dev);                                  \
		return sysfs_emit(buf, format "\n", value);                                  \
	}                                                                                    \
	static DEVICE_ATTR_RO(name)

SHOW(domid, "%u", vbd->domid);
SHOW(devid, "%u", vbd->devid);
SHOW(state, "%s", state_names[READ_ONCE(vbd->state)]);
SHOW(attached, "%d", READ_ONCE(vbd->queues[0].owner) != NULL);
SHOW(tapdisk_pid, "%d", READ_ONCE(vbd->tapdisk_pid));
SHOW(generation, "%llu", READ_ONCE(vbd->generation));
SHOW(sectors, "%llu", READ_ONCE(vbd->disk.sectors));
SHOW(sector_size, "%u", READ_ONCE(vbd->disk.sector_size));
SHOW(writes_fail, "%d", READ_ONCE(vbd->writes_fail));
SHOW(in_flight, "%u", in_flight(vbd));
SHOW(queues, "%u", READ_ONCE(vbd->nr_connected));
SHOW(max_queues, "%u", vbd->nr_queues);
SHOW(extents, "%u", READ_ONCE(vbd->nr_delegations));
SHOW(kept, "%u", blktap_successor_kept(vbd));
SHOW(keep_left_ms, "%u", blktap_successor_time_left(vbd));

/* Whatever is written: who waits for a tapdisk waits no more. */
static ssize_t give_up_store(struct device *dev, struct device_attribute *attr, const char *buf,
			     size_t count)
{
	blktap_successor_give_up(to_vbd(dev));
	return count;
}
static DEVICE_ATTR_WO(give_up);

static struct attribute *vbd_attributes[] = {
	&dev_attr_domid.attr,       &dev_attr_devid.attr,      &dev_attr_state.attr,
	&dev_attr_attached.attr,    &dev_attr_tapdisk_pid.attr, &dev_attr_generation.attr,
	&dev_attr_sectors.attr,     &dev_attr_sector_size.attr, &dev_attr_in_flight.attr,
	&dev_attr_queues.attr,      &dev_attr_max_queues.attr, &dev_attr_extents.attr,
	&dev_attr_writes_fail.attr, &dev_attr_kept.attr,       &dev_attr_keep_left_ms.attr,
	&dev_attr_give_up.attr,
	NULL
};

static const struct attribute_group vbd_group = { .attrs = vbd_attributes };
static const struct attribute_group *vbd_groups[] = { &vbd_group, &blktap_stats_group, NULL };

static void free_vbd(struct device *dev)
{
	struct blktap_vbd *vbd = to_vbd(dev);
	struct blktap_queue *queue;

	blktap_stats_leave(vbd);
	if (vbd->queues)
		blktap_for_each_queue(vbd, queue)
			blktap_queue_free(queue);
	kvfree(vbd->queues);
	mtree_destroy(&vbd->delegations);
	if (dev->devt)
		ida_free(&minors, MINOR(dev->devt));
	kfree(vbd);
}

static unsigned int queues_to_offer(void)
{
	unsigned int wanted = READ_ONCE(max_queues) ?: min(num_online_cpus(), 4u);

	return clamp(wanted, 1u, BLKTAP_QUEUES_MAX);
}

static int create_queues(struct blktap_vbd *vbd)
{
	unsigned int i;
	int err = 0;

	vbd->nr_queues = queues_to_offer();
	vbd->queues = kvcalloc(vbd->nr_queues, sizeof(*vbd->queues), GFP_KERNEL);
	if (!vbd->queues)
		return -ENOMEM;
	for (i = 0; i < vbd->nr_queues && !err; i++)
		err = blktap_queue_init(&vbd->queues[i], vbd, i);
	return err;
}

struct blktap_vbd *blktap_vbd_create(struct xenbus_device *xenbus, unsigned int devid)
{
	struct blktap_vbd *vbd = kzalloc(sizeof(*vbd), GFP_KERNEL);
	int minor;
	int err;

	if (!vbd)
		return ERR_PTR(-ENOMEM);
	vbd->xenbus = xenbus;
	vbd->domid = xenbus->otherend_id;
	vbd->devid = devid;
	mutex_init(&vbd->lock);
	INIT_DELAYED_WORK(&vbd->work, blktap_xenbus_work);
	INIT_DELAYED_WORK(&vbd->keep_work, blktap_successor_work);
	mt_init_flags(&vbd->delegations, MT_FLAGS_USE_RCU);
	init_waitqueue_head(&vbd->withdrawing);
	device_initialize(&vbd->dev);
	vbd->dev.class = vbd_class;
	vbd->dev.groups = vbd_groups;
	vbd->dev.release = free_vbd;
	err = blktap_stats_enter(vbd) ?: create_queues(vbd);
	if (err)
		goto put;
	minor = ida_alloc_max(&minors, VBDS_MAX - 1, GFP_KERNEL);
	if (minor < 0) {
		err = minor;
		goto put;
	}
	vbd->dev.devt = MKDEV(MAJOR(first_number), minor);
	err = dev_set_name(&vbd->dev, "vbd-%u-%u", vbd->domid, devid);
	if (err)
		goto put;
	return vbd;

put:
	put_device(&vbd->dev);
	return ERR_PTR(err);
}

int blktap_vbd_show(struct blktap_vbd *vbd)
{
	cdev_init(&vbd->cdev, &blktap_chardev_operations);
	vbd->cdev.owner = THIS_MODULE;
	return cdev_device_add(&vbd->cdev, &vbd->dev);
}

void blktap_vbd_hide(struct blktap_vbd *vbd)
{
	cdev_device_del(&vbd->cdev, &vbd->dev);
}

static char *vbd_devnode(BLKTAP_DEVNODE_CONST struct device *dev, umode_t *mode)
{
	return kasprintf(GFP_KERNEL, "blktap/%s", dev_name(dev));
}

int blktap_vbd_init(void)
{
	int err = alloc_chrdev_region(&first_number, 0, VBDS_MAX, "blktap");

	if (err)
		return err;
	vbd_class = blktap_class_create("blktap");
	if (IS_ERR(vbd_class)) {
		unregister_chrdev_region(first_number, VBDS_MAX);
		return PTR_ERR(vbd_class);
	}
	vbd_class->devnode = vbd_devnode;
	return 0;
}

void blktap_vbd_exit(void)
{
	class_destroy(vbd_class);
	unregister_chrdev_region(first_number, VBDS_MAX);
	ida_destroy(&minors);
}
