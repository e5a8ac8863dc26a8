/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a repository meets that no session of ours made: hostile objects, a catalog that was put back, files that a power
 * cut brought back; and what must hold when several hands are at work in one process. */
#include "tests/unit/repo-help.h"

#include <pthread.h>
#include <sqlite3.h>
#include <unistd.h>

#include "catalog/catalog.h"
#include "format/format.h"
#include "repo/internal.h"
#include "repo/verify.h"
#include "store/store.h"

#include "base/banned.h"

#define SMALL (3 * MiB)

static void copy_file(const char *from, const char *to)
{
	struct err err = ERR_INIT;
	struct buf bytes = BUF_INIT;

	ok(file_read_all(from, 256 * MiB, &bytes, &err));
	ok(file_write_all(to, bytes.data, bytes.len, 0600, true, NULL, &err));
	buf_release(&bytes);
}

static uint8_t *noise(uint64_t size, uint64_t seed)
{
	uint8_t *p = malloc(size);

	assert_non_null(p);
	help_random(p, size, seed);
	return p;
}

/* --- hostile maps --- */

struct forger {
	struct repo *repo;
	struct catalog *catalog;
	struct store_stage *stage;
	struct store_reader *reader;
	struct store_writer *writer;
	uint64_t token;
	int lock;
};

static void forge_object(struct forger *f, enum object_type type, const struct buf *b,
			 struct object_ref *ref)
{
	struct err err = ERR_INIT;
	struct store_append a = { .type = type,
				  .plain_len = (uint32_t)b->len,
				  .xxh3 = check_xxh3(b->data, b->len),
				  .payload = b->data,
				  .n = b->len };

	ok(codec_id(store_reader_codec(f->reader), b->data, b->len, ref->id, &err));
	a.id = ref->id;
	ok(store_writer_append(f->writer, store_reader_codec(f->reader), &a, &ref->locator, &err));
}

static void forge_begin(struct forger *f, struct repo *r)
{
	struct err err = ERR_INIT;
	struct lease lease = { .kind = LEASE_INGEST, .name = "forged" };
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	uint64_t number;
	bool has_parent;

	f->repo = r;
	ok(repo_catalog_get(r, &f->catalog, &err));
	ok(repo_reader_get(r, &f->reader, &err));
	ok(store_lock_make(r->store, lease.lock_name, &f->lock, &err));
	ok(catalog_session_begin(f->catalog, &lease, NULL, &packs, &has_parent, &parent, NULL,
				 &err));
	pack_list_release(&packs);
	f->token = lease.token;
	ok(store_stage_begin(r->store, f->token, &f->stage, &err));
	ok(catalog_pack_begin(f->catalog, f->token, PACK_MAP, &number, &err));
	assert_int_equal(number, 1);
	ok(store_writer_new(f->stage, number, PACK_MAP, &f->writer, &err));
}

static void forge_end(struct forger *f, struct manifest *m, uint8_t id[POINT_ID_LEN])
{
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	struct object_ref ref;
	struct pack_done pack;
	struct session_done done = { .packs = &pack, .npacks = 1 };

	memcpy(m->uuid, f->repo->conf.uuid, UUID_LEN);
	str_copy(m->name, sizeof(m->name), "forged");
	m->time = time_now();
	m->kind = POINT_FULL;
	m->consistency = CONSISTENCY_CRASH;
	ok(catalog_reserve(f->catalog, f->token, m->name, &m->time, &m->sequence, &m->generation,
			   &err));
	ok(manifest_encode(m, &b, &err));
	forge_object(f, OBJECT_MANIFEST, &b, &ref);
	buf_release(&b);
	ok(store_writer_finish(f->writer, f->reader, &err));
	ok(store_writer_publish(f->writer, &err));
	pack = (struct pack_done){ .number = 1,
				   .slots = store_writer_slots(f->writer),
				   .bytes = store_writer_bytes(f->writer) };
	ok(catalog_publish(f->catalog, f->token, &done, NULL, 0, ref.id, &ref, m, NULL, &err));
	memcpy(id, ref.id, POINT_ID_LEN);
	store_writer_free(f->writer);
	ok(store_stage_end(f->stage, &err));
	close(f->lock);
	repo_reader_put(f->repo, f->reader);
	repo_catalog_put(f->repo, f->catalog);
}

/* Root and page of a disk of one chunk over that leaf. */
static void forge_disk(struct forger *f, const struct object_ref *leaf, struct manifest_disk *disk)
{
	struct err err = ERR_INIT;
	struct buf b = BUF_INIT;
	struct root *root = calloc(1, sizeof(*root) + sizeof(root->pages[0]));

	*root = (struct root){
		.size = CHUNK, .chunk_size = CHUNK, .leaf_chunks = LEAF_CHUNKS, .count = 1
	};
	ok(page_encode(leaf, 1, &b, &err));
	forge_object(f, OBJECT_PAGE, &b, &root->pages[0]);
	buf_reset(&b);
	ok(root_encode(root, &b, &err));
	forge_object(f, OBJECT_ROOT, &b, &disk->root);
	buf_release(&b);
	free(root);
}

/* A page that names itself as its leaf, under an id that it cannot know: what is cached under the locator is a page. */
static void page_as_leaf(bool id_of_zeroes)
{
	char dir[64];
	struct err err = ERR_INIT;
	struct forger f = { 0 };
	struct object_ref leaf = { .locator = locator_make(1, 0) };
	struct manifest_disk disk = { .name = "vda",
				      .size = CHUNK,
				      .source_size = CHUNK,
				      .chunk_size = CHUNK,
				      .method = METHOD_FULL };
	struct manifest m = { .disks = &disk, .ndisks = 1 };
	struct repo_point *p;
	struct repo_disk *d;
	uint8_t id[POINT_ID_LEN], back[512];
	struct repo *r;

	memset(leaf.id, id_of_zeroes ? 0 : 0xa5, ID_LEN);
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, REPO_SERIAL);
	forge_begin(&f, r);
	forge_disk(&f, &leaf, &disk);
	forge_end(&f, &m, id);

	ok(repo_point_open(r, id, &p, &err));
	ok(repo_disk_open(p, "vda", &d, &err));
	for (int i = 0; i < 2; i++)
		assert_int_equal(repo_disk_read(d, back, sizeof(back), 0, &err), ERR_DAMAGED);
	repo_disk_close(d);
	repo_point_close(p);
	repo_close(r);
	help_remove(dir);
}

static void test_page_as_leaf(void **state)
{
	(void)state;
	page_as_leaf(true);
	page_as_leaf(false);
}

struct named {
	unsigned leaves, good, bad; /* findings: about the leaf, about disk vda, about disk vdb */
};

static void note_finding(void *opaque, const struct verify_finding *f)
{
	struct named *n = opaque;

	n->leaves += !f->point && strstr(f->what, "leaf");
	n->good += f->disk && strcmp(f->disk, "vda") == 0;
	n->bad += f->disk && strcmp(f->disk, "vdb") == 0;
}

/* Two disks have one leaf; the second one's page knows it under another id. */
static void test_leaf_under_another_id(void **state)
{
	const uint64_t unreadable = LOCATOR_UNREADABLE;
	char dir[64];
	struct err err = ERR_INIT;
	struct forger f = { 0 };
	struct buf b = BUF_INIT;
	struct object_ref leaf;
	struct manifest_disk disks[2] = { { .name = "vda" }, { .name = "vdb" } };
	struct manifest m = { .disks = disks, .ndisks = 2 };
	struct named named = { 0 };
	struct verify_spec spec = { .finding = note_finding, .opaque = &named };
	struct verify_result result;
	uint8_t id[POINT_ID_LEN], ids[ID_LEN], digest[ID_LEN];
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, REPO_SERIAL);
	forge_begin(&f, r);
	memset(ids, 0xff, sizeof(ids));
	ok(repo_content_id(r, ids, sizeof(ids), digest, &err));
	ok(leaf_encode(&unreadable, 1, digest, &b, &err));
	forge_object(&f, OBJECT_LEAF, &b, &leaf);
	for (int i = 0; i < 2; i++) {
		disks[i].size = disks[i].source_size = disks[i].unreadable_bytes = CHUNK;
		disks[i].chunk_size = CHUNK;
		disks[i].method = METHOD_FULL;
		forge_disk(&f, &leaf, &disks[i]);
		leaf.id[5] ^= 1;
	}
	forge_end(&f, &m, id);

	assert_int_equal(repo_verify(r, &spec, &result, &err), ERR_DAMAGED);
	assert_int_equal(named.leaves, 1);
	assert_int_equal(named.good, 0);
	assert_int_equal(named.bad, 1);
	assert_int_equal(result.damaged_points, 1);
	buf_release(&b);
	repo_close(r);
	help_remove(dir);
}

/* Somebody who can write the files, but has no key, gives one pack the number of another: sealed records are bound to
 * their pack's number, so this is damage and not another disk's bytes. */
static void test_pack_under_another_number(void **state)
{
	char dir[64];
	struct err err = ERR_INIT;
	struct session_result one, two;
	cleanup_free uint8_t *data = noise(SMALL, 1), *other = noise(SMALL, 2);
	cleanup_free uint8_t *back = malloc(CHUNK);
	cleanup_free char *from = NULL, *to = NULL;
	struct buf pack = BUF_INIT;
	struct pack_header h;
	struct repo_point *p;
	struct repo_disk *d;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, true);
	r = help_open(dir, REPO_WRITE, 1);
	help_backup(r, "a", data, SMALL, &one);
	help_backup(r, "b", other, SMALL, &two);
	repo_close(r);
	from = str_printf("%s/packs/01/%012x.pack", dir, 1);
	to = str_printf("%s/packs/03/%012x.pack", dir, 3);
	ok(file_read_all(from, PACK_BYTES_MAX, &pack, &err));
	ok(pack_header_decode(pack.data, &h, &err));
	assert_int_equal(h.kind, PACK_DATA);
	h.number = 3;
	pack_header_encode(&h, pack.data);
	ok(file_write_all(to, pack.data, pack.len, 0600, true, NULL, &err));
	buf_release(&pack);

	r = help_open(dir, REPO_READ, 1);
	help_compare(r, one.id, data, SMALL);
	ok(repo_point_open(r, two.id, &p, &err));
	ok(repo_disk_open(p, NULL, &d, &err));
	assert_int_equal(repo_disk_read(d, back, CHUNK, 0, &err), ERR_DAMAGED);
	repo_disk_close(d);
	repo_point_close(p);
	repo_close(r);
	help_remove(dir);
}

/* A header that was changed to say "not encrypted" gets no plaintext. */
static void test_suite_taken_away(void **state)
{
	char dir[64];
	struct err err = ERR_INIT;
	cleanup_free char *file = NULL;
	struct buf text = BUF_INIT;
	struct conf conf;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, true);
	file = str_printf("%s/livepoint.conf", dir);
	ok(file_read_all(file, CONF_MAX, &text, &err));
	ok(conf_decode(text.data, text.len, &conf, &err));
	conf.suite = 0;
	conf.kdf_n = conf.kdf_r = conf.kdf_p = 0;
	buf_reset(&text);
	ok(conf_encode(&conf, &text, &err));
	ok(file_write_all(file, text.data, text.len, 0600, true, NULL, &err));
	buf_release(&text);
	assert_int_equal(repo_open(dir, REPO_WRITE, &r, &err), ERR_DAMAGED);
	help_remove(dir);
}

/* --- an older catalog --- */

/* The catalog as it was while a session was at work: its packs stand there as `writing` by a session that is dead now, but
 * they have become a point since.  Nothing may be removed. */
static void older_catalog(bool stray)
{
	char dir[64];
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "a", .compression = -1 };
	struct publish_spec publish = { 0 };
	struct session_result one, two;
	struct repo_session *s;
	cleanup_free uint8_t *data = noise(SMALL, 1), *more = noise(SMALL, 2);
	cleanup_free char *live = NULL, *copy = NULL, *newer = NULL, *path = NULL;
	struct catalog *c;
	struct repo *r;

	help_dir(dir);
	help_init(dir, false);
	live = str_printf("%s/catalog.sqlite", dir);
	copy = str_printf("%s/older", dir);
	newer = str_printf("%s/newer", dir);
	r = help_open(dir, REPO_WRITE, 2);
	ok(repo_session_begin(r, &spec, &s, &err));
	help_write_disk(s, "vda", data, SMALL);
	ok(repo_catalog_get(r, &c, &err));
	ok(catalog_copy(c, copy, &err));
	repo_catalog_put(r, c);
	ok(repo_session_publish(s, &publish, &one, &err));
	help_backup(r, "b", more, SMALL, &two);
	repo_close(r);

	copy_file(live, newer);
	copy_file(copy, live);
	path = str_printf("%s/packs/01/stray", dir);
	if (stray)
		ok(file_write_all(path, "x", 1, 0600, false, NULL, &err));
	r = help_open(dir, REPO_WRITE, 2);
	assert_int_equal(repo_session_begin(r, &spec, &s, &err), ERR_DAMAGED);
	assert_non_null(strstr(err.text, "older catalog"));
	assert_int_equal(repo_sweep(r, &err), ERR_DAMAGED);
	repo_close(r);

	/* the right one put back: everything is there */
	copy_file(newer, live);
	r = help_open(dir, REPO_WRITE, 2);
	help_compare(r, one.id, data, SMALL);
	help_compare(r, two.id, more, SMALL);
	repo_close(r);
	help_remove(dir);
}

static void test_older_catalog(void **state)
{
	(void)state;
	older_catalog(false);
}

static void test_older_catalog_and_stray_file(void **state)
{
	(void)state;
	older_catalog(true);
}

/* --- the index --- */

/* Index files whose removal a power cut took back are no row's; the sweep takes them. */
static void test_unlisted_segment(void **state)
{
	char dir[64];
	struct err err = ERR_INIT;
	struct session_result result;
	cleanup_free char *file = NULL, *saved = NULL;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	file = str_printf("%s/index/%016x.seg", dir, 1);
	saved = str_printf("%s/saved", dir);
	r = help_open(dir, REPO_WRITE, 1);
	for (unsigned i = 0; access(file, F_OK) == 0 || i == 0; i++) {
		cleanup_free uint8_t *data = noise(CHUNK, i + 1);

		assert_true(i < 40);
		help_backup(r, "s", data, CHUNK, &result);
		if (i == 0)
			copy_file(file, saved);
	}
	ok(repo_sweep(r, &err));
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	copy_file(saved, file);
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 1);
	ok(repo_sweep(r, &err));
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	repo_close(r);
	help_remove(dir);
}

/* --- ending --- */

/* A signal that comes when everything is read keeps the packs like one that comes before. */
static void test_stopped_at_publish(void **state)
{
	char dir[64];
	struct err err = ERR_INIT;
	volatile int stop = 0;
	struct session_spec spec = { .name = "k", .compression = -1, .stop = &stop };
	struct publish_spec publish = { 0 };
	struct session_result result;
	cleanup_free uint8_t *data = noise(SMALL, 4);
	struct repo_session *s;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, 2);
	ok(repo_session_begin(r, &spec, &s, &err));
	help_write_disk(s, "vda", data, SMALL);
	stop = ERR_TERMINATED;
	assert_int_equal(repo_session_publish(s, &publish, &result, &err), ERR_TERMINATED);
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	help_backup(r, "k", data, SMALL, &result);
	assert_int_equal(result.chunks_new, 0);
	help_compare(r, result.id, data, SMALL);
	repo_close(r);
	help_remove(dir);
}

/* "Unchanged" never takes over the part of the parent's last chunk that a smaller disk has cut off. */
static void test_unchanged_beyond_shrunk_end(void **state)
{
	char dir[64];
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "u", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = 2 * CHUNK - 512 };
	struct session_result result;
	cleanup_free uint8_t *data = noise(2 * CHUNK, 6);
	struct repo_session *s;
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	r = help_open(dir, REPO_WRITE, 1);
	help_backup(r, "u", data, 2 * CHUNK, &result);
	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	assert_int_equal(session_disk_unchanged(s, 0, disk.size, &err), ERR_INTERNAL);
	ok(session_disk_unchanged(s, 0, CHUNK, &err));
	assert_int_equal(session_disk_unchanged(s, CHUNK, CHUNK - 512, &err), ERR_INTERNAL);
	repo_session_abort(s);
	repo_close(r);
	help_remove(dir);
}

/* --- pins --- */

#define ROUNDS 60

struct holder {
	struct repo *repo;
	const char *catalog;
	const uint8_t *id;
	unsigned unpinned;
};

static int count_pins(const char *catalog)
{
	sqlite3 *db;
	sqlite3_stmt *s;
	int n;

	if (sqlite3_open_v2(catalog, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK)
		return -1;
	sqlite3_busy_timeout(db, 10000);
	n = sqlite3_prepare_v2(db, "SELECT count(*) FROM pin", -1, &s, NULL) == SQLITE_OK &&
			    sqlite3_step(s) == SQLITE_ROW ?
		    sqlite3_column_int(s, 0) :
		    -1;
	sqlite3_finalize(s);
	sqlite3_close(db);
	return n;
}

static void *hold(void *opaque)
{
	struct holder *h = opaque;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct repo_point *p;

		if (repo_point_open(h->repo, h->id, &p, NULL) < 0) {
			h->unpinned++;
			continue;
		}
		h->unpinned += count_pins(h->catalog) != 1;
		repo_point_close(p);
	}
	return NULL;
}

/* An open point is pinned, also when another thread closes it meanwhile. */
static void test_pins_of_two_threads(void **state)
{
	char dir[64];
	struct session_result result;
	cleanup_free uint8_t *data = noise(CHUNK, 3);
	cleanup_free char *catalog = NULL;
	struct holder h[3];
	pthread_t threads[ARRAY_SIZE(h)];
	struct repo *r;

	(void)state;
	help_dir(dir);
	help_init(dir, false);
	catalog = str_printf("%s/catalog.sqlite", dir);
	r = help_open(dir, REPO_WRITE, 2);
	help_backup(r, "p", data, CHUNK, &result);
	for (size_t i = 0; i < ARRAY_SIZE(h); i++) {
		h[i] = (struct holder){ .repo = r, .catalog = catalog, .id = result.id };
		assert_int_equal(pthread_create(&threads[i], NULL, hold, &h[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(h); i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(h[i].unpinned, 0);
	}
	assert_int_equal(count_pins(catalog), 0);
	repo_close(r);
	help_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_as_leaf),
		cmocka_unit_test(test_leaf_under_another_id),
		cmocka_unit_test(test_pack_under_another_number),
		cmocka_unit_test(test_suite_taken_away),
		cmocka_unit_test(test_older_catalog),
		cmocka_unit_test(test_older_catalog_and_stray_file),
		cmocka_unit_test(test_unlisted_segment),
		cmocka_unit_test(test_stopped_at_publish),
		cmocka_unit_test(test_unchanged_beyond_shrunk_end),
		cmocka_unit_test(test_pins_of_two_threads),
	};

	return cmocka_run_group_tests_name("repo-trouble", tests, NULL, NULL);
}
