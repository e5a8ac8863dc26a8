/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writes the seeds of the corpora: fuzz/seeds DIR makes DIR/TARGET/seed-N.  The same files each
 * time. Run by hand when a format changes; the files are kept in fuzz/corpus/ beside what fuzzing
 * found.
 */
#include "base/file.h"
#include "format/format.h"
#include "tests/unit/format-samples.h"

#include "base/banned.h"

#define SEEDS 4 /* of each target */

static int put_file(const char *dir, const char *target, unsigned number, const struct buf *b,
		    struct err *err)
{
	cleanup_free char *folder = str_printf("%s/%s", dir, target);
	cleanup_free char *path = str_printf("%s/%s/seed-%u", dir, target, number);
	if (!folder || !path || b->failed)
		return err_nomem(err, "a seed");
	int r = dir_make(folder, 0755, "fuzz.seeds.mkdir", err);
	return r < 0 ? r : file_write_all(path, b->data, b->len, 0644, true, "fuzz.seeds", err);
}

static int put_bytes(const char *dir, const char *target, unsigned number, const void *p, size_t n,
		     struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	buf_put(&b, p, n);
	return put_file(dir, target, number, &b, err);
}

/* An object for its own target and, behind its type, for the dumps. */
static int put_object(const char *dir, const char *target, enum object_type type, unsigned number,
		      const struct buf *object, struct err *err)
{
	cleanup_buf struct buf dump = BUF_INIT;
	buf_put_u8(&dump, (uint8_t)type);
	buf_put(&dump, object->data, object->len);
	int r = put_file(dir, target, number, object, err);
	return r < 0 ? r : put_file(dir, "dump", number * 10 + (unsigned)type, &dump, err);
}

static int seed_fixed(const char *dir, unsigned number, struct sample_source *s, struct err *err)
{
	struct key_file k = sample_key(s);
	struct pack_header p = sample_pack(s);
	struct record_header r = sample_record(s, number * 1000, number % 2, OBJECT_PLAIN_MAX);
	struct conf c = sample_conf(s);
	cleanup_buf struct buf conf = BUF_INIT;
	uint8_t raw[KEY_FILE_LEN];
	key_file_encode(&k, raw);
	int rc = put_bytes(dir, "key", number, raw, KEY_FILE_LEN, err);
	if (rc >= 0)
		rc = put_bytes(dir, "dump", number * 10 + 7, raw, KEY_FILE_LEN, err);
	pack_header_encode(&p, raw);
	if (rc >= 0)
		rc = put_bytes(dir, "pack-header", number, raw, PACK_HEADER_LEN, err);
	record_header_encode(&r, raw);
	if (rc >= 0)
		rc = put_bytes(dir, "record", number, raw, RECORD_HEADER_LEN, err);
	if (rc >= 0)
		rc = conf_encode(&c, &conf, err);
	if (rc >= 0)
		rc = put_file(dir, "conf", number, &conf, err);
	return rc < 0 ? rc : put_file(dir, "dump", number * 10, &conf, err);
}

/* Their own numbers, so that no other seed moves. */
static int seed_keys(const char *dir, unsigned number, struct err *err)
{
	struct sample_source s = { 4000 + number };
	cleanup_free struct key_ring *k = mem_alloc(sizeof(*k));
	cleanup_buf struct buf ring = BUF_INIT;
	uint8_t bits[RECOVERY_BITS_LEN];
	char text[RECOVERY_TEXT_MAX];
	int r;

	if (!k)
		return err_nomem(err, "a seed");
	sample_key_ring(&s, k);
	r = key_ring_encode(k, &ring, err);
	if (r >= 0)
		r = put_file(dir, "key", 10 + number, &ring, err);
	if (r >= 0)
		r = put_file(dir, "dump", 1000 + number, &ring, err);
	sample_bytes(&s, bits, sizeof(bits));
	recovery_encode(bits, text);
	return r < 0 ? r : put_bytes(dir, "key", 20 + number, text, strlen(text), err);
}

static int seed_files(const char *dir, unsigned number, struct sample_source *s, struct err *err)
{
	cleanup_buf struct buf pack = BUF_INIT, footer = BUF_INIT, segment = BUF_INIT,
			       header = BUF_INIT;
	size_t at = sample_pack_file(s, number * 2, &pack);
	sample_segment_file(s, number * 13, &segment);
	if (pack.failed || segment.failed)
		return err_nomem(err, "a seed");
	buf_put(&footer, pack.data + pack.len - PACK_TRAILER_LEN, PACK_TRAILER_LEN);
	buf_put(&footer, pack.data + at, pack.len - PACK_TRAILER_LEN - at);
	buf_put_le64(&header, segment.len);
	buf_put(&header, segment.data, SEGMENT_HEADER_LEN);
	int r = put_file(dir, "footer", number, &footer, err);
	if (r >= 0)
		r = put_file(dir, "segment", number, &header, err);
	if (r >= 0)
		r = put_file(dir, "dump", number * 10 + 8, &pack, err);
	return r < 0 ? r : put_file(dir, "dump", number * 10 + 9, &segment, err);
}

static int seed_map(const char *dir, unsigned number, struct sample_source *s, struct err *err)
{
	static const uint64_t sizes[SEEDS] = { 512, 1 * TiB, 64 * GiB + 512, 0 };
	uint64_t locators[LEAF_CHUNKS];
	uint8_t digest[ID_LEN];
	uint64_t chunks, leaves;
	uint32_t pages;
	cleanup_buf struct buf leaf = BUF_INIT, page = BUF_INIT, out = BUF_INIT;
	struct object_ref refs[SEEDS] = { sample_ref(s) };
	sample_locators(s, locators, number * 40);
	sample_bytes(s, digest, sizeof(digest));
	int r = leaf_encode(locators, number * 40, digest, &leaf, err);
	if (r >= 0)
		r = put_object(dir, "leaf", OBJECT_LEAF, number, &leaf, err);
	if (r >= 0)
		r = page_encode(refs, number, &page, err);
	if (r >= 0)
		r = put_object(dir, "page", OBJECT_PAGE, number, &page, err);
	if (r < 0)
		return r;
	map_geometry(sizes[number - 1], CHUNK_SIZE_DEFAULT, &chunks, &leaves, &pages);
	cleanup_free struct root *root = mem_alloc(sizeof(*root) + pages * sizeof(root->pages[0]));
	if (!root)
		return err_nomem(err, "a seed");
	root->size = sizes[number - 1];
	root->chunk_size = CHUNK_SIZE_DEFAULT;
	root->leaf_chunks = LEAF_CHUNKS;
	root->count = (uint16_t)pages;
	if (pages > 0)
		root->pages[pages - 1] = sample_ref(s);
	r = root_encode(root, &out, err);
	return r < 0 ? r : put_object(dir, "root", OBJECT_ROOT, number, &out, err);
}

static int seed_manifest(const char *dir, unsigned number, struct sample_source *s, struct err *err)
{
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_ptr(manifest) m = sample_manifest(s, number - 1, number / 2);
	int r = m ? manifest_encode(m, &out, err) : err_nomem(err, "a seed");
	return r < 0 ? r : put_object(dir, "manifest", OBJECT_MANIFEST, number, &out, err);
}

/* With files kept with the point; their own numbers, so that no other seed moves. */
static int seed_config(const char *dir, unsigned number, struct err *err)
{
	struct sample_source s = { 5000 + number };
	cleanup_buf struct buf out = BUF_INIT, dump = BUF_INIT;
	cleanup_ptr(manifest) m = sample_manifest(&s, 1, 0);
	int r = m && sample_configs(&s, m, number) ? manifest_encode(m, &out, err) :
						     err_nomem(err, "a seed");

	if (r >= 0)
		r = put_file(dir, "manifest", 10 + number, &out, err);
	buf_put_u8(&dump, OBJECT_MANIFEST);
	buf_put(&dump, out.data, out.len);
	return r < 0 ? r : put_file(dir, "dump", 200 + number, &dump, err);
}

static int seed_state(const char *dir, unsigned number, struct sample_source *s, struct err *err)
{
	cleanup_buf struct buf out = BUF_INIT, dump = BUF_INIT;
	struct state state;
	int r = sample_state(s, number - 1, (number - 1) * 2, &state) ?
			state_encode(&state, &out, err) :
			err_nomem(err, "a seed");
	state_release(&state);
	if (r >= 0)
		r = put_file(dir, "state", number, &out, err);
	buf_put_u8(&dump, OBJECT_STATE);
	buf_put(&dump, out.data, out.len);
	return r < 0 ? r : put_file(dir, "dump", 100 + number, &dump, err);
}

static int seed_overlay(const char *dir, unsigned number, struct err *err)
{
	struct sample_source s = { 5000 + number };
	struct overlay_header_disk disks[SEEDS];
	struct overlay_header h = sample_overlay(&s, disks, number);
	struct overlay_log_header l = sample_overlay_log(&s);
	cleanup_buf struct buf header = BUF_INIT, log = BUF_INIT;
	uint8_t raw[OVERLAY_LOG_HEADER_LEN];
	int r = overlay_header_encode(&h, &header, err);

	overlay_header_seal(&header, h.mac);
	if (number == 2) /* so that a page is short */
		l.size = 5 * MiB + 512;
	overlay_log_header_encode(&l, raw);
	buf_put(&log, raw, sizeof(raw));
	for (unsigned i = 1; i <= number; i++)
		sample_overlay_record(&s, &l, number == 2 ? OVERLAY_PAGES : OVERLAY_RUNS, i,
				      i * 20 - 19, &log);
	buf_put_zero(&log, 700 * (number % 2));
	if (r >= 0)
		r = put_file(dir, "overlay", number, &header, err);
	if (r >= 0)
		r = put_file(dir, "overlay", 10 + number, &log, err);
	if (r >= 0)
		r = put_file(dir, "dump", 2000 + number, &header, err);
	return r < 0 ? r : put_file(dir, "dump", 2010 + number, &log, err);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct sample_source s = { 20261121 };
	struct sample_source states = {
		20261122
	}; /* of its own: the older seeds stay as they are */
	int r = 0;
	if (argc != 2) {
		fprintf(stderr, "usage: %s DIR\n", argv[0]);
		return 2;
	}
	for (unsigned number = 1; number <= SEEDS && r >= 0; number++) {
		r = seed_fixed(argv[1], number, &s, &err);
		if (r >= 0)
			r = seed_files(argv[1], number, &s, &err);
		if (r >= 0)
			r = seed_map(argv[1], number, &s, &err);
		if (r >= 0)
			r = seed_manifest(argv[1], number, &s, &err);
		if (r >= 0)
			r = seed_state(argv[1], number, &states, &err);
		if (r >= 0)
			r = seed_keys(argv[1], number, &err);
		if (r >= 0)
			r = seed_config(argv[1], number, &err);
		if (r >= 0)
			r = seed_overlay(argv[1], number, &err);
	}
	if (r < 0)
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
	return r < 0;
}
