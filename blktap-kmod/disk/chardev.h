/* SPDX-License-Identifier: GPL-2.0-only */
/* /dev/blktap/vbd-D-V: tapdisk's entrance. */
#ifndef BLKTAP_CHARDEV_H
#define BLKTAP_CHARDEV_H

#include <linux/fs.h>

extern const struct file_operations blktap_chardev_operations;

#endif
