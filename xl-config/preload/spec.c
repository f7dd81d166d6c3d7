/* SPDX-License-Identifier: GPL-2.0-only */
#define _GNU_SOURCE
#include "spec.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool skip(const char **at, const char *word)
{
	size_t length = strlen(word);

	if (strncmp(*at, word, length) != 0)
		return false;
	*at += length;
	return true;
}

/* What a prefix of ours stands for. */
struct kind {
	const char *prefix;
	const char *script;
};

static const struct kind kinds[] = {
	{ "zc:", "block-tapzc" },
	{ "gnt:", "block-tapgnt" },
};

/* The path after one of our prefixes, or NULL when the parameter at `at` is something else. */
static const char *path_of(const char *at, const struct kind **kind)
{
	size_t i;

	if (!skip(&at, "tap:") && !skip(&at, "tap2:"))
		return NULL;
	skip(&at, "tapdisk:");
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		*kind = &kinds[i];
		if (skip(&at, kinds[i].prefix))
			return at;
	}
	return NULL;
}

/* libxlutil lets blanks stand before a parameter, and `target=` take the rest, commas and all. */
static const char *find_prefix(const char *spec)
{
	const char *end = strstr(spec, "target=");
	const struct kind *kind;
	const char *at = spec;

	while (at) {
		at += strspn(at, " \t\n");
		if (end && at >= end)
			return NULL;
		if (path_of(at, &kind))
			return at;
		at = strchr(at, ',');
		if (at)
			at++;
	}
	return NULL;
}

enum tapzc_verdict tapzc_rewrite(const char *spec, char **out)
{
	const struct kind *kind = NULL;
	const char *prefix = find_prefix(spec);
	const char *path = prefix ? path_of(prefix, &kind) : NULL;
	size_t path_length = path ? strcspn(path, ",") : 0;
	int length;

	/* A newline ends libxlutil's prefix rules: all of this is a file name to it. So be it. */
	if (!path || memchr(path, '\n', path_length))
		return TAPZC_UNCHANGED;

	if (*path != '/') {
		length = asprintf(out, "%s%.*s", kind->prefix, (int)path_length, path);
		return length < 0 ? TAPZC_NO_MEMORY : TAPZC_RELATIVE;
	}

	length = asprintf(out, "%.*sscript=%s,tap:%s", (int)(prefix - spec), spec, kind->script,
			  path);
	return length < 0 ? TAPZC_NO_MEMORY : TAPZC_REWRITTEN;
}
