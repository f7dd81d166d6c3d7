// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a tapdisk that attaches says about its disk: whether that makes sense, and whether it is the
 * disk that the guest has, or that the first queue has.
 */
#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <xen/xenbus.h>

#include "disk/attach.h"
#include "disk/vbd.h"
#include "guest/persistent.h"
#include "ring/blktap_abi.h"

static bool is_block_size(u32 bytes, u32 min)
{
	return is_power_of_2(bytes) && bytes >= min;
}

static bool is_whole_blocks(u32 bytes, const struct blktap_attach *attach)
{
	return bytes % attach->sector_size == 0;
}

static bool is_discard_sound(const struct blktap_attach *attach)
{
	if (!(attach->disk_flags & BLKTAP_DISK_DISCARD))
		return !attach->discard_granularity && !attach->discard_alignment &&
			!(attach->disk_flags & BLKTAP_DISK_SECURE);
	return attach->discard_granularity &&
		is_whole_blocks(attach->discard_granularity, attach) &&
		is_whole_blocks(attach->discard_alignment, attach) &&
		attach->discard_alignment < attach->discard_granularity;
}

int blktap_attach_check(const struct blktap_attach *attach)
{
	if (attach->abi != BLKTAP_ABI_VERSION)
		return -EPROTONOSUPPORT;
	if (memchr_inv(attach->reserved_in, 0, sizeof(attach->reserved_in)) ||
	    (attach->disk_flags & ~BLKTAP_DISK_KNOWN) ||
	    (attach->features & ~BLKTAP_FEATURES_KNOWN) ||
	    attach->poll_us > BLKTAP_POLL_US_MAX || attach->keep_ms > BLKTAP_KEEP_MS_MAX)
		return -EINVAL;
	if (!is_block_size(attach->sector_size, RING_SECTOR_SIZE) ||
	    attach->sector_size > RING_PAGE_SIZE ||
	    !is_block_size(attach->physical_sector_size, attach->sector_size))
		return -EINVAL;
	if (!attach->sectors || attach->sectors % (attach->sector_size / RING_SECTOR_SIZE))
		return -EINVAL;
	return is_discard_sound(attach) ? 0 : -EINVAL;
}

/* Of these flags a guest can do without: to be written to, which READ_ONLY says not to be, too. */
#define OFFERS (BLKTAP_DISK_READ_ONLY | BLKTAP_DISK_FLUSH | BLKTAP_DISK_DISCARD | \
		BLKTAP_DISK_SECURE | BLKTAP_DISK_PERSISTENT)

static u32 offers_of(u32 disk_flags)
{
	return (disk_flags ^ BLKTAP_DISK_READ_ONLY) & OFFERS;
}

/*
 * Whether this is the disk that the vbd has: the guest has seen it, or another
 * queue serves it. What was offered has to be there; more is no harm. While nobody
 * served it, it may have grown.
 */
static bool is_same_disk(const struct blktap_vbd *vbd, const struct blktap_attach *attach)
{
	const u32 seen = ~(OFFERS | BLKTAP_DISK_BUFFERED);
	bool grown = attach->queue == 0 && attach->sectors > vbd->disk.sectors;

	return !memcmp(vbd->image_id, attach->image_id, sizeof(vbd->image_id)) &&
		(vbd->disk.sectors == attach->sectors || grown) &&
		vbd->disk.sector_size == attach->sector_size &&
		(vbd->disk_flags & seen) == (attach->disk_flags & seen) &&
		!(offers_of(vbd->disk_flags) & ~offers_of(attach->disk_flags));
}

/* What is offered stays as it was. */
static void narrow_offers(const struct blktap_vbd *vbd, struct blktap_attach *attach)
{
	attach->disk_flags = (attach->disk_flags & ~OFFERS) | (vbd->disk_flags & OFFERS);
}

static int read_wishes(const char *node, struct blktap_wishes *wishes)
{
	char *mode = xenbus_read(XBT_NIL, node, "mode", NULL);

	if (IS_ERR(mode))
		return PTR_ERR(mode);
	wishes->read_only = !strchr(mode, 'w');
	kfree(mode);
	wishes->discard = xenbus_read_unsigned(node, "discard-enable", 1);
	return 0;
}

int blktap_attach_ask(struct blktap_vbd *vbd, struct blktap_wishes *wishes)
{
	struct xenbus_device *xenbus;
	int err;

	mutex_lock(&vbd->lock);
	xenbus = vbd->xenbus;
	if (xenbus)
		get_device(&xenbus->dev);
	mutex_unlock(&vbd->lock);
	if (!xenbus)
		return -ENODEV;
	err = read_wishes(xenbus->nodename, wishes);
	put_device(&xenbus->dev);
	return err;
}

/* What the toolstack says about the disk prevails. What it says of offers is in time until then. */
static void limit_flags(struct blktap_attach *attach, const struct blktap_wishes *wishes,
			bool agreed)
{
	if (wishes->read_only)
		attach->disk_flags |= BLKTAP_DISK_READ_ONLY;
	if (agreed)
		return;
	if ((attach->disk_flags & BLKTAP_DISK_READ_ONLY) || !wishes->discard)
		attach->disk_flags &= ~(BLKTAP_DISK_DISCARD | BLKTAP_DISK_SECURE);
	if (!READ_ONCE(blktap_max_persistent))
		attach->disk_flags &= ~BLKTAP_DISK_PERSISTENT;
}

int blktap_attach_agree(const struct blktap_vbd *vbd, struct blktap_attach *attach,
			const struct blktap_wishes *wishes)
{
	bool agreed = attach->queue || vbd->state == BLKTAP_CONNECTED;

	limit_flags(attach, wishes, agreed);
	if (!agreed)
		return 0;
	if (!is_same_disk(vbd, attach))
		return -ESTALE;
	narrow_offers(vbd, attach);
	return 0;
}
