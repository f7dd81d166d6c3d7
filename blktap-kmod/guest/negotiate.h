/* SPDX-License-Identifier: GPL-2.0-only */
/* What both ends tell each other in xenstore. Process context; vbd.lock is held, but to check. */
#ifndef BLKTAP_NEGOTIATE_H
#define BLKTAP_NEGOTIATE_H

#include <linux/types.h>
#include <xen/grant_table.h>
#include <xen/interface/event_channel.h>

#include "ring/blkif_decode.h"

struct blktap_vbd;
struct xenbus_device;

/* What the frontend has chosen. */
struct blktap_frontend_keys {
	unsigned int queues;
	unsigned int ring_pages;
	const struct blkif_abi *abi;
	bool persistent;
	struct {
		grant_ref_t refs[BLKIF_RING_PAGES_MAX];
		evtchn_port_t event_channel;
	} queue[];
};

/* Whether this frontend can be served: -EOPNOTSUPP, which it is told, if not. */
int blktap_negotiate_check(struct xenbus_device *dev);

/* What the frontend may choose from. Written always: another driver may have left its own. */
int blktap_negotiate_offer(struct blktap_vbd *vbd);

/* The frontend's keys, each checked. What is wrong is said under its name. */
struct blktap_frontend_keys *blktap_negotiate_read(const struct blktap_vbd *vbd);

/* What the disk is, for a frontend that is about to connect. */
int blktap_negotiate_describe(const struct blktap_vbd *vbd);

/* What has changed, for a frontend that is connected. */
int blktap_negotiate_size(const struct blktap_vbd *vbd);

#endif
