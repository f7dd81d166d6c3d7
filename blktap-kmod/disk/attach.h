/* SPDX-License-Identifier: GPL-2.0-only */
/* What a tapdisk that attaches says about its disk. Its context. */
#ifndef BLKTAP_ATTACH_H
#define BLKTAP_ATTACH_H

struct blktap_attach;
struct blktap_vbd;

/* -EINVAL with nothing changed, if what tapdisk says about the disk makes no sense. */
int blktap_attach_check(const struct blktap_attach *attach);

/*
 * Makes what tapdisk says about the disk what is agreed. -ESTALE: it is not the disk that has been
 * agreed on already. vbd.lock is held, and the vbd is not removed.
 */
int blktap_attach_agree(const struct blktap_vbd *vbd, struct blktap_attach *attach);

#endif
