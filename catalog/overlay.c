// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Rows of overlays: there, going, away.
 *
 * Invariants:
 *  1. A row that is there names a point that is not expired: insert looks in its transaction, and what expires points
 *     (catalog/gc.c) leaves out those with a row.
 *  2. A row that is going names no point: it holds nothing back.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

#define OVERLAY_COLUMNS                                                                            \
	"SELECT o.id, o.name, p.id, o.created, o.layer, o.state, o.sealed FROM overlay o"          \
	" LEFT JOIN point p ON p.num = o.point"

static int overlay_missing(const char *id_or_name, struct err *err)
{
	err_set(err, ERR_NOT_FOUND, "overlay '%.140s' is not there", id_or_name);
	return err_object(err, "%.140s", id_or_name);
}

static int overlay_read(struct catalog *c, sqlite3_stmt *s, struct overlay_row *out,
			struct err *err)
{
	memset(out, 0, sizeof(*out));
	out->created = sqlite3_column_int64(s, 3);
	out->layer = (uint32_t)column_u64(s, 4);
	out->going = sqlite3_column_int(s, 5) == 2;
	out->sealed = sqlite3_column_type(s, 6) != SQLITE_NULL;
	if (!column_text(s, 0, out->id, sizeof(out->id)) || !overlay_id_valid(out->id) ||
	    !column_text(s, 1, out->name, sizeof(out->name)) ||
	    (!out->going && !column_blob(s, 2, out->point, sizeof(out->point))) ||
	    (out->sealed && !column_blob(s, 6, out->sealed_as, sizeof(out->sealed_as))))
		return sql_bad_row(c, err, "overlay", 0);
	return 0;
}

static int overlay_valid(const struct overlay_row *row, struct err *err)
{
	if (!overlay_id_valid(row->id) || row->layer == 0)
		return err_set(err, ERR_INVALID, "'%s', layer %u, is no overlay", row->id,
			       row->layer);
	if (*row->name && (!name_valid(row->name) || overlay_id_valid(row->name))) {
		err_set(err, ERR_INVALID,
			"'%.140s' is no name for an overlay (1 to 128 of A-Z a-z 0-9 . _ -, not "
			"starting with . or -, and not of the form of an id)",
			row->name);
		return err_object(err, "%.140s", row->name);
	}
	return 0;
}

/* In the transaction that is open. */
static int name_free(struct catalog *c, const struct overlay_row *row, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err,
			  "SELECT id FROM overlay WHERE id = ?1"
			  " OR (?2 <> '' AND name = ?2 AND state = 1)",
			  "tt", row->id, row->name);

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r <= 0)
		return r;
	err_set(err, ERR_EXISTS, "there is an overlay '%s' already (%s)",
		*row->name ? row->name : row->id, (const char *)sqlite3_column_text(s, 0));
	return err_object(err, "%s", *row->name ? row->name : row->id);
}

int overlay_put(struct catalog *c, const struct overlay_row *row, struct err *err)
{
	int r = overlay_valid(row, err);

	if (r == 0)
		r = name_free(c, row, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "INSERT INTO overlay (id, name, point, created, layer, state)"
			    " SELECT ?, ?, num, ?, ?, 1 FROM point WHERE id = ?"
			    " AND (state <> 3 OR ?)",
			    "ttuubn", row->id, row->name, row->created, (uint64_t)row->layer,
			    row->point, (size_t)POINT_ID_LEN, (int)c->rebuilding);
	return r == 0 ? point_missing(row->point, err) : MIN(r, 0);
}

int catalog_overlay_insert(struct catalog *c, const struct overlay_row *row, struct audit *audit,
			   struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = overlay_put(c, row, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.overlay.before", "catalog.overlay.after", err);
	return r;
}

int catalog_overlays(struct catalog *c, struct overlay_row **out, size_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	cleanup_free void *rows = NULL;
	size_t n = 0, cap = 0;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err, OVERLAY_COLUMNS " ORDER BY o.created, o.num", "");
	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, n, &cap, sizeof(struct overlay_row)))
			return err_nomem(err, "reading overlays");
		r = overlay_read(c, s, (struct overlay_row *)rows + n++, err);
	}
	if (r < 0)
		return r;
	*out = steal_ptr(rows);
	*count = n;
	return 0;
}

int catalog_overlay_find(struct catalog *c, const char *id_or_name, struct overlay_row *out,
			 struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	struct overlay_row row;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      OVERLAY_COLUMNS
			      " WHERE o.state = 1 AND (o.id = ?1 OR (o.name = ?1 AND ?1 <> ''))"
			      " ORDER BY o.id = ?1 DESC",
			      "t", id_or_name);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 0)
		return overlay_missing(id_or_name, err);
	if (r >= 0)
		r = overlay_read(c, s, &row, err);
	if (r < 0)
		return r;
	*out = row;
	return 0;
}

int catalog_overlay_going(struct catalog *c, const char *id, struct audit *audit, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = sql_run(c, err,
			    "UPDATE overlay SET state = 2, point = NULL WHERE id = ? AND state = 1",
			    "t", id);
	if (r == 0)
		return overlay_missing(id, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.discard.before", "catalog.discard.after", err);
	return r;
}

int catalog_overlay_delete(struct catalog *c, const char *id, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = sql_run(c, err, "DELETE FROM overlay WHERE id = ? AND state = 2", "t", id);
	if (r >= 0)
		r = txn_commit(&t, "catalog.away.before", "catalog.away.after", err);
	return r;
}

int overlay_seal(struct catalog *c, const struct overlay_sealed *sealed,
		 const uint8_t id[POINT_ID_LEN], struct err *err)
{
	int r;

	if (sealed->next && sealed->next <= sealed->layer)
		return err_set(err, ERR_INTERNAL, "overlay '%s' cannot go from layer %u to %u",
			       sealed->id, sealed->layer, sealed->next);
	if (sealed->next)
		r = sql_run(c, err,
			    "UPDATE overlay SET layer = ?1,"
			    " point = (SELECT num FROM point WHERE id = ?2)"
			    " WHERE id = ?3 AND state = 1 AND layer = ?4"
			    " AND point = (SELECT num FROM point WHERE id = ?5)",
			    "ubtub", (uint64_t)sealed->next, id, (size_t)POINT_ID_LEN, sealed->id,
			    (uint64_t)sealed->layer, sealed->point, (size_t)POINT_ID_LEN);
	else
		r = sql_run(c, err,
			    "UPDATE overlay SET state = 2, point = NULL, sealed = ?1"
			    " WHERE id = ?2 AND state = 1 AND layer = ?3"
			    " AND point = (SELECT num FROM point WHERE id = ?4)",
			    "btub", id, (size_t)POINT_ID_LEN, sealed->id, (uint64_t)sealed->layer,
			    sealed->point, (size_t)POINT_ID_LEN);
	if (r != 0)
		return r < 0 ? r : 0;
	err_set(err, ERR_LOCKED,
		"overlay '%s' was discarded, or sealed by somebody else, meanwhile", sealed->id);
	return err_object(err, "%s", sealed->id);
}
