/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Leaf of the block map: where up to 1024 chunks of a disk lie, as runs.
 *
 * One reader walks the runs for the checks, and once more to fill the result; so the memory is
 * taken only for runs that are right, and the rules stand in one place.
 *
 * Invariants:
 *  1. Equal chunks give equal bytes: runs are maximal, varints minimal (base/buf.c), locators are
 *     differences modulo 2^64, of which there is one each.  Leaves are shared by their hash.
 *  2. The runs of a struct leaf cover 0 to chunks - 1 without gap, in order.
 */
#include "format/internal.h"

#include "base/banned.h"

static const uint8_t leaf_magic[4] = "LPLF";
#define LEAF_HEADER_LEN 40

static uint64_t zigzag(uint64_t difference)
{
	return difference << 1 ^ (difference >> 63 ? UINT64_MAX : 0);
}

static uint64_t unzigzag(uint64_t v)
{
	return v >> 1 ^ (v & 1 ? UINT64_MAX : 0);
}

static unsigned kind_of(uint64_t locator)
{
	return locator == LOCATOR_NONE	     ? RUN_HOLE :
	       locator == LOCATOR_UNREADABLE ? RUN_UNREADABLE :
					       RUN_DATA;
}

/* Length of the maximal run at i. */
static unsigned run_length(const uint64_t *locators, unsigned i, unsigned chunks)
{
	unsigned kind = kind_of(locators[i]), n = 1;
	while (i + n < chunks && kind_of(locators[i + n]) == kind &&
	       (kind != RUN_DATA || locators[i + n] == locators[i] + n))
		n++;
	return n;
}

int leaf_encode(const uint64_t *locators, unsigned chunks, const uint8_t digest[ID_LEN],
		struct buf *out, struct err *err)
{
	bool any = false;
	if (chunks < 1 || chunks > LEAF_CHUNKS)
		return err_set(err, ERR_INTERNAL, "leaf of %u chunks", chunks);
	for (unsigned i = 0; i < chunks; i++) {
		if (kind_of(locators[i]) == RUN_DATA && !locator_run_valid(locators[i], 1))
			return err_set(err, ERR_INTERNAL,
				       "leaf with an invalid locator for chunk %u", i);
		any |= locators[i] != LOCATOR_NONE;
	}
	if (!any)
		return err_set(err, ERR_INTERNAL, "leaf of holes only");
	buf_put(out, leaf_magic, 4);
	buf_put_le16(out, FORMAT_VERSION);
	buf_put_le16(out, (uint16_t)chunks);
	buf_put(out, digest, ID_LEN);
	uint64_t expected = 0;
	for (unsigned i = 0, n; i < chunks; i += n) {
		unsigned kind = kind_of(locators[i]);
		n = run_length(locators, i, chunks);
		buf_put_varint(out, (uint64_t)n << 2 | kind);
		if (kind == RUN_DATA) {
			buf_put_varint(out, zigzag(locators[i] - expected));
			expected = locators[i] + n;
		}
	}
	return out->failed ? err_nomem(err, "a leaf") : 0;
}

struct run_reader {
	struct cursor c;
	unsigned at, chunks;
	uint64_t expected; /* locator */
	int before; /* kind of the run before; -1: none */
};

/* Returns 1 and fills *run, 0 at the right end, -1 if the bytes are wrong. */
static int run_next(struct run_reader *r, struct run *run)
{
	if (r->at == r->chunks)
		return cursor_left(&r->c) == 0 ? 0 : -1;
	uint64_t head = cursor_varint(&r->c);
	unsigned kind = head & 3;
	uint64_t count = head >> 2;
	if (r->c.failed || kind > RUN_UNREADABLE || count == 0 || count > r->chunks - r->at)
		return -1;
	*run = (struct run){ .kind = (uint8_t)kind,
			     .start = (uint16_t)r->at,
			     .count = (uint16_t)count };
	if (kind == RUN_DATA) {
		uint64_t delta = unzigzag(cursor_varint(&r->c));
		run->locator = r->expected + delta;
		if (r->c.failed || !locator_run_valid(run->locator, run->count))
			return -1;
		if (r->before == RUN_DATA && delta == 0)
			return -1; /* the same run */
		r->expected = run->locator + count;
	} else if (r->before == (int)kind) {
		return -1;
	}
	r->before = (int)kind;
	r->at += (unsigned)count;
	return 1;
}

int leaf_decode(const void *p, size_t n, struct leaf **out, struct err *err)
{
	const uint8_t *in = p;
	struct run run = { 0 };
	if (n < LEAF_HEADER_LEN || n > LEAF_BYTES_MAX || memcmp(in, leaf_magic, 4) != 0)
		return err_set(err, ERR_DAMAGED, "not a leaf of the block map (%zu bytes)", n);
	if (get_le16(in + 4) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "leaf of version %u", get_le16(in + 4));
	unsigned chunks = get_le16(in + 6), nruns = 0;
	if (chunks < 1 || chunks > LEAF_CHUNKS)
		return err_set(err, ERR_DAMAGED, "leaf of %u chunks", chunks);
	const struct run_reader start = { .c = cursor_of(in + LEAF_HEADER_LEN, n - LEAF_HEADER_LEN),
					  .chunks = chunks,
					  .before = -1 };
	struct run_reader reader = start;
	bool any = false;
	int r;
	while ((r = run_next(&reader, &run)) > 0) {
		any |= run.kind != RUN_HOLE;
		nruns++;
	}
	if (r < 0)
		return err_set(err, ERR_DAMAGED, "run %u of the leaf (chunk %u) is invalid", nruns,
			       reader.at);
	if (!any)
		return err_set(err, ERR_DAMAGED, "leaf of holes only");
	struct leaf *leaf = mem_alloc(sizeof(*leaf) + nruns * sizeof(leaf->runs[0]));
	if (!leaf)
		return err_nomem(err, "a leaf");
	leaf->chunks = (uint16_t)chunks;
	leaf->nruns = (uint16_t)nruns;
	memcpy(leaf->digest, in + 8, ID_LEN);
	reader = start;
	for (unsigned i = 0; i < nruns; i++)
		run_next(&reader, &leaf->runs[i]);
	*out = leaf;
	return 0;
}

uint64_t leaf_lookup(const struct leaf *leaf, unsigned i, unsigned *run_left)
{
	/* the last run that starts at or before i */
	unsigned low = 0, high = leaf->nruns;
	while (high - low > 1) {
		unsigned middle = (low + high) / 2;
		if (leaf->runs[middle].start <= i)
			low = middle;
		else
			high = middle;
	}
	const struct run *run = &leaf->runs[low];
	unsigned skip = i - run->start;
	if (skip >= run->count) { /* beyond the leaf: the padding of a disk */
		*run_left = LEAF_CHUNKS - MIN(i, LEAF_CHUNKS);
		return LOCATOR_NONE;
	}
	*run_left = run->count - skip;
	if (run->kind == RUN_DATA)
		return run->locator + skip;
	return run->kind == RUN_HOLE ? LOCATOR_NONE : LOCATOR_UNREADABLE;
}

size_t leaf_size(const struct leaf *leaf)
{
	return sizeof(*leaf) + leaf->nruns * sizeof(leaf->runs[0]);
}
