// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's ring: everything that touches memory the guest can write, and
 * the event channel. queue.lock is held throughout, but for the interrupt.
 */
#include <linux/interrupt.h>
#include <linux/ratelimit.h>
#include <xen/events.h>

#include "blktap.h"
#include "trace.h"

/*
 * The event source stays masked until the EOI, which follows the work: a guest
 * that sends events faster than its requests are served is throttled by that.
 */
static irqreturn_t on_guest_event(int irq, void *data)
{
	struct blktap_queue *queue = data;

	atomic_set(&queue->guest.eoi_owed, 1);
	blktap_count(queue->vbd, guest_events, 1);
	blktap_queue_wake(queue);
	return IRQ_HANDLED;
}

/*
 * Maps the ring page `ref` of the frontend and binds to its event channel.
 * The frontend may be taking up a ring that was in use before: indices start
 * where the shared page says, if they can be true.
 */
int blktap_guest_connect(struct blktap_queue *queue, grant_ref_t ref, evtchn_port_t port,
			 const struct blkif_abi *abi)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct xenbus_device *xenbus = queue->vbd->xenbus;
	struct blkif_sring *sring;
	void *page;
	int err;

	err = xenbus_map_ring_valloc(xenbus, &ref, 1, &page);
	if (err)
		return err;
	sring = page;

	ring->abi = abi;
	ring->requests.size = blkif_ring_entries(abi, RING_PAGE_SIZE);
	ring->responses = ring_load_u32(&sring->rsp_prod);
	ring->published = ring->responses;
	ring->requests.seen = ring->responses;
	ring->eoi_seen = ring->requests.seen;
	ring->lied = false;
	atomic_set(&ring->eoi_owed, 0);
	if (ring_available(&ring->requests, &sring->req_prod) < 0) {
		xenbus_dev_fatal(xenbus, -EPROTO, "ring page %u holds indices that cannot be", ref);
		err = -EPROTO;
		goto unmap;
	}

	err = bind_interdomain_evtchn_to_irqhandler_lateeoi(xenbus, port, on_guest_event, 0,
							    dev_name(&queue->vbd->dev), queue);
	if (err < 0) {
		xenbus_dev_fatal(xenbus, err, "binding event-channel %u", port);
		goto unmap;
	}
	ring->irq = err;
	ring->sring = sring;
	return 0;

unmap:
	xenbus_unmap_ring_vfree(xenbus, page);
	return err;
}

/* Idempotent. Requests still in slots get no answer any more. */
void blktap_guest_disconnect(struct blktap_queue *queue)
{
	struct blktap_guest_ring *ring = &queue->guest;

	if (!ring->sring)
		return;
	unbind_from_irqhandler(ring->irq, queue);
	xenbus_unmap_ring_vfree(queue->vbd->xenbus, ring->sring);
	ring->sring = NULL;
}

static void count_request(struct blktap_vbd *vbd, u8 op)
{
	switch (op) {
	case BLKIF_OP_READ:
		blktap_count(vbd, requests_read, 1);
		break;
	case BLKIF_OP_WRITE:
		blktap_count(vbd, requests_write, 1);
		break;
	case BLKIF_OP_FLUSH_DISKCACHE:
		blktap_count(vbd, requests_flush, 1);
		break;
	case BLKIF_OP_WRITE_BARRIER:
		blktap_count(vbd, requests_barrier, 1);
		break;
	}
}

/* Takes one entry into `slot`, or answers it at once if it is not valid. */
static bool take_one(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct blktap_vbd *vbd = queue->vbd;
	struct blkif_entry entry;
	enum blkif_verdict verdict;

	blkif_fetch(&entry, ring->abi, ring->sring, ring_position(&ring->requests));
	ring->requests.seen++;
	verdict = blkif_decode(&slot->request, ring->abi, &entry, &vbd->disk);
	if (verdict != BLKIF_VALID) {
		blktap_count(vbd, bad_requests, 1);
		pr_warn_ratelimited("blktap: vbd-%u-%u: request refused: op %u, verdict %d, sector %llu, %u segments\n",
				    vbd->domid, vbd->devid, slot->request.op, verdict,
				    slot->request.sector, slot->request.nr_segs);
		blktap_guest_answer(queue, &slot->request, blkif_refusal(verdict));
		return false;
	}
	count_request(vbd, slot->request.op);
	slot->status = BLKIF_RSP_OKAY;
	slot->arrival = queue->arrivals++;
	trace_blktap_take(vbd->domid, vbd->devid, slot->index, slot->request.op,
			  slot->request.sector, slot->request.bytes, 0);
	return true;
}

/*
 * Moves the guest's new requests from the free slots to `taken`. Returns how
 * many, or -EPROTO if the producer index cannot be: then nothing is read from
 * this ring ever again.
 */
int blktap_guest_take(struct blktap_queue *queue, struct list_head *taken)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct blktap_slot *slot;
	int count = 0;
	int n;

	if (ring->lied)
		return -EPROTO;
	n = ring_available(&ring->requests, &ring->sring->req_prod);
	/* The guest may not overwrite requests that have no response yet. */
	if (n < 0 || n + (ring->requests.seen - ring->responses) > ring->requests.size) {
		ring->lied = true;
		blktap_count(queue->vbd, lying_producer, 1);
		return -EPROTO;
	}
	/* What finds no free slot stays on the ring until one is freed. */
	for (; n && !list_empty(&queue->free); n--) {
		slot = list_first_entry(&queue->free, struct blktap_slot, node);
		if (!take_one(queue, slot))
			continue;
		list_move_tail(&slot->node, taken);
		queue->in_use++;
		count++;
	}
	return count;
}

/* Writes a response; the guest sees it at the next blktap_guest_publish(). */
void blktap_guest_answer(struct blktap_queue *queue, const struct blkif_request *request,
			 s16 status)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct blktap_vbd *vbd = queue->vbd;

	if (status == BLKIF_RSP_OKAY)
		blktap_count(vbd, responses_ok, 1);
	else
		blktap_count(vbd, responses_error, 1);
	if (!ring->sring)
		return;
	blkif_put_response(ring->abi, ring->sring, ring->responses & (ring->requests.size - 1),
			   request->id, request->op, status);
	ring->responses++;
}

/* Shows all responses written so far, with one event at most. */
void blktap_guest_publish(struct blktap_queue *queue)
{
	struct blktap_guest_ring *ring = &queue->guest;
	u32 before = ring->published;

	if (!ring->sring || before == ring->responses)
		return;
	ring->published = ring->responses;
	ring_store_release_u32(&ring->sring->rsp_prod, ring->responses);
	/* The guest sees the responses before we look whether it wants an event for them. */
	ring_fence();
	if (ring_needs_notify(before, ring->responses, ring_load_u32(&ring->sring->rsp_event))) {
		notify_remote_via_irq(ring->irq);
		blktap_count(queue->vbd, guest_notifies, 1);
	}
}

/*
 * Asks the guest to send an event with its next request and lets the event
 * source go. Returns true if a request is there already: the caller must look
 * again before it sleeps.
 */
bool blktap_guest_arm(struct blktap_queue *queue)
{
	struct blktap_guest_ring *ring = &queue->guest;
	bool more;

	if (!ring->sring || ring->lied)
		return false;
	more = ring_arm_event(&ring->requests, &ring->sring->req_event, &ring->sring->req_prod);
	/* No slot for it: whoever frees one looks again. */
	if (more && list_empty(&queue->free))
		more = false;
	if (!more && atomic_xchg(&ring->eoi_owed, 0)) {
		xen_irq_lateeoi(ring->irq, ring->requests.seen == ring->eoi_seen ?
				XEN_EOI_FLAG_SPURIOUS : 0);
		ring->eoi_seen = ring->requests.seen;
	}
	return more;
}
