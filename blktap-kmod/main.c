// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading: one visible ladder. */
#include <linux/module.h>
#include <xen/xen.h>

#include "base/stats.h"
#include "base/workqueue.h"
#include "data/area.h"
#include "disk/vbd.h"
#include "guest/claim.h"
#include "guest/driver.h"
#include "guest/keep.h"
#include "ring/blktap_abi.h"

#define CREATE_TRACE_POINTS
#include "base/trace.h"

struct workqueue_struct *blktap_workqueue;

static bool serving;

static int __init blktap_init(void)
{
	int err;

	/* Not an error: modules-load.d of a host that also boots bare may list the module. */
	if (!xen_domain()) {
		pr_info("blktap: not running on Xen, no guest to serve\n");
		return 0;
	}
	blktap_workqueue = alloc_workqueue("blktap", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!blktap_workqueue)
		return -ENOMEM;
	err = blktap_area_init();
	if (err)
		goto no_area;
	err = blktap_stats_init();
	if (err)
		goto no_stats;
	err = blktap_vbd_init();
	if (err)
		goto no_vbds;
	err = blktap_claim_start(&blktap_xenbus_driver);
	if (err)
		goto no_claim;
	serving = true;
	return 0;

no_claim:
	blktap_vbd_exit();
no_vbds:
	blktap_stats_exit();
no_stats:
	blktap_area_exit();
no_area:
	destroy_workqueue(blktap_workqueue);
	return err;
}

static void __exit blktap_exit(void)
{
	if (!serving)
		return;
	blktap_claim_stop(&blktap_xenbus_driver);
	blktap_keep_stop();
	/* The last work item of a removed vbd may still be on its way out. */
	destroy_workqueue(blktap_workqueue);
	blktap_vbd_exit();
	blktap_stats_exit();
	blktap_area_exit();
}

module_init(blktap_init);
module_exit(blktap_exit);

MODULE_LICENSE("GPL");
/* What a tapdisk must be built for; installers compare it. */
MODULE_VERSION("abi-" __stringify(BLKTAP_ABI_VERSION));
MODULE_DESCRIPTION("Xen block back end served by a user-space process without copying");
MODULE_ALIAS("xen-backend:tap");
MODULE_ALIAS("xen-backend:vbd3");
