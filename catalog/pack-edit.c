// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The bits of live packs, read, changed and written back inside one transaction: two statements and one buffer for
 * any number of packs.
 *
 * Invariants:
 *  1. What is read fits: (slots + 7) / 8 bytes a map or none; else ERR_DAMAGED.
 *  2. Beyond nbytes the maps in memory are zero, so that maps of different lengths can be combined.
 *  3. A map without a bit is written as NULL.
 */
#include <stdlib.h>

#include "catalog/internal.h"

#include "base/banned.h"

int pack_edit_init(struct catalog *c, struct pack_edit *e, struct err *err)
{
	int r;

	e->gone = mem_alloc_array(4, SLOT_BITS_MAX);
	if (!e->gone)
		return err_nomem(err, "changing packs");
	e->condemned = e->gone + SLOT_BITS_MAX;
	e->doomed = e->condemned + SLOT_BITS_MAX;
	e->damaged = e->doomed + SLOT_BITS_MAX;
	r = sql_query(c, &e->read, err,
		      "SELECT slots, bytes, gone, condemned, doomed, damaged FROM pack"
		      " WHERE number = ? AND state = 2",
		      "");
	if (r < 0)
		return r;
	return sql_query(
		c, &e->write, err,
		"UPDATE pack SET bytes = ?, gone = ?, condemned = ?, doomed = ?, damaged = ?"
		" WHERE number = ?",
		"");
}

void pack_edit_release(struct pack_edit *e)
{
	sqlite3_finalize(e->read);
	sqlite3_finalize(e->write);
	free(e->gone);
	memset(e, 0, sizeof(*e));
}

int pack_edit_read(struct catalog *c, struct pack_edit *e, uint64_t number, struct err *err)
{
	uint8_t *maps[] = { e->gone, e->condemned, e->doomed, e->damaged };
	size_t i;
	int n, r = sql_bind(c, e->read, err, "u", number);

	if (r >= 0)
		r = sql_step(c, e->read, err);
	if (r <= 0)
		return r;
	e->number = number;
	e->slots = (uint32_t)sqlite3_column_int64(e->read, 0);
	e->bytes = column_u64(e->read, 1);
	if (e->slots == 0 || e->slots > SLOT_MAX_COUNT)
		return sql_bad_row(c, err, "pack", (int64_t)number);
	e->nbytes = (e->slots + 7) / 8;
	for (i = 0; i < ARRAY_SIZE(maps); i++) {
		n = sqlite3_column_bytes(e->read, (int)i + 2);
		if (n != 0 && (uint32_t)n != e->nbytes)
			return sql_bad_row(c, err, "pack", (int64_t)number);
		memset(maps[i], 0, SLOT_BITS_MAX);
		if (n)
			memcpy(maps[i], sqlite3_column_blob(e->read, (int)i + 2), (size_t)n);
	}
	/* The row is written next: nobody reads it meanwhile. */
	sqlite3_reset(e->read);
	return 1;
}

static const void *null_if_zero(const uint8_t *map, uint32_t n)
{
	return mem_is_zero(map, n) ? NULL : map;
}

int pack_edit_write(struct catalog *c, struct pack_edit *e, struct err *err)
{
	size_t n = e->nbytes;
	int r = sql_bind(c, e->write, err, "ubbbbu", e->bytes, null_if_zero(e->gone, e->nbytes), n,
			 null_if_zero(e->condemned, e->nbytes), n,
			 null_if_zero(e->doomed, e->nbytes), n, null_if_zero(e->damaged, e->nbytes),
			 n, e->number);

	if (r >= 0)
		r = sql_finish(c, e->write, err);
	return r < 0 ? r : 0;
}
