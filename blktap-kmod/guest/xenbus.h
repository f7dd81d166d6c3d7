/* SPDX-License-Identifier: GPL-2.0-only */
/* The vbd's side of the xenbus state machine. */
#ifndef BLKTAP_XENBUS_H
#define BLKTAP_XENBUS_H

struct blktap_vbd;
struct work_struct;

/* Something that counts (struct vbd_facts) has changed. Any context. */
void blktap_xenbus_kick(struct blktap_vbd *vbd);

/* The vbd's work. */
void blktap_xenbus_work(struct work_struct *work);

/*
 * The disk has grown. Before the guest is connected it learns the size with all
 * else. vbd.lock is held.
 */
int blktap_xenbus_tell_size(struct blktap_vbd *vbd);

/*
 * The xenbus device goes away, and nothing refers to it afterwards. I/O that is
 * still in flight is not waited for. xenwatch thread.
 */
void blktap_xenbus_leave(struct blktap_vbd *vbd);

#endif
