// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters in sysfs: those of a vbd in /sys/class/blktap/vbd-D-V/statistics,
 * the totals over living and ended vbds in /sys/devices/blktap/statistics. What
 * monitors of any Xen host look for is on the xenbus device, where xen-blkback
 * has it: Documentation/ABI/stable/sysfs-bus-xen-backend of Linux.
 */
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <xen/xenbus.h>

#include "base/stats.h"
#include "disk/vbd.h"

static DEFINE_MUTEX(stats_lock);
static LIST_HEAD(living);
static struct blktap_stats ended;
static struct device *root;

struct stat_attribute {
	struct device_attribute attr;
	enum blktap_stat stat;
};

static enum blktap_stat stat_of(struct device_attribute *attr)
{
	return container_of(attr, struct stat_attribute, attr)->stat;
}

static s64 sum_of(const struct blktap_vbd *vbd, enum blktap_stat stat)
{
	s64 total = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		total += READ_ONCE(per_cpu_ptr(vbd->stats, cpu)->count[stat]);
	return total;
}

static ssize_t show_one(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct blktap_vbd *vbd = container_of(dev, struct blktap_vbd, dev);

	return sysfs_emit(buf, "%lld\n", sum_of(vbd, stat_of(attr)));
}

static ssize_t show_total(struct device *dev, struct device_attribute *attr, char *buf)
{
	enum blktap_stat stat = stat_of(attr);
	struct blktap_vbd *vbd;
	s64 total;

	mutex_lock(&stats_lock);
	total = ended.count[stat];
	list_for_each_entry(vbd, &living, node)
		total += sum_of(vbd, stat);
	mutex_unlock(&stats_lock);
	return sysfs_emit(buf, "%lld\n", total);
}

#define STAT_ATTRIBUTES(array, show) \
	static struct stat_attribute array[] = { BLKTAP_STATS(show) }
#define ONE(name)   { __ATTR(name, 0444, show_one, NULL), BLKTAP_STAT_##name },
#define TOTAL(name) { __ATTR(name, 0444, show_total, NULL), BLKTAP_STAT_##name },

STAT_ATTRIBUTES(one_attributes, ONE);
STAT_ATTRIBUTES(total_attributes, TOTAL);

static struct attribute *one_list[BLKTAP_NR_STATS + 1];
static struct attribute *total_list[BLKTAP_NR_STATS + 1];

const struct attribute_group blktap_stats_group = { .name = "statistics", .attrs = one_list };
static const struct attribute_group total_group = { .name = "statistics", .attrs = total_list };

/* The driver core makes them once the device is bound, and takes them away before it is not. */
#define STOCK(name, value)                                                                   \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attr,        \
				   char *buf)                                                \
	{                                                                                    \
		const struct blktap_vbd *vbd = dev_get_drvdata(dev);                         \
		return sysfs_emit(buf, "%lld\n", value);                                     \
	}                                                                                    \
	static DEVICE_ATTR_RO(name)
#define SUM(name) sum_of(vbd, BLKTAP_STAT_##name)

STOCK(oo_req, SUM(requests_starved));
STOCK(rd_req, SUM(requests_read));
STOCK(wr_req, SUM(requests_write));
STOCK(f_req, SUM(requests_flush) + SUM(requests_barrier));
STOCK(ds_req, SUM(requests_discard));
STOCK(rd_sect, SUM(bytes_read) >> RING_SECTOR_SHIFT);
STOCK(wr_sect, SUM(bytes_written) >> RING_SECTOR_SHIFT);

/* As the toolstack has written it: r or w. */
static ssize_t mode_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	char *mode = xenbus_read(XBT_NIL, to_xenbus_device(dev)->nodename, "mode", NULL);
	ssize_t length;

	if (IS_ERR(mode))
		return PTR_ERR(mode);
	length = sysfs_emit(buf, "%s\n", mode);
	kfree(mode);
	return length;
}
static DEVICE_ATTR_RO(mode);

/* Of an image that is a block device; the hotplug script has written it. Else 0:0. */
static ssize_t physical_device_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	unsigned int major;
	unsigned int minor;

	if (xenbus_scanf(XBT_NIL, to_xenbus_device(dev)->nodename, "physical-device", "%x:%x",
			 &major, &minor) != 2)
		major = minor = 0;
	return sysfs_emit(buf, "%x:%x\n", major, minor);
}
static DEVICE_ATTR_RO(physical_device);

static struct attribute *stock_counters[] = {
	&dev_attr_oo_req.attr, &dev_attr_rd_req.attr,  &dev_attr_wr_req.attr,  &dev_attr_f_req.attr,
	&dev_attr_ds_req.attr, &dev_attr_rd_sect.attr, &dev_attr_wr_sect.attr, NULL
};
static struct attribute *stock_attributes[] = {
	&dev_attr_mode.attr, &dev_attr_physical_device.attr, NULL
};
static const struct attribute_group stock_counters_group = {
	.name = "statistics",
	.attrs = stock_counters,
};
static const struct attribute_group stock_group = { .attrs = stock_attributes };
const struct attribute_group *blktap_stats_stock_groups[] = {
	&stock_counters_group, &stock_group, NULL
};

int blktap_stats_init(void)
{
	int err;
	int i;

	for (i = 0; i < BLKTAP_NR_STATS; i++) {
		one_list[i] = &one_attributes[i].attr.attr;
		total_list[i] = &total_attributes[i].attr.attr;
	}
	root = root_device_register("blktap");
	if (IS_ERR(root))
		return PTR_ERR(root);
	err = sysfs_create_group(&root->kobj, &total_group);
	if (err)
		root_device_unregister(root);
	return err;
}

void blktap_stats_exit(void)
{
	sysfs_remove_group(&root->kobj, &total_group);
	root_device_unregister(root);
}

int blktap_stats_enter(struct blktap_vbd *vbd)
{
	vbd->stats = alloc_percpu(struct blktap_stats);
	if (!vbd->stats)
		return -ENOMEM;
	mutex_lock(&stats_lock);
	list_add(&vbd->node, &living);
	mutex_unlock(&stats_lock);
	return 0;
}

void blktap_stats_leave(struct blktap_vbd *vbd)
{
	int i;

	if (!vbd->stats)
		return;
	mutex_lock(&stats_lock);
	list_del(&vbd->node);
	for (i = 0; i < BLKTAP_NR_STATS; i++)
		ended.count[i] += sum_of(vbd, i);
	mutex_unlock(&stats_lock);
	free_percpu(vbd->stats);
}
