/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of catalog/ share: a catalog in a folder of its own, a lease, a whole backup, raw SQL. */
#ifndef LIVEPOINT_TESTS_UNIT_CATALOG_HELP_H
#define LIVEPOINT_TESTS_UNIT_CATALOG_HELP_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "catalog/internal.h"

#define HELP static inline __attribute__((unused))

struct fixture {
	char dir[64], path[96];
	struct catalog *c;
	struct err err;
};

static const uint8_t help_uuid[UUID_LEN] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

/* Fails the test with the error's text. */
#define assert_ok(f, call)                                                                         \
	do {                                                                                       \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, (f)->err.text);                                  \
	} while (0)
#define assert_code(f, call, wanted)                                                               \
	do {                                                                                       \
		int code_ = (call);                                                                \
		if (code_ != (wanted))                                                             \
			fail_msg("%s: %d (%s), not %s", #call, code_, (f)->err.text, #wanted);     \
	} while (0)

HELP void help_folder(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/catalog-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/catalog.sqlite", f->dir);
}

HELP void help_open(struct fixture *f)
{
	assert_ok(f, catalog_open(f->path, CATALOG_READ_WRITE, help_uuid, &f->c, &f->err));
}

HELP int help_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -1;
	help_folder(f);
	assert_ok(f, catalog_create(f->path, help_uuid, &f->err));
	help_open(f);
	*state = f;
	return 0;
}

HELP int help_teardown(void **state)
{
	struct fixture *f = *state;

	mem_fail_after(0);
	catalog_close(f->c);
	assert_ok(f, dir_remove_flat(f->dir, "test.remove", &f->err));
	free(f);
	return 0;
}

HELP void help_sql(struct fixture *f, const char *sql)
{
	assert_ok(f, sql_exec(f->c, sql, &f->err));
}

HELP uint64_t help_number(struct fixture *f, const char *sql)
{
	uint64_t n = 0;

	assert_ok(f, sql_number(f->c, sql, &n, &f->err));
	return n;
}

HELP struct lease help_spec(enum lease_kind kind, const char *name)
{
	struct lease l = { .kind = kind, .pid = 77, .start_ticks = 5, .since = 1000000000 };

	str_copy(l.name, sizeof(l.name), name);
	str_copy(l.lock_name, sizeof(l.lock_name), "lock");
	str_copy(l.host, sizeof(l.host), "hosty");
	str_copy(l.boot_id, sizeof(l.boot_id), "boot");
	return l;
}

/* Begins a session and drops what it read; returns the token. */
HELP uint64_t help_session(struct fixture *f, const char *name)
{
	struct lease l = help_spec(LEASE_INGEST, name);
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has_parent = false;

	assert_ok(f, catalog_session_begin(f->c, &l, NULL, &packs, &has_parent, &parent, NULL,
					   &f->err));
	pack_list_release(&packs);
	point_row_release(&parent);
	return l.token;
}

static struct manifest_disk help_disks[2] = {
	{ .name = "vda",
	  .size = 1 << 20,
	  .source_size = (1 << 20) - 5,
	  .chunk_size = 65536,
	  .method = METHOD_HASH,
	  .source = (char *)"/dev/sda",
	  .read_bytes = 77,
	  .unreadable_bytes = 512 },
	{ .name = "vdb",
	  .size = 512,
	  .source_size = 512,
	  .chunk_size = 65536,
	  .method = METHOD_FULL },
};
static struct manifest_label help_labels[2] = {
	{ (char *)"env", (char *)"prod" },
	{ (char *)"why", (char *)"" },
};

HELP struct manifest help_manifest(const char *name, int64_t time, uint64_t sequence,
				   uint64_t generation, uint64_t pack)
{
	struct manifest m = { .time = time,
			      .sequence = sequence,
			      .generation = generation,
			      .kind = POINT_FULL,
			      .consistency = CONSISTENCY_CRASH,
			      .stored = 4711,
			      .program = (char *)"livepoint 1",
			      .ndisks = 2,
			      .nlabels = 2,
			      .disks = help_disks,
			      .labels = help_labels };

	memcpy(m.uuid, help_uuid, UUID_LEN);
	str_copy(m.name, sizeof(m.name), name);
	help_disks[0].root.locator = locator_make(pack, 1);
	memset(help_disks[0].root.id, 0xab, ID_LEN);
	return m;
}

/* Id of a test's point: n big-endian in front. */
HELP void help_id(uint8_t id[POINT_ID_LEN], uint32_t n)
{
	memset(id, 0x5a, POINT_ID_LEN);
	put_be32(id, n);
}

/* Reserves and publishes under a token; *time as catalog_reserve. */
HELP int help_publish(struct fixture *f, uint64_t token, const char *name, int64_t *time,
		      uint32_t n, const struct session_done *done, const struct slot_bits *reused,
		      size_t nreused)
{
	uint64_t sequence = 0, generation = 0;
	struct object_ref ref = { .locator = locator_make(done->npacks ? done->packs[0].number : 1,
							  0) };
	struct manifest m;
	uint8_t id[POINT_ID_LEN];
	int r = catalog_reserve(f->c, token, name, time, &sequence, &generation, &f->err);

	if (r < 0)
		return r;
	memset(ref.id, 0xcd, ID_LEN);
	help_id(id, n);
	m = help_manifest(name, *time, sequence, generation, locator_pack(ref.locator));
	return catalog_publish(f->c, token, done, reused, nreused, id, &ref, &m, NULL, &f->err);
}

/* A whole backup with one pack of 10 slots; returns the pack's number. */
HELP uint64_t help_backup(struct fixture *f, const char *name, int64_t time, uint32_t n)
{
	uint64_t token = help_session(f, name);
	struct pack_done pack = { .slots = 10, .bytes = 5000 };
	struct session_done done = { .packs = &pack, .npacks = 1 };

	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &pack.number, &f->err));
	assert_ok(f, help_publish(f, token, name, &time, n, &done, NULL, 0));
	return pack.number;
}

/* Begins the maintenance lease; returns the token. */
HELP uint64_t help_maintenance(struct fixture *f)
{
	struct lease l = help_spec(LEASE_MAINTENANCE, "");

	assert_ok(f, catalog_lease_begin(f->c, &l, &f->err));
	return l.token;
}

/* A mac that depends on all of the entry that matters; opaque: NULL, or a code to fail with. */
HELP int help_mac(void *opaque, const uint8_t previous[ID_LEN], const struct audit_entry *e,
		  uint8_t mac[ID_LEN], struct err *err)
{
	const char *texts[] = { e->command, e->subject, e->detail, e->actor };
	uint8_t sum = (uint8_t)(e->number * 7 + (uint64_t)e->time);
	size_t i, k;

	if (opaque)
		return err_set(err, *(int *)opaque, "no mac today");
	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		for (k = 0; texts[i][k]; k++)
			sum = (uint8_t)(sum * 31 + (uint8_t)texts[i][k]);
	}
	for (i = 0; i < ID_LEN; i++)
		mac[i] = (uint8_t)(previous[i] * 5 + sum + i);
	return 0;
}
#define HELP_AUDIT(word)                                                                           \
	{                                                                                          \
		.entry = { .time = 1000, .command = (word), .actor = "me" }, .fn = help_mac        \
	}

/* What a step that must do nothing left: all rows of the tables that it could have changed. */
HELP char *help_rows(struct fixture *f)
{
	static const char *const tables[] = { "meta", "pack",  "point", "hold",
					      "tomb", "audit", "lease", "overlay" };
	cleanup_buf struct buf b = BUF_INIT;
	size_t i;
	int col;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		cleanup_stmt sqlite3_stmt *s = NULL;
		char sql[64];

		snprintf(sql, sizeof(sql), "SELECT * FROM %s", tables[i]);
		assert_ok(f, sql_query(f->c, &s, &f->err, sql, ""));
		while (sql_step(f->c, s, &f->err) == 1) {
			for (col = 0; col < sqlite3_column_count(s); col++) {
				const uint8_t *p = sqlite3_column_blob(s, col);
				int n = sqlite3_column_bytes(s, col), k;

				for (k = 0; k < n; k++)
					buf_printf(&b, "%02x", p[k]);
				buf_printf(&b, "|");
			}
			buf_printf(&b, "\n");
		}
	}
	assert_false(b.failed);
	return strdup(buf_str(&b));
}
/* The call must fail like this and change no row. */
#define assert_nothing(f, call, wanted)                                                            \
	do {                                                                                       \
		char *rows_ = help_rows(f), *again_;                                               \
		assert_code(f, call, wanted);                                                      \
		again_ = help_rows(f);                                                             \
		assert_string_equal(rows_, again_);                                                \
		free(rows_);                                                                       \
		free(again_);                                                                      \
	} while (0)

/* Closes and opens, as after a crash. */
HELP void help_again(struct fixture *f)
{
	catalog_close(f->c);
	f->c = NULL;
	help_open(f);
}

/* The catalog keeps all rules. */
HELP void help_check(struct fixture *f)
{
	cleanup_buf struct buf b = BUF_INIT;
	int r = catalog_check(f->c, &b, &f->err);

	if (r != 0)
		fail_msg("check: %d: %s%s", r, r < 0 ? f->err.text : "", buf_str(&b));
}

#endif
