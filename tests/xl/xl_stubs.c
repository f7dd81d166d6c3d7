/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Just enough of a hypervisor for `xl -N` off Xen: preloaded into the real xl, it answers the calls
 * that xl makes before it parses a configuration. Everything after is xl's own.
 */
#include <libxl.h>
#include <stdio.h>
#include <stdlib.h>
#include <xenctrl.h>
#include <xenstore.h>

/* Never looked into: only passed back to the calls below. */
static char handle;

xc_interface *xc_interface_open(xentoollog_logger *logger, xentoollog_logger *dombuild_logger,
				unsigned open_flags)
{
	(void)logger;
	(void)dombuild_logger;
	(void)open_flags;
	return (xc_interface *)&handle;
}

int xc_interface_close(xc_interface *xch)
{
	(void)xch;
	return 0;
}

/* Called well after xl has started: shows what a child of xl would inherit. */
struct xs_handle *xs_open(unsigned long flags)
{
	const char *preload = getenv("LD_PRELOAD");

	(void)flags;
	fprintf(stderr, "LD_PRELOAD=%s\n", preload ? preload : "");
	return (struct xs_handle *)&handle;
}

void xs_close(struct xs_handle *xsh)
{
	(void)xsh;
}

int xc_version(xc_interface *xch, int cmd, void *arg)
{
	(void)xch;
	(void)cmd;
	(void)arg;
	return 0;
}

int libxl_get_physinfo(libxl_ctx *ctx, libxl_physinfo *physinfo)
{
	(void)ctx;
	libxl_physinfo_init(physinfo);
	physinfo->cap_pv = true;
	return 0;
}

int libxl_get_max_cpus(libxl_ctx *ctx)
{
	(void)ctx;
	return 2;
}

int libxl_get_max_nodes(libxl_ctx *ctx)
{
	(void)ctx;
	return 1;
}
