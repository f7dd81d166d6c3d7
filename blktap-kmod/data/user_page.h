/* SPDX-License-Identifier: GPL-2.0-only */
/* How a page gets and loses its place in a window in an auto-translated domain. */
#ifndef BLKTAP_USER_PAGE_H
#define BLKTAP_USER_PAGE_H

#include "data/window.h"

/* Gives a window that is being mapped its place in the file. windows.lock is held. */
void blktap_user_page_place(struct blktap_window *window, struct vm_area_struct *vma);

/* blktap_window_fill(). */
int blktap_user_page_fill(struct blktap_window *window, struct vm_area_struct *vma,
			  const struct blktap_run *runs, unsigned int nr);

/*
 * Takes the PTEs of a run away, if it ever had some. When the kernel has, no
 * new reference to its pages can be taken through them, and those that were
 * taken are counted. windows.lock is held.
 */
void blktap_user_page_withdraw(struct blktap_window *window, struct blktap_run run);

#endif
