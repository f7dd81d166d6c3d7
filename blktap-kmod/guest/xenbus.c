// SPDX-License-Identifier: GPL-2.0-only
/*
 * The vbd's side of the xenbus state machine: performs what ring/vbd_state.h
 * decides.
 *
 * InitWait comes at once: libxl runs the hotplug script, which starts tapdisk,
 * only after it has seen it. Callbacks run in the one xenwatch thread of the
 * host: they only make the vbd's work item look, as does everybody who changes
 * what counts.
 */
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <xen/xenbus.h>

#include "base/trace.h"
#include "base/workqueue.h"
#include "disk/vbd.h"
#include "guest/negotiate.h"
#include "guest/persistent.h"
#include "guest/ring.h"
#include "guest/xenbus.h"
#include "queue/backlog.h"
#include "queue/queue.h"
#include "queue/user_ring.h"

/* How long tapdisk may keep the requests of a disk that the toolstack takes away. */
#define DRAIN_TIME (3 * HZ)

static void set_state(struct blktap_vbd *vbd, enum blktap_state state)
{
	WRITE_ONCE(vbd->state, state);
	trace_blktap_state(vbd->domid, vbd->devid, state);
}

/* Tells tapdisk; queue.lock is held. */
static void tell_tapdisk(struct blktap_queue *queue, u32 state)
{
	blktap_user_state(queue, state);
	if (queue->owner)
		blktap_queue_wake(queue);
}

void blktap_xenbus_kick(struct blktap_vbd *vbd)
{
	mod_delayed_work(blktap_workqueue, &vbd->work, 0);
}

typedef void queue_fn(struct blktap_queue *queue);

/* Under each queue's lock. */
static void for_all_queues(struct blktap_vbd *vbd, queue_fn *act)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		act(queue);
		mutex_unlock(&queue->lock);
	}
}

static int connect_rings(struct blktap_vbd *vbd, struct blktap_frontend_keys *keys)
{
	struct blktap_queue *queue;
	unsigned int i;
	int err = 0;

	for (i = 0; i < keys->queues && !err; i++) {
		queue = &vbd->queues[i];
		mutex_lock(&queue->lock);
		err = blktap_guest_connect(queue, keys->queue[i].refs, keys->ring_pages,
					   keys->queue[i].event_channel, keys->abi);
		blktap_persistent_start(queue, keys->persistent);
		mutex_unlock(&queue->lock);
	}
	return err;
}

static bool are_served(const struct blktap_vbd *vbd, unsigned int queues)
{
	unsigned int i;

	for (i = 0; i < queues; i++)
		if (!READ_ONCE(vbd->queues[i].owner))
			return false;
	return true;
}

static void start_taking(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		queue->taking = queue->guest.sring;
		tell_tapdisk(queue, BLKTAP_STATE_CONNECTED);
		/* Whoever came for an event before this was not allowed to look. */
		if (queue->taking)
			blktap_queue_knock(queue);
		mutex_unlock(&queue->lock);
	}
}

int blktap_xenbus_tell_size(struct blktap_vbd *vbd)
{
	if (vbd->state != BLKTAP_CONNECTED)
		return 0;
	return blktap_negotiate_size(vbd);
}

static void let_rings_go(struct blktap_vbd *vbd)
{
	for_all_queues(vbd, blktap_guest_disconnect);
	WRITE_ONCE(vbd->nr_connected, 0);
}

/*
 * The frontend has written its keys. On failure the reason is in the log and
 * under error/ in xenstore, and the frontend sees Closing. False: tapdisk does not
 * serve all queues yet that the frontend wants.
 */
static bool connect_frontend(struct blktap_vbd *vbd)
{
	struct xenbus_device *dev = vbd->xenbus;
	struct blktap_frontend_keys *keys = blktap_negotiate_read(vbd);
	int err;

	vbd->met = false;
	if (IS_ERR(keys)) {
		set_state(vbd, BLKTAP_ERROR);
		return true;
	}
	if (!are_served(vbd, keys->queues)) {
		kfree(keys);
		return false;
	}

	/* This frontend asks for flushes, but this tapdisk may be the one whose flushes fail. */
	WRITE_ONCE(vbd->writes_fail, vbd->unsynced == vbd->generation);
	err = connect_rings(vbd, keys);
	WRITE_ONCE(vbd->nr_connected, keys->queues);
	kfree(keys);
	if (err)
		goto disconnect;
	err = blktap_negotiate_describe(vbd) ?: xenbus_switch_state(dev, XenbusStateConnected);
	if (err) {
		xenbus_dev_fatal(dev, err, "writing the disk's properties");
		goto disconnect;
	}
	set_state(vbd, BLKTAP_CONNECTED);
	start_taking(vbd);
	return true;

disconnect:
	let_rings_go(vbd);
	set_state(vbd, BLKTAP_ERROR);
	return true;
}

/* No new requests; what is under way goes on. vbd.lock is held. */
static void stop_taking(struct blktap_vbd *vbd, u32 state)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue) {
		mutex_lock(&queue->lock);
		queue->taking = false;
		blktap_backlog_give_up(queue);
		tell_tapdisk(queue, state);
		mutex_unlock(&queue->lock);
	}
}

static bool is_idle(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue)
		if (blktap_queue_is_busy(queue))
			return false;
	return true;
}

static bool tapdisk_owns_some(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue)
		if (blktap_slots_in(&queue->slots, SLOT_OFFERED))
			return true;
	return false;
}

/*
 * A frontend that comes back waits for tapdisk as long as it takes. But whoever ends a
 * guest cannot wait for one that hangs: it is killed, and what it owned ends with it.
 */
static void watch_drain(struct blktap_vbd *vbd)
{
	if (!time_before(jiffies, vbd->drain_by)) {
		vbd->drain_by = jiffies + DRAIN_TIME;
		if (vbd->tapdisk && tapdisk_owns_some(vbd) &&
		    !xenbus_read_unsigned(vbd->xenbus->nodename, "online", 1)) {
			dev_warn(&vbd->dev, "tapdisk (process %d) does not end the requests of a disk that goes: it is killed\n",
				 vbd->tapdisk_pid);
			kill_pid(vbd->tapdisk, SIGKILL, 1);
		}
	}
	queue_delayed_work(blktap_workqueue, &vbd->work, vbd->drain_by - jiffies);
}

static bool has_lied(const struct blktap_vbd *vbd)
{
	const struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue)
		if (READ_ONCE(queue->guest.lied))
			return true;
	return false;
}

/* No request is under way. */
static void finish_closing(struct blktap_vbd *vbd)
{
	/* The grants that stayed mapped go, too, which may take a while. */
	for_all_queues(vbd, blktap_persistent_drop);
	if (!is_idle(vbd))
		return;
	let_rings_go(vbd);
	set_state(vbd, BLKTAP_CLOSED);
	stop_taking(vbd, BLKTAP_STATE_WAITING);
}

/* The guest broke a ring: nothing more of it is answered. */
static void cut_off(struct blktap_vbd *vbd)
{
	xenbus_dev_fatal(vbd->xenbus, -EPROTO,
			 "the frontend's request index runs past its ring; disk closed");
	stop_taking(vbd, BLKTAP_STATE_CLOSING);
	for_all_queues(vbd, blktap_persistent_drop);
	for_all_queues(vbd, blktap_guest_disconnect);
	set_state(vbd, BLKTAP_ERROR);
}

static void retire_vbd(struct blktap_vbd *vbd)
{
	struct blktap_queue *queue;

	blktap_for_each_queue(vbd, queue)
		WRITE_ONCE(queue->gone, true);
	stop_taking(vbd, BLKTAP_STATE_GONE);
}

/* False: it could not be said. */
static bool say_state(struct blktap_vbd *vbd, enum xenbus_state state)
{
	xenbus_switch_state(vbd->xenbus, state);
	return vbd->xenbus->state == state;
}

static struct vbd_facts gather_facts(struct blktap_vbd *vbd)
{
	struct xenbus_device *dev = vbd->xenbus;
	struct vbd_facts facts = {
		.state = vbd->state,
		.said = dev->state,
		.retired = vbd->queues->gone,
		.served = are_served(vbd, 1),
		.idle = is_idle(vbd),
		.lied = has_lied(vbd),
	};

	/* Nothing else counts while it drains. */
	if (vbd->state == BLKTAP_CLOSING)
		return facts;
	facts.frontend = xenbus_read_driver_state(dev->otherend);
	facts.online = xenbus_read_unsigned(dev->nodename, "online", 1);
	if (vbd->state == BLKTAP_CONNECTED && facts.frontend == XenbusStateConnected)
		vbd->met = true;
	facts.met = vbd->met;
	return facts;
}

/* False: there is nothing to do until something has changed. vbd.lock is held. */
static bool take_step(struct blktap_vbd *vbd)
{
	struct vbd_facts facts = gather_facts(vbd);

	switch (vbd_decide(&facts)) {
	case VBD_INVITE:
		set_state(vbd, BLKTAP_INITWAIT);
		return say_state(vbd, XenbusStateInitWait);
	case VBD_CONNECT:
		return connect_frontend(vbd);
	case VBD_DRAIN:
		stop_taking(vbd, BLKTAP_STATE_CLOSING);
		vbd->drain_by = jiffies + DRAIN_TIME;
		set_state(vbd, BLKTAP_CLOSING);
		return true;
	case VBD_FINISH:
		finish_closing(vbd);
		return true;
	case VBD_RETIRE:
		retire_vbd(vbd);
		return true;
	case VBD_CUT_OFF:
		cut_off(vbd);
		return true;
	case VBD_SAY_CLOSING:
		return say_state(vbd, XenbusStateClosing);
	case VBD_SAY_CLOSED:
		return say_state(vbd, XenbusStateClosed);
	case VBD_REST:
		if (vbd->state == BLKTAP_CLOSING)
			watch_drain(vbd);
		break;
	}
	return false;
}

void blktap_xenbus_work(struct work_struct *work)
{
	struct blktap_vbd *vbd = container_of(to_delayed_work(work), struct blktap_vbd, work);
	bool again;

	/* A frontend that always has something new does not keep the lock from others. */
	do {
		mutex_lock(&vbd->lock);
		again = vbd->xenbus && take_step(vbd);
		mutex_unlock(&vbd->lock);
	} while (again);
}

void blktap_xenbus_leave(struct blktap_vbd *vbd)
{
	mutex_lock(&vbd->lock);
	retire_vbd(vbd);
	for_all_queues(vbd, blktap_persistent_drop);
	for_all_queues(vbd, blktap_guest_disconnect);
	vbd->xenbus = NULL;
	mutex_unlock(&vbd->lock);
	cancel_delayed_work_sync(&vbd->work);
	cancel_delayed_work_sync(&vbd->keep_work);
}
