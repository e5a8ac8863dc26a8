/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Walking a pack's records by their own headers: what verify and repair do when the footer is not to be believed.
 *
 * From the first record on, each header tells where the next one is.  Where that chain breaks, the walk looks for the next
 * bytes that could be a record's header.
 *
 * Invariants:
 *  1. A record is taken only where one must be: in the unbroken chain from the pack's header on, or, behind a break, if it
 *     is confirmed.  For a pack can hold, as data, the records of another repository's pack (somebody backs up the disk
 *     that a repository lies on), which look like records and, without a key, also open.  What confirms: a keyed suite's
 *     tag under this pack's key; the pack's own footer, whole or in pieces, naming this slot at this offset; a chain of
 *     headers that ends exactly where a whole trailer says that the footer begins.  What nothing confirms is lost, not
 *     guessed: a wrong record in a slot would be served as if it were right.
 *  2. Slots ascend, as in a footer.
 *  3. The work is bounded by the file, whatever its bytes say: each position is looked at once by the search, once by
 *     chains (a bit for each position that led nowhere), and trying tags has a budget.
 *  4. A part of the file that cannot be read is as good as bytes that are no record.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/internal.h"

#include "base/banned.h"

#define VIEW_BYTES (1u << 20)
#define SEARCH_BYTES (64u * 1024)
#define PAGE_BYTES 4096u
static const uint8_t record_magic[4] = "LPRC";

/* --- a window over the file --- */

void store_view_release(struct store_view *v)
{
	free(v->data);
	v->data = NULL;
	v->cap = 0;
	v->len = 0;
}

static int view_load(struct store_view *v, uint64_t offset, size_t n, struct err *err)
{
	int r;

	if (v->cap < n) {
		uint8_t *p = mem_realloc_array(v->data, n, 1);

		if (!p)
			return err_nomem(err, "window of a pack");
		v->data = p;
		v->cap = n;
	}
	v->len = 0;
	r = v->pack->store->backend->ops->read(&v->pack->file, v->data, n, offset, err);
	if (r < 0)
		return r;
	v->start = offset;
	v->len = n;
	return 0;
}

int store_view_at(struct store_view *v, uint64_t offset, size_t n, const uint8_t **out,
		  struct err *err)
{
	uint64_t size = v->pack->size;
	int r = 0;

	if (offset > size || n > size - offset)
		return err_set(err, ERR_DAMAGED, "ends at offset %" PRIu64 ", before %" PRIu64,
			       size, offset + n);
	if (offset < v->start || offset + n > v->start + v->len) {
		size_t window = (size_t)MIN(MAX((uint64_t)n, VIEW_BYTES), size - offset);

		r = view_load(v, offset, window, err);
		if (r == ERR_IO && window > n) {
			err_clear(err);
			r = view_load(v, offset, n, err);
		}
	}
	if (r == 0)
		*out = v->data + (offset - v->start);
	return r;
}

/* Errors that are about the bytes, not about us. */
static bool is_bad(int r)
{
	return r == ERR_DAMAGED || r == ERR_IO || r == ERR_UNSUPPORTED;
}

int store_view_check(struct store_view *v, struct store_reader *r, const struct footer_entry *e,
		     bool by_hash, uint8_t *plain, const uint8_t **record, struct err *err)
{
	uint8_t id[ID_LEN];
	int ret = store_view_at(v, e->offset, store_entry_bytes(e), record, err);

	if (ret == 0)
		ret = store_record_open(r, v->pack->key, e, *record, store_entry_bytes(e), plain,
					err);
	if (is_bad(ret)) {
		err_clear(err);
		return 0;
	}
	if (ret < 0 || !by_hash)
		return ret < 0 ? ret : 1;
	ret = codec_id(r->ctx, plain, e->plain_len, id, err);
	return ret < 0 ? ret : memcmp(id, e->id, ID_LEN) == 0;
}

uint32_t store_entry_bytes(const struct footer_entry *e)
{
	return RECORD_HEADER_LEN + e->stored_len;
}

/* --- the walk --- */

struct scan {
	struct store_pack *pack;
	struct store_reader *reader;
	struct store_view view;
	uint8_t *plain; /* owned; OBJECT_PLAIN_MAX bytes */
	uint64_t limit; /* where records end at the latest */
	int64_t slot_before;
	uint64_t record_bytes, found;
	bool trailer_good;
	struct pack_trailer trailer;
	struct footer_entry *listed; /* owned; entries of a footer that holds, or NULL */
	bool all_listed; /* what was found so far is listed, in order */
	uint8_t *raw; /* owned; entries of a footer that does not hold, as they lie there, or NULL */
	size_t nraw;
	uint8_t *nowhere; /* owned; a bit a byte of the file: chains from here lead nowhere; made when first needed */
	uint64_t tag_budget; /* bytes that unconfirmed records may still cost */
	uint64_t raw_budget; /* comparisons with raw */
};

static void scan_release(struct scan *sc)
{
	store_view_release(&sc->view);
	free(sc->plain);
	free(sc->listed);
	free(sc->raw);
	free(sc->nowhere);
	if (sc->pack)
		store_pack_put(sc->pack);
}
#define cleanup_scan __attribute__((cleanup(scan_release)))

static int read_at(struct scan *sc, uint64_t offset, void *p, size_t n, struct err *err)
{
	return sc->pack->store->backend->ops->read(&sc->pack->file, p, n, offset, err);
}

/* Entries lie at the end of the file, or before a whole trailer, whatever became of the footer's magic and check. */
static int load_raw(struct scan *sc, struct err *err)
{
	uint64_t end = sc->pack->size - PACK_TRAILER_LEN, n;
	int r;

	n = (end - PACK_HEADER_LEN) / FOOTER_ENTRY_LEN;
	if (sc->trailer_good)
		n = sc->trailer.count;
	n = MIN(n, SLOT_MAX_COUNT);
	sc->raw = mem_alloc(MAX(n, (uint64_t)1) * FOOTER_ENTRY_LEN);
	if (!sc->raw)
		return err_nomem(err, "footer of a pack");
	r = read_at(sc, end - n * FOOTER_ENTRY_LEN, sc->raw, n * FOOTER_ENTRY_LEN, err);
	if (r == 0)
		sc->nraw = n;
	return r;
}

static int load_listed(struct scan *sc, struct err *err)
{
	cleanup_free uint8_t *footer = mem_alloc(sc->trailer.footer_len);
	int r;

	if (!footer)
		return err_nomem(err, "footer of a pack");
	r = read_at(sc, sc->trailer.footer_offset, footer, sc->trailer.footer_len, err);
	return r < 0 ? r :
		       footer_decode(footer, sc->trailer.footer_len, &sc->trailer, &sc->listed,
				     err);
}

/* What of trailer and footer can be used; that they cannot is no error. */
static int load_tail(struct scan *sc, struct err *err)
{
	const struct store_pack *p = sc->pack;
	uint8_t tail[PACK_TRAILER_LEN];
	int r;

	if (p->size < PACK_HEADER_LEN + PACK_TRAILER_LEN)
		return 0;
	r = read_at(sc, p->size - PACK_TRAILER_LEN, tail, sizeof(tail), err);
	if (r == 0)
		r = pack_trailer_decode(tail, p->size, &sc->trailer, err);
	sc->trailer_good = r == 0 && memcmp(sc->trailer.instance, p->header.instance,
					    sizeof(p->header.instance)) == 0;
	if (sc->trailer_good) {
		sc->limit = sc->trailer.footer_offset;
		r = load_listed(sc, err);
	}
	if (r < 0 && is_bad(r))
		err_clear(err);
	else if (r < 0)
		return r;
	if (!sc->listed) {
		r = load_raw(sc, err);
		if (r < 0 && !is_bad(r))
			return r;
		err_clear(err);
	}
	return 0;
}

/* A whole record could begin here, as far as its header tells: fills e.  1, 0, or an error that is not the file's. */
static int header_at(struct scan *sc, uint64_t at, struct footer_entry *e, struct err *err)
{
	uint8_t own[RECORD_HEADER_LEN];
	const struct store_view *v = &sc->view;
	const uint8_t *raw = own;
	struct record_header h;
	int r = 0;

	if (at > sc->limit || sc->limit - at < RECORD_HEADER_LEN)
		return 0;
	if (at >= v->start && at + RECORD_HEADER_LEN <= v->start + v->len)
		raw = v->data + (at - v->start);
	else
		r = read_at(sc, at, own, sizeof(own), err);
	if (r == 0)
		r = record_header_decode(raw, &h, err);
	if (r < 0) {
		if (is_bad(r))
			err_clear(err);
		return is_bad(r) ? 0 : r;
	}
	if (h.epoch != sc->pack->header.epoch ||
	    sc->limit - at - RECORD_HEADER_LEN < (uint64_t)h.stored_len)
		return 0;
	*e = (struct footer_entry){ .slot = h.slot,
				    .offset = (uint32_t)at,
				    .stored_len = h.stored_len,
				    .plain_len = h.plain_len,
				    .type = h.type,
				    .codec = h.codec };
	memcpy(e->id, h.id, ID_LEN);
	return 1;
}

static bool same_entry(const struct footer_entry *a, const struct footer_entry *b)
{
	return a->slot == b->slot && a->offset == b->offset && a->stored_len == b->stored_len &&
	       a->plain_len == b->plain_len && a->type == b->type && a->codec == b->codec &&
	       memcmp(a->id, b->id, ID_LEN) == 0;
}

static bool in_listed(const struct scan *sc, const struct footer_entry *e)
{
	uint32_t low = 0, high = sc->trailer.count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (sc->listed[mid].slot == e->slot)
			return same_entry(&sc->listed[mid], e);
		if (sc->listed[mid].slot < e->slot)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static bool in_raw(struct scan *sc, const struct footer_entry *e)
{
	cleanup_buf struct buf want = BUF_INIT;

	if (sc->raw_budget < sc->nraw)
		return false;
	sc->raw_budget -= sc->nraw;
	footer_encode(&want, e, 1);
	for (size_t i = 0; !want.failed && i < sc->nraw; i++)
		if (memcmp(sc->raw + i * FOOTER_ENTRY_LEN, want.data + FOOTER_MAGIC_LEN,
			   FOOTER_ENTRY_LEN) == 0)
			return true;
	return false;
}

static bool bit_get(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

/* Do headers follow each other from e to exactly the footer?  1, 0 or an error. */
static int chain_ends(struct scan *sc, const struct footer_entry *first, struct err *err)
{
	struct footer_entry e = *first, next;
	int r = 1;

	if (!sc->trailer_good)
		return 0;
	if (!sc->nowhere)
		sc->nowhere = mem_alloc(sc->limit / 8 + 1);
	if (!sc->nowhere)
		return err_nomem(err, "search of a pack");
	for (;;) {
		uint64_t end = (uint64_t)e.offset + store_entry_bytes(&e);

		if (bit_get(sc->nowhere, e.offset))
			return 0;
		/* Taken back by nobody: a chain that ends well is walked, and its positions never asked for again. */
		sc->nowhere[e.offset / 8] |= (uint8_t)(1u << (e.offset % 8));
		if (end == sc->limit)
			return 1;
		r = header_at(sc, end, &next, err);
		if (r <= 0 || next.slot <= e.slot)
			return r < 0 ? r : 0;
		e = next;
	}
}

/* Invariant 1, for what was found behind a break.  1, 0 or an error. */
static int confirmed(struct scan *sc, const struct footer_entry *e, struct err *err)
{
	const uint8_t *record;

	if (sc->listed)
		return in_listed(sc, e);
	if (in_raw(sc, e))
		return 1;
	if (sc->pack->header.suite && sc->tag_budget >= e->plain_len) {
		int r;

		sc->tag_budget -= e->plain_len;
		r = store_view_check(&sc->view, sc->reader, e, false, sc->plain, &record, err);
		if (r)
			return r;
	}
	return chain_ends(sc, e, err);
}

/* The next place from `at` on with the magic, in one window; *next: where to go on if there is none. */
static int find_magic(struct scan *sc, uint64_t at, uint64_t *next, struct err *err)
{
	size_t n = (size_t)MIN(SEARCH_BYTES, sc->limit - at);
	const uint8_t *p, *hit;
	int r = store_view_at(&sc->view, at, n, &p, err);

	if (r == ERR_IO) {
		n = (size_t)MIN(PAGE_BYTES - at % PAGE_BYTES, sc->limit - at);
		err_clear(err);
		r = store_view_at(&sc->view, at, n, &p, err);
	}
	if (r == ERR_IO) {
		err_clear(err);
		*next = at + n;
		return 0;
	}
	if (r < 0)
		return r;
	hit = memmem(p, n, record_magic, sizeof(record_magic));
	/* One that lies across the window's end is found by the next. */
	*next = hit		    ? at + (uint64_t)(hit - p) :
		at + n >= sc->limit ? sc->limit :
				      at + n - MIN(n - 1, sizeof(record_magic) - 1);
	return hit ? 1 : 0;
}

/* Behind a break: the next confirmed record at or after `at`.  1, 0 (none up to the limit) or an error. */
static int resync(struct scan *sc, uint64_t at, struct footer_entry *e, struct err *err)
{
	while (at < sc->limit && sc->limit - at >= RECORD_HEADER_LEN) {
		int r = find_magic(sc, at, &at, err);

		if (r > 0)
			r = header_at(sc, at, e, err);
		else if (r == 0)
			continue;
		if (r > 0 && (int64_t)e->slot <= sc->slot_before)
			r = 0;
		if (r > 0)
			r = confirmed(sc, e, err);
		if (r)
			return r;
		at++;
	}
	return 0;
}

static int report(struct scan *sc, const struct footer_entry *e,
		  int (*fn)(void *opaque, const struct footer_entry *e, bool ok, struct err *err),
		  void *opaque, struct err *err)
{
	const uint8_t *record;
	int ok = store_view_check(&sc->view, sc->reader, e, e->type != OBJECT_CHUNK, sc->plain,
				  &record, err);

	if (ok < 0)
		return ok;
	sc->all_listed &= sc->listed && sc->found < sc->trailer.count &&
			  same_entry(&sc->listed[sc->found], e);
	sc->found++;
	sc->slot_before = e->slot;
	sc->record_bytes += store_entry_bytes(e);
	return fn(opaque, e, ok == 1, err);
}

static int walk(struct scan *sc,
		int (*fn)(void *opaque, const struct footer_entry *e, bool ok, struct err *err),
		void *opaque, struct err *err)
{
	uint64_t at = PACK_HEADER_LEN;
	struct footer_entry e;

	for (;;) {
		int r = header_at(sc, at, &e, err);

		if (r == 0 || (r == 1 && (int64_t)e.slot <= sc->slot_before))
			r = resync(sc, at, &e, err);
		if (r == 1)
			r = report(sc, &e, fn, opaque, err);
		else
			return r;
		if (r)
			return r;
		at = (uint64_t)e.offset + store_entry_bytes(&e);
	}
}

int store_pack_scan(struct store *s, struct store_reader *r, uint64_t number,
		    int (*fn)(void *opaque, const struct footer_entry *e, bool ok, struct err *err),
		    void *opaque, struct scan_result *out, struct err *err)
{
	cleanup_scan struct scan sc = { .reader = r, .slot_before = -1, .all_listed = true };
	uint64_t end;
	int ret = store_pack_load_header(s, number, &sc.pack, err);

	if (ret < 0)
		return ret;
	if (!sc.pack->key)
		return err_set(err, ERR_KEY,
			       "pack %012" PRIx64 ": the repository's key is needed to read it",
			       number);
	sc.view.pack = sc.pack;
	sc.limit = MIN(sc.pack->size, PACK_BYTES_MAX);
	sc.tag_budget = 4 * sc.limit;
	sc.raw_budget = 16 * sc.limit;
	sc.plain = mem_alloc(OBJECT_PLAIN_MAX);
	if (!sc.plain)
		return err_nomem(err, "scan of a pack");
	ret = load_tail(&sc, err);
	if (ret == 0)
		ret = walk(&sc, fn, opaque, err);
	if (ret < 0)
		return err_prefix(err, "pack %012" PRIx64, number), ret;
	if (ret)
		return ret;
	end = sc.listed ? sc.limit : sc.pack->size;
	*out = (struct scan_result){
		.header = sc.pack->header,
		.bytes = sc.pack->size,
		.lost_bytes = end - PACK_HEADER_LEN - sc.record_bytes,
		.footer_good = sc.listed && sc.all_listed && sc.found == sc.trailer.count,
	};
	return 0;
}
