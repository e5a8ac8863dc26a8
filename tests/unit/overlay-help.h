/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the tests of an overlay's layer share: a layer in a folder of its own over a base that is made of offsets, and a model of the
 * disk in memory that knows, for each sector, what it was at the last flush and what it has been since.
 */
#ifndef LIVEPOINT_TESTS_OVERLAY_HELP_H
#define LIVEPOINT_TESTS_OVERLAY_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/proc.h"
#include "repo/overlay-layer-internal.h"

#define SECTOR 512u
#define ok(call) world_ok((call), &err, #call, __LINE__)
static inline void world_ok(int r, const struct err *err, const char *what, int line)
{
	if (r < 0)
		fail_msg("line %d: %s: %d %s", line, what, r, err->text);
}

struct versions { /* check values of what a sector may be after a crash */
	uint64_t *v; /* owned */
	unsigned n;
};

struct world {
	char dir[128];
	struct codec_keys *keys;
	struct overlay_header header;
	struct overlay_header_disk disk;
	uint64_t size, seed;
	struct overlay_layer *l;
	uint8_t *now; /* the disk as it is to be read */
	struct versions *sectors;
};

static inline uint64_t world_random(struct world *w, uint64_t below)
{
	/* xorshift64 (Marsaglia 2003) */
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 7;
	w->seed ^= w->seed << 17;
	return (w->seed >> 11) % below;
}

/* The base: every third MiB is zero. */
static inline uint8_t base_byte(uint64_t offset)
{
	return (offset >> 20) % 3 == 2 ? 0 : (uint8_t)(offset * 31 + (offset >> 9) + 7);
}

static inline int base_read(void *opaque, void *dst, size_t n, uint64_t offset, struct err *err)
{
	(void)opaque, (void)err;
	for (size_t i = 0; i < n; i++)
		((uint8_t *)dst)[i] = base_byte(offset + i);
	return 0;
}
static const struct overlay_below base = { .read = base_read };

static inline struct overlay_layer_spec world_spec(struct world *w)
{
	return (struct overlay_layer_spec){ .folder = w->dir,
					    .disk = "vda",
					    .size = w->size,
					    .number = 1,
					    .keys = w->keys,
					    .header = &w->header };
}

static inline void world_open(struct world *w, bool unclean)
{
	struct overlay_layer_spec spec = world_spec(w);
	struct err err = ERR_INIT;
	ok(overlay_layer_open(&spec, false, unclean, &w->l, &err));
}

static inline void world_close(struct world *w)
{
	overlay_layer_close(w->l);
	w->l = NULL;
}

static inline void world_begin_in(struct world *w, const char *dir, uint64_t size, bool encrypted,
				  uint64_t seed)
{
	static const uint8_t uuid[UUID_LEN] = "uuid of a world";
	struct err err = ERR_INIT;

	memset(w, 0, sizeof(*w));
	str_copy(w->dir, sizeof(w->dir), dir);
	if (encrypted)
		ok(codec_keys_generate(1, uuid, &w->keys, &err));
	else
		ok(codec_keys_plain(uuid, &w->keys, &err));
	w->size = w->disk.size = size;
	w->seed = seed;
	str_copy(w->disk.name, sizeof(w->disk.name), "vda");
	w->header = (struct overlay_header){ .id = "o0123abcd",
					     .block_size = OVERLAY_BLOCK,
					     .suite = encrypted,
					     .epoch = encrypted,
					     .first = 1,
					     .last = 1,
					     .disks = &w->disk,
					     .ndisks = 1 };
	memcpy(w->header.uuid, uuid, UUID_LEN);
	if (encrypted)
		random_bytes(w->header.salt, SALT_LEN);
	struct overlay_layer_spec spec = world_spec(w);
	ok(overlay_layer_create(&spec, &err));
	world_open(w, false);
}

/* In memory if possible: neither a kill nor a fault takes the page cache, so it shows the same without the waits for a disk. */
static inline void world_folder(char dir[32])
{
	str_copy(dir, 32, "/dev/shm/lp-unit-XXXXXX");
	if (mkdtemp(dir))
		return;
	str_copy(dir, 32, "/tmp/lp-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
}

static inline void world_begin(struct world *w, uint64_t size, bool encrypted, uint64_t seed)
{
	char dir[32];

	world_folder(dir);
	world_begin_in(w, dir, size, encrypted, seed);
}

static inline void world_remove(const char *dir)
{
	const char *argv[] = { "rm", "-rf", dir, NULL };
	cleanup_buf struct buf out = BUF_INIT;

	assert_int_equal(proc_run(argv, &out, 4096, NULL), 0);
}

static inline void world_end(struct world *w)
{
	world_close(w);
	for (uint64_t i = 0; w->sectors && i < w->size / SECTOR; i++)
		free(w->sectors[i].v);
	free(w->sectors);
	free(w->now);
	codec_keys_free(w->keys);
	world_remove(w->dir);
}

/* --- the model --- */

static inline void model_begin(struct world *w)
{
	w->now = mem_alloc(w->size);
	w->sectors = mem_alloc_array(w->size / SECTOR, sizeof(*w->sectors));
	assert_true(w->now && w->sectors);
	base_read(NULL, w->now, w->size, 0, NULL);
}

static inline uint64_t model_check(const struct world *w, uint64_t sector)
{
	return check_xxh3(w->now + sector * SECTOR, SECTOR);
}

/* Sectors of a range are about to change, or have changed: notes what they are. */
static inline void model_note(struct world *w, uint64_t n, uint64_t offset)
{
	for (uint64_t s = offset / SECTOR; s * SECTOR < offset + n; s++) {
		struct versions *v = &w->sectors[s];
		uint64_t check = model_check(w, s);

		if (v->n && v->v[v->n - 1] == check)
			continue;
		v->v = mem_realloc_array(v->v, v->n + 1, sizeof(*v->v));
		assert_non_null(v->v);
		v->v[v->n++] = check;
	}
}

/* src NULL: zeroes. */
static inline void model_write(struct world *w, const void *src, uint64_t n, uint64_t offset)
{
	model_note(w, n, offset);
	if (src)
		memcpy(w->now + offset, src, n);
	else
		memset(w->now + offset, 0, n);
	model_note(w, n, offset);
}

static inline void model_flushed(struct world *w)
{
	for (uint64_t s = 0; s < w->size / SECTOR; s++)
		w->sectors[s].n = 0;
}

static inline void model_trim(struct world *w, uint64_t n, uint64_t offset)
{
	uint64_t from = round_up_u64(offset, OVERLAY_BLOCK), end = offset + n;

	if (end < w->size)
		end = end / OVERLAY_BLOCK * OVERLAY_BLOCK;
	if (from < end)
		model_write(w, NULL, end - from, from);
}

static inline void world_compare(struct world *w, uint64_t n, uint64_t offset)
{
	cleanup_free uint8_t *got = mem_alloc(n + 1);
	struct err err = ERR_INIT;

	assert_non_null(got);
	ok(overlay_layer_read(w->l, &base, got, n, offset, &err));
	for (uint64_t i = 0; i < n; i++)
		if (got[i] != w->now[offset + i])
			fail_msg("byte %llu of the disk is %u, not %u",
				 (unsigned long long)(offset + i), got[i], w->now[offset + i]);
}

/* After a crash: each sector is what it was at the last flush, or since; that is the disk from now on. */
static inline void world_after_crash(struct world *w)
{
	cleanup_free uint8_t *got = mem_alloc(w->size);
	struct err err = ERR_INIT;

	assert_non_null(got);
	ok(overlay_layer_read(w->l, &base, got, w->size, 0, &err));
	for (uint64_t s = 0; s < w->size / SECTOR; s++) {
		const struct versions *v = &w->sectors[s];
		uint64_t check = check_xxh3(got + s * SECTOR, SECTOR);
		bool found = v->n == 0 && check == model_check(w, s);

		for (unsigned i = 0; !found && i < v->n; i++)
			found = v->v[i] == check;
		if (!found)
			fail_msg("sector %llu is neither old nor new (%u versions)",
				 (unsigned long long)s, v->n);
	}
	memcpy(w->now, got, w->size);
	model_flushed(w);
}

/* --- random operations --- */

/* Mostly near places where something changes: start, end, borders of pages. */
static inline void random_range(struct world *w, uint64_t most, uint64_t *offset, uint64_t *n)
{
	const uint64_t page = (uint64_t)OVERLAY_PAGE_BLOCKS * OVERLAY_BLOCK, window = 192 * KiB;
	uint64_t at[] = { 0, w->size > window ? w->size - window : 0,
			  w->size > page + window ? page - window / 2 : 0 };
	uint64_t start = at[world_random(w, 3)];
	uint64_t grain[] = { 1, SECTOR, OVERLAY_BLOCK }, g = grain[world_random(w, 3)];

	start += world_random(w, window);
	*offset = MIN(start, w->size - 1) / g * g;
	*n = 1 + world_random(w, world_random(w, 4) ? 3 * OVERLAY_BLOCK : most - OVERLAY_BLOCK);
	*n = MIN(round_up_u64(*n, g), w->size - *offset);
}

static inline void random_step(struct world *w)
{
	static uint8_t data[256 * 1024];
	struct err err = ERR_INIT;
	uint64_t offset, n;

	random_range(w, sizeof(data), &offset, &n);
	switch (world_random(w, 10)) {
	case 0:
	case 1:
		world_compare(w, n, offset);
		break;
	case 2:
		ok(overlay_layer_zero(w->l, &base, n, offset, &err));
		model_write(w, NULL, n, offset);
		break;
	case 3:
		ok(overlay_layer_trim(w->l, n, offset, &err));
		model_trim(w, n, offset);
		break;
	case 4:
		if (world_random(w, 4) == 0) {
			ok(overlay_layer_flush(w->l, &err));
			model_flushed(w);
		}
		break;
	default:
		for (uint64_t i = 0; i < n; i += 8)
			put_le64(data + MIN(i, sizeof(data) - 8), w->seed + i);
		data[0] = (uint8_t)world_random(w, 256);
		ok(overlay_layer_write(w->l, &base, data, n, offset, &err));
		model_write(w, data, n, offset);
	}
}

#endif
