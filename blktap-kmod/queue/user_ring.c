// SPDX-License-Identifier: GPL-2.0-only
/*
 * The rings between the module and tapdisk, which is trusted as little as the
 * guest: the module writes the descriptor area and never reads it back, and
 * takes each command into a private copy before it looks at it.
 */
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "base/compat.h"
#include "base/stats.h"
#include "base/trace.h"
#include "data/submit.h"
#include "data/window.h"
#include "disk/vbd.h"
#include "queue/queue.h"
#include "queue/user_ring.h"

#define REQUESTS_AT    sizeof(struct blktap_kernel_head)
#define SEGMENTS_AT    (REQUESTS_AT + BLKTAP_DEPTH_MAX * sizeof(struct blktap_req))
#define COMMANDS_AT    sizeof(struct blktap_user_head)
#define DESCRIPTOR_BYTES \
	PAGE_ALIGN(SEGMENTS_AT + BLKTAP_PAGES * sizeof(struct blktap_seg))
#define COMMAND_BYTES  PAGE_ALIGN(COMMANDS_AT + BLKTAP_COMMANDS * sizeof(struct blktap_cmd))

static struct blktap_kernel_head *kernel_head(struct blktap_queue *queue)
{
	return queue->user.descriptors;
}

static struct blktap_user_head *user_head(struct blktap_queue *queue)
{
	return queue->user.commands;
}

int blktap_user_init(struct blktap_queue *queue)
{
	queue->user.descriptors = vmalloc_user(DESCRIPTOR_BYTES);
	queue->user.commands = vmalloc_user(COMMAND_BYTES);
	return queue->user.descriptors && queue->user.commands ? 0 : -ENOMEM;
}

void blktap_user_free(struct blktap_queue *queue)
{
	vfree(queue->user.descriptors);
	vfree(queue->user.commands);
}

int blktap_user_renew(struct blktap_queue *queue)
{
	struct blktap_kernel_head *head = kernel_head(queue);
	void *commands = vmalloc_user(COMMAND_BYTES);

	if (!commands)
		return -ENOMEM;
	vfree(queue->user.commands);
	queue->user.commands = commands;
	memset(queue->user.descriptors, 0, DESCRIPTOR_BYTES);
	queue->user.announced = 0;
	queue->user.rejected = 0;
	queue->user.taken.seen = 0;
	queue->user.taken.size = BLKTAP_COMMANDS;
	head->magic = BLKTAP_MAGIC;
	head->abi = BLKTAP_ABI_VERSION;
	return 0;
}

void blktap_user_layout(struct blktap_attach *attach)
{
	attach->depth = BLKTAP_DEPTH_MAX;
	attach->max_segs = BLKTAP_SEGS_MAX;
	attach->pages = BLKTAP_PAGES;
	attach->commands = BLKTAP_COMMANDS;
	attach->requests_at = REQUESTS_AT;
	attach->segments_at = SEGMENTS_AT;
	attach->commands_at = COMMANDS_AT;
	attach->descriptors_bytes = DESCRIPTOR_BYTES;
	attach->commands_bytes = COMMAND_BYTES;
	attach->window_bytes = BLKTAP_WINDOW_BYTES;
	attach->window_pages = BLKTAP_WINDOW_PAGES;
}

void blktap_user_state(struct blktap_queue *queue, u32 state)
{
	ring_store_u32(&kernel_head(queue)->state, state);
}

static u8 user_op(u8 op)
{
	switch (op) {
	case BLKIF_OP_READ:
		return BLKTAP_OP_READ;
	case BLKIF_OP_WRITE:
		return BLKTAP_OP_WRITE;
	case BLKIF_OP_FLUSH_DISKCACHE:
		return BLKTAP_OP_FLUSH;
	case BLKIF_OP_DISCARD:
		return BLKTAP_OP_DISCARD;
	default:
		return BLKTAP_OP_BARRIER;
	}
}

/* A barrier that is under way needs to know when what came before it has ended. */
static bool is_submittable(const struct blktap_queue *queue, const struct blktap_slot *slot)
{
	return queue->submits && !queue->barriers && blktap_may_submit(slot);
}

static void announce_one(struct blktap_queue *queue, struct blktap_slot *slot)
{
	struct blktap_vbd *vbd = queue->vbd;
	const struct blkif_request *request = &slot->request;
	struct blktap_req *ring = queue->user.descriptors + REQUESTS_AT;
	struct blktap_seg *table = queue->user.descriptors + SEGMENTS_AT;
	bool submittable = is_submittable(queue, slot);
	unsigned int seg;

	for (seg = slot->first; seg < slot->first + request->nr_segs; seg++)
		table[seg] = (struct blktap_seg) {
			.page = queue->page_of[seg],
			.offset = queue->segs[seg].offset,
			.length = queue->segs[seg].length,
		};
	ring[queue->user.announced++ % BLKTAP_DEPTH_MAX] = (struct blktap_req) {
		.sector = request->sector,
		.bytes = request->bytes,
		.generation = blktap_slot_offer(&queue->slots, slot, submittable),
		.slot = slot->index,
		.op = user_op(request->op),
		.flags = (request->secure ? BLKTAP_REQ_SECURE : 0) |
			 (submittable ? BLKTAP_REQ_SUBMITTABLE : 0) |
			 (slot->replayed ? BLKTAP_REQ_REPLAYED : 0),
		.nr_segs = request->nr_segs,
		.first_seg = slot->first,
		.arrival = slot->arrival,
		.discard_sectors = request->discard_sectors,
	};
	if (slot->replayed)
		blktap_count(vbd, requests_replayed, 1);
	trace_blktap_announce(vbd->domid, vbd->devid, slot->index, request->op, request->sector,
			      request->bytes, 0);
}

int blktap_user_announce(struct blktap_queue *queue, struct list_head *slots)
{
	struct blktap_slot *slot;
	int count = 0;

	list_for_each_entry(slot, slots, node) {
		announce_one(queue, slot);
		count++;
	}
	INIT_LIST_HEAD(slots);
	/* tapdisk that sees the index sees the entries. */
	ring_store_release_u32(&kernel_head(queue)->req_prod, queue->user.announced);
	return count;
}

static void collect_one(struct blktap_queue *queue, const struct blktap_cmd *cmd,
			struct list_head *starts)
{
	struct blktap_vbd *vbd = queue->vbd;
	enum cmd_verdict verdict = cmd_judge(cmd, queue->slots.table.state, BLKTAP_DEPTH_MAX);
	struct blktap_slot *slot = &queue->slots.slot[cmd_slot(cmd, BLKTAP_DEPTH_MAX)];

	if (verdict == CMD_STALE) {
		blktap_count(vbd, stale_commands, 1);
		return;
	}
	if (verdict != CMD_VALID) {
		blktap_count(vbd, bad_commands, 1);
		ring_store_u32(&kernel_head(queue)->rejected, ++queue->user.rejected);
		pr_warn_ratelimited("blktap: vbd-%u-%u: tapdisk's command refused: verb %u, slot %u, verdict %d\n",
				    vbd->domid, vbd->devid, cmd->verb, cmd->slot, verdict);
		return;
	}
	trace_blktap_collect(vbd->domid, vbd->devid, slot->index, slot->request.op,
			     slot->request.sector, slot->request.bytes, cmd->result);
	if (cmd->verb == BLKTAP_CMD_SUBMIT) {
		blktap_submit_ask(queue, slot, cmd->fd, cmd->offset, starts);
		return;
	}
	slot->status = blkif_status(slot->request.op, cmd->result);
	if (slot->status == BLKIF_RSP_SYNC_ERROR)
		blktap_vbd_distrust(vbd);
	blktap_slot_done(&queue->slots, slot);
}

int blktap_user_collect(struct blktap_queue *queue, struct list_head *starts)
{
	struct blktap_user_ring *user = &queue->user;
	const struct blktap_cmd *ring = user->commands + COMMANDS_AT;
	struct blktap_cmd cmd;
	int n = ring_available(&user->taken, &user_head(queue)->cmd_prod);

	if (n < 0) {
		blktap_count(queue->vbd, bad_commands, 1);
		return n;
	}
	while (n--) {
		ring_copy_in(&cmd, &ring[ring_position(&user->taken)], sizeof(cmd));
		user->taken.seen++;
		collect_one(queue, &cmd, starts);
	}
	/* tapdisk may reuse the entries once it sees this: our copies are made. */
	ring_store_release_u32(&kernel_head(queue)->cmd_cons, user->taken.seen);
	return 0;
}

int blktap_user_mmap_descriptors(struct blktap_queue *queue, struct vm_area_struct *vma)
{
	if (vma->vm_end - vma->vm_start != DESCRIPTOR_BYTES)
		return -EINVAL;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EPERM;
	vm_flags_clear(vma, VM_MAYWRITE | VM_MAYEXEC);
	return remap_vmalloc_range(vma, queue->user.descriptors, 0);
}

int blktap_user_mmap_commands(struct blktap_queue *queue, struct vm_area_struct *vma)
{
	if (vma->vm_end - vma->vm_start != COMMAND_BYTES || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	vm_flags_clear(vma, VM_MAYEXEC);
	return remap_vmalloc_range(vma, queue->user.commands, 0);
}
