// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Restore points: the rows that cache manifests, and how they are found.
 *
 * Invariants:
 *  1. An expired point is never returned.
 *  2. Newest means the highest publish sequence, not the latest clock.
 *  3. A point is read with its disks and labels in one transaction.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

void point_row_release(struct point_row *r)
{
	if (r->m)
		manifest_free(r->m);
	memset(r, 0, sizeof(*r));
}

void point_list_release(struct point_list *l)
{
	size_t i;

	for (i = 0; i < l->count; i++)
		point_row_release(&l->rows[i]);
	free(l->rows);
	memset(l, 0, sizeof(*l));
}

int point_missing(const uint8_t id[POINT_ID_LEN], struct err *err)
{
	char hex[2 * POINT_ID_LEN + 1];

	hex_encode(hex, id, POINT_ID_LEN);
	err_set(err, ERR_NOT_FOUND, "restore point '%s' is not there", hex);
	return err_object(err, "%s", hex);
}

/* Statements for what hangs on a point, prepared once for a list. */
struct point_reader {
	sqlite3_stmt *disks, *labels;
};

static void point_reader_release(struct point_reader *r)
{
	sqlite3_finalize(r->disks);
	sqlite3_finalize(r->labels);
}
#define cleanup_reader __attribute__((cleanup(point_reader_release)))

static int point_reader_init(struct catalog *c, struct point_reader *r, struct err *err)
{
	int ret = sql_query(
		c, &r->disks, err,
		"SELECT name, size, source_size, chunk_size, root_locator, root_id, method,"
		" source, read_bytes, unreadable_bytes FROM disk WHERE point = ? ORDER BY ord",
		"");

	if (ret < 0)
		return ret;
	return sql_query(c, &r->labels, err,
			 "SELECT key, value FROM label WHERE point = ? ORDER BY ord", "");
}

/* A copy of a text that may be null; false without memory. */
static bool column_dup(sqlite3_stmt *s, int i, char **out)
{
	const char *text = (const char *)sqlite3_column_text(s, i);

	*out = text ? str_dup(text) : NULL;
	return !text || *out;
}

/* 1: filled, 0: a value that cannot be, or ERR_NOMEM. */
static int disk_read(sqlite3_stmt *s, struct manifest_disk *d)
{
	if (!column_text(s, 0, d->name, sizeof(d->name)) ||
	    !column_blob(s, 5, d->root.id, sizeof(d->root.id)))
		return 0;
	d->size = column_u64(s, 1);
	d->source_size = column_u64(s, 2);
	d->chunk_size = (uint32_t)column_u64(s, 3);
	d->root.locator = column_u64(s, 4);
	d->method = sqlite3_column_int(s, 6);
	d->read_bytes = column_u64(s, 8);
	d->unreadable_bytes = column_u64(s, 9);
	return column_dup(s, 7, &d->source) ? 1 : ERR_NOMEM;
}

static int disks_read(struct catalog *c, sqlite3_stmt *s, int64_t num, struct manifest *m,
		      struct err *err)
{
	void *rows = NULL;
	size_t cap = 0;
	int r = sql_bind(c, s, err, "u", num);

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		if (m->ndisks == POINT_DISKS_MAX)
			return sql_bad_row(c, err, "disk", num);
		if (!array_grow(&rows, m->ndisks, &cap, sizeof(*m->disks)))
			return err_nomem(err, "reading disks");
		m->disks = rows;
		r = disk_read(s, &m->disks[m->ndisks++]);
		if (r < 0)
			return err_nomem(err, "reading disks");
		if (r == 0)
			return sql_bad_row(c, err, "disk", num);
	}
	return r;
}

static int labels_read(struct catalog *c, sqlite3_stmt *s, int64_t num, struct manifest *m,
		       struct err *err)
{
	struct manifest_label *l;
	void *rows = NULL;
	size_t cap = 0;
	int r = sql_bind(c, s, err, "u", num);

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, m->nlabels, &cap, sizeof(*m->labels)))
			return err_nomem(err, "reading labels");
		m->labels = rows;
		l = &m->labels[m->nlabels++];
		if (!column_dup(s, 0, &l->key) || !column_dup(s, 1, &l->value))
			return err_nomem(err, "reading labels");
		if (!l->key || !l->value)
			return sql_bad_row(c, err, "label", num);
	}
	return r;
}

/* The manifest's own fields; 1: filled, 0: a value that cannot be, or ERR_NOMEM. */
static int manifest_read(struct catalog *c, sqlite3_stmt *s, struct manifest *m)
{
	memcpy(m->uuid, c->uuid, UUID_LEN);
	m->time = sqlite3_column_int64(s, 10);
	m->sequence = column_u64(s, 11);
	m->generation = column_u64(s, 12);
	m->kind = sqlite3_column_int(s, 13);
	m->has_parent = sqlite3_column_type(s, 14) != SQLITE_NULL;
	m->consistency = sqlite3_column_int(s, 15);
	m->stored = column_u64(s, 16);
	if (!column_text(s, 9, m->name, sizeof(m->name)) ||
	    (m->has_parent && !column_blob(s, 14, m->parent, sizeof(m->parent))))
		return 0;
	return column_dup(s, 17, &m->program) ? 1 : ERR_NOMEM;
}

/* Fills a zeroed row; what is filled when it fails is released by the caller. */
static int point_read(struct catalog *c, sqlite3_stmt *s, struct point_reader *reader,
		      struct point_row *row, struct err *err)
{
	int64_t num = sqlite3_column_int64(s, 0);
	int r;

	row->m = mem_alloc(sizeof(*row->m));
	if (!row->m)
		return err_nomem(err, "reading a restore point");
	row->manifest_ref.locator = column_u64(s, 2);
	row->state = (enum point_state)sqlite3_column_int(s, 4);
	row->forgotten = sqlite3_column_int64(s, 18);
	row->until = sqlite3_column_int64(s, 19);
	row->verified_kind = sqlite3_column_int(s, 5);
	row->verified_time = sqlite3_column_int64(s, 6);
	row->verified_share = sqlite3_column_double(s, 7);
	row->damaged = sqlite3_column_int(s, 8) != 0;
	if (!column_blob(s, 1, row->id, sizeof(row->id)) ||
	    !column_blob(s, 3, row->manifest_ref.id, sizeof(row->manifest_ref.id)))
		return sql_bad_row(c, err, "point", num);
	r = manifest_read(c, s, row->m);
	if (r < 0)
		return err_nomem(err, "reading a restore point");
	if (r == 0)
		return sql_bad_row(c, err, "point", num);
	r = disks_read(c, reader->disks, num, row->m, err);
	if (r >= 0)
		r = labels_read(c, reader->labels, num, row->m, err);
	return r;
}

int point_rows(struct catalog *c, sqlite3_stmt *s, struct point_list *out, struct err *err)
{
	cleanup_reader struct point_reader reader = { 0 };
	struct point_list list = { 0 };
	void *rows = NULL;
	size_t cap = 0;
	int r = point_reader_init(c, &reader, err);

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, list.count, &cap, sizeof(*list.rows))) {
			r = err_nomem(err, "reading restore points");
			break;
		}
		list.rows = rows;
		r = point_read(c, s, &reader, &list.rows[list.count++], err);
	}
	if (r < 0) {
		point_list_release(&list);
		return r;
	}
	*out = list;
	return 0;
}

int point_first(struct catalog *c, sqlite3_stmt *s, struct point_row *out, struct err *err)
{
	cleanup_reader struct point_reader reader = { 0 };
	struct point_row row = { 0 };
	int r = sql_step(c, s, err);

	if (r <= 0)
		return r;
	r = point_reader_init(c, &reader, err);
	if (r >= 0)
		r = point_read(c, s, &reader, &row, err);
	if (r < 0) {
		point_row_release(&row);
		return r;
	}
	*out = row;
	return 1;
}

int point_newest(struct catalog *c, const char *name, struct point_row *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err,
			  "SELECT " POINT_COLUMNS " FROM point p WHERE p.name = ? AND p.state = 1"
			  " ORDER BY p.sequence DESC LIMIT 1",
			  "t", name);

	return r < 0 ? r : point_first(c, s, out, err);
}

/* --- insert --- */

static int disks_insert(struct catalog *c, int64_t num, const struct manifest *m, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	size_t i;
	int r = sql_query(c, &s, err,
			  "INSERT INTO disk (point, ord, name, size, source_size, chunk_size,"
			  " root_locator, root_id, method, source, read_bytes, unreadable_bytes)"
			  " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			  "");

	for (i = 0; i < m->ndisks && r >= 0; i++) {
		const struct manifest_disk *d = &m->disks[i];

		r = sql_bind(c, s, err, "uutuuuubntuu", num, (uint64_t)i, d->name, d->size,
			     d->source_size, (uint64_t)d->chunk_size, d->root.locator, d->root.id,
			     sizeof(d->root.id), d->method, d->source, d->read_bytes,
			     d->unreadable_bytes);
		if (r >= 0)
			r = sql_finish(c, s, err);
	}
	return r;
}

static int labels_insert(struct catalog *c, int64_t num, const struct manifest *m, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	size_t i;
	int r = sql_query(c, &s, err,
			  "INSERT INTO label (point, ord, key, value) VALUES (?, ?, ?, ?)", "");

	for (i = 0; i < m->nlabels && r >= 0; i++) {
		r = sql_bind(c, s, err, "uutt", num, (uint64_t)i, m->labels[i].key,
			     m->labels[i].value);
		if (r >= 0)
			r = sql_finish(c, s, err);
	}
	return r;
}

int point_insert(struct catalog *c, const uint8_t id[POINT_ID_LEN], enum point_state state,
		 const struct object_ref *manifest_ref, const struct manifest *m, struct err *err)
{
	char text[TIME_TEXT_MAX];
	int64_t num;
	int r;

	time_format(text, m->time);
	r = sql_run(
		c, err,
		"INSERT INTO point (id, manifest_locator, manifest_id, state, name, time, time_text,"
		" sequence, generation, kind, parent, consistency, stored, program)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		"bubntutuunbnut", id, (size_t)POINT_ID_LEN, manifest_ref->locator, manifest_ref->id,
		(size_t)ID_LEN, (int)state, m->name, m->time, text, m->sequence, m->generation,
		m->kind, m->has_parent ? m->parent : NULL, (size_t)POINT_ID_LEN, m->consistency,
		m->stored, m->program);
	if (r < 0)
		return r;
	num = sqlite3_last_insert_rowid(c->db);
	r = disks_insert(c, num, m, err);
	return r < 0 ? r : labels_insert(c, num, m, err);
}

/* --- the face --- */

/* LIMIT of SQLite: negative is none. */
static int64_t limit_of(uint64_t limit)
{
	return limit == 0 || limit > INT64_MAX ? -1 : (int64_t)limit;
}

int catalog_points(struct catalog *c, const struct point_filter *f, struct point_list *out,
		   struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	char sql[1024];
	int r = txn_begin_read(&t, c, err);

	if (r < 0)
		return r;
	/* Each variant is its own statement, so that the planner sees which index helps. */
	snprintf(sql, sizeof(sql),
		 "SELECT " POINT_COLUMNS " FROM point p WHERE p.state IN (1, %d)"
		 "%s%s%s"
		 " ORDER BY p.sequence%s LIMIT ?4",
		 f->forgotten ? 2 : 1, f->name ? " AND p.name = ?1" : "",
		 f->label_key ? " AND p.num IN (SELECT point FROM label WHERE key = ?2" : "",
		 !f->label_key	? "" :
		 f->label_value ? " AND value = ?3)" :
				  ")",
		 f->newest_first ? " DESC" : "");
	r = sql_query(c, &s, err, sql, "tttu", f->name, f->label_key, f->label_value,
		      limit_of(f->limit));
	return r < 0 ? r : point_rows(c, s, out, err);
}

int catalog_point_by_id(struct catalog *c, const uint8_t id[POINT_ID_LEN], struct point_row *out,
			struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT " POINT_COLUMNS
			      " FROM point p WHERE p.id = ? AND p.state <> 3",
			      "b", id, (size_t)POINT_ID_LEN);
	if (r >= 0)
		r = point_first(c, s, out, err);
	if (r != 0)
		return r < 0 ? r : 0;
	return point_missing(id, err);
}

/* The first and last id that begin with the digits; false if none can. */
static bool prefix_bounds(const char *hex, uint8_t lo[POINT_ID_LEN], uint8_t hi[POINT_ID_LEN])
{
	char a[2 * POINT_ID_LEN + 1], b[2 * POINT_ID_LEN + 1];
	size_t n = strlen(hex);

	if (n > 2 * POINT_ID_LEN)
		return false;
	memset(a, '0', sizeof(a));
	memset(b, 'f', sizeof(b));
	memcpy(a, hex, n);
	memcpy(b, hex, n);
	return hex_decode(lo, a, POINT_ID_LEN) && hex_decode(hi, b, POINT_ID_LEN);
}

int catalog_points_by_prefix(struct catalog *c, const char *hex, uint64_t limit,
			     struct point_list *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	uint8_t lo[POINT_ID_LEN], hi[POINT_ID_LEN];
	int r = txn_begin_read(&t, c, err);

	if (r < 0)
		return r;
	if (!prefix_bounds(hex, lo, hi)) {
		memset(out, 0, sizeof(*out));
		return 0;
	}
	r = sql_query(c, &s, err,
		      "SELECT " POINT_COLUMNS
		      " FROM point p WHERE p.id BETWEEN ? AND ? AND p.state = 1"
		      " ORDER BY p.id LIMIT ?",
		      "bbu", lo, sizeof(lo), hi, sizeof(hi), limit_of(limit));
	return r < 0 ? r : point_rows(c, s, out, err);
}

int catalog_points_by_time(struct catalog *c, const char *name, const char *time_prefix,
			   uint64_t limit, struct point_list *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r < 0)
		return r;
	/* '~' sorts behind every character of a time.  Without a prefix the other index gives the order. */
	if (*time_prefix)
		r = sql_query(c, &s, err,
			      "SELECT " POINT_COLUMNS " FROM point p INDEXED BY point_text"
			      " WHERE p.name = ?1 AND p.state = 1"
			      " AND p.time_text >= ?2 AND p.time_text < ?2 || '~'"
			      " ORDER BY p.sequence DESC LIMIT ?3",
			      "ttu", name, time_prefix, limit_of(limit));
	else
		r = sql_query(c, &s, err,
			      "SELECT " POINT_COLUMNS
			      " FROM point p WHERE p.name = ? AND p.state = 1"
			      " ORDER BY p.sequence DESC LIMIT ?",
			      "tu", name, limit_of(limit));
	return r < 0 ? r : point_rows(c, s, out, err);
}

int catalog_point_latest(struct catalog *c, const char *name, struct point_row *out,
			 struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = point_newest(c, name, out, err);
	if (r == 0)
		return err_set(err, ERR_NOT_FOUND, "no restore point of '%s'", name);
	return r < 0 ? r : 0;
}

void catalog_names_free(char **names, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

int catalog_names(struct catalog *c, char ***out, size_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	void *rows = NULL;
	size_t n = 0, cap = 0;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT DISTINCT name FROM point WHERE state = 1 ORDER BY name", "");
	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, n, &cap, sizeof(char *)) ||
		    !column_dup(s, 0, (char **)rows + n)) {
			r = err_nomem(err, "reading names");
			break;
		}
		n++;
	}
	if (r < 0) {
		catalog_names_free(rows, n);
		return r;
	}
	*out = rows;
	*count = n;
	return 0;
}

int catalog_point_set_verified(struct catalog *c, const uint8_t id[POINT_ID_LEN], int kind,
			       int64_t time, double share, bool damaged, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r;

	if (kind < VERIFIED_NONE || kind > VERIFIED_BOOT || !(share >= 0 && share <= 1))
		return err_set(err, ERR_INVALID, "verification of kind %d, share %g", kind, share);
	r = txn_begin(&t, c, err);
	if (r >= 0)
		r = sql_run(
			c, err,
			"UPDATE point SET verified_kind = ?, verified_time = ?, verified_share = ?,"
			" damaged = ? WHERE id = ? AND state <> 3",
			"nudnb", kind, time, share, (int)damaged, id, (size_t)POINT_ID_LEN);
	if (r < 0)
		return r;
	if (r == 0)
		return point_missing(id, err);
	return txn_commit(&t, "catalog.verified.before", "catalog.verified.after", err);
}
