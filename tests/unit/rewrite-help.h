/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of rewriting and scanning packs share: a pack of N objects, sets of slots, a rewrite in a stage of its own. */
#ifndef LIVEPOINT_TESTS_REWRITE_HELP_H
#define LIVEPOINT_TESTS_REWRITE_HELP_H

#include "base/proc.h"
#include "store/internal.h"
#include "tests/unit/store-help.h"

enum { N = 200, PACK = 0x1ab, TOKEN = 5 };

/* A pack of N objects of all types, slot i is object i. */
static inline void setup(struct fixture *f, unsigned suite, struct object *o)
{
	help_store(f, suite, 0);
	for (unsigned i = 0; i < N; i++)
		o[i] = (struct object){ .type = 1 + (enum object_type)(i % OBJECT_TYPE_LAST),
					.size = 50 + i * 37,
					.seed = 7000 + i };
	help_pack(f, 1, PACK, o, N, 1);
}

struct bits {
	uint8_t bytes[SLOT_MAX_COUNT / 8];
};
static inline void keep(struct bits *b, uint32_t slot)
{
	b->bytes[slot / 8] |= (uint8_t)(1u << (slot % 8));
}
static inline bool has(const struct bits *b, uint32_t slot)
{
	return b->bytes[slot / 8] >> (slot % 8) & 1;
}
static inline struct rewrite_spec spec_of(const struct bits *b)
{
	return (struct rewrite_spec){ .number = PACK,
				      .keep = b->bytes,
				      .keep_bytes = sizeof(b->bytes) };
}

static inline unsigned staged_files(const struct fixture *f)
{
	char path[128];
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;
	const char *argv[] = { "find", path, "-type", "f", NULL };
	unsigned n = 0;

	snprintf(path, sizeof(path), "%s/staging", f->dir);
	ok(proc_run(argv, &out, 65536, &err));
	for (size_t i = 0; i < out.len; i++)
		n += out.data[i] == '\n';
	buf_release(&out);
	return n;
}

static inline int rewrite_in(struct fixture *f, const struct rewrite_spec *spec, bool replace,
			     struct rewrite_result *res)
{
	struct store_stage *st;
	struct err err = ERR_INIT;
	int r;

	ok(store_stage_begin(f->store, TOKEN, &st, &err));
	r = store_pack_rewrite(st, f->reader, spec, res, &f->err);
	assert_int_equal(staged_files(f), r == 0);
	if (r == 0 && replace)
		ok(store_pack_replace(st, spec->number, &err));
	ok(store_stage_sync(st, &err));
	ok(store_stage_end(st, &err));
	return r;
}

static inline void expect(struct fixture *f, const struct object *o, const struct bits *kept)
{
	for (unsigned i = 0; i < N; i++) {
		int r = help_read(f, f->reader, &o[i], &f->err);

		if (r != (has(kept, i) ? 0 : ERR_DAMAGED))
			fail_msg("slot %u: %d %s", i, r, f->err.text);
	}
}

static inline void frame_of(const struct buf *file, struct pack_header *h, struct pack_trailer *t)
{
	struct err err = ERR_INIT;

	ok(pack_header_decode(file->data, h, &err));
	ok(pack_trailer_decode(file->data + file->len - PACK_TRAILER_LEN, file->len, t, &err));
}

/* Every third. */
static inline unsigned kept_slots(struct bits *kept)
{
	unsigned n = 0;

	for (unsigned i = 0; i < N; i += 3, n++)
		keep(kept, i);
	return n;
}

#endif
