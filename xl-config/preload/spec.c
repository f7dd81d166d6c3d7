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

/* Bytes of the character that `at` begins with; 0: that is none of UTF-8 (RFC 3629). */
static size_t character_bytes(const unsigned char *at)
{
	size_t bytes, i;

	if (at[0] < 0x80)
		return 1;
	if (at[0] >= 0xc2 && at[0] <= 0xdf)
		bytes = 2;
	else if ((at[0] & 0xf0) == 0xe0)
		bytes = 3;
	else if (at[0] >= 0xf0 && at[0] <= 0xf4)
		bytes = 4;
	else
		return 0;
	/* The NUL at the end is no continuation. */
	for (i = 1; i < bytes; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	/* Longer than need be, half of a pair of UTF-16, beyond U+10FFFF. */
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return bytes;
}

static bool is_utf8(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t bytes;

	for (; *at; at += bytes) {
		bytes = character_bytes(at);
		if (!bytes)
			return false;
	}
	return true;
}

/* Whether one of our scripts is named, by its path or not. */
static bool names_script(const char *spec)
{
	const char *at = strstr(spec, "script=");
	size_t i;

	for (i = 0; at && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strstr(at, kinds[i].script))
			return true;
	return false;
}

enum tapzc_verdict tapzc_rewrite(const char *spec, char **out)
{
	const struct kind *kind = NULL;
	const char *prefix = find_prefix(spec);
	const char *path = prefix ? path_of(prefix, &kind) : NULL;
	size_t path_length = path ? strcspn(path, ",") : 0;
	int length;

	*out = NULL;
	if ((path || names_script(spec)) && !is_utf8(spec))
		return TAPZC_NOT_UTF8;
	if (path ? path_length > TAPZC_PATH_MAX :
		   names_script(spec) && strlen(spec) > TAPZC_PATH_MAX)
		return TAPZC_TOO_LONG;

	/* A newline ends libxlutil's prefix rules: all of this is a file name to it. So be it. */
	if (!path || memchr(path, '\n', path_length))
		return TAPZC_UNCHANGED;

	if (*path != '/' || memchr(path, '=', path_length)) {
		length = asprintf(out, "%s%.*s", kind->prefix, (int)path_length, path);
		if (length < 0)
			return TAPZC_NO_MEMORY;
		return *path != '/' ? TAPZC_RELATIVE : TAPZC_EQUALS;
	}

	length = asprintf(out, "%.*sscript=%s,tap:%s", (int)(prefix - spec), spec, kind->script,
			  path);
	return length < 0 ? TAPZC_NO_MEMORY : TAPZC_REWRITTEN;
}
