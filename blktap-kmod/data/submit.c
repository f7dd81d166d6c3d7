// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the module serves by itself: requests inside of delegated extents, and
 * those that tapdisk has submitted, are read from and written to a file straight
 * over the guest's pages, and where that is a block device, by a bio made of
 * them. These pages get no user PTE and no further reference, and tapdisk sleeps
 * on.
 *
 *   choose, or ask (queue.lock) -> start (no lock: a device may make it wait)
 *   -> completed (any context) -> collect (queue.lock)
 *
 * What does not succeed as a whole bounces: tapdisk gets the request after all,
 * from its start, and says what went wrong. Until then the guest has no answer.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>

#include "base/stats.h"
#include "base/trace.h"
#include "data/delegate.h"
#include "data/submit.h"
#include "disk/vbd.h"
#include "queue/queue.h"
#include "queue/worker.h"

/* A request's I/O has ended. Any context. */
static void io_ended(struct blktap_slot *slot, long moved)
{
	struct blktap_queue *queue = slot->queue;

	rcu_read_lock();
	slot->moved = moved;
	if (llist_add(&slot->completed, &queue->completed))
		blktap_collect_wanted(queue);
	rcu_read_unlock();
}

/* --- by way of the file: a regular one, or a device that is in the page cache --- */

static bool is_write_to_file(const struct kiocb *iocb)
{
	return (iocb->ki_flags & IOCB_WRITE) && S_ISREG(file_inode(iocb->ki_filp)->i_mode);
}

/*
 * A file system may look at kiocb and file until the function that starts the I/O has returned,
 * when the I/O may have ended long before, on another CPU. Whoever comes last finishes.
 */
static void put_iocb(struct blktap_slot *slot)
{
	if (atomic_dec_and_test(&slot->iocb_users))
		io_ended(slot, slot->moved);
}

static void iocb_ended(struct kiocb *iocb, long moved)
{
	struct blktap_slot *slot = container_of(iocb, struct blktap_slot, iocb);

	if (is_write_to_file(iocb))
		kiocb_end_write(iocb);
	slot->moved = moved;
	put_iocb(slot);
}

/* As kiocb_start_write(), but a file system that is frozen is not waited for. */
static bool start_write(struct kiocb *iocb)
{
	struct super_block *sb = file_inode(iocb->ki_filp)->i_sb;

	if (!sb_start_write_trylock(sb))
		return false;
	/* Whoever completes it ends it: for lockdep it is not this task's. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	return true;
}

static void start_iocb(struct blktap_slot *slot, struct bio_vec *pieces, bool write)
{
	const struct blktap_target *target = &slot->target;
	const struct file_operations *file = target->file->f_op;
	struct kiocb *iocb = &slot->iocb;
	struct iov_iter data;
	ssize_t moved;

	*iocb = (struct kiocb){
		.ki_filp = target->file,
		.ki_pos = slot->position,
		.ki_complete = iocb_ended,
		.ki_flags = target->iocb_flags | (write ? IOCB_WRITE : 0),
	};
	atomic_set(&slot->iocb_users, 2);
	iov_iter_bvec(&data, write ? ITER_SOURCE : ITER_DEST, pieces, slot->request.nr_segs,
		      slot->request.bytes);
	if (is_write_to_file(iocb)) {
		if (!start_write(iocb)) {
			io_ended(slot, -EAGAIN);
			return;
		}
		/* A new time stamp with each tick, else each tick's first write would bounce. */
		file_update_time(iocb->ki_filp);
	}
	moved = write ? file->write_iter(iocb, &data) : file->read_iter(iocb, &data);
	/* Anything else is the result, and nobody will call. */
	if (moved != -EIOCBQUEUED)
		iocb_ended(iocb, moved);
	put_iocb(slot);
}

/* --- a device, straight ---------------------------------------------------- */

/*
 * Whether the request is all of the device's business: its blocks are not
 * larger than the disk's, and this host's page cache has nothing that would
 * have to be written before or be dropped after.
 */
static bool goes_to_device(const struct blktap_slot *slot, bool write)
{
	struct address_space *cache = slot->target.file->f_mapping;
	struct block_device *device = slot->target.device;

	if (!device ||
	    bdev_logical_block_size(device) > slot->queue->vbd->disk.sector_size ||
	    (write && bdev_read_only(device)))
		return false;
	if (!READ_ONCE(cache->nrpages))
		return true;
	return !write && !mapping_tagged(cache, PAGECACHE_TAG_DIRTY) &&
		!mapping_tagged(cache, PAGECACHE_TAG_WRITEBACK);
}

static void bio_ended(struct bio *bio)
{
	struct blktap_slot *slot = container_of(bio, struct blktap_slot, bio);

	/* Whoever has initialised it ends it; that bio_endio() does so, too, is no promise. */
	bio_uninit(bio);
	io_ended(slot, bio->bi_status ? blk_status_to_errno(bio->bi_status) : slot->request.bytes);
}

/* The slot has the bio and the queue its pieces, so nothing is allocated. */
static void start_bio(struct blktap_slot *slot, struct bio_vec *pieces, bool write)
{
	struct bio *bio = &slot->bio;

	bio_init(bio, slot->target.device, pieces, slot->request.nr_segs,
		 write ? REQ_OP_WRITE | REQ_SYNC | REQ_IDLE : REQ_OP_READ);
	bio->bi_vcnt = slot->request.nr_segs;
	bio->bi_iter.bi_size = slot->request.bytes;
	bio->bi_iter.bi_sector = slot->position >> SECTOR_SHIFT;
	bio->bi_end_io = bio_ended;
	submit_bio(bio);
}

/* --- either ---------------------------------------------------------------- */

static void start_one(struct blktap_slot *slot)
{
	struct bio_vec *pieces = &slot->queue->pieces[slot->first];
	bool write = blkif_op_writes(slot->request.op);

	if (goes_to_device(slot, write))
		start_bio(slot, pieces, write);
	else
		start_iocb(slot, pieces, write);
}

/* In the plug of a task that starts I/O, which goes to sleep, or has started all. */
static void on_unplug(struct blk_plug_cb *watch, bool sleeps)
{
	if (!sleeps)
		return;
	blktap_collect_pause(watch->data);
	watch->data = NULL;
}

void blktap_submit(struct list_head *slots)
{
	struct blktap_slot *slot;
	struct blktap_slot *next;
	struct blktap_queue *queue;
	struct blk_plug_cb watch;
	struct blk_plug plug;
	unsigned int flags;

	if (list_empty(slots))
		return;
	queue = list_first_entry(slots, struct blktap_slot, node)->queue;
	watch = (struct blk_plug_cb){ .callback = on_unplug, .data = queue };
	/* Memory must not be freed by writing to the disk that is waited for. */
	flags = memalloc_noio_save();
	blk_start_plug(&plug);
	/* Who sleeps for a device does not collect what others have done. */
	if (current->plug == &plug)
		list_add(&watch.list, &plug.cb_list);
	/* From its start on a slot may be collected and be used again, its node included. */
	list_for_each_entry_safe(slot, next, slots, node)
		start_one(slot);
	INIT_LIST_HEAD(slots);
	blk_finish_plug(&plug);
	if (!watch.data)
		blktap_collect_resume(queue);
	memalloc_noio_restore(flags);
}

static void gather_pieces(struct blktap_queue *queue, const struct blktap_slot *slot)
{
	unsigned int seg;

	for (seg = slot->first; seg < slot->first + slot->request.nr_segs; seg++)
		bvec_set_page(&queue->pieces[seg], queue->pages[queue->page_of[seg]],
			      queue->segs[seg].length, queue->segs[seg].offset);
}

void blktap_submit_choose(struct blktap_queue *queue, struct list_head *taken,
			  struct list_head *starts)
{
	struct blktap_delegation *delegation;
	struct blktap_slot *slot;
	struct blktap_slot *next;
	unsigned int count = 0;
	LIST_HEAD(others);

	if (mtree_empty(&queue->vbd->delegations) || queue->barriers)
		return;
	rcu_read_lock();
	list_for_each_entry_safe(slot, next, taken, node) {
		delegation = !blktap_may_submit(slot) ? NULL :
			blktap_delegation_get(queue, &slot->request);
		if (!delegation) {
			list_move_tail(&slot->node, &others);
			continue;
		}
		slot->delegation = delegation;
		slot->target = delegation->target;
		slot->position = delegation->offset +
			(slot->request.sector - delegation->sector) * RING_SECTOR_SIZE;
		gather_pieces(queue, slot);
		blktap_slot_start(&queue->slots, slot);
		count++;
	}
	rcu_read_unlock();
	list_splice_tail_init(taken, starts);
	list_splice(&others, taken);
	blktap_count(queue->vbd, requests_delegated, count);
}

/* Errors are those of BLKTAP_IOC_DELEGATE: then the slot has no file. */
static int open_target(struct blktap_slot *slot, int fd, u64 offset)
{
	const struct blkif_request *request = &slot->request;

	slot->delegation = NULL;
	slot->position = offset;
	slot->target.file = NULL;
	if (offset % slot->queue->vbd->disk.sector_size || offset > LLONG_MAX - request->bytes)
		return -EINVAL;
	return blktap_target_open(&slot->target, fd, blkif_op_writes(request->op) ?
				  BLKTAP_EXTENT_WRITE : BLKTAP_EXTENT_READ);
}

void blktap_submit_ask(struct blktap_queue *queue, struct blktap_slot *slot, int fd, u64 offset,
		       struct list_head *starts)
{
	int err = open_target(slot, fd, offset);

	blktap_count(queue->vbd, requests_submitted, 1);
	blktap_slot_move(&queue->slots, slot, SLOT_STARTED, err ? NULL : starts);
	if (err)
		io_ended(slot, err);
	else
		gather_pieces(queue, slot);
}

static void release_target(struct blktap_slot *slot)
{
	if (slot->delegation)
		blktap_delegation_put(slot->queue->vbd, slot->delegation);
	else if (slot->target.file)
		fput(slot->target.file);
}

void blktap_submit_collect(struct blktap_queue *queue)
{
	struct llist_node *ended = llist_reverse_order(llist_del_all(&queue->completed));
	struct blktap_vbd *vbd = queue->vbd;
	struct blktap_slot *slot;
	struct blktap_slot *next;
	LIST_HEAD(bounced);

	llist_for_each_entry_safe(slot, next, ended, completed) {
		release_target(slot);
		if (slot->moved == slot->request.bytes) {
			slot->submitted = true;
			blktap_slot_done(&queue->slots, slot);
			continue;
		}
		slot->bounced = true;
		blktap_slot_move(&queue->slots, slot, SLOT_BACKLOG, &bounced);
		blktap_count(vbd, requests_bounced, 1);
		trace_blktap_bounce(vbd->domid, vbd->devid, slot->index, slot->request.op,
				    slot->request.sector, slot->request.bytes, slot->moved);
	}
	if (!blktap_queue_barrier_waits(queue))
		list_splice_tail_init(&queue->waiting, &bounced);
	blktap_queue_hand_over(queue, &bounced);
}
