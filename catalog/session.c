// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The steps of a session that publishes, I2 to I10, and the rows that the sweep clears, S3 and S5.
 *
 * Invariants:
 *  1. Each transaction but I2 and the sweep looks for the token first; without it nothing changes.
 *  2. I2 reads the packs and chooses the parent in the transaction that takes the lease: a slot that
 *     was not gone then can be used until the lease ends.
 *  3. A number is raised in `meta` and used in one transaction; a rollback takes back both, a commit
 *     neither.
 *  4. A pack becomes live only from writing(own token).  Doing it again changes nothing, so that a
 *     step whose commit was unknown can be repeated.
 *  5. Publish makes the point complete, its packs live and the lease vanish, or does nothing.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

static int session_parent(struct catalog *c, const struct lease *spec, const uint8_t *since,
			  struct point_row *parent, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r;

	if (!since)
		return point_newest(c, spec->name, parent, err);
	r = sql_query(c, &s, err,
		      "SELECT " POINT_COLUMNS
		      " FROM point p WHERE p.id = ? AND (p.state = 1 OR (p.state = 2"
		      " AND EXISTS (SELECT 1 FROM overlay o WHERE o.point = p.num)))",
		      "b", since, (size_t)POINT_ID_LEN);
	if (r >= 0)
		r = point_first(c, s, parent, err);
	return r != 0 ? r : point_missing(since, err);
}

static int session_lock(struct catalog *c, const struct lease *spec, struct lease *holder,
			struct err *err)
{
	char what[NAME_MAX_LEN + 32];
	struct lease found;
	int r = lease_find(c, LEASE_INGEST, spec->name, &found, err);

	if (r <= 0)
		return r;
	if (holder)
		*holder = found;
	snprintf(what, sizeof(what), "a backup of '%s'", spec->name);
	return lease_locked(&found, what, err);
}

int catalog_session_begin(struct catalog *c, struct lease *spec, const uint8_t *since,
			  struct pack_list *packs, bool *has_parent, struct point_row *parent,
			  struct lease *holder, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	struct point_row found = { 0 };
	struct pack_list list = { 0 };
	uint64_t token = 0, gen = 0;
	int r, r_parent = 0;

	if (spec->kind != LEASE_INGEST || !name_valid(spec->name))
		return err_set(err, ERR_INVALID, "no session for name '%s'", spec->name);
	r = txn_begin(&t, c, err);
	if (r >= 0)
		r = session_lock(c, spec, holder, err);
	if (r >= 0)
		r = lease_insert(c, spec, &token, &gen, err);
	if (r >= 0)
		r = r_parent = session_parent(c, spec, since, &found, err);
	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT " PACK_COLUMNS " FROM pack WHERE state = 2 ORDER BY number",
			      "");
	if (r >= 0)
		r = pack_rows(c, s, &list, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.session.before", "catalog.session.after", err);
	if (r < 0) {
		point_row_release(&found);
		pack_list_release(&list);
		return r;
	}
	spec->token = token;
	spec->gen = gen;
	*packs = list;
	*has_parent = r_parent == 1;
	if (r_parent == 1)
		*parent = found;
	return 0;
}

/* Planted bug: the lowest number that is free, so one that a removed pack has had. */
#define NEXT_PACK                                                                                  \
	(fault_planted("catalog.number") ?                                                         \
		 "SELECT MIN(n) FROM (SELECT 1 AS n UNION SELECT number + 1 FROM pack)"            \
		 " WHERE n NOT IN (SELECT number FROM pack)" :                                     \
		 "SELECT next_pack FROM meta")

int catalog_pack_begin(struct catalog *c, uint64_t token, enum pack_kind kind, uint64_t *number,
		       struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t next = 0;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, NULL, NULL, err);
	if (r >= 0)
		r = sql_number(c, NEXT_PACK, &next, err);
	if (r < 0)
		return r;
	if (next > PACK_NUMBER_MAX)
		return err_set(err, ERR_TOO_BIG, "catalog '%s': all pack numbers are used up",
			       c->path);
	r = sql_run(c, err, "UPDATE meta SET next_pack = next_pack + 1", "");
	if (r >= 0)
		r = sql_run(c, err,
			    "INSERT INTO pack (number, state, token, kind, slots, bytes)"
			    " VALUES (?, 1, ?, ?, 0, 0)",
			    "uun", next, token, (int)kind);
	if (r >= 0)
		r = txn_commit(&t, "catalog.pack.before", "catalog.pack.after", err);
	if (r < 0)
		return r;
	*number = next;
	return 0;
}

int catalog_segment_begin(struct catalog *c, uint64_t token, uint64_t *number, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t next = 0;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, NULL, NULL, err);
	if (r >= 0)
		r = sql_number(c, "SELECT next_segment FROM meta", &next, err);
	if (r >= 0)
		r = sql_run(c, err, "UPDATE meta SET next_segment = next_segment + 1", "");
	if (r >= 0)
		r = sql_run(
			c, err,
			"INSERT INTO segment (number, state, token, records) VALUES (?, 1, ?, 0)",
			"uu", next, token);
	if (r >= 0)
		r = txn_commit(&t, "catalog.segment.before", "catalog.segment.after", err);
	if (r < 0)
		return r;
	*number = next;
	return 0;
}

/* One pack: from writing(token) to live, or it is that already. */
static int done_pack(struct catalog *c, sqlite3_stmt *update, sqlite3_stmt *again, uint64_t token,
		     const struct pack_done *p, struct err *err)
{
	int r;

	if (p->slots == 0 || p->slots > SLOT_MAX_COUNT || p->bytes == 0 || p->bytes > INT64_MAX)
		return err_set(err, ERR_INTERNAL, "pack %llu: %u slots in %llu bytes",
			       (unsigned long long)p->number, p->slots,
			       (unsigned long long)p->bytes);
	r = sql_bind(c, update, err, "uuuu", (uint64_t)p->slots, p->bytes, p->number, token);
	if (r >= 0)
		r = sql_finish(c, update, err);
	if (r != 0)
		return r;
	r = sql_bind(c, again, err, "uuuu", p->number, token, (uint64_t)p->slots, p->bytes);
	if (r >= 0)
		r = sql_step(c, again, err);
	if (r < 0)
		return r;
	sqlite3_reset(again);
	if (r == 0)
		return err_set(err, ERR_INTERNAL, "pack %llu was not begun under lease %llu",
			       (unsigned long long)p->number, (unsigned long long)token);
	return 0;
}

static int done_segment(struct catalog *c, uint64_t token, uint64_t number, uint64_t records,
			struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = sql_run(c, err,
			"UPDATE segment SET state = 2, records = ?"
			" WHERE number = ? AND token = ? AND state = 1",
			"uuu", records, number, token);

	if (r != 0)
		return r;
	r = sql_query(c, &s, err,
		      "SELECT 1 FROM segment WHERE number = ? AND token = ? AND state = 2", "uu",
		      number, token);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 0)
		return err_set(err, ERR_INTERNAL,
			       "index segment %llu was not begun under lease %llu",
			       (unsigned long long)number, (unsigned long long)token);
	return r;
}

int session_done_apply(struct catalog *c, uint64_t token, const struct session_done *done,
		       struct err *err)
{
	cleanup_stmt sqlite3_stmt *update = NULL, *again = NULL;
	size_t i;
	int r = sql_query(c, &update, err,
			  "UPDATE pack SET state = 2, slots = ?, bytes = ?"
			  " WHERE number = ? AND token = ? AND state = 1",
			  "");

	if (r >= 0)
		r = sql_query(c, &again, err,
			      "SELECT 1 FROM pack WHERE number = ? AND token = ? AND state = 2"
			      " AND slots = ? AND bytes = ?",
			      "");
	for (i = 0; i < done->npacks && r >= 0; i++)
		r = done_pack(c, update, again, token, &done->packs[i], err);
	if (r >= 0 && done->segment)
		r = done_segment(c, token, done->segment, done->segment_records, err);
	return r < 0 ? r : 0;
}

int catalog_checkpoint(struct catalog *c, uint64_t token, const struct session_done *done,
		       struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, NULL, NULL, err);
	if (r >= 0)
		r = session_done_apply(c, token, done, err);
	if (r >= 0)
		r = txn_commit(&t, "catalog.checkpoint.before", "catalog.checkpoint.after", err);
	return r;
}

/* The first second from `time` on at which the name has neither a point nor somebody else's reservation. */
static int free_second(struct catalog *c, uint64_t token, const char *name, int64_t *time,
		       struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int64_t t = *time;
	int r = sql_query(c, &s, err,
			  "SELECT time FROM point WHERE name = ?1 AND time >= ?2 AND state <> 3"
			  " UNION SELECT reserved_time FROM lease WHERE reserved_name = ?1"
			  " AND reserved_time >= ?2 AND token <> ?3 ORDER BY 1",
			  "tuu", name, t, token);

	while (r >= 0 && (r = sql_step(c, s, err)) == 1 && sqlite3_column_int64(s, 0) == t) {
		if (add_overflow(t, 1, &t))
			return err_set(err, ERR_INVALID, "no time is left for a point of '%s'",
				       name);
	}
	if (r < 0)
		return r;
	*time = t;
	return 0;
}

int catalog_reserve(struct catalog *c, uint64_t token, const char *name, int64_t *time,
		    uint64_t *sequence, uint64_t *generation, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t seq = 0, gen = 0;
	int64_t when = *time;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, NULL, NULL, err);
	if (r >= 0)
		r = free_second(c, token, name, &when, err);
	if (r >= 0)
		r = sql_number(c, "SELECT next_sequence FROM meta", &seq, err);
	if (r >= 0)
		r = sql_run(
			c, err,
			"UPDATE meta SET next_sequence = next_sequence + 1, generation = generation + 1",
			"");
	if (r >= 0)
		r = sql_number(c, "SELECT generation FROM meta", &gen, err);
	if (r >= 0)
		r = sql_run(
			c, err,
			"UPDATE lease SET reserved_name = ?, reserved_time = ?, reserved_sequence = ?"
			" WHERE token = ?",
			"tuuu", name, when, seq, token);
	if (r >= 0)
		r = txn_commit(&t, "catalog.reserve.before", "catalog.reserve.after", err);
	if (r < 0)
		return r;
	*time = when;
	*sequence = seq;
	*generation = gen;
	return 0;
}

/* --- publish --- */

static bool bit_of(const void *bits, int nbytes, uint32_t slot)
{
	return slot / 8 < (uint32_t)nbytes && ((const uint8_t *)bits)[slot / 8] >> (slot % 8) & 1;
}

/* May every slot of one pack that the session took from the index be used?  took_back: a slot that was condemned
 * after the lease was taken counts as used. */
static int reused_pack(struct catalog *c, sqlite3_stmt *s, const struct slot_bits *b,
		       bool took_back, struct err *err)
{
	const void *gone, *condemned;
	uint32_t slots, slot;
	int ngone, ncondemned;
	int r = sql_bind(c, s, err, "u", b->pack);

	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, ERR_INTERNAL, "pack %llu, used by the new point, is not live",
			       (unsigned long long)b->pack);
	slots = (uint32_t)sqlite3_column_int(s, 0);
	gone = sqlite3_column_blob(s, 1);
	ngone = sqlite3_column_bytes(s, 1);
	condemned = sqlite3_column_blob(s, 2);
	ncondemned = sqlite3_column_bytes(s, 2);
	for (slot = 0; slot < b->nbytes * 8; slot++) {
		if (!(b->bits[slot / 8] >> (slot % 8) & 1))
			continue;
		if (slot < slots && !bit_of(gone, ngone, slot))
			continue;
		if (slot < slots && took_back && bit_of(condemned, ncondemned, slot))
			continue;
		return err_set(err, ERR_INTERNAL,
			       "slot %u of pack %llu, used by the new point, is gone", slot,
			       (unsigned long long)b->pack);
	}
	return 0;
}

static int reused_check(struct catalog *c, uint64_t lease_gen, const struct slot_bits *reused,
			size_t nreused, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	uint64_t condemn_gen = 0;
	size_t i;
	int r = sql_number(c, "SELECT condemn_gen FROM meta", &condemn_gen, err);

	if (r >= 0)
		r = sql_query(
			c, &s, err,
			"SELECT slots, gone, condemned FROM pack WHERE number = ? AND state = 2",
			"");
	for (i = 0; i < nreused && r >= 0; i++)
		r = reused_pack(c, s, &reused[i], condemn_gen > lease_gen, err);
	return r;
}

/* The manifest must say what was reserved: it was written with it. */
static int reserved_check(struct catalog *c, uint64_t token, const struct manifest *m,
			  struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r;

	if (memcmp(m->uuid, c->uuid, UUID_LEN) != 0)
		return err_set(err, ERR_INTERNAL, "the manifest belongs to another repository");
	r = sql_query(
		c, &s, err,
		"SELECT 1 FROM lease WHERE token = ? AND reserved_name = ? AND reserved_time = ?"
		" AND reserved_sequence = ?",
		"utuu", token, m->name, m->time, m->sequence);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r == 0 && !fault_planted("session.token"))
		return err_set(
			err, ERR_INTERNAL,
			"name, time and sequence of the manifest are not those reserved by lease %llu",
			(unsigned long long)token);
	return r;
}

int catalog_publish(struct catalog *c, uint64_t token, const struct session_done *done,
		    const struct slot_bits *reused, size_t nreused, const uint8_t id[POINT_ID_LEN],
		    const struct object_ref *manifest_ref, const struct manifest *m,
		    struct audit *audit, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	uint64_t gen = 0;
	int kind = 0;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, &gen, &kind, err);
	if (r < 0)
		return r;
	if (kind != LEASE_INGEST)
		return err_set(err, ERR_INTERNAL, "lease %llu is not one that publishes",
			       (unsigned long long)token);
	r = reserved_check(c, token, m, err);
	if (r >= 0)
		r = session_done_apply(c, token, done, err);
	if (r >= 0)
		r = reused_check(c, gen, reused, nreused, err);
	if (r >= 0)
		r = sql_run(c, err,
			    "UPDATE pack SET published = 1"
			    " WHERE token = ? AND state = 2 AND published = 0",
			    "u", token);
	if (r >= 0)
		r = point_insert(c, id, POINT_COMPLETE, manifest_ref, m, err);
	if (r >= 0 && done->overlay)
		r = overlay_seal(c, done->overlay, id, err);
	if (r >= 0)
		r = audit_put(c, audit, err);
	if (r >= 0)
		r = sql_run(c, err, "DELETE FROM lease WHERE token = ?", "u", token);
	if (r >= 0)
		r = txn_commit(&t, "catalog.publish.before", "catalog.publish.after", err);
	return r;
}

/* --- the sweep's rows --- */

#define WRITING_OF                                                                                 \
	" state = 1 AND (token = ?1 OR (?1 = 0 AND token NOT IN (SELECT token FROM lease)))"

int catalog_writing(struct catalog *c, uint64_t token, uint64_t **packs, size_t *npacks,
		    uint64_t **segments, size_t *nsegments, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *p = NULL, *s = NULL;
	cleanup_free uint64_t *list = NULL;
	size_t n = 0;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &p, err,
			      "SELECT number FROM pack WHERE" WRITING_OF " ORDER BY number", "u",
			      token);
	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT number FROM segment WHERE" WRITING_OF " ORDER BY number", "u",
			      token);
	if (r >= 0)
		r = sql_u64_list(c, p, &list, &n, err);
	if (r >= 0)
		r = sql_u64_list(c, s, segments, nsegments, err);
	if (r < 0)
		return r;
	*packs = steal_ptr(list);
	*npacks = n;
	return 0;
}

int catalog_writing_tokens(struct catalog *c, uint64_t **tokens, size_t *ntokens, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT token FROM pack WHERE state = 1"
			      " UNION SELECT token FROM segment WHERE state = 1"
			      " EXCEPT SELECT token FROM lease ORDER BY 1",
			      "");
	return r < 0 ? r : sql_u64_list(c, s, tokens, ntokens, err);
}

int catalog_writing_delete(struct catalog *c, uint64_t token, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r;

	/* All of them at once could take rows whose files nobody has removed yet. */
	if (token == 0)
		return err_set(err, ERR_INVALID, "rows of lease 0 cannot be deleted");
	r = txn_begin(&t, c, err);
	if (r >= 0)
		r = sql_run(c, err, "DELETE FROM pack WHERE state = 1 AND token = ?", "u", token);
	if (r >= 0)
		r = sql_run(c, err, "DELETE FROM segment WHERE state = 1 AND token = ?", "u",
			    token);
	if (r >= 0)
		r = txn_commit(&t, "catalog.writing.before", "catalog.writing.after", err);
	return r;
}
