/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * libxlu-tapzc.so: preloaded into stock xl, it makes `tap:zc:/path` a disk specification.
 *
 * xl calls xlu_disk_parse() through its PLT, so the definition here is found first. It rewrites the
 * strings and leaves all parsing to the real one. Needs nothing but the public interface of
 * libxlutil.
 */
#define _GNU_SOURCE
#include "spec.h"

#include <dlfcn.h>
#include <errno.h>
#include <libxlutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef XLU_Config *cfg_init_fn(FILE *report, const char *report_filename);
typedef int disk_parse_fn(XLU_Config *cfg, int nspecs, const char *const *specs,
			  libxl_device_disk *disk);

/* Where xl wants the complaints about its current configuration; XLU_Config itself is opaque. */
static struct {
	XLU_Config *cfg;
	FILE *report;
	char *source;
} current;

EXPORT XLU_Config *xlu_cfg_init(FILE *report, const char *report_filename)
{
	cfg_init_fn *real = (cfg_init_fn *)dlsym(RTLD_NEXT, "xlu_cfg_init");
	XLU_Config *cfg = real ? real(report, report_filename) : NULL;

	free(current.source);
	current.cfg = cfg;
	current.report = report;
	current.source = strdup(report_filename);
	return cfg;
}

/* The same words and the same place as libxlutil's own errors. */
static void report(XLU_Config *cfg, const char *reason, const char *near, const char *spec)
{
	int known = cfg == current.cfg && current.source;

	fprintf(known ? current.report : stderr,
		"%s: config parsing error in disk specification: %s: near `%s' in `%s'\n",
		known ? current.source : "xl", reason, near ? near : spec, spec);
}

EXPORT int xlu_disk_parse(XLU_Config *cfg, int nspecs, const char *const *specs,
			  libxl_device_disk *disk)
{
	disk_parse_fn *real = (disk_parse_fn *)dlsym(RTLD_NEXT, "xlu_disk_parse");
	char **owned = calloc(nspecs ? nspecs : 1, sizeof(*owned));
	const char **parsed = calloc(nspecs ? nspecs : 1, sizeof(*parsed));
	int rc = real ? 0 : ENOSYS;
	int i;

	if (!owned || !parsed)
		rc = ENOMEM;

	for (i = 0; !rc && i < nspecs; i++) {
		parsed[i] = specs[i];
		switch (tapzc_rewrite(specs[i], &owned[i])) {
		case TAPZC_UNCHANGED:
			break;
		case TAPZC_REWRITTEN:
			parsed[i] = owned[i];
			break;
		case TAPZC_RELATIVE:
			report(cfg, "the path of a tap: disk must be absolute", owned[i], specs[i]);
			rc = EINVAL;
			break;
		case TAPZC_EQUALS:
			report(cfg, "a path with `=' takes the form "
			       "script=block-tapzc,vdev=VDEV,access=ACCESS,target=PATH", owned[i],
			       specs[i]);
			rc = EINVAL;
			break;
		case TAPZC_NOT_UTF8:
			report(cfg, "the path is not UTF-8, which libxl cannot keep; rename it, or "
			       "use a link to it", owned[i], specs[i]);
			rc = EINVAL;
			break;
		case TAPZC_TOO_LONG:
			report(cfg, "the path is too long for xenstore (2000 bytes at most); use a "
			       "link to it", owned[i], specs[i]);
			rc = EINVAL;
			break;
		case TAPZC_NO_MEMORY:
			owned[i] = NULL;
			rc = ENOMEM;
			break;
		}
	}

	if (!rc)
		rc = real(cfg, nspecs, parsed, disk);

	for (i = 0; owned && i < nspecs; i++)
		free(owned[i]);
	free(owned);
	free(parsed);
	return rc;
}

/*
 * The programs that xl starts (hotplug scripts, qemu, pygrub, ssh) have no use for this library:
 * drop it from their environment, and keep other people's preloads. The shell wrappers in front of
 * xl load it too, and must pass it on; they are the ones without a libxlutil.
 */
__attribute__((constructor)) static void leave_environment(void)
{
	const char *preload = getenv("LD_PRELOAD");
	char *list, *kept, *word, *next;

	if (!preload || !dlsym(RTLD_NEXT, "xlu_disk_parse"))
		return;

	list = strdup(preload);
	kept = calloc(1, strlen(preload) + 1);
	if (list && kept) {
		for (word = strtok_r(list, ": ", &next); word; word = strtok_r(NULL, ": ", &next)) {
			if (strcmp(basename(word), "libxlu-tapzc.so") == 0)
				continue;
			if (*kept)
				strcat(kept, ":");
			strcat(kept, word);
		}
		if (*kept)
			setenv("LD_PRELOAD", kept, 1);
		else
			unsetenv("LD_PRELOAD");
	}
	free(list);
	free(kept);
}
