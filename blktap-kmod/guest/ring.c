// SPDX-License-Identifier: GPL-2.0-only
/*
 * The guest's ring: everything that touches memory the guest can write, and
 * the event channel. queue.lock is held throughout, but for the interrupt.
 */
#include <linux/interrupt.h>
#include <linux/ratelimit.h>
#include <xen/events.h>
#include <xen/xenbus.h>

#include "base/stats.h"
#include "base/trace.h"
#include "disk/vbd.h"
#include "guest/copy.h"
#include "guest/ring.h"
#include "queue/queue.h"

/*
 * The event source stays masked until the EOI, which follows the work: a guest
 * that sends events faster than its requests are served is throttled by that.
 */
static irqreturn_t on_guest_event(int irq, void *data)
{
	struct blktap_queue *queue = data;

	atomic_set(&queue->guest.eoi_owed, 1);
	blktap_count(queue->vbd, guest_events, 1);
	blktap_queue_knock(queue);
	return IRQ_HANDLED;
}

/*
 * Maps the pages of a ring side by side. xenbus forgets what it has mapped behind a
 * page that cannot be mapped, and a guest could make it do so until Xen had no room
 * for anybody. But what is mapped can be mapped once more, whatever the guest does
 * about its grant meanwhile; so each page is mapped by itself first.
 */
static int map_ring(struct xenbus_device *xenbus, grant_ref_t *refs, unsigned int pages,
		    void **mapped)
{
	void *held[BLKIF_RING_PAGES_MAX];
	unsigned int n;
	int err = 0;

	for (n = 0; n < pages; n++) {
		err = xenbus_map_ring_valloc(xenbus, &refs[n], 1, &held[n]);
		if (err)
			break;
	}
	if (!err)
		err = xenbus_map_ring_valloc(xenbus, refs, pages, mapped);
	while (n--)
		xenbus_unmap_ring_vfree(xenbus, held[n]);
	return err;
}

int blktap_guest_connect(struct blktap_queue *queue, grant_ref_t *refs, unsigned int pages,
			 evtchn_port_t port, const struct blkif_abi *abi)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct xenbus_device *xenbus = queue->vbd->xenbus;
	struct blkif_sring *sring;
	void *mapped;
	int err;

	err = map_ring(xenbus, refs, pages, &mapped);
	if (err)
		return err;
	sring = mapped;

	ring->abi = abi;
	ring->requests.size = blkif_ring_entries(abi, pages * RING_PAGE_SIZE);
	ring->responses = ring_load_u32(&sring->rsp_prod);
	ring->published = ring->responses;
	ring->requests.seen = ring->responses;
	ring->eoi_seen = ring->requests.seen;
	ring->fetched = false;
	ring->starved = false;
	ring->lied = false;
	atomic_set(&ring->eoi_owed, 0);
	if (ring_available(&ring->requests, &sring->req_prod) < 0) {
		xenbus_dev_fatal(xenbus, -EPROTO, "ring %u holds indices that cannot be",
				 queue->index);
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
	xenbus_unmap_ring_vfree(xenbus, mapped);
	return err;
}

void blktap_guest_disconnect(struct blktap_queue *queue)
{
	struct blktap_guest_ring *ring = &queue->guest;

	if (!ring->sring)
		return;
	unbind_from_irqhandler(ring->irq, queue);
	xenbus_unmap_ring_vfree(queue->vbd->xenbus, ring->sring);
	ring->sring = NULL;
}

static void count_request(struct blktap_vbd *vbd, const struct blkif_request *request)
{
	switch (request->op) {
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
	case BLKIF_OP_DISCARD:
		blktap_count(vbd, requests_discard, 1);
		break;
	}
	if (request->indirect)
		blktap_count(vbd, requests_indirect, 1);
}

static void note_refusal(struct blktap_vbd *vbd, const struct blkif_request *request,
			 enum blkif_verdict verdict)
{
	blktap_count(vbd, bad_requests, 1);
	pr_warn_ratelimited("blktap: vbd-%u-%u: request refused: op %u, verdict %d, sector %llu, %u segments\n",
			    vbd->domid, vbd->devid, request->op, verdict, request->sector,
			    request->nr_segs);
}

/*
 * Takes the next entry, or answers it at once if it is not valid. -EAGAIN: its
 * private copy is kept until there is a slot and pages for it.
 */
static int take_one(struct blktap_queue *queue, struct list_head *taken)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct blktap_slot *slot = blktap_slot_next(&queue->slots);
	enum blkif_verdict verdict;

	if (!slot)
		return -EAGAIN;
	if (!ring->fetched)
		blkif_fetch(&ring->entry, ring->abi, ring->sring, ring_position(&ring->requests));
	ring->fetched = true;
	verdict = blkif_decode(&slot->request, ring->abi, &ring->entry, &queue->vbd->disk);
	if (verdict == BLKIF_VALID && !blktap_slot_take_run(&queue->slots, slot))
		return -EAGAIN;

	ring->requests.seen++;
	ring->fetched = false;
	if (verdict != BLKIF_VALID) {
		note_refusal(queue->vbd, &slot->request, verdict);
		blktap_guest_answer(queue, &slot->request, blkif_refusal(verdict));
		return 0;
	}
	if (!slot->request.indirect)
		memcpy(&queue->segs[slot->first], blkif_direct_segments(ring->abi, &ring->entry),
		       slot->request.nr_segs * sizeof(struct blkif_wire_segment));
	slot->status = BLKIF_RSP_OKAY;
	slot->generation = READ_ONCE(queue->vbd->generation);
	slot->submitted = false;
	slot->bounced = false;
	slot->lingers = false;
	slot->again = false;
	slot->replayed = false;
	slot->losses = 0;
	blktap_slot_move(&queue->slots, slot, SLOT_BACKLOG, taken);
	queue->barriers += slot->request.op == BLKIF_OP_WRITE_BARRIER;
	return 0;
}

/* The second half of the judgement, now that all segments are private copies. */
static void judge_segments(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_vbd *vbd = queue->vbd;
	struct blkif_segment *segs = &queue->segs[slot->first];
	enum blkif_verdict verdict = blkif_decode_segments(&slot->request, segs, segs, &vbd->disk);

	if (verdict != BLKIF_VALID) {
		note_refusal(vbd, &slot->request, verdict);
		slot->status = blkif_refusal(verdict);
		return;
	}
	count_request(vbd, &slot->request);
	slot->arrival = queue->arrivals++;
	if (blktap_vbd_refuses(vbd, &slot->request))
		slot->status = blkif_status(slot->request.op, -EIO);
	trace_blktap_take(vbd->domid, vbd->devid, slot->index, slot->request.op,
			  slot->request.sector, slot->request.bytes, 0);
}

int blktap_guest_take(struct blktap_queue *queue, struct list_head *taken)
{
	struct blktap_guest_ring *ring = &queue->guest;
	struct blktap_slot *slot;
	int count = 0;
	int there;
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
	there = n;
	while (n && take_one(queue, taken) == 0)
		n--;
	/* Another than the last time. */
	if (n && (n < there || !ring->starved))
		blktap_count(queue->vbd, requests_starved, 1);
	ring->starved = n;

	blktap_copy_segments(queue, taken);
	list_for_each_entry(slot, taken, node) {
		count++;
		if (slot->status == BLKIF_RSP_OKAY)
			judge_segments(queue, slot);
	}
	return count;
}

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

void blktap_guest_disarm(struct blktap_queue *queue)
{
	struct blktap_guest_ring *ring = &queue->guest;

	if (ring->sring && !ring->lied)
		ring_disarm_event(&ring->requests, &ring->sring->req_event);
}

bool blktap_guest_arm(struct blktap_queue *queue)
{
	struct blktap_guest_ring *ring = &queue->guest;
	bool more;

	if (!ring->sring || ring->lied)
		return false;
	more = ring_arm_event(&ring->requests, &ring->sring->req_event, &ring->sring->req_prod);
	/* No slot or no pages for it: whoever frees some looks again. */
	if (more && ring->starved)
		more = false;
	if (!more && atomic_xchg(&ring->eoi_owed, 0)) {
		xen_irq_lateeoi(ring->irq, ring->requests.seen == ring->eoi_seen ?
				XEN_EOI_FLAG_SPURIOUS : 0);
		ring->eoi_seen = ring->requests.seen;
	}
	return more;
}
