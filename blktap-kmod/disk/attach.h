/* SPDX-License-Identifier: GPL-2.0-only */
/* What a tapdisk that attaches says about its disk. Its context. */
#ifndef BLKTAP_ATTACH_H
#define BLKTAP_ATTACH_H

#include <linux/types.h>

struct blktap_attach;
struct blktap_vbd;

/* -EINVAL with nothing changed, if what tapdisk says about the disk makes no sense. */
int blktap_attach_check(const struct blktap_attach *attach);

/* Of the toolstack, for the disk. */
struct blktap_wishes {
	bool read_only;
	bool discard;                    /* may be offered                             */
};

/*
 * Asks xenstore, which may itself wait for this disk: no lock is held, so that its
 * requests can be given up meanwhile. -ENODEV: the vbd is removed.
 */
int blktap_attach_ask(struct blktap_vbd *vbd, struct blktap_wishes *wishes);

/*
 * Makes what tapdisk says about the disk what is agreed. -ESTALE: it is not the disk that has been
 * agreed on already. vbd.lock is held.
 */
int blktap_attach_agree(const struct blktap_vbd *vbd, struct blktap_attach *attach,
			const struct blktap_wishes *wishes);

#endif
