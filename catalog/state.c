// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The small tables as they are stored as an object, and how that object is published.
 *
 * Invariants:
 *  1. A state object is published only if nobody published another since its contents were read by this handle:
 *     no change of a hold is lost from the newest one.
 *  2. Hold and state object change in one transaction.
 *  3. Each publication raises the generation, so that no two published objects say the same one and the newest is
 *     known without a catalog.
 *  4. Its packs do not count as published: an older state object needs nobody.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

int state_ref_read(struct catalog *c, struct object_ref *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	struct object_ref ref = { 0 };
	int r = sql_query(c, &s, err, "SELECT state_locator, state_id FROM meta", "");

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	ref.locator = column_u64(s, 0);
	if (r == 0 || (ref.locator != LOCATOR_NONE && !column_blob(s, 1, ref.id, ID_LEN)))
		return sql_bad_row(c, err, "meta", 1);
	*out = ref;
	return 0;
}

int catalog_state_ref(struct catalog *c, struct object_ref *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_read(&t, c, err);

	return r < 0 ? r : state_ref_read(c, out, err);
}

/* --- reading --- */

static int counters_read(struct catalog *c, struct state *st, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int64_t ignored;
	int r = sql_query(c, &s, err,
			  "SELECT generation, next_pack, next_sequence, next_segment FROM meta",
			  "");

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 0)
		return sql_bad_row(c, err, "meta", 1);
	st->generation = column_u64(s, 0);
	st->next_pack = column_u64(s, 1);
	st->next_sequence = column_u64(s, 2);
	st->next_segment = column_u64(s, 3);
	return audit_last(c, &st->audit_number, st->audit_mac, &ignored, err);
}

static int going_read(struct catalog *c, struct state *st, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	void *rows = NULL;
	size_t cap = 0;
	int r = sql_query(
		c, &s, err,
		"SELECT id, state = 3, forgotten, until FROM point WHERE state <> 1"
		" UNION ALL SELECT id, 1, forgotten, until FROM tomb"
		" WHERE NOT EXISTS (SELECT 1 FROM point WHERE point.id = tomb.id AND state <> 1)"
		" ORDER BY 1",
		"");

	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		struct state_point *p;

		if (!array_grow(&rows, st->npoints, &cap, sizeof(*p)))
			return err_nomem(err, "reading forgotten points");
		st->points = rows;
		p = &st->points[st->npoints++];
		p->expired = sqlite3_column_int(s, 1) != 0;
		p->forgotten = sqlite3_column_int64(s, 2);
		p->until = sqlite3_column_int64(s, 3);
		if (!column_blob(s, 0, p->id, sizeof(p->id)))
			return sql_bad_row(c, err, "point", 0);
	}
	return r;
}

int catalog_state_read(struct catalog *c, struct state *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	struct state st = { .time = time_now() };
	struct object_ref ref = { 0 };
	int r = txn_begin_read(&t, c, err);

	memcpy(st.uuid, c->uuid, UUID_LEN);
	if (r >= 0)
		r = state_ref_read(c, &ref, err);
	if (r >= 0)
		r = counters_read(c, &st, err);
	if (r >= 0)
		r = hold_rows(c, &st.holds, &st.nholds, err);
	if (r >= 0)
		r = going_read(c, &st, err);
	if (r < 0) {
		state_release(&st);
		return r;
	}
	c->state_seen = true;
	c->state_locator = ref.locator;
	*out = st;
	return 0;
}

/* --- publishing --- */

int catalog_state_begin(struct catalog *c, struct lease *spec, struct lease *holder,
			struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	struct lease found;
	uint64_t token = 0, gen = 0;
	int r;

	if (spec->kind != LEASE_INGEST || spec->name[0])
		return err_set(err, ERR_INVALID, "a lease of kind %d for '%s' stores no state",
			       (int)spec->kind, spec->name);
	r = txn_begin(&t, c, err);
	if (r >= 0)
		r = lease_find(c, LEASE_INGEST, "", &found, err);
	if (r == 1) {
		if (holder)
			*holder = found;
		return lease_locked(&found, "a change of holds", err);
	}
	if (r >= 0)
		r = lease_insert(c, spec, &token, &gen, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.statelease.before", "catalog.statelease.after", err);
	if (r < 0)
		return r;
	spec->token = token;
	spec->gen = gen;
	return 0;
}

/* An ingest lease without a name, or the maintenance lease: fills *ends, whether the lease ends here. */
static int publisher_alive(struct catalog *c, uint64_t token, bool *ends, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int kind = 0;
	int r = lease_alive(c, token, NULL, &kind, err);

	if (r < 0)
		return r;
	r = sql_query(
		c, &s, err,
		"SELECT 1 FROM lease WHERE token = ? AND (kind = 3 OR (kind = 1 AND name = ''))",
		"u", token);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 0)
		return err_set(err, ERR_INTERNAL, "lease %llu is not one that stores state",
			       (unsigned long long)token);
	*ends = kind == LEASE_INGEST;
	return r < 0 ? r : 0;
}

/* Nobody stored another one since this handle read; and the new one lies in a live pack. */
static int ref_check(struct catalog *c, const struct object_ref *ref, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	struct object_ref now = { 0 };
	int r = state_ref_read(c, &now, err);

	if (r < 0)
		return r;
	if (c->state_seen && c->state_locator != now.locator)
		return err_set(err, ERR_LOCKED,
			       "holds were changed by somebody else meanwhile; try again");
	r = sql_query(c, &s, err, "SELECT 1 FROM pack WHERE number = ? AND state = 2 AND slots > ?",
		      "uu", locator_pack(ref->locator), (uint64_t)locator_slot(ref->locator));
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 0)
		return err_set(err, ERR_INTERNAL,
			       "the state object, slot %u of pack %llu, is in no live pack",
			       locator_slot(ref->locator),
			       (unsigned long long)locator_pack(ref->locator));
	return r < 0 ? r : 0;
}

int catalog_state_publish(struct catalog *c, uint64_t token, const struct session_done *done,
			  const struct object_ref *ref, const struct hold_change *hold,
			  struct audit *audit, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	bool ends = false;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = publisher_alive(c, token, &ends, err);
	if (r >= 0)
		r = session_done_apply(c, token, done, err);
	if (r >= 0)
		r = ref_check(c, ref, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "UPDATE meta SET state_locator = ?, state_id = ?,"
			    " generation = generation + 1",
			    "ub", ref->locator, ref->id, (size_t)ID_LEN);
	if (r >= 0 && hold)
		r = hold_put(c, hold, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0 && ends)
		r = sql_run(c, err, "DELETE FROM lease WHERE token = ?", "u", token);
	if (r >= 0)
		r = txn_commit(&t, "catalog.state.before", "catalog.state.after", err);
	if (r < 0)
		return r;
	c->state_locator = ref->locator;
	return 0;
}
