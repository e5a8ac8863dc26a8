/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Taking a file out of packs/ or index/ without deleting it: into quarantine/, under a name that says what it was.
 *
 * Invariants:
 *  1. Nothing in quarantine/ is ever replaced: a taken name gets a number behind it.
 *  2. The new name is durable before the old one may be gone for good.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/internal.h"

#include "base/banned.h"

#define NAMES_MAX 10000 /* of one file in one second */

/* 20261121T150307Z: no colons, which some file systems do not take. */
static void time_name(char name[TIME_TEXT_MAX])
{
	char text[TIME_TEXT_MAX];
	size_t n = 0;

	time_format(text, time_now());
	for (const char *p = text; *p; p++)
		if (*p != '-' && *p != ':')
			name[n++] = *p;
	name[n] = 0;
}

/* name: without the number, owned by the caller. */
static int quarantine(struct store *s, enum backend_kind kind, uint64_t number, const char *name,
		      bool stays, char **out, struct err *err)
{
	for (unsigned i = 1; i < NAMES_MAX; i++) {
		cleanup_free char *file = i == 1 ? str_dup(name) : str_printf("%s-%u", name, i);
		cleanup_free char *path = str_printf("quarantine/%s", file ? file : "");
		int r;

		if (!file || !path)
			return err_nomem(err, "path of a file");
		r = s->backend->ops->quarantine(s->backend, kind, number, file, stays, err);
		if (r == 0)
			*out = steal_ptr(path);
		if (r != ERR_EXISTS)
			return r;
		err_clear(err);
	}
	return err_set(err, ERR_EXISTS, "no name is free for 'quarantine/%s'", name);
}

/* The first 8 digits of its instance id, if its header can be read. */
static int instance_name(struct store *s, uint64_t number, char name[9], struct err *err)
{
	const struct backend_ops *ops = s->backend->ops;
	struct backend_file file;
	uint8_t raw[PACK_HEADER_LEN];
	struct pack_header h;
	int r = ops->open(s->backend, BACKEND_PACK, number, &file, err);

	if (r < 0)
		return r;
	str_copy(name, 9, "unknown");
	if (ops->read(&file, raw, sizeof(raw), 0, NULL) == 0 &&
	    pack_header_decode(raw, &h, NULL) == 0)
		hex_encode(name, h.instance, 4);
	ops->close(&file);
	return 0;
}

static int quarantine_pack(struct store *s, uint64_t number, bool stays, char **name,
			   struct err *err)
{
	char when[TIME_TEXT_MAX], instance[9];
	cleanup_free char *base = NULL;
	int r = instance_name(s, number, instance, err);

	if (r < 0)
		return r;
	time_name(when);
	base = str_printf("pack-%012" PRIx64 "-%s-%s", number, instance, when);
	if (!base)
		return err_nomem(err, "path of a file");
	r = quarantine(s, BACKEND_PACK, number, base, stays, name, err);
	/* After an error too: the file may have moved, and only its sync failed. */
	store_pack_forget(s, number);
	return r;
}

int store_pack_quarantine(struct store *s, uint64_t number, char **name, struct err *err)
{
	return quarantine_pack(s, number, false, name, err);
}

int store_pack_quarantine_copy(struct store *s, uint64_t number, char **name, struct err *err)
{
	return quarantine_pack(s, number, true, name, err);
}

int store_segment_quarantine(struct store *s, uint64_t number, char **name, struct err *err)
{
	char when[TIME_TEXT_MAX];
	cleanup_free char *base = NULL;

	time_name(when);
	base = str_printf("segment-%016" PRIx64 "-%s", number, when);
	if (!base)
		return err_nomem(err, "path of a file");
	return quarantine(s, BACKEND_SEGMENT, number, base, false, name, err);
}
