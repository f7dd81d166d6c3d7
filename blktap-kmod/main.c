// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading: one visible ladder. */
#include <linux/module.h>
#include <xen/xen.h>

#include "blktap.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

struct workqueue_struct *blktap_workqueue;

/* With two of Xen's entries for each, half of the table that it has by default. */
unsigned int blktap_max_pages = 65536;
module_param_named(max_pages, blktap_max_pages, uint, 0644);
MODULE_PARM_DESC(max_pages,
		 "pages of guests that are kept mapped at most, over all disks (default 65536); all others are mapped for a request at a time");

/* 0: one for each CPU, up to four. */
unsigned int blktap_max_queues;
module_param_named(max_queues, blktap_max_queues, uint, 0644);
MODULE_PARM_DESC(max_queues,
		 "queues offered to a frontend, for disks that come from now on (default: one for each CPU, up to 4)");

unsigned int blktap_max_ring_order = BLKIF_RING_ORDER_MAX;
module_param_named(max_ring_page_order, blktap_max_ring_order, uint, 0644);
MODULE_PARM_DESC(max_ring_page_order,
		 "ring pages offered to a frontend, as a power of two, 0 to 4 (default 4)");

unsigned int blktap_max_indirect = BLKTAP_SEGS_MAX;
module_param_named(max_indirect_segments, blktap_max_indirect, uint, 0644);
MODULE_PARM_DESC(max_indirect_segments,
		 "segments offered to a frontend for one request, 0 (none but direct ones) to 256 (default)");

unsigned int blktap_max_persistent = BLKTAP_PERSISTENT_MAX;
module_param_named(max_persistent_grants, blktap_max_persistent, uint, 0644);
MODULE_PARM_DESC(max_persistent_grants,
		 "grants that a queue keeps mapped at most, for disks that offer it, up to 1024 (default); 0: none does");

unsigned int blktap_persistent_seconds = 60;
module_param_named(persistent_grant_unused_seconds, blktap_persistent_seconds, uint, 0644);
MODULE_PARM_DESC(persistent_grant_unused_seconds,
		 "for how long a grant that no request uses is kept mapped (default 60); 0: until the disk is closed, or Xen has no room");

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
