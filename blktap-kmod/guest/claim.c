// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which vbds are ours.
 *
 * libxl writes every block device under backend/vbd, and xen-blkback's driver
 * matches all of those. A vbd whose hotplug script is block-tapzc is ours, so
 * its device type is changed from "vbd" to "tap" before any driver is asked:
 * BUS_NOTIFY_ADD_DEVICE precedes both the uevent and the probe. That is
 * independent of load order, keeps xen-blkback from being loaded for us, and
 * leaves every other vbd alone. (Refusing the others in probe would lose ours
 * whenever xen-blkback is loaded first.)
 */
#include <linux/slab.h>
#include <linux/string.h>
#include <xen/xenbus.h>

#include "guest/claim.h"

#define STOCK_TYPE "vbd"
#define OUR_TYPE   "tap"
#define OUR_SCRIPT "block-tapzc"

static_assert(sizeof(OUR_TYPE) == sizeof(STOCK_TYPE), "the new type fits where the old one was");

static bool is_ours(const struct xenbus_device *dev)
{
	char *script = xenbus_read(XBT_NIL, dev->nodename, "script", NULL);
	bool ours;

	if (IS_ERR(script))
		return false;
	ours = strcmp(kbasename(script), OUR_SCRIPT) == 0;
	kfree(script);
	return ours;
}

/* devicetype points into the device's own allocation, so it stays valid after we are unloaded. */
static bool retag_vbd(struct device *device)
{
	struct xenbus_device *dev = to_xenbus_device(device);

	if (strcmp(dev->devicetype, STOCK_TYPE) != 0 || !is_ours(dev))
		return false;
	memcpy((char *)dev->devicetype, OUR_TYPE, sizeof(OUR_TYPE));
	return true;
}

/*
 * ADD_DEVICE: a new vbd, no driver has seen it. UNBOUND_DRIVER: somebody took
 * it away from xen-blkback, which had it because we were loaded late; the
 * next bind finds us.
 */
static int on_bus_event(struct notifier_block *block, unsigned long event, void *device)
{
	if (event == BUS_NOTIFY_ADD_DEVICE || event == BUS_NOTIFY_UNBOUND_DRIVER)
		retag_vbd(device);
	return NOTIFY_DONE;
}

static struct notifier_block bus_notifier = { .notifier_call = on_bus_event };

/* For vbds that nobody has taken before we were loaded. */
static int claim_unbound(struct device *device, void *unused)
{
	if (!device->driver && retag_vbd(device) && device_attach(device) < 0)
		dev_warn(device, "blktap: cannot be attached\n");
	return 0;
}

int blktap_claim_start(struct xenbus_driver *driver)
{
	int err = xenbus_register_backend(driver);

	if (err)
		return err;
	err = bus_register_notifier(driver->driver.bus, &bus_notifier);
	if (err) {
		xenbus_unregister_driver(driver);
		return err;
	}
	bus_for_each_dev(driver->driver.bus, NULL, NULL, claim_unbound);
	return 0;
}

void blktap_claim_stop(struct xenbus_driver *driver)
{
	bus_unregister_notifier(driver->driver.bus, &bus_notifier);
	xenbus_unregister_driver(driver);
}
