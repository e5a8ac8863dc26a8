// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a rebuild writes into a new catalog: packs, points, segments, and the small tables from the newest state object.
 *
 * Things come in any order, and are put together at the end: points wait as expired, which takes no name and no
 * second, and what the state object says of points waits in a temporary table.
 *
 * Invariants:
 *  1. All of it is one transaction, from catalog_rebuild_begin() to _end(); a handle closed between leaves an
 *     empty catalog.
 *  2. A point that the state object calls expired stays expired: the next prune removes it.  One that it calls
 *     forgotten can still come back.  Any other is complete.
 *  3. No counter ends below what the packs, points and segments show.
 *  4. Which packs were published is not known: all count as published, so that a prune must explain them.
 *  5. The audit log goes on where the state object saw its end.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

int catalog_rebuild_begin(struct catalog *c, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t used = 0;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = sql_number(c,
			       "SELECT (SELECT count(*) FROM pack) + (SELECT count(*) FROM point)"
			       " + (SELECT count(*) FROM segment) + (SELECT count(*) FROM lease)"
			       " + (SELECT count(*) FROM audit)",
			       &used, err);
	if (r < 0)
		return r;
	if (used)
		return err_set(err, ERR_INVALID,
			       "catalog '%s': only a new catalog can be filled by a rebuild",
			       c->path);
	r = sql_exec(c,
		     "CREATE TEMP TABLE rebuild_point (id BLOB PRIMARY KEY, expired INTEGER,"
		     " forgotten INTEGER, until INTEGER);"
		     "CREATE TEMP TABLE rebuild_hold (id BLOB PRIMARY KEY, reason TEXT,"
		     " since INTEGER, until INTEGER);",
		     err);
	if (r < 0)
		return r;
	t.c = NULL; /* stays open */
	c->rebuilding = true;
	return 0;
}

/* Between begin and end, and the transaction is still the one that was begun. */
static int rebuild_open(struct catalog *c, struct err *err)
{
	if (!c->rebuilding || c->broken || sqlite3_get_autocommit(c->db))
		return err_set(err, ERR_INTERNAL, "catalog '%s': no rebuild is open", c->path);
	return 0;
}

/* --- packs --- */

/* Copies a map into what a row takes: (slots + 7) / 8 bytes without bits beyond the last slot. */
static int map_fit(const struct rebuilt_pack *p, const struct slot_bits *map, uint8_t *out,
		   struct err *err)
{
	uint32_t i, n = (p->slots + 7) / 8;
	uint8_t last = (uint8_t)(p->slots % 8 ? (1u << p->slots % 8) - 1 : 0xff);

	memset(out, 0, n);
	for (i = 0; map && i < map->nbytes; i++) {
		if (map->bits[i] == 0)
			continue;
		if (i >= n || (i == n - 1 && map->bits[i] & ~last))
			return err_set(err, ERR_INVALID,
				       "pack %llu: a slot of bits %u to %u is beyond its %u slots",
				       (unsigned long long)p->number, i * 8, i * 8 + 7, p->slots);
		out[i] = map->bits[i];
	}
	return 0;
}

int catalog_rebuild_pack(struct catalog *c, const struct rebuilt_pack *p, struct err *err)
{
	uint8_t gone[SLOT_BITS_MAX], damaged[SLOT_BITS_MAX];
	size_t n = (p->slots + 7) / 8;
	int r = rebuild_open(c, err);

	if (r < 0)
		return r;
	if (p->number == 0 || p->number > PACK_NUMBER_MAX || p->slots == 0 ||
	    p->slots > SLOT_MAX_COUNT || p->bytes == 0 || p->bytes > INT64_MAX ||
	    (p->kind != PACK_DATA && p->kind != PACK_MAP))
		return err_set(err, ERR_INVALID, "pack %llu: %u slots in %llu bytes, kind %d",
			       (unsigned long long)p->number, p->slots,
			       (unsigned long long)p->bytes, (int)p->kind);
	r = map_fit(p, p->gone, gone, err);
	if (r == 0)
		r = map_fit(p, p->damaged, damaged, err);
	if (r < 0)
		return r;
	r = sql_run(c, err,
		    "INSERT OR IGNORE INTO pack"
		    " (number, state, token, kind, slots, bytes, published, gone, damaged)"
		    " VALUES (?, 2, 0, ?, ?, ?, 1, ?, ?)",
		    "unuubb", p->number, (int)p->kind, (uint64_t)p->slots, p->bytes,
		    mem_is_zero(gone, n) ? NULL : gone, n, mem_is_zero(damaged, n) ? NULL : damaged,
		    n);
	if (r == 0)
		return err_set(err, ERR_EXISTS, "pack %llu was found twice",
			       (unsigned long long)p->number);
	return r < 0 ? r : 0;
}

int catalog_rebuild_segment(struct catalog *c, uint64_t number, uint64_t records, struct err *err)
{
	int r = rebuild_open(c, err);

	if (r < 0)
		return r;
	if (number == 0 || number > INT64_MAX || records > INT64_MAX)
		return err_set(err, ERR_INVALID, "index segment %llu: %llu records",
			       (unsigned long long)number, (unsigned long long)records);
	r = sql_run(c, err,
		    "INSERT OR IGNORE INTO segment (number, state, token, records)"
		    " VALUES (?, 2, 0, ?)",
		    "uu", number, records);
	if (r == 0)
		return err_set(err, ERR_EXISTS, "index segment %llu was found twice",
			       (unsigned long long)number);
	return r < 0 ? r : 0;
}

/* --- points --- */

int catalog_rebuild_point(struct catalog *c, const uint8_t id[POINT_ID_LEN],
			  const struct object_ref *ref, const struct manifest *m, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	char hex[2 * POINT_ID_LEN + 1];
	int r = rebuild_open(c, err);

	if (r < 0)
		return r;
	hex_encode(hex, id, POINT_ID_LEN);
	if (memcmp(m->uuid, c->uuid, UUID_LEN) != 0)
		return err_set(err, ERR_INVALID, "restore point '%s' is of another repository",
			       hex);
	r = sql_query(c, &s, err, "SELECT 1 FROM point WHERE id = ?", "b", id,
		      (size_t)POINT_ID_LEN);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 1)
		return err_set(err, ERR_EXISTS, "restore point '%s' was found twice", hex);
	/* not within MIN(), which would insert twice */
	r = r < 0 ? r : point_insert(c, id, POINT_EXPIRED, ref, m, err);
	return MIN(r, 0);
}

int catalog_rebuild_overlay(struct catalog *c, const struct overlay_row *row, struct err *err)
{
	int r = rebuild_open(c, err);

	return r < 0 ? r : overlay_put(c, row, err);
}

/* --- the state object --- */

static int state_points(struct catalog *c, const struct state *state, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	size_t i;
	int r = sql_query(
		c, &s, err,
		"INSERT OR REPLACE INTO temp.rebuild_point (id, expired, forgotten, until)"
		" VALUES (?, ?, ?, ?)",
		"");

	for (i = 0; i < state->npoints && r >= 0; i++) {
		const struct state_point *p = &state->points[i];

		r = sql_bind(c, s, err, "bnuu", p->id, (size_t)POINT_ID_LEN, (int)p->expired,
			     p->forgotten, p->until);
		if (r >= 0)
			r = sql_finish(c, s, err);
	}
	return r;
}

static int state_holds(struct catalog *c, const struct state *state, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	size_t i;
	int r = sql_query(c, &s, err,
			  "INSERT OR REPLACE INTO temp.rebuild_hold (id, reason, since, until)"
			  " VALUES (?, ?, ?, ?)",
			  "");

	for (i = 0; i < state->nholds && r >= 0; i++) {
		const struct hold *h = &state->holds[i];

		r = sql_bind(c, s, err, "btuu", h->point, (size_t)POINT_ID_LEN,
			     h->reason ? h->reason : "", h->since, h->until);
		if (r >= 0)
			r = sql_finish(c, s, err);
	}
	return r;
}

int catalog_rebuild_state(struct catalog *c, const struct state *state,
			  const struct object_ref *ref, struct err *err)
{
	int r = rebuild_open(c, err);

	if (r < 0 || !state)
		return r;
	if (memcmp(state->uuid, c->uuid, UUID_LEN) != 0)
		return err_set(err, ERR_INVALID, "the state object is of another repository");
	r = state_points(c, state, err);
	if (r >= 0)
		r = state_holds(c, state, err);
	if (r >= 0 && ref && ref->locator != LOCATOR_NONE)
		r = sql_run(c, err, "UPDATE meta SET state_locator = ?, state_id = ?", "ub",
			    ref->locator, ref->id, (size_t)ID_LEN);
	if (r >= 0 && state->audit_number)
		r = sql_run(c, err, "UPDATE meta SET audit_number = ?, audit_mac = ?", "ub",
			    state->audit_number, state->audit_mac, (size_t)ID_LEN);
	if (r < 0)
		return r;
	return catalog_rebuild_counters(c, state->generation, state->next_pack,
					state->next_sequence, state->next_segment, 0, err);
}

/* --- counters --- */

int catalog_rebuild_counters(struct catalog *c, uint64_t generation, uint64_t next_pack,
			     uint64_t next_sequence, uint64_t next_segment, uint64_t next_token,
			     struct err *err)
{
	const uint64_t top = INT64_MAX - 1;
	int r = rebuild_open(c, err);

	if (r < 0)
		return r;
	if (generation > top || next_pack > PACK_NUMBER_MAX + 1 || next_sequence > top ||
	    next_segment > top || next_token > top)
		return err_set(err, ERR_INVALID, "a counter of the catalog is out of range");
	r = sql_run(
		c, err,
		"UPDATE meta SET generation = max(generation, ?), next_pack = max(next_pack, ?),"
		" next_sequence = max(next_sequence, ?), next_segment = max(next_segment, ?)",
		"uuuu", generation, next_pack, next_sequence, next_segment);
	if (r < 0 || next_token <= 1)
		return MIN(r, 0);
	/* SQLite makes the row of an AUTOINCREMENT table at its first insert. */
	r = sql_run(c, err,
		    "INSERT INTO sqlite_sequence (name, seq) SELECT 'lease', 0"
		    " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'lease')",
		    "");
	if (r >= 0)
		r = sql_run(c, err,
			    "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'lease'",
			    "u", next_token - 1);
	return MIN(r, 0);
}

static int counters_raise(struct catalog *c, struct err *err)
{
	return sql_run(
		c, err,
		"UPDATE meta SET"
		" generation = max(generation, (SELECT coalesce(max(generation), 0) FROM point)),"
		" next_pack = max(next_pack, (SELECT coalesce(max(number), 0) + 1 FROM pack)),"
		" next_segment = max(next_segment,"
		"  (SELECT coalesce(max(number), 0) + 1 FROM segment)),"
		" next_sequence = max(next_sequence,"
		"  (SELECT coalesce(max(sequence), 0) + 1 FROM point)), rebuilt = 1",
		"");
}

/* --- the end --- */

/* Gives each point its state.  Of several of one name and second, which only a point that was expired without the state
 * object knowing it can cause, the newest gets it and the others stay expired: returns how many. */
static int states_settle(struct catalog *c, struct err *err)
{
	uint64_t left = 0;
	int r = sql_run(c, err,
			"UPDATE point SET forgotten = s.forgotten, until = s.until"
			" FROM temp.rebuild_point s WHERE s.id = point.id",
			"");

	if (r >= 0)
		r = sql_run(
			c, err,
			"UPDATE point SET state = CASE WHEN s.id IS NULL THEN 1 ELSE 2 END"
			" FROM (SELECT p.num AS num, r.id AS id, row_number() OVER"
			"  (PARTITION BY p.name, p.time ORDER BY p.sequence DESC, p.num DESC) AS n"
			"  FROM point p LEFT JOIN temp.rebuild_point r ON r.id = p.id"
			"  WHERE coalesce(r.expired, 0) = 0) s"
			" WHERE s.num = point.num AND s.n = 1",
			"");
	if (r >= 0)
		r = sql_number(c,
			       "SELECT count(*) FROM point p LEFT JOIN temp.rebuild_point r"
			       " ON r.id = p.id WHERE p.state = 3 AND coalesce(r.expired, 0) = 0",
			       &left, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "INSERT INTO hold (point, reason, since, until)"
			    " SELECT p.num, h.reason, h.since, h.until FROM temp.rebuild_hold h"
			    " JOIN point p ON p.id = h.id WHERE p.state = 1",
			    "");
	if (r >= 0)
		r = sql_run(c, err,
			    "DELETE FROM overlay WHERE point IN"
			    " (SELECT num FROM point WHERE state = 3)",
			    "");
	return r < 0 ? r : (int)MIN(left, INT32_MAX);
}

int catalog_rebuild_end(struct catalog *c, struct audit *audit, struct err *err)
{
	struct txn t = TXN_INIT;
	int r = rebuild_open(c, err), left = 0;

	if (r < 0)
		return r;
	t.c = c;
	c->rebuilding = false;
	r = left = states_settle(c, err);
	if (r >= 0)
		r = counters_raise(c, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0)
		r = sql_exec(c, "DROP TABLE temp.rebuild_point; DROP TABLE temp.rebuild_hold", err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.rebuild.before", "catalog.rebuild.after", err);
	if (r < 0) {
		txn_rollback(&t);
		return r;
	}
	return left;
}

int catalog_rebuilt(struct catalog *c, bool *rebuilt, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t value = 0;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_number(c, "SELECT rebuilt FROM meta", &value, err);
	if (r < 0)
		return r;
	*rebuilt = value != 0;
	return 0;
}

int catalog_point_known(struct catalog *c, const uint8_t id[POINT_ID_LEN], bool *known,
			struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err, "SELECT 1 FROM point WHERE id = ?", "b", id,
			  (size_t)POINT_ID_LEN);

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	*known = r == 1;
	return 0;
}

int catalog_rebuild_accept(struct catalog *c, struct audit *audit, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = sql_run(c, err, "UPDATE meta SET rebuilt = 0 WHERE rebuilt = 1", "");
	if (r <= 0)
		return r; /* nothing to accept: nothing to log */
	r = audit_put(c, audit, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.accept.before", "catalog.accept.after", err);
	return r;
}
