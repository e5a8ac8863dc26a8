// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Checking a catalog against SQLite's own rules and those of the schema, and copying it.
 *
 * Each rule is a query that returns one text a violation, so that a rule and its words stand together;
 * what SQL cannot say of bitmaps is said in C.
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "catalog/internal.h"

#include "base/banned.h"

#define CHECK_LINES_MAX 1000 /* of one rule */
#define LOCATOR_PACK(column) "((" column " >> 24) & 1099511627775)"
#define LOCATOR_LIVE(column)                                                                       \
	"EXISTS (SELECT 1 FROM pack k WHERE k.number = " LOCATOR_PACK(                             \
		column) " AND k.state = 2 AND (" column " & 16777215) < k.slots)"

static const char *const check_rules[] = {
	"SELECT quick_check FROM pragma_quick_check WHERE quick_check <> 'ok'",
	"SELECT 'a row of table ' || \"table\" || ' names a missing row of ' || parent"
	" FROM pragma_foreign_key_check",
	"SELECT 'the row of table meta is missing' WHERE NOT EXISTS (SELECT 1 FROM meta)",
	"SELECT 'pack ' || number || ' is not below the next pack number ' || next_pack"
	" FROM pack, meta WHERE number >= next_pack",
	"SELECT 'index segment ' || number || ' is not below the next number ' || next_segment"
	" FROM segment, meta WHERE number >= next_segment",
	"SELECT 'point ' || lower(hex(id)) || ' has sequence ' || sequence || ', the next is '"
	" || next_sequence FROM point, meta WHERE sequence >= next_sequence",
	"SELECT 'point ' || lower(hex(id)) || ' has generation ' || p.generation || ' of ' ||"
	" meta.generation FROM point p, meta WHERE p.generation > meta.generation",
	"SELECT 'lease ' || token || ' has generation ' || gen || ' of ' || generation"
	" FROM lease, meta WHERE gen > generation",
	"SELECT 'slots were condemned at generation ' || condemn_gen || ' of ' || generation"
	" FROM meta WHERE condemn_gen > generation",
	"SELECT 'sequence ' || sequence || ' belongs to ' || count(*) || ' points' FROM point"
	" GROUP BY sequence HAVING count(*) > 1",
	"SELECT 'live pack ' || number || ' has ' || slots || ' slots and ' || bytes || ' bytes'"
	" FROM pack WHERE state = 2 AND (slots = 0 OR bytes = 0)",
	"SELECT 'pack ' || number || ' is being written but has slots' FROM pack"
	" WHERE state = 1 AND (slots <> 0 OR bytes <> 0 OR published <> 0"
	" OR coalesce(gone, condemned, doomed, damaged) IS NOT NULL)",
	"SELECT 'pack ' || number || ' has condemned slots but nothing was condemned' FROM pack, meta"
	" WHERE condemned IS NOT NULL AND condemn_gen = 0",
	"SELECT 'complete point ' || lower(hex(id)) || ' has a time of being forgotten' FROM point"
	" WHERE state = 1 AND (forgotten <> 0 OR until <> 0)",
	"SELECT 'point ' || lower(hex(p.id)) || ' is held but not complete' FROM hold h"
	" JOIN point p ON p.num = h.point WHERE p.state <> 1",
	"SELECT 'point ' || lower(hex(id)) || ' is expired and yet pinned' FROM point WHERE state = 3"
	" AND num IN (SELECT point FROM pin)",
	"SELECT 'overlay ' || o.id || ' stands on point ' || lower(hex(p.id)) || ', which is expired'"
	" FROM overlay o JOIN point p ON p.num = o.point WHERE p.state = 3",
	"SELECT 'overlay ' || id || ' has no id of an overlay' FROM overlay"
	" WHERE id NOT GLOB 'o[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]'",
	"SELECT 'manifest of expired point ' || lower(hex(id)) || ' is in a pack that is not there'"
	" FROM tomb WHERE NOT " LOCATOR_LIVE("manifest_locator"),
	"SELECT 'audit entry ' || number || ' has none before it' FROM audit a, meta"
	" WHERE number <> audit_number + 1"
	" AND NOT EXISTS (SELECT 1 FROM audit b WHERE b.number = a.number - 1)",
	"SELECT 'audit entry ' || number || ' is not above the first, ' || (audit_number + 1)"
	" FROM audit, meta WHERE number <= audit_number",
	"SELECT 'the state object is not in a live pack' FROM meta WHERE state_locator <> 0"
	" AND NOT " LOCATOR_LIVE("state_locator"),
	"SELECT 'point ' || lower(hex(id)) || ' has time text ' || time_text FROM point"
	" WHERE time BETWEEN 0 AND 253402300799"
	" AND time_text <> strftime('%Y-%m-%dT%H:%M:%SZ', time, 'unixepoch')",
	"SELECT 'manifest of point ' || lower(hex(id)) || ' is not in a live pack' FROM point"
	" WHERE state <> 3 AND NOT " LOCATOR_LIVE("manifest_locator"),
	"SELECT 'root of disk ' || d.name || ' of point ' || lower(hex(p.id)) || ' is not in a live pack'"
	" FROM disk d JOIN point p ON p.num = d.point WHERE p.state <> 3 AND d.root_locator <> 0"
	" AND NOT " LOCATOR_LIVE("d.root_locator"),
};

/* Returns the number of lines added.  Damage that SQLite meets on the way is a finding too. */
static int check_rule(struct catalog *c, const char *sql, struct buf *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	const char *text;
	int n = 0;
	int r = sql_query(c, &s, err, sql, "");

	while (r >= 0 && n < CHECK_LINES_MAX && (r = sql_step(c, s, err)) == 1) {
		text = (const char *)sqlite3_column_text(s, 0);
		buf_printf(out, "%s\n", text ? text : "a row with a missing value");
		n++;
	}
	if (r == ERR_DAMAGED) {
		buf_printf(out, "%s\n", err ? err->text : "the catalog is damaged");
		err_clear(err);
		return n + 1;
	}
	return r < 0 ? r : n;
}

struct bitmap {
	const uint8_t *bits;
	uint32_t n;
};

static struct bitmap bitmap_column(sqlite3_stmt *s, int i)
{
	struct bitmap b;

	b.bits = sqlite3_column_blob(s, i);
	b.n = (uint32_t)sqlite3_column_bytes(s, i);
	return b;
}

/* NULL, or of the right length without a bit beyond the last slot. */
static bool bitmap_fits(const struct bitmap *b, uint32_t slots)
{
	if (b->n == 0)
		return true;
	return b->n == (slots + 7) / 8 && (slots % 8 == 0 || b->bits[b->n - 1] >> slots % 8 == 0);
}

static bool bitmap_apart(const struct bitmap *a, const struct bitmap *b)
{
	uint32_t i;

	for (i = 0; i < a->n && i < b->n; i++) {
		if (a->bits[i] & b->bits[i])
			return false;
	}
	return true;
}

static bool bitmap_within(const struct bitmap *b, const struct bitmap *whole)
{
	uint32_t i;

	for (i = 0; i < b->n; i++) {
		if (b->bits[i] & ~(i < whole->n ? whole->bits[i] : 0))
			return false;
	}
	return true;
}

static int check_bitmaps(struct catalog *c, struct buf *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int found = 0;
	int r = sql_query(
		c, &s, err,
		"SELECT number, slots, gone, condemned, doomed, damaged FROM pack"
		" WHERE coalesce(gone, condemned, doomed, damaged) IS NOT NULL ORDER BY number",
		"");

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		uint32_t slots = (uint32_t)sqlite3_column_int(s, 1), i;
		struct bitmap b[4];
		const char *what = NULL;
		bool fits = true;

		for (i = 0; i < ARRAY_SIZE(b); i++) {
			b[i] = bitmap_column(s, (int)i + 2);
			fits = fits && bitmap_fits(&b[i], slots);
		}
		if (!fits)
			what = "a bitmap that does not fit its slots";
		else if (!bitmap_within(&b[1], &b[0]) || !bitmap_within(&b[2], &b[0]))
			what = "condemned or doomed slots that are not gone";
		else if (!bitmap_apart(&b[1], &b[2]))
			what = "slots that are condemned and doomed";
		if (!what)
			continue;
		buf_printf(out, "pack %lld: %s\n", (long long)sqlite3_column_int64(s, 0), what);
		found++;
	}
	if (r == ERR_DAMAGED) {
		buf_printf(out, "%s\n", err ? err->text : "the catalog is damaged");
		err_clear(err);
		return found + 1;
	}
	return r < 0 ? r : found;
}

/* What points, complete or forgotten, and the state object refer to directly. */
static const char check_used[] =
	"SELECT 'manifest of point ' || lower(hex(p.id)), p.manifest_locator & 16777215,"
	" k.gone, k.condemned FROM point p JOIN pack k ON k.number = " LOCATOR_PACK(
		"p.manifest_locator") " WHERE p.state <> 3 AND k.gone IS NOT NULL"
				      " UNION ALL SELECT 'root of disk ' || d.name || ' of point ' || lower(hex(p.id)),"
				      " d.root_locator & 16777215, k.gone, k.condemned FROM disk d JOIN point p ON p.num = d.point"
				      " JOIN pack k ON k.number = " LOCATOR_PACK(
					      "d.root_locator") " WHERE p.state <> 3 AND k.gone"
								" IS NOT NULL"
								" UNION ALL SELECT 'the state object', state_locator & 16777215, k.gone, k.condemned"
								" FROM meta JOIN pack k ON k.number = " LOCATOR_PACK(
									"state_locator") " WHERE k.gone"
											 " IS NOT NULL";

static bool bitmap_has(const struct bitmap *b, uint32_t slot)
{
	return slot / 8 < b->n && b->bits[slot / 8] >> slot % 8 & 1;
}

/* A slot that is condemned may be taken back, and is if it is used; doomed or dropped is for ever. */
static int check_used_slots(struct catalog *c, struct buf *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int found = 0;
	int r = sql_query(c, &s, err, check_used, "");

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		struct bitmap gone = bitmap_column(s, 2), condemned = bitmap_column(s, 3);
		uint32_t slot = (uint32_t)sqlite3_column_int64(s, 1);

		if (!bitmap_has(&gone, slot) || bitmap_has(&condemned, slot))
			continue;
		buf_printf(out, "%s: its slot is doomed or dropped\n",
			   (const char *)sqlite3_column_text(s, 0));
		found++;
	}
	if (r == ERR_DAMAGED) {
		err_clear(err); /* the quick check has told of it */
		return found;
	}
	return r < 0 ? r : found;
}

int catalog_check(struct catalog *c, struct buf *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int found = 0;
	size_t i;
	int r = txn_begin_read(&t, c, err);

	for (i = 0; i < ARRAY_SIZE(check_rules) && r >= 0; i++) {
		r = check_rule(c, check_rules[i], out, err);
		found += MAX(r, 0);
	}
	if (r >= 0)
		r = check_bitmaps(c, out, err);
	found += MAX(r, 0);
	if (r >= 0)
		r = check_used_slots(c, out, err);
	if (r < 0)
		return r;
	if (out->failed)
		return err_nomem(err, "checking the catalog");
	return found + r;
}

/* --- copy --- */

static int copy_sync(const char *path, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDWR, 0, err);
	char dir[PATH_MAX];
	int r;

	if (fd < 0)
		return fd;
	/* VACUUM INTO does not sync what it made. */
	r = file_datasync(fd, path, "catalog.vacuum.sync", err);
	if (r < 0)
		return r;
	if (!str_copy(dir, sizeof(dir), path))
		return err_set(err, ERR_TOO_BIG, "the path '%s' is too long", path);
	return dir_sync(dirname(dir), "catalog.vacuum.dirsync", err);
}

int catalog_copy(struct catalog *c, const char *path, struct err *err)
{
	struct err ignored = ERR_INIT;
	struct txn t = TXN_INIT;
	int fd, r;

	/* VACUUM wants no transaction; this one only asks whether the handle is usable. */
	r = txn_begin_read(&t, c, err);
	if (r < 0)
		return r;
	txn_rollback(&t);
	/* VACUUM INTO takes an empty file: this one has our mode, and was not there before. */
	fd = file_create(path, "catalog.vacuum.create", err);
	if (fd < 0)
		return fd;
	base_cleanup_fd(&fd);
	r = sql_run(c, err, "VACUUM INTO ?", "t", path);
	if (r >= 0)
		r = copy_sync(path, err);
	if (r < 0)
		file_unlink(path, "catalog.vacuum.unlink", &ignored);
	return r < 0 ? r : 0;
}
