// SPDX-License-Identifier: GPL-2.0-only
/*
 * What both ends tell each other in xenstore before they connect (Xen's
 * public/io/blkif.h): what we offer, what the frontend has chosen, what the disk
 * is. Every key of the frontend is checked here. vbd.lock is held.
 */
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <xen/xenbus.h>

#include "disk/vbd.h"
#include "guest/negotiate.h"
#include "guest/user_pte.h"

static unsigned int max_ring_order = BLKIF_RING_ORDER_MAX;
module_param_named(max_ring_page_order, max_ring_order, uint, 0644);
MODULE_PARM_DESC(max_ring_page_order,
		 "ring pages offered to a frontend, as a power of two, 0 to 4 (default 4)");

static unsigned int max_indirect = BLKTAP_SEGS_MAX;
module_param_named(max_indirect_segments, max_indirect, uint, 0644);
MODULE_PARM_DESC(max_indirect_segments,
		 "segments offered to a frontend for one request, 0 (none but direct ones) to 256 (default)");

/* `info` of blkif.h. */
#define VDISK_CDROM     1
#define VDISK_REMOVABLE 2
#define VDISK_READONLY  4

/*
 * An auto-translated domain that maps a page of its own by a grant loses it:
 * Xen moves the frame to the new place (p2m_add_page() of xen/arch/x86/mm/p2m.c).
 */
int blktap_negotiate_check(struct xenbus_device *dev)
{
	unsigned int own = xenbus_read_unsigned("domid", "", DOMID_INVALID);

	if (!blktap_is_auto_translated() || dev->otherend_id != own)
		return 0;
	xenbus_dev_fatal(dev, -EOPNOTSUPP,
			 "serving a disk to the domain itself, which works only where that is PV");
	return -EOPNOTSUPP;
}

typedef int write_fn(struct xenbus_transaction xbt, const struct blktap_vbd *vbd);

/*
 * In one transaction: the frontend sees all or none. Nothing (-ENOENT) when the
 * toolstack has taken the directory away: a key written there would bring it
 * back as an empty shell.
 */
static int write_together(const struct blktap_vbd *vbd, write_fn *write)
{
	struct xenbus_transaction xbt;
	int err;

	do {
		err = xenbus_transaction_start(&xbt);
		if (err)
			return err;
		err = xenbus_exists(xbt, vbd->xenbus->nodename, "frontend") ?
			      write(xbt, vbd) : -ENOENT;
		if (err) {
			xenbus_transaction_end(xbt, 1);
			return err;
		}
		err = xenbus_transaction_end(xbt, 0);
	} while (err == -EAGAIN);
	return err;
}

/* None: by not being there. Another driver may have left its own. */
static int write_max_indirect(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;
	const char *key = "feature-max-indirect-segments";

	if (vbd->disk.max_indirect)
		return xenbus_printf(xbt, node, key, "%u", vbd->disk.max_indirect);
	return xenbus_exists(xbt, node, key) ? xenbus_rm(xbt, node, key) : 0;
}

static int write_offer_in(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;

	return write_max_indirect(xbt, vbd) ?:
	       xenbus_printf(xbt, node, "multi-queue-max-queues", "%u", vbd->nr_queues) ?:
	       xenbus_printf(xbt, node, "max-ring-page-order", "%u", vbd->max_ring_order);
}

int blktap_negotiate_offer(struct blktap_vbd *vbd)
{
	vbd->max_ring_order = min_t(unsigned int, READ_ONCE(max_ring_order),
				    BLKIF_RING_ORDER_MAX);
	vbd->disk.max_indirect = min(READ_ONCE(max_indirect), BLKTAP_SEGS_MAX);
	return write_together(vbd, write_offer_in);
}

/* Absent means native, as blkif.h has it (and xen-blkback has not). */
static const struct blkif_abi *read_protocol(struct xenbus_device *dev)
{
	char *name = xenbus_read(XBT_NIL, dev->otherend, "protocol", NULL);
	const struct blkif_abi *abi = NULL;

	if (IS_ERR(name))
		return &blkif_abi_native;
	if (strcmp(name, "x86_32-abi") == 0)
		abi = &blkif_abi_x86_32;
	else if (strcmp(name, "x86_64-abi") == 0)
		abi = &blkif_abi_x86_64;
	else if (strcmp(name, "arm-abi") == 0)
		abi = &blkif_abi_native;
	else
		xenbus_dev_fatal(dev, -EINVAL, "%s/protocol: unknown protocol \"%.32s\"",
				 dev->otherend, name);
	kfree(name);
	return abi;
}

static int read_number(struct xenbus_device *dev, const char *dir, const char *key, u32 *value)
{
	if (xenbus_scanf(XBT_NIL, dir, key, "%u", value) == 1)
		return 0;
	xenbus_dev_fatal(dev, -EINVAL, "%s/%s: missing or not a number", dir, key);
	return -EINVAL;
}

/* The keys of one queue, in `dir`. The one page of a ring may go by either name. */
static int read_queue_keys(struct xenbus_device *dev, const char *dir,
			   struct blktap_frontend_keys *keys, unsigned int queue)
{
	bool numbered = keys->ring_pages > 1 || !xenbus_exists(XBT_NIL, dir, "ring-ref");
	char name[sizeof("ring-ref") + 10] = "ring-ref";
	unsigned int i;
	int err = 0;

	for (i = 0; i < keys->ring_pages && !err; i++) {
		if (numbered)
			snprintf(name, sizeof(name), "ring-ref%u", i);
		err = read_number(dev, dir, name, &keys->queue[queue].refs[i]);
	}
	return err ?: read_number(dev, dir, "event-channel", &keys->queue[queue].event_channel);
}

static int read_all_queue_keys(struct xenbus_device *dev, struct blktap_frontend_keys *keys)
{
	unsigned int i;
	int err = 0;
	char *dir;

	/* One queue has its keys where all others are. */
	if (keys->queues == 1)
		return read_queue_keys(dev, dev->otherend, keys, 0);
	for (i = 0; i < keys->queues && !err; i++) {
		dir = kasprintf(GFP_KERNEL, "%s/queue-%u", dev->otherend, i);
		if (!dir)
			return -ENOMEM;
		err = read_queue_keys(dev, dir, keys, i);
		kfree(dir);
	}
	return err;
}

struct blktap_frontend_keys *blktap_negotiate_read(const struct blktap_vbd *vbd)
{
	struct xenbus_device *dev = vbd->xenbus;
	const char *dir = dev->otherend;
	unsigned int queues = xenbus_read_unsigned(dir, "multi-queue-num-queues", 1);
	unsigned int order = xenbus_read_unsigned(dir, "ring-page-order", 0);
	struct blktap_frontend_keys *keys;
	int err;

	if (queues < 1 || queues > vbd->nr_queues) {
		xenbus_dev_fatal(dev, -EINVAL, "%s/multi-queue-num-queues: %u, offered were 1 to %u",
				 dir, queues, vbd->nr_queues);
		return ERR_PTR(-EINVAL);
	}
	if (order > vbd->max_ring_order) {
		xenbus_dev_fatal(dev, -EINVAL, "%s/ring-page-order: %u, offered was up to %u", dir,
				 order, vbd->max_ring_order);
		return ERR_PTR(-EINVAL);
	}
	keys = kzalloc(struct_size(keys, queue, queues), GFP_KERNEL);
	if (!keys)
		return ERR_PTR(-ENOMEM);
	keys->queues = queues;
	keys->ring_pages = 1u << order;
	keys->persistent = (vbd->disk_flags & BLKTAP_DISK_PERSISTENT) &&
		xenbus_read_unsigned(dir, "feature-persistent", 0);
	err = read_all_queue_keys(dev, keys);
	if (!err) {
		keys->abi = read_protocol(dev);
		err = keys->abi ? 0 : -EINVAL;
	}
	if (!err)
		return keys;
	kfree(keys);
	return ERR_PTR(err);
}

static int write_discard(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;

	if (!vbd->disk.discard)
		return xenbus_printf(xbt, node, "feature-discard", "0");
	return xenbus_printf(xbt, node, "feature-discard", "1") ?:
	       xenbus_printf(xbt, node, "discard-granularity", "%u", vbd->discard_granularity) ?:
	       xenbus_printf(xbt, node, "discard-alignment", "%u", vbd->discard_alignment) ?:
	       xenbus_printf(xbt, node, "discard-secure", "%u", vbd->disk.secure_discard);
}

static int write_size(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;
	u32 physical = blkif_physical_sector_size(&vbd->disk, vbd->physical_sector_size);

	return xenbus_printf(xbt, node, "sectors", "%llu", vbd->disk.sectors) ?:
	       xenbus_printf(xbt, node, "physical-sector-size", "%u", physical);
}

static int write_disk_in(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;
	unsigned int flush = !!(vbd->disk_flags & BLKTAP_DISK_FLUSH);
	unsigned int persistent = !!(vbd->disk_flags & BLKTAP_DISK_PERSISTENT);
	unsigned int info = 0;

	if (vbd->disk_flags & BLKTAP_DISK_CDROM)
		info |= VDISK_CDROM;
	if (vbd->disk_flags & BLKTAP_DISK_REMOVABLE)
		info |= VDISK_REMOVABLE;
	if (vbd->disk.read_only)
		info |= VDISK_READONLY;
	return xenbus_printf(xbt, node, "feature-flush-cache", "%u", flush) ?:
	       xenbus_printf(xbt, node, "feature-barrier", "%u", flush) ?:
	       write_discard(xbt, vbd) ?:
	       xenbus_printf(xbt, node, "feature-persistent", "%u", persistent) ?:
	       write_size(xbt, vbd) ?:
	       xenbus_printf(xbt, node, "sector-size", "%u", vbd->disk.sector_size) ?:
	       xenbus_printf(xbt, node, "info", "%u", info);
}

static int write_size_in(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;
	int state;

	/* The toolstack may have asked for the end meanwhile: that is not taken back. */
	if (xenbus_scanf(xbt, node, "state", "%d", &state) != 1 || state != XenbusStateConnected)
		return 0;
	/* A frontend looks at the size again when the state is written, though it is the same. */
	return write_size(xbt, vbd) ?:
	       xenbus_printf(xbt, node, "state", "%d", XenbusStateConnected);
}

int blktap_negotiate_describe(const struct blktap_vbd *vbd)
{
	return write_together(vbd, write_disk_in);
}

int blktap_negotiate_size(const struct blktap_vbd *vbd)
{
	return write_together(vbd, write_size_in);
}
