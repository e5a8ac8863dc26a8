/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of store/ share: the folders of a repository without a catalog, packs written into it. */
#ifndef LIVEPOINT_TESTS_STORE_HELP_H
#define LIVEPOINT_TESTS_STORE_HELP_H

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/stat.h>

#include "tests/unit/repo-help.h"

#include "store/store.h"

struct fixture {
	char dir[64];
	uint8_t uuid[UUID_LEN];
	struct codec_keys *keys;
	struct store *store;
	struct store_reader *reader;
	struct codec_ctx *codec; /* of the reader */
	struct err err;
};

static inline void help_store_open(struct fixture *f, uint64_t footer_cache)
{
	struct store_spec spec = { .path = f->dir, .keys = f->keys, .footer_cache = footer_cache };
	struct err err = ERR_INIT;

	ok(store_open(&spec, &f->store, &err));
	ok(store_reader_new(f->store, &f->reader, &err));
	f->codec = store_reader_codec(f->reader);
}

static inline void help_store_close(struct fixture *f)
{
	store_reader_free(f->reader);
	store_close(f->store);
	f->reader = NULL;
	f->store = NULL;
}

/* In memory where there is such a place: nothing here is about what a sync costs. */
static inline void help_store(struct fixture *f, unsigned suite, uint64_t footer_cache)
{
	struct err err = ERR_INIT;

	memset(f, 0, sizeof(*f));
	str_copy(f->dir, sizeof(f->dir), "/dev/shm/lp-unit-XXXXXX");
	if (!mkdtemp(f->dir))
		help_dir(f->dir);
	help_random(f->uuid, UUID_LEN, 99);
	ok(store_make_folders(f->dir, &err));
	if (suite)
		ok(codec_keys_generate(suite, f->uuid, &f->keys, &err));
	else
		ok(codec_keys_plain(f->uuid, &f->keys, &err));
	help_store_open(f, footer_cache);
}

static inline void help_store_end(struct fixture *f)
{
	if (f->store)
		help_store_close(f);
	codec_keys_free(f->keys);
	help_remove(f->dir);
}

static inline void help_pack_path(const struct fixture *f, uint64_t number, char path[128])
{
	snprintf(path, 128, "%s/packs/%02x/%012" PRIx64 ".pack", f->dir, (unsigned)(number & 0xff),
		 number);
}

/* Object i of a test: size, bytes, id and locator. */
struct object {
	enum object_type type;
	uint32_t size;
	uint64_t seed;
	uint8_t id[ID_LEN];
	uint64_t locator;
};

static inline void help_object_bytes(const struct object *o, uint8_t *p)
{
	if (o->seed & 1)
		help_random(p, o->size, o->seed);
	else
		help_text(p, o->size, o->seed);
}

/* level 0: not compressed. */
static inline int help_append(struct fixture *f, struct store_writer *w, struct object *o,
			      int level)
{
	cleanup_free uint8_t *plain = malloc(o->size), *packed = malloc(o->size);
	struct store_append a = { .type = o->type, .id = o->id, .plain_len = o->size };
	int r;

	assert_true(plain && packed);
	help_object_bytes(o, plain);
	r = codec_id(f->codec, plain, o->size, o->id, &f->err);
	if (r == 0)
		r = codec_compress(f->codec, level, plain, o->size, packed, o->size, &a.codec, &a.n,
				   &f->err);
	a.level = level;
	a.xxh3 = check_xxh3(plain, o->size);
	a.payload = a.codec == CODEC_RAW ? plain : packed;
	return r < 0 ? r : store_writer_append(w, f->codec, &a, &o->locator, &f->err);
}

/* A whole pack of n objects, published. */
static inline void help_pack(struct fixture *f, uint64_t token, uint64_t number,
			     struct object *objects, size_t n, int level)
{
	struct err err = ERR_INIT;
	struct store_stage *st;
	struct store_writer *w;

	ok(store_stage_begin(f->store, token, &st, &err));
	ok(store_writer_new(st, number, PACK_DATA, &w, &err));
	for (size_t i = 0; i < n; i++)
		help_ok(help_append(f, w, &objects[i], level), &f->err, "append", __LINE__);
	ok(store_writer_finish(w, f->reader, &err));
	ok(store_writer_publish(w, &err));
	ok(store_stage_sync(st, &err));
	store_writer_free(w);
	ok(store_stage_end(st, &err));
}

/* Reads o back with all checks; 0 or the error, which is in f->err. */
static inline int help_read(struct fixture *f, struct store_reader *reader, const struct object *o,
			    struct err *err)
{
	cleanup_free uint8_t *want = malloc(o->size), *got = malloc(o->size);
	size_t len = 0;
	int r = store_record_read(f->store, reader, o->locator, o->type, o->id, true, got, o->size,
				  &len, err);

	if (r < 0)
		return r;
	help_object_bytes(o, want);
	return len == o->size && memcmp(want, got, len) == 0 ? 0 : ERR_INTERNAL;
}

/* A file whose bytes can be changed behind the store's back. */
static inline void help_load(const char *path, struct buf *out)
{
	struct err err = ERR_INIT;

	ok(file_read_all(path, PACK_BYTES_MAX, out, &err));
}

static inline void help_save(const char *path, const void *p, size_t n)
{
	struct err err = ERR_INIT;
	cleanup_fd int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);

	ok(fd);
	ok(file_pwrite(fd, p, n, 0, path, NULL, &err));
}

#endif
