// SPDX-License-Identifier: GPL-2.0-only
// domain-time DOMID: CPU time that dom0 and a guest have had, in ns, as Xen counts it.
#include <stdio.h>
#include <stdlib.h>
#include <xenctrl.h>

static int print(xc_interface *xen, const char *name, unsigned int domid)
{
	xc_domaininfo_t info;

	if (xc_domain_getinfolist(xen, domid, 1, &info) != 1 || info.domain != domid)
		return 1;
	printf("%s %llu\n", name, (unsigned long long)info.cpu_time);
	return 0;
}

int main(int argc, char **argv)
{
	xc_interface *xen = xc_interface_open(NULL, NULL, 0);

	if (argc != 2 || !xen)
		return 2;
	return print(xen, "dom0_ns", 0) || print(xen, "guest_ns", (unsigned int)atoi(argv[1]));
}
