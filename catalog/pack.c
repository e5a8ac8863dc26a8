// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The pack directory, damaged bits, the list of index segments, and the totals.
 *
 * Invariants:
 *  1. Bitmaps are (slots + 7) / 8 bytes long, without bits beyond the last slot, NULL if empty.
 *  2. A segment may be read only while it is listed; the swap of a merge lists the new one and drops
 *     the old ones in one transaction, or does nothing.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

void pack_list_release(struct pack_list *l)
{
	size_t i;

	for (i = 0; i < l->count; i++) {
		free(l->rows[i].gone.bits);
		free(l->rows[i].condemned.bits);
		free(l->rows[i].doomed.bits);
		free(l->rows[i].damaged.bits);
	}
	free(l->rows);
	memset(l, 0, sizeof(*l));
}

/* 1: filled (or NULL), 0: a length that cannot be, else ERR_NOMEM. */
static int bits_column(sqlite3_stmt *s, int i, uint64_t pack, uint32_t slots, struct slot_bits *out)
{
	const void *p = sqlite3_column_blob(s, i);
	int n = sqlite3_column_bytes(s, i);

	out->pack = pack;
	if (n == 0)
		return 1;
	if ((uint32_t)n != (slots + 7) / 8)
		return 0;
	out->bits = mem_dup(p, (size_t)n);
	if (!out->bits)
		return ERR_NOMEM;
	out->nbytes = (uint32_t)n;
	return 1;
}

static int pack_read(struct catalog *c, sqlite3_stmt *s, struct pack_row *row, struct err *err)
{
	struct slot_bits *maps[] = { &row->gone, &row->damaged, &row->condemned, &row->doomed };
	int64_t slots = sqlite3_column_int64(s, 4);
	size_t i;
	int r;

	row->number = column_u64(s, 0);
	row->state = (enum pack_state)sqlite3_column_int(s, 1);
	row->token = column_u64(s, 2);
	row->kind = (enum pack_kind)sqlite3_column_int(s, 3);
	row->slots = (uint32_t)slots;
	row->bytes = column_u64(s, 5);
	if (row->number == 0 || row->number > PACK_NUMBER_MAX || slots < 0 ||
	    slots > SLOT_MAX_COUNT)
		return sql_bad_row(c, err, "pack", (int64_t)row->number);
	row->published = sqlite3_column_int(s, 6) != 0;
	row->verified = sqlite3_column_int64(s, 7);
	for (i = 0, r = 1; i < ARRAY_SIZE(maps) && r == 1; i++)
		r = bits_column(s, 8 + (int)i, row->number, row->slots, maps[i]);
	if (r < 0)
		return err_nomem(err, "reading the pack directory");
	return r == 1 ? 0 : sql_bad_row(c, err, "pack", (int64_t)row->number);
}

int pack_rows(struct catalog *c, sqlite3_stmt *s, struct pack_list *out, struct err *err)
{
	struct pack_list list = { 0 };
	void *rows = NULL;
	size_t cap = 0;
	int r;

	while ((r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, list.count, &cap, sizeof(*list.rows))) {
			r = err_nomem(err, "reading the pack directory");
			break;
		}
		list.rows = rows;
		r = pack_read(c, s, &list.rows[list.count++], err);
		if (r < 0)
			break;
	}
	if (r < 0) {
		pack_list_release(&list);
		return r;
	}
	*out = list;
	return 0;
}

int catalog_packs(struct catalog *c, uint64_t number, struct pack_list *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0 && number)
		r = sql_query(c, &s, err, "SELECT " PACK_COLUMNS_ALL " FROM pack WHERE number = ?",
			      "u", number);
	else if (r >= 0)
		r = sql_query(c, &s, err, "SELECT " PACK_COLUMNS_ALL " FROM pack ORDER BY number",
			      "");
	return r < 0 ? r : pack_rows(c, s, out, err);
}

/* --- damaged bits --- */

struct damaged_bits {
	uint8_t bits[SLOT_BITS_MAX];
	uint32_t slots;
};

static int damaged_read(struct catalog *c, uint64_t pack, struct damaged_bits *d, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	int n, r;

	r = sql_query(c, &s, err, "SELECT slots, damaged FROM pack WHERE number = ?", "u", pack);
	if (r >= 0)
		r = sql_step(c, s, err);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, ERR_NOT_FOUND, "pack %llu is not in the catalog",
			       (unsigned long long)pack);
	d->slots = (uint32_t)sqlite3_column_int(s, 0);
	n = sqlite3_column_bytes(s, 1);
	memset(d->bits, 0, sizeof(d->bits));
	if (d->slots > SLOT_MAX_COUNT || (n && (uint32_t)n != (d->slots + 7) / 8))
		return sql_bad_row(c, err, "pack", (int64_t)pack);
	if (n)
		memcpy(d->bits, sqlite3_column_blob(s, 1), (size_t)n);
	return 0;
}

int catalog_slots_damaged(struct catalog *c, uint64_t pack, const uint32_t *slots, size_t n,
			  bool damaged, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	struct damaged_bits d;
	size_t i, nbytes;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = damaged_read(c, pack, &d, err);
	if (r < 0)
		return r;
	for (i = 0; i < n; i++) {
		if (slots[i] >= d.slots)
			return err_set(err, ERR_INVALID, "pack %llu has no slot %u",
				       (unsigned long long)pack, slots[i]);
		if (damaged)
			d.bits[slots[i] / 8] |= (uint8_t)(1u << slots[i] % 8);
		else
			d.bits[slots[i] / 8] &= (uint8_t) ~(1u << slots[i] % 8);
	}
	nbytes = (d.slots + 7) / 8;
	if (mem_is_zero(d.bits, nbytes))
		r = sql_run(c, err, "UPDATE pack SET damaged = NULL WHERE number = ?", "u", pack);
	else
		r = sql_run(c, err, "UPDATE pack SET damaged = ? WHERE number = ?", "bu", d.bits,
			    nbytes, pack);
	if (r >= 0)
		r = txn_commit(&t, "catalog.damaged.before", "catalog.damaged.after", err);
	return r;
}

/* --- index segments --- */

int catalog_segments(struct catalog *c, struct segment_row **out, size_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	cleanup_free void *rows = NULL;
	size_t n = 0, cap = 0;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err,
			      "SELECT number, records FROM segment WHERE state = 2 ORDER BY number",
			      "");
	while (r >= 0 && (r = sql_step(c, s, err)) == 1) {
		if (!array_grow(&rows, n, &cap, sizeof(struct segment_row)))
			return err_nomem(err, "reading the list of index segments");
		((struct segment_row *)rows)[n].number = column_u64(s, 0);
		((struct segment_row *)rows)[n++].records = column_u64(s, 1);
	}
	if (r < 0)
		return r;
	*out = steal_ptr(rows);
	*count = n;
	return 0;
}

int catalog_segment_numbers(struct catalog *c, uint64_t **numbers, size_t *count, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	cleanup_stmt sqlite3_stmt *s = NULL;
	int r = txn_begin_read(&t, c, err);

	if (r >= 0)
		r = sql_query(c, &s, err, "SELECT number FROM segment ORDER BY number", "");
	return r < 0 ? r : sql_u64_list(c, s, numbers, count, err);
}

/* 1: all were listed and are gone, 0: one was not. */
static int segments_remove(struct catalog *c, const uint64_t *old, size_t nold, struct err *err)
{
	cleanup_stmt sqlite3_stmt *s = NULL;
	size_t i;
	int r = sql_query(c, &s, err, "DELETE FROM segment WHERE number = ? AND state = 2", "");

	for (i = 0; i < nold && r >= 0; i++) {
		r = sql_bind(c, s, err, "u", old[i]);
		if (r >= 0)
			r = sql_finish(c, s, err);
		if (r == 0)
			return 0;
	}
	return r < 0 ? r : 1;
}

int catalog_segments_swap(struct catalog *c, uint64_t token, uint64_t number, uint64_t records,
			  const uint64_t *old, size_t nold, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = lease_alive(c, token, NULL, NULL, err);
	if (r >= 0)
		r = segments_remove(c, old, nold, err);
	if (r <= 0)
		return r;
	r = sql_run(c, err,
		    "UPDATE segment SET state = 2, records = ?"
		    " WHERE number = ? AND token = ? AND state = 1",
		    "uuu", records, number, token);
	if (r == 0)
		return err_set(err, ERR_INTERNAL,
			       "index segment %llu was not begun under lease %llu",
			       (unsigned long long)number, (unsigned long long)token);
	if (r >= 0)
		r = txn_commit(&t, "catalog.swap.before", "catalog.swap.after", err);
	return r < 0 ? r : 1;
}

int catalog_segment_drop(struct catalog *c, uint64_t number, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	int r = txn_begin(&t, c, err);

	if (r >= 0)
		r = sql_run(c, err, "DELETE FROM segment WHERE number = ? AND state = 2", "u",
			    number);
	if (r >= 0)
		r = txn_commit(&t, "catalog.drop.before", "catalog.drop.after", err);
	return r;
}

/* --- totals --- */

int catalog_totals(struct catalog *c, struct catalog_totals *out, struct err *err)
{
	cleanup_txn struct txn t = TXN_INIT;
	struct catalog_totals v;
	const struct {
		uint64_t *value;
		const char *sql;
	} rows[] = {
		{ &v.generation, "SELECT generation FROM meta" },
		{ &v.next_pack, "SELECT next_pack FROM meta" },
		{ &v.next_sequence, "SELECT next_sequence FROM meta" },
		{ &v.condemn_gen, "SELECT condemn_gen FROM meta" },
		{ &v.points, "SELECT count(*) FROM point WHERE state = 1" },
		{ &v.names, "SELECT count(DISTINCT name) FROM point WHERE state = 1" },
		{ &v.packs, "SELECT count(*) FROM pack WHERE state = 2" },
		{ &v.pack_bytes, "SELECT coalesce(sum(bytes), 0) FROM pack WHERE state = 2" },
		{ &v.segments, "SELECT count(*) FROM segment WHERE state = 2" },
		{ &v.segment_records,
		  "SELECT coalesce(sum(records), 0) FROM segment WHERE state = 2" },
		{ &v.leases, "SELECT count(*) FROM lease" },
	};
	size_t i;
	int r = txn_begin_read(&t, c, err);

	for (i = 0; i < ARRAY_SIZE(rows) && r >= 0; i++)
		r = sql_number(c, rows[i].sql, rows[i].value, err);
	if (r < 0)
		return r;
	*out = v;
	return 0;
}
