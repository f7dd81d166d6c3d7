/* SPDX-License-Identifier: GPL-2.0-only */
/* A vbd: what all parts know of one disk. Its functions want process context. */
#ifndef BLKTAP_VBD_H
#define BLKTAP_VBD_H

#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <xen/interface/xen.h>

#include "ring/blkif_decode.h"
#include "ring/vbd_state.h"

struct blktap_queue;
struct blktap_stats;
struct pid;
struct xenbus_device;

/* A virtual block device. Lives as long as anything refers to vbd.dev. */
struct blktap_vbd {
	struct device dev;               /* /sys/class/blktap/vbd-D-V                  */
	struct cdev cdev;                /* /dev/blktap/vbd-D-V                        */
	struct list_head node;           /* of all living vbds, stats.c                */
	domid_t domid;
	unsigned int devid;
	struct mutex lock;
	struct xenbus_device *xenbus;    /* NULL once removed                          */
	enum blktap_state state;
	bool met;                        /* see struct vbd_facts                       */
	struct delayed_work work;        /* of xenbus.c                                */
	unsigned long drain_by;          /* jiffies: when it looks who does not answer */
	u64 generation;                  /* attaches of queue 0 so far                 */
	struct pid *tapdisk;             /* the process that has queue 0; NULL: none   */
	pid_t tapdisk_pid;               /* its number, to be shown                    */
	u32 keep_ms;                     /* how long to wait for the next one          */
	unsigned long keep_by;           /* jiffies: until when; 0: nobody is missing  */
	struct delayed_work keep_work;   /* of successor.c                             */
	u64 image_id[2];                 /* as tapdisk has said                        */
	struct blktap_slot *tried;       /* see backlog.c; NULL: none                  */
	bool writes_fail;                /* the frontend knows of a flush that failed  */
	u64 unsynced;                    /* generation of the tapdisk that could not; 0: none */
	u32 disk_flags;
	u32 physical_sector_size;
	u32 discard_granularity;
	u32 discard_alignment;
	struct blkif_disk disk;
	struct maple_tree delegations;   /* by sector; changed under vbd.lock, read under RCU */
	unsigned int nr_delegations;
	unsigned long withdrawals;       /* so far                                     */
	wait_queue_head_t withdrawing;   /* woken when a request gives one back        */
	unsigned int max_ring_order;     /* offered to the frontend                    */
	unsigned int nr_queues;          /* offered to the frontend                    */
	unsigned int nr_connected;       /* that it uses; the first ones               */
	struct blktap_queue *queues;
	struct blktap_stats __percpu *stats;
};

/*
 * Whether the request would change the disk, and must not: the frontend may have
 * stopped to ask for flushes, so nothing would make it durable.
 */
static inline bool blktap_vbd_refuses(const struct blktap_vbd *vbd,
				      const struct blkif_request *request)
{
	return READ_ONCE(vbd->writes_fail) && blkif_op_writes(request->op);
}

/* The tapdisk that is attached cannot sync: no frontend may write through it. */
static inline void blktap_vbd_distrust(struct blktap_vbd *vbd)
{
	WRITE_ONCE(vbd->unsynced, READ_ONCE(vbd->generation));
}

#define blktap_for_each_queue(vbd, queue) \
	for ((queue) = (vbd)->queues; (queue) < (vbd)->queues + (vbd)->nr_queues; (queue)++)

/* A vbd that nobody can see yet. The caller's reference is dropped by put_device(&vbd->dev). */
struct blktap_vbd *blktap_vbd_create(struct xenbus_device *xenbus, unsigned int devid);

/* The device node and the sysfs directory appear. */
int blktap_vbd_show(struct blktap_vbd *vbd);

/* They disappear; a process that has the node open keeps it and the vbd. */
void blktap_vbd_hide(struct blktap_vbd *vbd);

/* Module load. */
int blktap_vbd_init(void);
void blktap_vbd_exit(void);

#endif
