// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The transactions of a prune: G4, G5, G6, G8, G9a, G9d of docs/PROTOCOL.md; and of whoever else replaces packs.
 *
 * Invariants:
 *  1. Each looks for the token first, and that it is the maintenance lease's.
 *  2. Maps of marked slots come one a pack, in ascending order of the packs: a second map of the same pack would be
 *     passed over, and what it marks be lost.
 *  3. The newest state object is never condemned, whatever the caller marked.
 *  4. An expired point whose manifest is still in a pack leaves a row in `tomb` until that slot is dropped.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

int maintenance_alive(struct catalog *c, uint64_t token, struct err *err)
{
	int kind = 0;
	int r = lease_alive(c, token, NULL, &kind, err);

	if (r < 0)
		return r;
	if (kind != LEASE_MAINTENANCE)
		return err_set(err, ERR_INTERNAL, "lease %llu is not the maintenance lease",
			       (unsigned long long)token);
	return 0;
}

static int points_where(struct catalog *c, const char *sql, struct point_list *out, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err, sql, "");

	return r < 0 ? r : point_rows(c, s, out, err);
}

static int packs_where(struct catalog *c, const char *sql, uint64_t number, struct pack_list *out,
		       struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err, sql, number ? "u" : "", number);

	return r < 0 ? r : pack_rows(c, s, out, err);
}

/* G4; keep false: as it would be, then rolled back. */
static int gc_roots(struct catalog *c, uint64_t token, int64_t now, bool keep,
		    struct point_list *roots, struct point_list *expired, struct pack_list *packs,
		    struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	struct point_list live = { 0 }, dead = { 0 };
	struct pack_list list = { 0 };
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "UPDATE point SET state = 3 WHERE state = 2 AND until <= ?"
			    " AND num NOT IN (SELECT point FROM pin)"
			    " AND NOT EXISTS (SELECT 1 FROM overlay o WHERE o.point = point.num)",
			    "u", now);
	if (r >= 0)
		r = points_where(c,
				 "SELECT " POINT_COLUMNS " FROM point p WHERE p.state <> 3"
				 " ORDER BY p.sequence",
				 &live, err);
	if (r >= 0)
		r = points_where(c,
				 "SELECT " POINT_COLUMNS " FROM point p WHERE p.state = 3"
				 " ORDER BY p.sequence",
				 &dead, err);
	if (r >= 0)
		r = packs_where(c,
				"SELECT " PACK_COLUMNS_ALL
				" FROM pack WHERE state = 2 ORDER BY number",
				0, &list, err);
	if (r >= 0 && keep)
		r = txn_commit(&t, "catalog.roots.before", "catalog.roots.after", err);
	if (r < 0) {
		point_list_release(&live);
		point_list_release(&dead);
		pack_list_release(&list);
		return r;
	}
	*roots = live;
	*expired = dead;
	*packs = list;
	return 0;
}

int catalog_gc_roots(struct catalog *c, uint64_t token, int64_t now, struct point_list *roots,
		     struct point_list *expired, struct pack_list *packs, struct err *err)
{
	return gc_roots(c, token, now, true, roots, expired, packs, err);
}

int catalog_gc_due(struct catalog *c, int64_t now, uint64_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT count(*) FROM point WHERE state = 2 AND until <= ?", "u",
			      now);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 1)
		*count = column_u64(s, 0);
	return r < 0 ? r : 0;
}

int catalog_gc_preview(struct catalog *c, uint64_t token, int64_t now, struct point_list *roots,
		       struct point_list *expired, struct pack_list *packs, struct err *err)
{
	return gc_roots(c, token, now, false, roots, expired, packs, err);
}

/* --- condemn and settle --- */

static int maps_ascend(const struct slot_bits *maps, size_t count, struct err *err)
{
	size_t i;

	for (i = 1; i < count; i++) {
		if (maps[i].pack <= maps[i - 1].pack)
			return err_set(err, ERR_INTERNAL,
				       "marks of pack %llu come behind those of pack %llu",
				       (unsigned long long)maps[i].pack,
				       (unsigned long long)maps[i - 1].pack);
	}
	return 0;
}

static uint8_t map_byte(const struct slot_bits *m, uint32_t i)
{
	return m && i < m->nbytes ? m->bits[i] : 0;
}

/* Condemns what is neither marked nor gone; returns how many slots. */
static uint64_t condemn_bits(struct pack_edit *e, const struct slot_bits *marked, uint64_t keep)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < e->nbytes; i++) {
		uint8_t last = (uint8_t)(i == e->slots / 8 ? (1u << e->slots % 8) - 1 : 0xff);
		uint8_t new = (uint8_t)(last & ~e->gone[i] & ~map_byte(marked, i));

		if (locator_pack(keep) == e->number && locator_slot(keep) / 8 == i)
			new &= (uint8_t) ~(1u << locator_slot(keep) % 8);
		e->condemned[i] |= new;
		e->gone[i] |= new;
		n += (unsigned)__builtin_popcount(new);
	}
	return n;
}

static int condemn_all(struct catalog *c, const struct slot_bits *maps, size_t count,
		       uint64_t *slots, struct err *err)
{
	cleanup_edit struct pack_edit e = PACK_EDIT_INIT;
	struct object_ref state = { 0 };
	uint64_t n;
	size_t i;
	int r = state_ref_read(c, &state, err);

	if (r >= 0)
		r = pack_edit_init(c, &e, err);
	for (i = 0; i < count && r >= 0; i++) {
		r = pack_edit_read(c, &e, maps[i].pack, err);
		if (r == 0)
			r = err_set(err, ERR_INTERNAL, "pack %llu, to be condemned, is not live",
				    (unsigned long long)maps[i].pack);
		if (r < 0)
			break;
		n = condemn_bits(&e, &maps[i], state.locator);
		*slots += n;
		r = n ? pack_edit_write(c, &e, err) : 0;
	}
	return r;
}

/* G5 */
int catalog_gc_condemn(struct catalog *c, uint64_t token, const struct slot_bits *candidates,
		       size_t count, uint64_t *slots, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t gen = 0, n = 0;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = sql_number(c, "SELECT condemn_gen FROM meta", &gen, err);
	if (r >= 0)
		r = maps_ascend(candidates, count, err);
	if (r < 0)
		return r;
	if (gen)
		return err_set(err, ERR_INTERNAL,
			       "slots condemned at generation %llu are not settled yet",
			       (unsigned long long)gen);
	r = condemn_all(c, candidates, count, &n, err);
	/* Nothing to wait for and nothing to settle if nothing was condemned. */
	if (r >= 0 && n)
		r = sql_run(c, err,
			    "UPDATE meta SET generation = generation + 1,"
			    " condemn_gen = generation + 1",
			    "");
	if (r >= 0)
		r = txn_commit(&t, "catalog.condemn.before", "catalog.condemn.after", err);
	if (r < 0)
		return r;
	*slots = n;
	return 0;
}

#define OLDER_LEASES                                                                               \
	" FROM lease WHERE kind = 1 AND gen < (SELECT condemn_gen FROM meta) ORDER BY token"

/* G6 */
int catalog_gc_older(struct catalog *c, uint64_t token, struct lease **out, size_t *count,
		     struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = lease_rows(c, OLDER_LEASES, out, count, err);
	if (r >= 0 && fault_planted("gc.wait"))
		*count = 0;
	return r;
}

static int older_none(struct catalog *c, struct err *err)
{
	cleanup_free struct lease *rows = NULL;
	size_t n = 0;
	int r = lease_rows(c, OLDER_LEASES, &rows, &n, err);

	if (r < 0 || n == 0 || fault_planted("gc.wait"))
		return r;
	return lease_locked(&rows[0], "a backup that began before", err);
}

/* Of what is condemned, what is marked is used again and the rest doomed; returns how many slots. */
static uint64_t settle_bits(struct pack_edit *e, const struct slot_bits *marked)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < e->nbytes; i++) {
		uint8_t doom = (uint8_t)(e->condemned[i] & ~map_byte(marked, i));

		e->gone[i] &= (uint8_t) ~(e->condemned[i] & map_byte(marked, i));
		e->doomed[i] |= doom;
		e->condemned[i] = 0;
		n += (unsigned)__builtin_popcount(doom);
	}
	return n;
}

static int condemned_packs(struct catalog *c, uint64_t **packs, size_t *npacks, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_query(c, &s, err,
			  "SELECT number FROM pack WHERE condemned IS NOT NULL AND state = 2"
			  " ORDER BY number",
			  "");

	return r < 0 ? r : sql_u64_list(c, s, packs, npacks, err);
}

static int settle_all(struct catalog *c, const struct slot_bits *maps, size_t count,
		      uint64_t *doomed, struct err *err)
{
	cleanup_edit struct pack_edit e = PACK_EDIT_INIT;
	cleanup_free uint64_t *packs = NULL;
	size_t npacks = 0, i, at = 0;
	int r = condemned_packs(c, &packs, &npacks, err);

	if (r >= 0)
		r = pack_edit_init(c, &e, err);
	for (i = 0; i < npacks && r >= 0; i++) {
		while (at < count && maps[at].pack < packs[i])
			at++;
		r = pack_edit_read(c, &e, packs[i], err);
		if (r < 0)
			break;
		*doomed +=
			settle_bits(&e, at < count && maps[at].pack == packs[i] ? &maps[at] : NULL);
		r = pack_edit_write(c, &e, err);
	}
	return r;
}

/* G8 */
int catalog_gc_settle(struct catalog *c, uint64_t token, const struct slot_bits *marked,
		      size_t count, uint64_t *doomed, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t n = 0;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = maps_ascend(marked, count, err);
	if (r >= 0)
		r = older_none(c, err);
	if (r >= 0)
		r = settle_all(c, marked, count, &n, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "INSERT OR REPLACE INTO tomb (id, manifest_locator, forgotten, until)"
			    " SELECT id, manifest_locator, forgotten, until FROM point"
			    " WHERE state = 3 AND EXISTS (SELECT 1 FROM pack WHERE number ="
			    " (manifest_locator >> 24) & 1099511627775)",
			    "");
	if (r >= 0)
		r = sql_run(c, err, "DELETE FROM point WHERE state = 3", "");
	if (r >= 0)
		r = sql_run(c, err, "UPDATE meta SET condemn_gen = 0", "");
	if (r >= 0)
		r = txn_commit(&t, "catalog.settle.before", "catalog.settle.after", err);
	if (r < 0)
		return r;
	*doomed = n;
	return 0;
}

/* --- reclaiming --- */

int catalog_gc_doomed(struct catalog *c, struct pack_list *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin_read(&t, c, err);

	if (r < 0)
		return r;
	return packs_where(c,
			   "SELECT " PACK_COLUMNS_ALL
			   " FROM pack WHERE doomed IS NOT NULL AND state = 2 ORDER BY number",
			   0, out, err);
}

static int pack_not_live(uint64_t number, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "pack %llu is not in the catalog, or not live",
		       (unsigned long long)number);
}

/* G9a */
int catalog_gc_pack(struct catalog *c, uint64_t token, uint64_t number, struct pack_list *out,
		    struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	struct pack_list list = { 0 };
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = packs_where(c,
				"SELECT " PACK_COLUMNS_ALL
				" FROM pack WHERE number = ? AND state = 2",
				number, &list, err);
	if (r < 0)
		return r;
	if (list.count == 0) {
		pack_list_release(&list);
		return pack_not_live(number, err);
	}
	*out = list;
	return 0;
}

/* Takes the dropped slots out of the doomed ones; *left: slots that are still in the file. */
static int drop_bits(struct pack_edit *e, const struct slot_bits *dropped, uint64_t *left,
		     struct err *err)
{
	uint32_t i, all = MAX(e->nbytes, dropped->nbytes);

	*left = e->slots;
	for (i = 0; i < all; i++) {
		uint8_t drop = map_byte(dropped, i);

		if (drop & ~(i < e->nbytes ? e->doomed[i] : 0))
			return err_set(err, ERR_INTERNAL,
				       "slots %u to %u of pack %llu: not all that were dropped are "
				       "doomed",
				       i * 8, i * 8 + 7, (unsigned long long)e->number);
		if (i >= e->nbytes)
			continue;
		e->doomed[i] &= (uint8_t)~drop;
		e->damaged[i] &= (uint8_t)~drop;
		/* Gone, and neither doomed nor condemned: not in the file. */
		*left -=
			(unsigned)__builtin_popcount(e->gone[i] & ~e->doomed[i] & ~e->condemned[i]);
	}
	return 0;
}

/* Points whose manifest was dropped cannot come back any more. */
static int tombs_drop(struct catalog *c, const struct pack_edit *e, struct err *err)
{
	cleanup_stmt sqlite3_stmt *find = NULL, *drop = NULL;
	cleanup_free uint64_t *locators = NULL;
	size_t n = 0, i;
	int r = sql_query(
		c, &find, err,
		"SELECT manifest_locator FROM tomb WHERE manifest_locator BETWEEN ? AND ?", "uu",
		locator_make(e->number, 0), locator_make(e->number, 0xffffff));

	if (r >= 0)
		r = sql_u64_list(c, find, &locators, &n, err);
	if (r >= 0)
		r = sql_query(c, &drop, err, "DELETE FROM tomb WHERE manifest_locator = ?", "");
	for (i = 0; i < n && r >= 0; i++) {
		uint32_t slot = locator_slot(locators[i]);

		if (slot < e->slots &&
		    (!(e->gone[slot / 8] >> slot % 8 & 1) || e->doomed[slot / 8] >> slot % 8 & 1 ||
		     e->condemned[slot / 8] >> slot % 8 & 1))
			continue;
		r = sql_bind(c, drop, err, "u", locators[i]);
		if (r >= 0)
			r = sql_finish(c, drop, err);
	}
	return r;
}

static int dropped_apply(struct catalog *c, uint64_t number, const struct slot_bits *dropped,
			 uint64_t bytes, struct err *err)
{
	cleanup_edit struct pack_edit e = PACK_EDIT_INIT;
	uint64_t left = 0;
	int r = pack_edit_init(c, &e, err);

	if (r >= 0)
		r = pack_edit_read(c, &e, number, err);
	if (r == 0)
		return pack_not_live(number, err);
	if (r >= 0)
		r = drop_bits(&e, dropped, &left, err);
	if (r < 0)
		return r;
	if ((left == 0) != (bytes == 0) || bytes > INT64_MAX)
		return err_set(err, ERR_INTERNAL,
			       "pack %llu has %llu slots left in a file of %llu bytes",
			       (unsigned long long)number, (unsigned long long)left,
			       (unsigned long long)bytes);
	r = tombs_drop(c, &e, err);
	if (r < 0)
		return r;
	if (left == 0)
		return sql_run(c, err, "DELETE FROM pack WHERE number = ?", "u", number);
	e.bytes = bytes;
	return pack_edit_write(c, &e, err);
}

/* G9d */
int catalog_gc_dropped(struct catalog *c, uint64_t token, uint64_t number,
		       const struct slot_bits *dropped, uint64_t bytes, struct audit *audit,
		       struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = dropped_apply(c, number, dropped, bytes, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.dropped.before", "catalog.dropped.after", err);
	return r < 0 ? r : 0;
}

/* --- outside of prune --- */

/* A slot that is in the file and good: not damaged, and not dropped either (gone means "not in the file", unless it is
 * doomed or condemned), or the next rewrite would leave it out. */
static void readmit(struct pack_edit *e, uint32_t slot)
{
	uint32_t i = slot / 8;
	uint8_t bit = (uint8_t)(1u << slot % 8);

	e->damaged[i] &= (uint8_t)~bit;
	if (!((e->doomed[i] | e->condemned[i]) & bit))
		e->gone[i] &= (uint8_t)~bit;
}

int catalog_pack_replaced(struct catalog *c, uint64_t token, uint64_t number, uint64_t bytes,
			  const uint32_t *good, size_t ngood, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_edit struct pack_edit e = PACK_EDIT_INIT;
	size_t i;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = maintenance_alive(c, token, err);
	if (r >= 0)
		r = pack_edit_init(c, &e, err);
	if (r >= 0)
		r = pack_edit_read(c, &e, number, err);
	if (r == 0)
		return pack_not_live(number, err);
	if (r < 0)
		return r;
	if (bytes == 0 || bytes > INT64_MAX)
		return err_set(err, ERR_INVALID, "pack %llu cannot have %llu bytes",
			       (unsigned long long)number, (unsigned long long)bytes);
	for (i = 0; i < ngood; i++) {
		if (good[i] >= e.slots)
			return err_set(err, ERR_INVALID, "pack %llu has no slot %u",
				       (unsigned long long)number, good[i]);
		readmit(&e, good[i]);
	}
	e.bytes = bytes;
	r = pack_edit_write(c, &e, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.replaced.before", "catalog.replaced.after", err);
	return r;
}

int catalog_pack_set_verified(struct catalog *c, uint64_t number, int64_t time, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r;

	if (time < 0)
		return err_set(err, ERR_INVALID, "pack %llu cannot be verified before 1970",
			       (unsigned long long)number);
	r = txn_begin(&t, c, err);
	if (r >= 0)
		r = sql_run(c, err, "UPDATE pack SET verified = ? WHERE number = ? AND state = 2",
			    "uu", time, number);
	if (r < 0)
		return r;
	if (r == 0)
		return pack_not_live(number, err);
	return txn_commit(&t, "catalog.packread.before", "catalog.packread.after", err);
}
