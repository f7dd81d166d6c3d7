/* SPDX-License-Identifier: GPL-2.0-only */
/* gnttab_map_refs() for less. */
#ifndef BLKTAP_MAP_REFS_H
#define BLKTAP_MAP_REFS_H

struct gnttab_map_grant_ref;
struct page;

/* Maps grants over `pages`, which stand for nothing. Each operation has its own status. */
void blktap_map_refs(struct gnttab_map_grant_ref *map, struct page **pages, unsigned int count);

#endif
