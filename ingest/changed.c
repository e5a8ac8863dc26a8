// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Change maps: which units of a disk differ from the point before, as somebody outside says (--changed FILE).
 *
 * How it works: two bits a unit, zeroed lazily by the kernel, so that memory follows the pages that are touched: 4 MiB at
 * most for 1 TiB in 64 KiB units, whatever the number and order of the ranges.  Files are read as a stream of
 * objects; what they may look like:
 *
 *	our diff	{"disk":"vda","start":0,"length":65536,"data":true}	data false: changed to a hole
 *	rbd diff	{"offset":0,"length":4194304,"exists":"true"}		exists false: changed to a hole
 *	nbdinfo --map	{"offset":0,"length":65536,"type":1,"description":"dirty"}	type 0: not changed
 *
 * Invariants:
 *  1. A unit that any range touches is never "unchanged"; data wins over a hole in any order.
 *  2. A unit is a hole only if one hole range covers all of it (up to the disk's end).
 *  3. What cannot be understood is refused: a map taken for another kind would lose changes silently.  An allocation map
 *     (nbdinfo --map of base:allocation) is such a one.
 */
#include "ingest/internal.h"

#include <stdlib.h>

#include "base/json.h"

#include "base/banned.h"

#define UNITS_PER_WORD 32u

struct change_map {
	uint64_t size, units; /* bytes, count */
	uint32_t unit; /* bytes */
	uint64_t *words; /* two bits a unit: enum change */
};

int change_map_new(uint64_t size, uint32_t unit, struct change_map **out, struct err *err)
{
	cleanup_ptr(change_map) m = mem_alloc(sizeof(*m));

	if (!m)
		return err_nomem(err, "a change map");
	m->size = size;
	m->unit = unit;
	m->units = div_round_up(size, unit);
	m->words = mem_alloc_array(m->units / UNITS_PER_WORD + 1, sizeof(*m->words));
	if (!m->words)
		return err_nomem(err, "a change map");
	*out = steal_ptr(m);
	return 0;
}

void change_map_free(struct change_map *m)
{
	if (!m)
		return;
	free(m->words);
	free(m);
}

static enum change unit_get(const struct change_map *m, uint64_t i)
{
	return (enum change)(m->words[i / UNITS_PER_WORD] >> (i % UNITS_PER_WORD * 2) & 3);
}

static void unit_set(struct change_map *m, uint64_t i, enum change change)
{
	uint64_t *word = &m->words[i / UNITS_PER_WORD];
	unsigned shift = i % UNITS_PER_WORD * 2;

	*word = (*word & ~((uint64_t)3 << shift)) | (uint64_t)change << shift;
}

static uint64_t word_of(enum change change)
{
	return (uint64_t)change * 0x5555555555555555u;
}

static void units_set(struct change_map *m, uint64_t from, uint64_t to, enum change change)
{
	while (from < to) {
		if (from % UNITS_PER_WORD == 0 && to - from >= UNITS_PER_WORD &&
		    change == CHANGE_DATA) {
			m->words[from / UNITS_PER_WORD] = word_of(CHANGE_DATA);
			from += UNITS_PER_WORD;
			continue;
		}
		if (change == CHANGE_DATA || unit_get(m, from) == CHANGE_NONE)
			unit_set(m, from, change);
		from++;
	}
}

void change_map_add(struct change_map *m, uint64_t start, uint64_t length, enum change change)
{
	uint64_t end, first, last, whole_first, whole_last;

	if (!length || start >= m->size || change == CHANGE_NONE)
		return;
	if (add_overflow(start, length, &end) || end > m->size)
		end = m->size;
	first = start / m->unit;
	last = div_round_up(end, m->unit);
	if (change == CHANGE_DATA) {
		units_set(m, first, last, CHANGE_DATA);
		return;
	}
	whole_first = div_round_up(start, m->unit);
	whole_last = end == m->size ? m->units : end / m->unit;
	if (whole_first >= whole_last) { /* covers no unit whole */
		units_set(m, first, last, CHANGE_DATA);
		return;
	}
	units_set(m, first, whole_first, CHANGE_DATA);
	units_set(m, whole_first, whole_last, CHANGE_HOLE);
	units_set(m, whole_last, last, CHANGE_DATA);
}

enum change change_map_get(const struct change_map *m, uint64_t offset, uint64_t *end)
{
	uint64_t i = offset / m->unit;
	enum change change = unit_get(m, i);
	uint64_t whole = word_of(change);

	for (i++; i < m->units; i++) {
		if (i % UNITS_PER_WORD == 0)
			while (i + UNITS_PER_WORD <= m->units &&
			       m->words[i / UNITS_PER_WORD] == whole)
				i += UNITS_PER_WORD;
		if (i >= m->units || unit_get(m, i) != change)
			break;
	}
	*end = i >= m->units ? m->size : i * m->unit;
	return change;
}

/* --- reading --- */

struct reader {
	struct change_map *map;
	const char *disk;
};

/* "exists" of rbd is the text "true" or "false"; a boolean is taken too.  -1: something else. */
static int truth_of(const struct jval *v)
{
	const char *text = jval_as_str(v);
	bool value;

	if (jval_as_bool(v, &value))
		return value;
	if (text && strcmp(text, "true") == 0)
		return 1;
	return text && strcmp(text, "false") == 0 ? 0 : -1;
}

/* Of an entry of nbdinfo --map; fills *change. */
static int bitmap_change(const struct jval *type, const char *description, enum change *change,
			 struct err *err)
{
	uint64_t value;

	if (description && strcmp(description, "dirty") != 0 && strcmp(description, "clean") != 0)
		return err_set(
			err, ERR_INVALID,
			"described as \"%s\": this is an allocation map, which says nothing about changes; take a "
			"qemu:dirty-bitmap",
			description);
	if (!jval_as_uint(type, &value) || value > 1)
		return err_set(err, ERR_INVALID, "the \"type\" of a dirty bitmap is 0 or 1");
	*change = value ? CHANGE_DATA : CHANGE_NONE;
	return 0;
}

static int object_change(const struct jval *object, enum change *change, struct err *err)
{
	const struct jval *data = jval_get(object, "data"), *exists = jval_get(object, "exists");
	const struct jval *type = jval_get(object, "type"),
			  *description = jval_get(object, "description");
	bool is_data;
	int truth;

	if (!!data + !!exists + (type || description) > 1)
		return err_set(err, ERR_INVALID,
			       "more than one of \"data\", \"exists\" and \"type\"");
	*change = CHANGE_DATA;
	if (type || description)
		return bitmap_change(type, jval_as_str(description), change, err);
	if (data) {
		if (!jval_as_bool(data, &is_data))
			return err_set(err, ERR_INVALID, "\"data\" is neither true nor false");
		*change = is_data ? CHANGE_DATA : CHANGE_HOLE;
	}
	if (exists) {
		truth = truth_of(exists);
		if (truth < 0)
			return err_set(err, ERR_INVALID, "\"exists\" is neither true nor false");
		*change = truth ? CHANGE_DATA : CHANGE_HOLE;
	}
	return 0;
}

static int read_object(void *opaque, const struct jval *object, struct err *err)
{
	struct reader *reader = opaque;
	const struct jval *start = jval_get(object, "start"), *offset = jval_get(object, "offset");
	const char *disk = jval_as_str(jval_get(object, "disk"));
	uint64_t from, length, end;
	enum change change = CHANGE_DATA;
	int r;

	if (disk && strcmp(disk, reader->disk) != 0)
		return 0;
	if (!start && !offset && jval_get(object, "path") && jval_get(object, "change"))
		return 0; /* our diff, of a tree */
	if (!start == !offset)
		return err_set(err, ERR_INVALID, "a range has either \"start\" or \"offset\"");
	if (!jval_as_uint(start ? start : offset, &from) ||
	    !jval_as_uint(jval_get(object, "length"), &length) || add_overflow(from, length, &end))
		return err_set(err, ERR_INVALID, "start and length are whole numbers of bytes");
	r = object_change(object, &change, err);
	if (r < 0)
		return r;
	change_map_add(reader->map, from, length, change);
	return 0;
}

int change_map_read(struct change_map *m, int fd, const char *path, const char *disk,
		    struct err *err)
{
	struct reader reader = { .map = m, .disk = disk };
	int r = json_stream_each(fd, path, read_object, &reader, err);

	return r < 0 ? err_prefix(err, "change map of '%s'", disk) : 0;
}
