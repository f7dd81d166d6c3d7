// SPDX-License-Identifier: GPL-2.0-only
/* The module's half of the layout proof: the same file is compiled into tapdisk. */
#include "ring/layout.c"
