// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The audit log: rows that are only ever appended, each in the transaction of the change that it tells of.
 *
 * Invariants:
 *  1. Numbers ascend by one, from the anchor in `meta` (0, or where a rebuilt catalog goes on).
 *  2. A row is there exactly if its change is.
 *  3. Rows are handed out outside of any transaction: a slow reader does not hold the write-ahead log, and may
 *     use the catalog.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

#define AUDIT_BATCH 128 /* rows read at a time */

int audit_last(struct catalog *c, uint64_t *number, uint8_t mac[ID_LEN], int64_t *time,
	       struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	uint64_t n;
	int r = sql_query(c, &s, err,
			  "SELECT number, mac, time, 0 FROM audit UNION ALL"
			  " SELECT audit_number, audit_mac, NULL, 1 FROM meta"
			  " ORDER BY 4, 1 DESC LIMIT 1",
			  "");

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	n = column_u64(s, 0);
	memset(mac, 0, ID_LEN);
	if (r == 0 || (n && !column_blob(s, 1, mac, ID_LEN)))
		return sql_bad_row(c, err, "audit", (int64_t)n);
	*number = n;
	*time = sqlite3_column_type(s, 2) == SQLITE_NULL ? INT64_MIN : sqlite3_column_int64(s, 2);
	return 0;
}

int audit_put(struct catalog *c, struct audit *audit, struct err *err)
{
	struct audit_entry e;
	uint8_t previous[ID_LEN];
	uint64_t number = 0;
	int64_t time = 0;
	int r;

	if (!audit)
		return 0;
	r = audit_last(c, &number, previous, &time, err);
	if (r < 0)
		return r;
	if (!audit->fn || number >= INT64_MAX)
		return err_set(err, ERR_INTERNAL, "audit entry %llu cannot be made",
			       (unsigned long long)number + 1);
	e = audit->entry;
	e.number = number + 1;
	/* The clock may have been set back; the log goes on. */
	if (e.time == 0)
		e.time = MAX(time_now(), time);
	e.subject = e.subject ? e.subject : "";
	e.detail = e.detail ? e.detail : "{}";
	e.actor = e.actor ? e.actor : "";
	r = audit->fn(audit->opaque, previous, &e, e.mac, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "INSERT INTO audit (number, time, command, subject, detail, actor, mac)"
			    " VALUES (?, ?, ?, ?, ?, ?, ?)",
			    "uuttttb", e.number, e.time, e.command, e.subject, e.detail, e.actor,
			    e.mac, (size_t)ID_LEN);
	if (r < 0)
		return r;
	audit->entry.number = e.number;
	audit->entry.time = e.time;
	memcpy(audit->entry.mac, e.mac, ID_LEN);
	return 0;
}

int catalog_audit_append(struct catalog *c, struct audit *a, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = audit_put(c, a, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.audit.before", "catalog.audit.after", err);
	return r;
}

static int one_time(struct catalog *c, int64_t *out, struct err *err, const char *sql, int64_t now,
		    int64_t ahead)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err, sql, "uu", now, ahead);

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 1)
		*out = sqlite3_column_int64(s, 0);
	return r < 0 ? r : 0;
}

int catalog_clock(struct catalog *c, int64_t now, int64_t ahead, int64_t *seen, int64_t *jump,
		  struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int64_t log = 0, points = 0, jumped = 0;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = one_time(
			c, &jumped, err,
			"SELECT coalesce(min(time), 0) FROM (SELECT number, time,"
			" time - lag(time) OVER (ORDER BY number) AS gap FROM audit)"
			" WHERE gap > ?2 AND time <= ?1 AND number > (SELECT coalesce(max(number), 0)"
			" FROM audit WHERE command = 'clock')",
			now, ahead);
	if (jumped) /* what the clock said from there on shows nothing */
		now = jumped - 1;
	if (r >= 0)
		r = one_time(c, &log, err,
			     "SELECT coalesce(max(time), 0) FROM audit WHERE time <= ?1 AND ?2 > 0",
			     now, ahead);
	if (r >= 0)
		r = one_time(c, &points, err,
			     "SELECT coalesce(max(time), 0) FROM point WHERE time <= ?1 AND ?2 > 0",
			     now, ahead);
	if (r < 0)
		return r;
	*seen = MAX(log, points);
	*jump = jumped;
	return 0;
}

int catalog_audit_head(struct catalog *c, uint64_t *number, uint8_t mac[ID_LEN], struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int64_t time;
	int r = txn_begin_read(&t, c, err);

	return r < 0 ? r : audit_last(c, number, mac, &time, err);
}

int catalog_audit_anchor(struct catalog *c, uint64_t *number, uint8_t mac[ID_LEN], struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	uint64_t n;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err, "SELECT audit_number, audit_mac FROM meta", "");
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	n = column_u64(s, 0);
	memset(mac, 0, ID_LEN);
	if (r == 0 || (n && !column_blob(s, 1, mac, ID_LEN)))
		return sql_bad_row(c, err, "meta", 1);
	*number = n;
	return 0;
}

/* --- reading --- */

struct audit_batch {
	size_t count;
	struct audit_entry rows[AUDIT_BATCH];
	char *texts[AUDIT_BATCH][4]; /* owned: what the rows point to */
};

static void batch_release(struct audit_batch *b)
{
	size_t i, k;

	for (i = 0; i < b->count; i++) {
		for (k = 0; k < ARRAY_SIZE(b->texts[i]); k++)
			free(b->texts[i][k]);
	}
	b->count = 0;
}

static int row_read(struct catalog *c, sqlite3_stmt *s, struct audit_entry *e, char *texts[4],
		    struct err *err)
{
	const char *text;
	int i;

	for (i = 0; i < 4; i++)
		texts[i] = NULL;
	for (i = 0; i < 4; i++) {
		text = (const char *)sqlite3_column_text(s, 2 + i);
		texts[i] = text ? str_dup(text) : NULL;
		if (!texts[i])
			return err_nomem(err, "reading the audit log");
	}
	e->number = column_u64(s, 0);
	e->time = sqlite3_column_int64(s, 1);
	e->command = texts[0];
	e->subject = texts[1];
	e->detail = texts[2];
	e->actor = texts[3];
	if (!column_blob(s, 6, e->mac, ID_LEN))
		return sql_bad_row(c, err, "audit", (int64_t)e->number);
	return 0;
}

/* Fills an empty batch with the rows numbered `from` and up. */
static int batch_read(struct catalog *c, uint64_t from, struct audit_batch *b, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT number, time, command, subject, detail, actor, mac FROM audit"
			      " WHERE number >= ? ORDER BY number LIMIT ?",
			      "un", from, AUDIT_BATCH);
	while (r >= 0 && (r = sql_step(c, s, err)) == 1 && b->count < AUDIT_BATCH) {
		r = row_read(c, s, &b->rows[b->count], b->texts[b->count], err);
		b->count++;
	}
	return r < 0 ? r : 0;
}

int catalog_audit_each(struct catalog *c, uint64_t from,
		       int (*fn)(void *opaque, const struct audit_entry *e, struct err *err),
		       void *opaque, struct err *err)
{
	cleanup_free struct audit_batch *b = mem_alloc(sizeof(*b));
	size_t i, n;
	int r;

	if (!b)
		return err_nomem(err, "reading the audit log");
	do {
		r = from > INT64_MAX ? 0 : batch_read(c, from, b, err);
		for (i = 0; i < b->count && r == 0; i++)
			r = fn(opaque, &b->rows[i], err);
		n = b->count;
		if (n)
			from = b->rows[n - 1].number + 1;
		batch_release(b);
	} while (r == 0 && n == AUDIT_BATCH);
	return r < 0 ? r : 0;
}
