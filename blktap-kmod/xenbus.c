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
/* How long I/O of a disk that was removed may take before the log tells of it. */
#define REMOVE_TIME (5 * HZ)

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

typedef void queue_fn(struct blktap_queue *queue);

/* Under each queue's lock. */
static void for_all_queues(struct blktap_vbd *vbd, queue_fn *act)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		act(queue);
		mutex_unlock(&queue->lock);
	}
}

static int connect_rings(struct blktap_vbd *vbd, struct blktap_frontend_keys *keys)
{
	struct blktap_queue *queue;
	unsigned int i;
	int err = 0;

	for (i = 0; i < keys->queues && !err; i++) {
		queue = &vbd->queues[i];
		mutex_lock(&queue->lock);
		err = blktap_guest_connect(queue, keys->queue[i].refs, keys->ring_pages,
					   keys->queue[i].event_channel, keys->abi);
		blktap_persistent_start(queue, keys->persistent);
		mutex_unlock(&queue->lock);
	}
	return err;
}

static bool are_served(const struct blktap_vbd *vbd, unsigned int queues)
{
	unsigned int i;

	for (i = 0; i < queues; i++)
		if (!READ_ONCE(vbd->queues[i].owner))
			return false;
	return true;
}

static void start_taking(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		queue->taking = queue->guest.sring;
		tell(queue, BLKTAP_STATE_CONNECTED);
		mutex_unlock(&queue->lock);
	}
}

/* The disk has grown. Before the guest is connected it learns the size with all else. */
int blktap_xenbus_tell_size(struct blktap_vbd *vbd)
{
	if (vbd->state != BLKTAP_CONNECTED)
		return 0;
	return blktap_negotiate_size(vbd);
}

/*
 * Connects if both sides are there: the frontend with its keys, and tapdisk on
 * all queues that the frontend wants. vbd.lock is held. On failure the reason
 * is in the log and under error/ in xenstore, and the frontend sees Closing.
 */
void blktap_xenbus_connect(struct blktap_vbd *vbd)
{
	struct xenbus_device *dev = vbd->xenbus;
	struct blktap_frontend_keys *keys;
	int err;

	if (!vbd->frontend_ready || vbd->state != BLKTAP_INITWAIT || !are_served(vbd, 1))
		return;
	keys = blktap_negotiate_read(vbd);
	if (IS_ERR(keys))
		goto broken;
	if (!are_served(vbd, keys->queues)) {
		kfree(keys);
		return;
	}

	/* This frontend asks for flushes, but this tapdisk may be the one whose flushes fail. */
	WRITE_ONCE(vbd->writes_fail, vbd->unsynced == vbd->generation);
	err = connect_rings(vbd, keys);
	WRITE_ONCE(vbd->nr_connected, keys->queues);
	kfree(keys);
	if (err)
		goto disconnect;
	err = blktap_negotiate_describe(vbd) ?: xenbus_switch_state(dev, XenbusStateConnected);
	if (err) {
		xenbus_dev_fatal(dev, err, "writing the disk's properties");
		goto disconnect;
	}
	set_state(vbd, BLKTAP_CONNECTED);
	start_taking(vbd);
	return;

disconnect:
	for_all_queues(vbd, blktap_guest_disconnect);
	WRITE_ONCE(vbd->nr_connected, 0);
broken:
	vbd->frontend_ready = false;
	set_state(vbd, BLKTAP_ERROR);
}

/* No new requests; what is under way goes on. vbd.lock is held. */
static void stop_taking(struct blktap_vbd *vbd, u32 state)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		queue->taking = false;
		tell(queue, state);
		mutex_unlock(&queue->lock);
	}
}

static bool is_idle(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue)
		if (READ_ONCE(queue->in_use))
			return false;
	return true;
}

static bool has_lied(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue)
		if (READ_ONCE(queue->guest.lied))
			return true;
	return false;
}

/* Starts draining; the work item goes on. vbd.lock is held. */
static void start_closing(struct blktap_vbd *vbd)
{
	vbd->frontend_ready = false;
	if (vbd->state != BLKTAP_CLOSING) {
		stop_taking(vbd, BLKTAP_STATE_CLOSING);
		vbd->close_by = jiffies + DRAIN_TIME;
		set_state(vbd, BLKTAP_CLOSING);
	}
	blktap_xenbus_kick(vbd);
}

/* The guest broke a ring: nothing it asked for is finished. vbd.lock is held. */
static void cut_off(struct blktap_vbd *vbd)
{
	xenbus_dev_fatal(vbd->xenbus, -EPROTO,
			 "the frontend's request index runs past its ring; disk closed");
	stop_taking(vbd, BLKTAP_STATE_CLOSING);
	for_all_queues(vbd, blktap_queue_revoke);
	for_all_queues(vbd, blktap_persistent_drop);
	for_all_queues(vbd, blktap_guest_disconnect);
	set_state(vbd, BLKTAP_ERROR);
}

/* Nothing is in use any more, and nothing new is taken. vbd.lock is held. */
static void finish_closing(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue;

	for_all_queues(vbd, blktap_guest_disconnect);
	WRITE_ONCE(vbd->nr_connected, 0);
	set_state(vbd, BLKTAP_CLOSED);
	if (xenbus_dev_is_online(vbd->xenbus)) {
		stop_taking(vbd, BLKTAP_STATE_WAITING);
	} else {
		blktap_for_each_queue(vbd, queue)
			WRITE_ONCE(queue->gone, true);
		stop_taking(vbd, BLKTAP_STATE_GONE);
	}
	xenbus_switch_state(vbd->xenbus, XenbusStateClosed);
}

void blktap_xenbus_work(struct work_struct *work)
{
	struct blktap_vbd *vbd = container_of(to_delayed_work(work), struct blktap_vbd, work);

	mutex_lock(&vbd->lock);
	if (!vbd->xenbus)
		goto out;
	if (vbd->state == BLKTAP_CONNECTED && has_lied(vbd))
		cut_off(vbd);
	if (vbd->state != BLKTAP_CLOSING)
		goto out;

	if (!is_idle(vbd) && time_after(jiffies, vbd->close_by))
		for_all_queues(vbd, blktap_queue_revoke);
	/* No request is served any more: the grants that stayed mapped go, too. */
	if (is_idle(vbd))
		for_all_queues(vbd, blktap_persistent_drop);
	if (is_idle(vbd))
		finish_closing(vbd);
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
		if (vbd->state == BLKTAP_CLOSED && !vbd->queues->gone) {
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

	err = blktap_negotiate_check(dev);
	if (err)
		return err;

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
	err = blktap_negotiate_offer(vbd);
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

/* I/O of the queue is still in flight: it lives on, unseen, until the worker finds it idle. */
static void leave_behind(struct blktap_queue *queue)
{
	get_device(&queue->vbd->dev);
	__module_get(THIS_MODULE);
	queue->zombie = true;
	queue->warn_at = jiffies + REMOVE_TIME;
	blktap_orphan_kick(queue);
}

static void remove_queue(struct blktap_queue *queue)
{
	bool zombie;

	mutex_lock(&queue->lock);
	if (queue->in_use)
		leave_behind(queue);
	zombie = queue->zombie;
	mutex_unlock(&queue->lock);
	if (zombie)
		return;
	blktap_worker_quit(queue);
	cancel_delayed_work_sync(&queue->work);
}

/*
 * The xenbus device goes away: nothing may refer to it afterwards. I/O that is
 * still in flight is not waited for here, in the thread that serves every
 * device of the host: the vbd stays behind with the worker until its pages are
 * free.
 */
static void remove(struct xenbus_device *dev)
{
	struct blktap_vbd *vbd = dev_get_drvdata(&dev->dev);
	struct blktap_queue *queue;

	mutex_lock(&vbd->lock);
	blktap_for_each_queue(vbd, queue)
		WRITE_ONCE(queue->gone, true);
	stop_taking(vbd, BLKTAP_STATE_GONE);
	for_all_queues(vbd, blktap_queue_revoke);
	for_all_queues(vbd, blktap_persistent_drop);
	for_all_queues(vbd, blktap_guest_disconnect);
	vbd->xenbus = NULL;
	mutex_unlock(&vbd->lock);
	cancel_delayed_work_sync(&vbd->work);
	blktap_vbd_hide(vbd);

	blktap_for_each_queue(vbd, queue)
		remove_queue(queue);
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
