/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Rewrites one disk specification so that an unmodified libxlutil understands `tap:zc:/path` and
 * `tap:gnt:/path`.
 *
 * Works on the string only, so it depends on no struct layout and on no version of Xen.
 * Pure: called by the preload library and by the tests, in any context.
 */
#ifndef BLKTAP_XL_SPEC_H
#define BLKTAP_XL_SPEC_H

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a path, below the quota of Debian's oxenstored, 2048 (quota-maxsize). */
#define TAPZC_PATH_MAX 2000

enum tapzc_verdict {
	TAPZC_UNCHANGED,	/* not ours: hand the specification on as it is */
	TAPZC_REWRITTEN,	/* *out holds what to parse instead; the caller frees it */
	TAPZC_RELATIVE,		/* *out holds the offending `zc:path`; the caller frees it */
	TAPZC_EQUALS,		/* a `=` in the path: libxlutil sees a key; *out as above */
	TAPZC_NOT_UTF8,		/* the domain's record would be unreadable; *out is NULL */
	TAPZC_TOO_LONG,		/* xenstore would not keep it; *out is NULL */
	TAPZC_NO_MEMORY,
};

/*
 * `tap:zc:/P,...`, `tap2:zc:/P,...` and `tap:tapdisk:zc:/P,...`, at the start of the specification
 * or after a comma, become `script=block-tapzc,tap:/P,...`; with `gnt:` for `zc:` the script is
 * block-tapgnt. The `tap:` stays because libxlutil then takes the classic order (path, vdev,
 * access) for what follows.
 *
 * libxl keeps a disk's path in a JSON record of the domain, which takes whatever bytes there are
 * and is read, and refused, with each later attach and detach: so one that is not UTF-8 is refused
 * here, also where our script is named as such. And xenstore keeps no value above its quota; libxl
 * notices late, and leaves half of a device behind.
 */
enum tapzc_verdict tapzc_rewrite(const char *spec, char **out);

#ifdef __cplusplus
}
#endif

#endif
