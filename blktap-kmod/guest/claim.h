/* SPDX-License-Identifier: GPL-2.0-only */
/* Which vbds are ours. Process context. */
#ifndef BLKTAP_CLAIM_H
#define BLKTAP_CLAIM_H

struct xenbus_driver;

/* Registers the driver, which gets every vbd that is ours from now on. */
int blktap_claim_start(struct xenbus_driver *driver);
void blktap_claim_stop(struct xenbus_driver *driver);

#endif
