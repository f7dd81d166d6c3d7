// SPDX-License-Identifier: GPL-2.0-only
/*
 * The driver that xenbus sees: a vbd comes, its frontend's state changes, it
 * goes. All callbacks run in the one xenwatch thread of the host.
 */
#include <linux/module.h>
#include <linux/string.h>
#include <xen/xenbus.h>

#include "base/stats.h"
#include "base/workqueue.h"
#include "disk/vbd.h"
#include "guest/driver.h"
#include "guest/negotiate.h"
#include "guest/xenbus.h"
#include "queue/queue.h"

/* How long I/O of a disk that was removed may take before the log tells of it. */
#define REMOVE_TIME (5 * HZ)

/* It lives on, unseen, until the work item finds it idle and has ended its thread. */
static void leave_behind(struct blktap_queue *queue)
{
	get_device(&queue->vbd->dev);
	__module_get(THIS_MODULE);
	queue->zombie = true;
	queue->warn_at = jiffies + REMOVE_TIME;
	mod_delayed_work(blktap_workqueue, &queue->work, 0);
}

static void remove_queue(struct blktap_queue *queue)
{
	bool stays;

	mutex_lock(&queue->lock);
	stays = blktap_queue_is_busy(queue) || queue->worker;
	if (stays)
		leave_behind(queue);
	mutex_unlock(&queue->lock);
	if (!stays)
		cancel_delayed_work_sync(&queue->work);
}

/*
 * Nobody sees the vbd any more. Neither I/O that is still in flight nor the end of
 * a queue's thread, which takes a grace period, is waited for here, in the thread
 * that serves every device of the host: such a queue stays behind.
 */
static void take_down(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue;

	blktap_xenbus_leave(vbd);
	blktap_vbd_hide(vbd);
	blktap_for_each_queue(vbd, queue)
		remove_queue(queue);
}

static int probe_vbd(struct xenbus_device *dev, const struct xenbus_device_id *id)
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
	if (!err)
		return 0;
	take_down(vbd);
put:
	dev_set_drvdata(&dev->dev, NULL);
	put_device(&vbd->dev);
	return err;
}

static void remove_vbd(struct xenbus_device *dev)
{
	struct blktap_vbd *vbd = dev_get_drvdata(&dev->dev);

	take_down(vbd);
	dev_set_drvdata(&dev->dev, NULL);
	put_device(&vbd->dev);
}

static void otherend_changed(struct xenbus_device *dev, enum xenbus_state frontend)
{
	blktap_xenbus_kick(dev_get_drvdata(&dev->dev));
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
	.probe = probe_vbd,
	.remove = remove_vbd,
	.otherend_changed = otherend_changed,
	.allow_rebind = true,
	.driver.dev_groups = blktap_stats_stock_groups,
};
