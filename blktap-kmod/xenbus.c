// SPDX-License-Identifier: GPL-2.0-only
/*
 * The vbd's side of the xenbus state machine.
 *
 *   probe ──► InitWait ──frontend ready and tapdisk attached──► Connected
 *                ▲                                                  │ frontend Closed or gone
 *                └──frontend Initialising again── Closed ◄──drained── draining
 *
 * InitWait comes at once: libxl runs the hotplug script, which starts tapdisk,
 * only after it has seen it. Callbacks run in the one xenwatch thread of the
 * host, so waiting for I/O is left to a work item.
 */
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <xen/xenbus.h>

#include "blktap.h"
#include "trace.h"

/* How long tapdisk may take to finish what it owns before its pages are taken away. */
#define DRAIN_TIME  (3 * HZ)
#define DRAIN_STEP  max(HZ / 100, 1)
/* How long removal waits for I/O in flight; after that the vbd lives on, unseen, until it ends. */
#define REMOVE_TIME (5 * HZ)

/* `info` of blkif.h. */
#define VDISK_CDROM     1
#define VDISK_REMOVABLE 2
#define VDISK_READONLY  4

static void set_state(struct blktap_vbd *vbd, enum blktap_state state)
{
	WRITE_ONCE(vbd->state, state);
	trace_blktap_state(vbd->domid, vbd->devid, state);
}

/* Tells tapdisk; queue.lock is held. */
static void tell(struct blktap_queue *queue, u32 state)
{
	blktap_user_state(queue, state);
	if (queue->owner)
		blktap_queue_wake(queue);
}

void blktap_xenbus_kick(struct blktap_vbd *vbd)
{
	mod_delayed_work(blktap_workqueue, &vbd->work, 0);
}

/* What the frontend may choose from. Written always: another driver may have left its own. */
static int write_offers(struct xenbus_device *dev)
{
	return xenbus_printf(XBT_NIL, dev->nodename, "feature-max-indirect-segments", "0") ?:
	       xenbus_printf(XBT_NIL, dev->nodename, "multi-queue-max-queues", "1") ?:
	       xenbus_printf(XBT_NIL, dev->nodename, "max-ring-page-order", "0");
}

struct frontend_keys {
	grant_ref_t ring_ref;
	evtchn_port_t event_channel;
	const struct blkif_abi *abi;
};

/* Absent means native, as xen-blkback has it. */
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

/* The frontend's keys, each checked. What is wrong is said under its name. */
static int read_keys(struct xenbus_device *dev, struct frontend_keys *keys)
{
	const char *dir = dev->otherend;
	unsigned int queues = xenbus_read_unsigned(dir, "multi-queue-num-queues", 1);
	unsigned int order = xenbus_read_unsigned(dir, "ring-page-order", 0);
	const char *ring_key = xenbus_exists(XBT_NIL, dir, "ring-ref") ? "ring-ref" : "ring-ref0";

	if (queues != 1) {
		xenbus_dev_fatal(dev, -EINVAL, "%s/multi-queue-num-queues: %u, offered was 1",
				 dir, queues);
		return -EINVAL;
	}
	if (order) {
		xenbus_dev_fatal(dev, -EINVAL, "%s/ring-page-order: %u, offered was 0", dir, order);
		return -EINVAL;
	}
	if (xenbus_scanf(XBT_NIL, dir, ring_key, "%u", &keys->ring_ref) != 1) {
		xenbus_dev_fatal(dev, -EINVAL, "%s/%s: missing or not a number", dir, ring_key);
		return -EINVAL;
	}
	if (xenbus_scanf(XBT_NIL, dir, "event-channel", "%u", &keys->event_channel) != 1) {
		xenbus_dev_fatal(dev, -EINVAL, "%s/event-channel: missing or not a number", dir);
		return -EINVAL;
	}
	keys->abi = read_protocol(dev);
	return keys->abi ? 0 : -EINVAL;
}

static int write_disk_in(struct xenbus_transaction xbt, const struct blktap_vbd *vbd)
{
	const char *node = vbd->xenbus->nodename;
	unsigned int flush = !!(vbd->disk_flags & BLKTAP_DISK_FLUSH);
	unsigned int info = 0;

	if (vbd->disk_flags & BLKTAP_DISK_CDROM)
		info |= VDISK_CDROM;
	if (vbd->disk_flags & BLKTAP_DISK_REMOVABLE)
		info |= VDISK_REMOVABLE;
	if (vbd->disk.read_only)
		info |= VDISK_READONLY;
	return xenbus_printf(xbt, node, "feature-flush-cache", "%u", flush) ?:
	       xenbus_printf(xbt, node, "feature-barrier", "%u", flush) ?:
	       xenbus_printf(xbt, node, "feature-discard", "0") ?:
	       xenbus_printf(xbt, node, "feature-persistent", "0") ?:
	       xenbus_printf(xbt, node, "sectors", "%llu", vbd->disk.sectors) ?:
	       xenbus_printf(xbt, node, "sector-size", "%u", vbd->disk.sector_size) ?:
	       xenbus_printf(xbt, node, "physical-sector-size", "%u", vbd->physical_sector_size) ?:
	       xenbus_printf(xbt, node, "info", "%u", info);
}

/* The disk's properties, in one transaction: the frontend sees all or none. */
static int write_disk(const struct blktap_vbd *vbd)
{
	struct xenbus_transaction xbt;
	int err;

	do {
		err = xenbus_transaction_start(&xbt);
		if (err)
			return err;
		err = write_disk_in(xbt, vbd);
		if (err) {
			xenbus_transaction_end(xbt, 1);
			return err;
		}
		err = xenbus_transaction_end(xbt, 0);
	} while (err == -EAGAIN);
	return err;
}

/*
 * Connects if both sides are there. vbd.lock is held. On failure the reason is
 * in the log and under error/ in xenstore, and the frontend sees Closing.
 */
void blktap_xenbus_connect(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue = &vbd->queue;
	struct xenbus_device *dev = vbd->xenbus;
	struct frontend_keys keys;
	int err;

	if (!vbd->frontend_ready || vbd->state != BLKTAP_INITWAIT || !READ_ONCE(queue->owner))
		return;
	err = read_keys(dev, &keys);
	if (err)
		goto broken;

	mutex_lock(&queue->lock);
	err = blktap_guest_connect(queue, keys.ring_ref, keys.event_channel, keys.abi);
	mutex_unlock(&queue->lock);
	if (err)
		goto broken;

	err = write_disk(vbd) ?: xenbus_switch_state(dev, XenbusStateConnected);
	mutex_lock(&queue->lock);
	if (err) {
		blktap_guest_disconnect(queue);
	} else {
		set_state(vbd, BLKTAP_CONNECTED);
		queue->taking = true;
		tell(queue, BLKTAP_STATE_CONNECTED);
	}
	mutex_unlock(&queue->lock);
	if (!err)
		return;
	xenbus_dev_fatal(dev, err, "writing the disk's properties");
broken:
	vbd->frontend_ready = false;
	set_state(vbd, BLKTAP_ERROR);
}

/* Starts draining; the work item goes on. vbd.lock is held. */
static void start_closing(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue = &vbd->queue;

	vbd->frontend_ready = false;
	if (vbd->state != BLKTAP_CLOSING) {
		mutex_lock(&queue->lock);
		queue->taking = false;
		tell(queue, BLKTAP_STATE_CLOSING);
		mutex_unlock(&queue->lock);
		vbd->close_by = jiffies + DRAIN_TIME;
		set_state(vbd, BLKTAP_CLOSING);
	}
	blktap_xenbus_kick(vbd);
}

/* The guest broke the ring: nothing it asked for is finished. vbd.lock is held. */
static void cut_off(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue = &vbd->queue;

	xenbus_dev_fatal(vbd->xenbus, -EPROTO,
			 "the frontend's request index runs past its ring; disk closed");
	mutex_lock(&queue->lock);
	queue->taking = false;
	tell(queue, BLKTAP_STATE_CLOSING);
	blktap_queue_revoke(queue);
	blktap_guest_disconnect(queue);
	mutex_unlock(&queue->lock);
	set_state(vbd, BLKTAP_ERROR);
}

/* Nothing is in use any more. Both locks are held. */
static void finish_closing(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue = &vbd->queue;
	bool online = xenbus_dev_is_online(vbd->xenbus);

	blktap_guest_disconnect(queue);
	set_state(vbd, BLKTAP_CLOSED);
	if (online) {
		tell(queue, BLKTAP_STATE_WAITING);
	} else {
		WRITE_ONCE(queue->gone, true);
		tell(queue, BLKTAP_STATE_GONE);
	}
}

void blktap_xenbus_work(struct work_struct *work)
{
	struct blktap_vbd *vbd = container_of(to_delayed_work(work), struct blktap_vbd, work);
	struct blktap_queue *queue = &vbd->queue;
	bool closed = false;

	mutex_lock(&vbd->lock);
	if (!vbd->xenbus)
		goto out;
	if (vbd->state == BLKTAP_CONNECTED && queue->guest.lied)
		cut_off(vbd);
	if (vbd->state != BLKTAP_CLOSING)
		goto out;

	mutex_lock(&queue->lock);
	if (queue->in_use && time_after(jiffies, vbd->close_by))
		blktap_queue_revoke(queue);
	if (!queue->in_use) {
		finish_closing(vbd);
		closed = true;
	}
	mutex_unlock(&queue->lock);
	if (closed)
		xenbus_switch_state(vbd->xenbus, XenbusStateClosed);
	else
		queue_delayed_work(blktap_workqueue, &vbd->work, DRAIN_STEP);
out:
	mutex_unlock(&vbd->lock);
}

/* The frontend's state has changed. xenwatch thread. */
static void otherend_changed(struct xenbus_device *dev, enum xenbus_state frontend)
{
	struct blktap_vbd *vbd = dev_get_drvdata(&dev->dev);

	mutex_lock(&vbd->lock);
	switch (frontend) {
	case XenbusStateInitialising:
		/* A closed frontend comes back: driver reload, kexec, boot loader's hand-over. */
		if (vbd->state == BLKTAP_CLOSED && !vbd->queue.gone) {
			set_state(vbd, BLKTAP_INITWAIT);
			xenbus_switch_state(dev, XenbusStateInitWait);
		}
		break;
	case XenbusStateInitialised:
	case XenbusStateConnected:
		vbd->frontend_ready = true;
		blktap_xenbus_connect(vbd);
		break;
	case XenbusStateClosing:
		/* It may still have requests under way: they are served until it says Closed. */
		xenbus_switch_state(dev, XenbusStateClosing);
		break;
	case XenbusStateClosed:
	case XenbusStateUnknown:
		start_closing(vbd);
		break;
	default:
		break;
	}
	mutex_unlock(&vbd->lock);
}

static int probe(struct xenbus_device *dev, const struct xenbus_device_id *id)
{
	struct blktap_vbd *vbd;
	unsigned int devid;
	int err;

	/* backend/TYPE/DOMID/DEVID */
	err = kstrtouint(kbasename(dev->nodename), 10, &devid);
	if (err) {
		xenbus_dev_fatal(dev, err, "device number of %s", dev->nodename);
		return err;
	}
	vbd = blktap_vbd_create(dev, devid);
	if (IS_ERR(vbd)) {
		xenbus_dev_fatal(dev, PTR_ERR(vbd), "creating the disk");
		return PTR_ERR(vbd);
	}
	dev_set_drvdata(&dev->dev, vbd);
	err = write_offers(dev);
	if (err) {
		xenbus_dev_fatal(dev, err, "writing what is offered to the frontend");
		goto put;
	}
	/* Before InitWait: the hotplug script starts tapdisk, which opens the node. */
	err = blktap_vbd_show(vbd);
	if (err) {
		xenbus_dev_fatal(dev, err, "creating /dev/blktap/%s", dev_name(&vbd->dev));
		goto put;
	}
	err = xenbus_switch_state(dev, XenbusStateInitWait);
	if (err)
		goto hide;
	return 0;

hide:
	blktap_vbd_hide(vbd);
put:
	dev_set_drvdata(&dev->dev, NULL);
	put_device(&vbd->dev);
	return err;
}

/*
 * The xenbus device goes away: nothing may refer to it afterwards. I/O that is
 * still in flight is waited for, but not for ever; if it takes longer, the vbd
 * stays behind with the worker until its pages are free.
 */
static void remove(struct xenbus_device *dev)
{
	struct blktap_vbd *vbd = dev_get_drvdata(&dev->dev);
	struct blktap_queue *queue = &vbd->queue;

	mutex_lock(&vbd->lock);
	mutex_lock(&queue->lock);
	queue->taking = false;
	WRITE_ONCE(queue->gone, true);
	tell(queue, BLKTAP_STATE_GONE);
	blktap_queue_revoke(queue);
	blktap_guest_disconnect(queue);
	mutex_unlock(&queue->lock);
	vbd->xenbus = NULL;
	mutex_unlock(&vbd->lock);
	cancel_delayed_work_sync(&vbd->work);
	blktap_vbd_hide(vbd);

	wait_event_timeout(queue->idle, !READ_ONCE(queue->in_use), REMOVE_TIME);
	mutex_lock(&queue->lock);
	if (queue->in_use) {
		dev_warn(&vbd->dev, "%u requests still have I/O in flight; their pages are given back when it ends\n",
			 queue->in_use);
		get_device(&vbd->dev);
		__module_get(THIS_MODULE);
		queue->zombie = true;
		blktap_orphan_kick(queue);
	}
	mutex_unlock(&queue->lock);
	if (!queue->zombie)
		cancel_delayed_work_sync(&queue->work);
	dev_set_drvdata(&dev->dev, NULL);
	put_device(&vbd->dev);
}

static const struct xenbus_device_id ids[] = {
	{ "tap" },   /* a vbd that claim.c has taken               */
	{ "vbd3" },  /* backendtype=tap of Xen 4.19 and later      */
	{ "" }
};

struct xenbus_driver blktap_xenbus_driver = {
	/* Without it the name would be that of the first id. */
	.name = "blktap",
	.ids = ids,
	.probe = probe,
	.remove = remove,
	.otherend_changed = otherend_changed,
	.allow_rebind = true,
};
