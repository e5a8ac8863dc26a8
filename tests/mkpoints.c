/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * mkpoints REPO COUNT: makes a plain repository with COUNT points of one disk, quickly: 500 sessions at a time, whose
 * objects share one pack (a session of its own for each point would list all packs each time: minutes for 12 000).
 * Rooms below repo/ are used directly, in the order of livepoint-repository(5), which `verify --data` then proves.
 *
 * Point i (from 0) is called "pNNN@TIME", NNN = i modulo 500, TIME = 2020-01-01 and i minutes; its disk "vda" has
 * (256 + i) * 512 bytes: "content N", N = i modulo 200, at the start, and zeroes.  Prints the points, one a line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "repo/repo.h"
#include "store/store.h"

#include "base/banned.h"

#define NAMES 500u
#define CONTENTS 200u
#define START 1577836800 /* 2020-01-01T00:00:00Z */
#define CHUNK CHUNK_SIZE_DEFAULT

struct maker {
	uint8_t uuid[UUID_LEN];
	struct codec_keys *keys;
	struct store *store;
	struct store_reader *reader;
	struct catalog *catalog;
	struct store_stage *stage;
	struct store_writer *data, *map;
	uint64_t contents[CONTENTS]; /* locators */
	uint8_t ids[CONTENTS][ID_LEN];
	struct lease leases[NAMES]; /* of the batch */
	struct manifest m[NAMES];
	struct manifest_disk disks[NAMES];
	struct object_ref refs[NAMES];
};

static int append(struct maker *k, struct store_writer *w, enum object_type type, const void *p,
		  size_t n, struct object_ref *ref, struct err *err)
{
	struct store_append a = { .type = type,
				  .id = ref->id,
				  .plain_len = (uint32_t)n,
				  .codec = CODEC_RAW,
				  .xxh3 = check_xxh3(p, n),
				  .payload = p,
				  .n = n };
	int r = codec_id(store_reader_codec(k->reader), p, n, ref->id, err);

	return r < 0 ? r :
		       store_writer_append(w, store_reader_codec(k->reader), &a, &ref->locator,
					   err);
}

static int put_contents(struct maker *k, struct err *err)
{
	static uint8_t chunk[CHUNK];
	int r = 0;

	for (unsigned i = 0; i < CONTENTS && r == 0; i++) {
		struct object_ref ref;

		snprintf((char *)chunk, 32, "content %u", i);
		r = append(k, k->data, OBJECT_CHUNK, chunk, CHUNK, &ref, err);
		k->contents[i] = ref.locator;
		memcpy(k->ids[i], ref.id, ID_LEN);
	}
	return r;
}

/* Leaf, page and root of point i's disk. */
static int put_map(struct maker *k, unsigned i, uint64_t size, struct object_ref *out,
		   struct err *err)
{
	static uint8_t ids[LEAF_CHUNKS][ID_LEN];
	uint64_t locators[LEAF_CHUNKS] = { k->contents[i % CONTENTS] };
	unsigned chunks = (unsigned)div_round_up(size, CHUNK);
	cleanup_free struct root *root = mem_alloc(sizeof(*root) + sizeof(root->pages[0]));
	cleanup_buf struct buf b = BUF_INIT;
	struct object_ref ref;
	uint8_t digest[ID_LEN];
	int r;

	if (!root)
		return err_nomem(err, "root");
	memcpy(ids[0], k->ids[i % CONTENTS], ID_LEN);
	r = codec_id(store_reader_codec(k->reader), ids, (size_t)chunks * ID_LEN, digest, err);
	if (r == 0)
		r = leaf_encode(locators, chunks, digest, &b, err);
	if (r == 0)
		r = append(k, k->map, OBJECT_LEAF, b.data, b.len, &ref, err);
	buf_reset(&b);
	if (r == 0)
		r = page_encode(&ref, 1, &b, err);
	root->size = size;
	root->chunk_size = CHUNK;
	root->leaf_chunks = LEAF_CHUNKS;
	root->count = 1;
	if (r == 0)
		r = append(k, k->map, OBJECT_PAGE, b.data, b.len, &root->pages[0], err);
	buf_reset(&b);
	if (r == 0)
		r = root_encode(root, &b, err);
	return r < 0 ? r : append(k, k->map, OBJECT_ROOT, b.data, b.len, out, err);
}

/* I2 */
static int begin(struct maker *k, unsigned slot, const char *lock, struct err *err)
{
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	struct lease *l = &k->leases[slot];
	struct manifest *m = &k->m[slot];
	bool has_parent = false;
	int r;

	*l = (struct lease){ .kind = LEASE_INGEST, .pid = getpid(), .since = time_now() };
	snprintf(l->name, sizeof(l->name), "p%03u", slot);
	str_copy(l->lock_name, sizeof(l->lock_name), lock);
	*m = (struct manifest){ .kind = POINT_FULL, .consistency = CONSISTENCY_CRASH };
	r = catalog_session_begin(k->catalog, l, NULL, &packs, &has_parent, &parent, NULL, err);
	if (r < 0)
		return r;
	if (has_parent) {
		m->kind = POINT_INCREMENTAL;
		m->has_parent = true;
		memcpy(m->parent, parent.id, POINT_ID_LEN);
		point_row_release(&parent);
	}
	pack_list_release(&packs);
	return 0;
}

/* The objects of point i. */
static int put_point(struct maker *k, unsigned slot, unsigned i, struct err *err)
{
	struct manifest *m = &k->m[slot];
	struct manifest_disk *d = &k->disks[slot];
	cleanup_buf struct buf b = BUF_INIT;
	int r;

	*d = (struct manifest_disk){ .name = "vda",
				     .size = (256 + (uint64_t)i) * 512,
				     .chunk_size = CHUNK,
				     .method = METHOD_FULL };
	d->source_size = d->size;
	memcpy(m->uuid, k->uuid, UUID_LEN);
	str_copy(m->name, sizeof(m->name), k->leases[slot].name);
	m->time = START + (int64_t)i * 60;
	m->disks = d;
	m->ndisks = 1;
	r = put_map(k, i, d->size, &d->root, err);
	if (r == 0)
		r = catalog_reserve(k->catalog, k->leases[slot].token, m->name, &m->time,
				    &m->sequence, &m->generation, err);
	if (r == 0)
		r = manifest_encode(m, &b, err);
	return r < 0 ? r : append(k, k->map, OBJECT_MANIFEST, b.data, b.len, &k->refs[slot], err);
}

/* I4 */
static int open_pack(struct maker *k, enum pack_kind kind, struct store_writer **w, struct err *err)
{
	uint64_t number;
	int r = catalog_pack_begin(k->catalog, k->leases[0].token, kind, &number, err);

	return r < 0 ? r : store_writer_new(k->stage, number, kind, w, err);
}

/* I5 to I7 */
static int close_pack(struct maker *k, struct store_writer **w, struct pack_done *done,
		      struct err *err)
{
	int r = store_writer_finish(*w, k->reader, err);

	if (r == 0)
		r = store_writer_publish(*w, err);
	if (r == 0)
		r = store_stage_sync(k->stage, err);
	*done = (struct pack_done){ .number = store_writer_number(*w),
				    .slots = store_writer_slots(*w),
				    .bytes = store_writer_bytes(*w) };
	store_writer_free(*w);
	*w = NULL;
	return r;
}

/* I10, in the order of the sequence numbers */
static int publish(struct maker *k, unsigned n, const struct pack_done *packs, size_t npacks,
		   struct err *err)
{
	for (unsigned slot = 0; slot < n; slot++) {
		struct session_done done = { .packs = packs, .npacks = slot ? 0 : npacks };
		char text[POINT_TEXT_MAX];
		int r = catalog_publish(k->catalog, k->leases[slot].token, &done, NULL, 0,
					k->refs[slot].id, &k->refs[slot], &k->m[slot], NULL, err);

		if (r < 0)
			return r;
		repo_point_text(&k->m[slot], text);
		puts(text);
	}
	return 0;
}

static int batch(struct maker *k, unsigned first, unsigned n, struct err *err)
{
	struct pack_done packs[2];
	size_t npacks = 0;
	char lock[64];
	cleanup_fd int lock_fd = -1;
	int r = store_lock_make(k->store, lock, &lock_fd, err);

	for (unsigned slot = 0; slot < n && r == 0; slot++)
		r = begin(k, slot, lock, err);
	if (r == 0)
		r = store_stage_begin(k->store, k->leases[0].token, &k->stage, err);
	if (r == 0 && !first) {
		r = open_pack(k, PACK_DATA, &k->data, err);
		if (r == 0)
			r = put_contents(k, err);
		if (r == 0)
			r = close_pack(k, &k->data, &packs[npacks++], err);
	}
	if (r == 0)
		r = open_pack(k, PACK_MAP, &k->map, err);
	for (unsigned slot = 0; slot < n && r == 0; slot++)
		r = put_point(k, slot, first + slot, err);
	if (r == 0)
		r = close_pack(k, &k->map, &packs[npacks++], err);
	if (r == 0)
		r = publish(k, n, packs, npacks, err);
	if (r == 0)
		r = store_stage_end(k->stage, err);
	return r < 0 ? r : store_lock_remove(k->store, lock, err);
}

static int open_all(struct maker *k, const char *path, struct err *err)
{
	struct repo_init_spec init = { .compression = -1 };
	struct store_spec spec = { .path = path };
	cleanup_free char *catalog = str_printf("%s/catalog.sqlite", path);
	struct repo *repo;
	int r = catalog ? repo_init(path, &init, err) : err_nomem(err, "path");

	if (r == 0)
		r = repo_open(path, REPO_READ, &repo, err);
	if (r < 0)
		return r;
	memcpy(k->uuid, repo_conf(repo)->uuid, UUID_LEN);
	repo_close(repo);
	r = codec_keys_plain(k->uuid, &k->keys, err);
	spec.keys = k->keys;
	if (r == 0)
		r = store_open(&spec, &k->store, err);
	if (r == 0)
		r = store_reader_new(k->store, &k->reader, err);
	return r < 0 ? r : catalog_open(catalog, CATALOG_READ_WRITE, k->uuid, &k->catalog, err);
}

int main(int argc, char **argv)
{
	struct maker *k = mem_alloc(sizeof(*k));
	struct err err = ERR_INIT;
	uint64_t count;
	int r;

	if (!k || argc != 3 || !parse_u64(argv[2], &count) || count > 1000000) {
		fputs("usage: mkpoints REPO COUNT\n", stderr);
		return 2;
	}
	r = open_all(k, argv[1], &err);
	for (uint64_t first = 0; first < count && r >= 0; first += NAMES)
		r = batch(k, (unsigned)first, (unsigned)MIN(count - first, NAMES), &err);
	catalog_close(k->catalog);
	store_reader_free(k->reader);
	if (k->store)
		store_close(k->store);
	codec_keys_free(k->keys);
	free(k);
	if (r < 0)
		fprintf(stderr, "mkpoints: %s\n", err.text);
	return r < 0 || fflush(stdout) ? 1 : 0;
}
