// SPDX-License-Identifier: GPL-2.0-only
/*
 * gnttab_map_refs() for less. On a PV host a page that stands for a guest's
 * needs an entry in the p2m, and the kernel proves by a walk of page tables
 * that there was none before it writes it: a quarter of what mapping costs.
 * Our pages have none, for every one is unmapped before it is mapped again, so
 * the entry is written at once.
 */
#include <asm/xen/hypercall.h>
#include <xen/grant_table.h>
#include <xen/page.h>

#include "guest/map_refs.h"
#include "guest/user_pte.h"

#ifdef CONFIG_XEN_PV

/* False: this part of the p2m is one that many share, as long as nobody has written to it. */
static bool write_p2m(const struct page *page, unsigned long mfn)
{
	unsigned long pfn = page_to_pfn(page);

	return pfn < xen_p2m_size && !xen_safe_write_ulong(&xen_p2m_addr[pfn], FOREIGN_FRAME(mfn));
}

/* As gnttab_map_refs(): by this a network back end can grant the page on. */
static void note_owner(struct page *page, const struct gnttab_map_grant_ref *map)
{
	struct xen_page_foreign *foreign;

	SetPageForeign(page);
	foreign = xen_page_foreign(page);
	foreign->domid = map->dom;
	foreign->gref = map->ref;
}

/* The kernel's way, which gives us a p2m that can be written. */
static void map_again(struct gnttab_map_grant_ref *map, struct page *page)
{
	struct gnttab_unmap_grant_ref unmap;

	gnttab_set_unmap_op(&unmap, map->host_addr, map->flags, map->handle);
	if (HYPERVISOR_grant_table_op(GNTTABOP_unmap_grant_ref, &unmap, 1) || unmap.status) {
		map->status = GNTST_general_error;
		return;
	}
	map->status = GNTST_general_error;
	(void)gnttab_map_refs(map, NULL, &page, 1);
}

static void map_refs_pv(struct gnttab_map_grant_ref *map, struct page **pages, unsigned int count)
{
	unsigned int i;

	gnttab_batch_map(map, count);
	for (i = 0; i < count; i++) {
		if (map[i].status != GNTST_okay)
			continue;
		if (write_p2m(pages[i], PFN_DOWN(map[i].dev_bus_addr)))
			note_owner(pages[i], &map[i]);
		else
			map_again(&map[i], pages[i]);
	}
}

#else

static void map_refs_pv(struct gnttab_map_grant_ref *map, struct page **pages, unsigned int count)
{
}

#endif

void blktap_map_refs(struct gnttab_map_grant_ref *map, struct page **pages, unsigned int count)
{
	if (IS_ENABLED(CONFIG_XEN_PV) && !blktap_is_auto_translated())
		map_refs_pv(map, pages, count);
	else
		(void)gnttab_map_refs(map, NULL, pages, count);
}
