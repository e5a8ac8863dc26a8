// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Forget (F1), its way back, and holds.
 *
 * Invariants:
 *  1. complete -> forgotten -> complete is all that happens here; expired is catalog/gc.c, and never comes back.
 *  2. A hold stands on a complete point only: forgetting a point whose hold has ended removes the hold.
 *  3. A forgotten point keeps its name and second (index point_time), so that it can always come back.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

static int forget_held(const uint8_t id[POINT_ID_LEN], const char *reason, int64_t until,
		       struct err *err)
{
	char hex[2 * POINT_ID_LEN + 1], end[TIME_TEXT_MAX];

	hex_encode(hex, id, POINT_ID_LEN);
	time_format(end, until);
	err_set(err, ERR_HELD, "restore point '%s' is held%s%s%s%s", hex, until ? " until " : "",
		until ? end : "", *reason ? ": " : "", reason);
	return err_object(err, "%s", hex);
}

static int forget_missing(const uint8_t id[POINT_ID_LEN], bool forgotten, struct err *err)
{
	char hex[2 * POINT_ID_LEN + 1];

	if (!forgotten)
		return point_missing(id, err);
	hex_encode(hex, id, POINT_ID_LEN);
	err_set(err, ERR_NOT_FOUND, "restore point '%s' is forgotten already", hex);
	return err_object(err, "%s", hex);
}

/* Statements for any number of points. */
struct forget {
	sqlite3_stmt *look, *set, *unhold;
};

static void forget_release(struct forget *f)
{
	sqlite3_finalize(f->look);
	sqlite3_finalize(f->set);
	sqlite3_finalize(f->unhold);
}

static int forget_init(struct catalog *c, struct forget *f, struct err *err)
{
	int r = sql_query(c, &f->look, err,
			  "SELECT p.num, p.state, h.point IS NOT NULL, h.until, h.reason"
			  " FROM point p LEFT JOIN hold h ON h.point = p.num"
			  " WHERE p.id = ? AND p.state <> 3",
			  "");

	if (r >= 0)
		r = sql_query(c, &f->set, err,
			      "UPDATE point SET state = 2, forgotten = ?, until = ? WHERE num = ?",
			      "");
	if (r >= 0)
		r = sql_query(c, &f->unhold, err, "DELETE FROM hold WHERE point = ?", "");
	return r;
}

static int forget_one(struct catalog *c, struct forget *f, const uint8_t id[POINT_ID_LEN],
		      int64_t now, int64_t until, struct err *err)
{
	const char *reason;
	int64_t num, end;
	bool held;
	int r = sql_bind(c, f->look, err, "b", id, (size_t)POINT_ID_LEN);

	if (r >= 0)
		r = sql_step(c, f->look, err);
	if (r < 0)
		return r;
	if (r == 0 || sqlite3_column_int(f->look, 1) != POINT_COMPLETE)
		return forget_missing(id, r == 1, err);
	num = sqlite3_column_int64(f->look, 0);
	held = sqlite3_column_int(f->look, 2) != 0;
	end = sqlite3_column_int64(f->look, 3);
	reason = (const char *)sqlite3_column_text(f->look, 4);
	if (held && (end == 0 || end > now))
		return forget_held(id, reason ? reason : "", end, err);
	sqlite3_reset(f->look);
	r = sql_bind(c, f->set, err, "uuu", now, until, num);
	if (r >= 0)
		r = sql_finish(c, f->set, err);
	if (r >= 0 && held)
		r = sql_bind(c, f->unhold, err, "u", num);
	if (r >= 0 && held)
		r = sql_finish(c, f->unhold, err);
	return r;
}

int catalog_forget(struct catalog *c, const uint8_t (*ids)[POINT_ID_LEN], size_t count, int64_t now,
		   int64_t until, struct audit *audit, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	__attribute__((cleanup(forget_release))) struct forget f = { NULL };
	size_t i;
	int r;

	if (count == 0)
		return 0;
	r = txn_begin(&t, c, err);
	if (r >= 0)
		r = forget_init(c, &f, err);
	for (i = 0; i < count && r >= 0; i++)
		r = forget_one(c, &f, ids[i], now, until, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.forget.before", "catalog.forget.after", err);
	return r;
}

int catalog_unforget(struct catalog *c, const uint8_t id[POINT_ID_LEN], struct audit *audit,
		     struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = sql_run(c, err,
			    "UPDATE point SET state = 1, forgotten = 0, until = 0"
			    " WHERE id = ? AND state = 2",
			    "b", id, (size_t)POINT_ID_LEN);
	if (r < 0)
		return r;
	if (r == 0) {
		point_missing(id, err);
		return err_prefix(err, "among those that are forgotten");
	}
	r = audit_put(c, audit, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.unforget.before", "catalog.unforget.after", err);
	return r;
}

/* --- holds --- */

int hold_rows(struct catalog *c, struct hold **out, size_t *count, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	void *rows = NULL;
	size_t n = 0, cap = 0;
	int r = sql_query(c, &s, err,
			  "SELECT p.id, h.reason, h.since, h.until, p.num FROM hold h"
			  " JOIN point p ON p.num = h.point ORDER BY p.id",
			  "");

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		const char *reason = (const char *)sqlite3_column_text(s, 1);
		struct hold *h;

		if (!array_grow(&rows, n, &cap, sizeof(*h))) {
			r = err_nomem(err, "reading holds");
			break;
		}
		h = (struct hold *)rows + n++;
		h->since = sqlite3_column_int64(s, 2);
		h->until = sqlite3_column_int64(s, 3);
		h->reason = reason ? str_dup(reason) : NULL;
		if (!h->reason)
			r = err_nomem(err, "reading holds");
		else if (!column_blob(s, 0, h->point, sizeof(h->point)))
			r = sql_bad_row(c, err, "point", sqlite3_column_int64(s, 4));
	}
	if (r < 0) {
		holds_free(rows, n);
		return r;
	}
	*out = rows;
	*count = n;
	return 0;
}

int catalog_holds(struct catalog *c, struct hold **out, size_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_read(&t, c, err);

	return r < 0 ? r : hold_rows(c, out, count, err);
}

int hold_put(struct catalog *c, const struct hold_change *h, struct err *err)
{
	const char *reason = h->reason ? h->reason : "";
	int r;

	if (h->set && (strlen(reason) > HOLD_REASON_MAX || h->until < 0))
		return err_set(err, ERR_INVALID, "the reason or the end of a hold is out of range");
	if (h->set)
		r = sql_run(c, err,
			    "INSERT OR REPLACE INTO hold (point, reason, since, until)"
			    " SELECT num, ?, ?, ? FROM point WHERE id = ? AND state = 1",
			    "tuub", reason, h->since, h->until, h->point, (size_t)POINT_ID_LEN);
	else
		r = sql_run(c, err,
			    "DELETE FROM hold WHERE point = (SELECT num FROM point WHERE id = ?)",
			    "b", h->point, (size_t)POINT_ID_LEN);
	if (r == 0) {
		point_missing(h->point, err);
		return err_prefix(err, h->set ? "among those that are complete" :
						"among those that are held");
	}
	return r < 0 ? r : 0;
}
