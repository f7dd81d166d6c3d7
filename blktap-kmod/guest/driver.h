/* SPDX-License-Identifier: GPL-2.0-only */
/* The driver that xenbus sees. Its callbacks run in the xenwatch thread. */
#ifndef BLKTAP_DRIVER_H
#define BLKTAP_DRIVER_H

#include <xen/xenbus.h>

extern struct xenbus_driver blktap_xenbus_driver;

#endif
