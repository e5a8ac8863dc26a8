/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text dumps of the two big files: packs, with every record header held against the footer, and
 * index segments, with records, fence and filter held against each other.
 *
 * A pack is walked record by record; where a record header is broken, the walk goes on at the next
 * record that the footer knows.
 */
#include <inttypes.h>

#include "format/internal.h"

#include "base/banned.h"

struct pack_dump {
	struct dump *d;
	const uint8_t *p;
	size_t n;
	uint64_t end; /* of the records: the footer, or the end of the file */
	struct pack_header header;
	bool has_header, has_footer;
	const struct footer_entry *entries; /* borrowed */
	uint32_t count, next; /* entries; the first that was not met yet */
};

static void dump_pack_header(struct pack_dump *pd)
{
	struct err err = ERR_INIT;
	struct buf *out = pd->d->out;
	const struct pack_header *h = &pd->header;
	int r = pd->n < PACK_HEADER_LEN ?
			err_set(&err, ERR_DAMAGED, "the pack ends at %zu", pd->n) :
			pack_header_decode(pd->p, &pd->header, &err);
	if (r < 0) {
		dump_problem(pd->d, r, "%s", err.text);
		return;
	}
	pd->has_header = true;
	buf_printf(out, "header suite %u kind %s number %" PRIu64 " epoch %" PRIu32, h->suite,
		   h->kind == PACK_MAP ? "map" : "data", h->number, h->epoch);
	dump_hex(pd->d, "uuid", h->uuid, UUID_LEN);
	dump_hex(pd->d, "instance", h->instance, sizeof(h->instance));
	dump_hex(pd->d, "salt", h->salt, SALT_LEN);
	buf_put_u8(out, '\n');
}

/* Fills *entries if the footer is right. */
static void dump_pack_trailer(struct pack_dump *pd, struct footer_entry **entries)
{
	struct err err = ERR_INIT;
	struct pack_trailer t;
	int r = pd->n < PACK_HEADER_LEN + PACK_TRAILER_LEN ?
			err_set(&err, ERR_DAMAGED, "the pack has no trailer") :
			pack_trailer_decode(pd->p + pd->n - PACK_TRAILER_LEN, pd->n, &t, &err);
	if (r == 0) {
		buf_printf(pd->d->out,
			   "trailer footer-offset %" PRIu64 " footer-length %" PRIu32
			   " entries %" PRIu32 " slots %" PRIu32,
			   t.footer_offset, t.footer_len, t.count, t.slots);
		dump_hex(pd->d, "instance", t.instance, sizeof(t.instance));
		buf_printf(pd->d->out, " footer-check %016" PRIx64 "\n", t.footer_check);
		pd->end = t.footer_offset;
		if (pd->has_header &&
		    memcmp(t.instance, pd->header.instance, sizeof(t.instance)) != 0)
			dump_problem(pd->d, ERR_DAMAGED,
				     "header and trailer have different instances");
		r = footer_decode(pd->p + t.footer_offset, t.footer_len, &t, entries, &err);
	}
	if (r < 0) {
		dump_problem(pd->d, r, "%s", err.text);
		return;
	}
	pd->has_footer = true;
	pd->entries = *entries;
	pd->count = t.count;
}

static void dump_record(struct pack_dump *pd, uint64_t offset, const struct record_header *h)
{
	struct buf *out = pd->d->out;
	buf_printf(out,
		   "record %" PRIu32 " offset %" PRIu64 " type %s codec %s level %d plain %" PRIu32
		   " stored %" PRIu32 " epoch %" PRIu32,
		   h->slot, offset, object_type_name(h->type),
		   h->codec == CODEC_ZSTD ? "zstd" : "raw", h->level, h->plain_len, h->stored_len,
		   h->epoch);
	dump_hex(pd->d, "id", h->id, ID_LEN);
	buf_printf(out, " xxh3 %016" PRIx64, h->xxh3);
	dump_hex(pd->d, "nonce", h->nonce, NONCE_MAX);
	buf_put_u8(out, '\n');
	if (pd->has_header && h->epoch != pd->header.epoch)
		dump_problem(pd->d, ERR_DAMAGED,
			     "slot %" PRIu32 " has another key epoch than the pack", h->slot);
}

/* Entries that lie before offset were not met by the walk. */
static void skip_entries(struct pack_dump *pd, uint64_t offset)
{
	for (; pd->next < pd->count && pd->entries[pd->next].offset < offset; pd->next++)
		dump_problem(pd->d, ERR_DAMAGED,
			     "the footer has slot %" PRIu32 " at offset %" PRIu32
			     ": no record there",
			     pd->entries[pd->next].slot, pd->entries[pd->next].offset);
}

static void compare_entry(struct pack_dump *pd, uint64_t offset, const struct record_header *h)
{
	if (!pd->has_footer)
		return;
	skip_entries(pd, offset);
	const struct footer_entry *e = pd->next < pd->count ? &pd->entries[pd->next] : NULL;
	if (!e || e->offset != offset) {
		dump_problem(pd->d, ERR_DAMAGED,
			     "slot %" PRIu32 " at offset %" PRIu64 " is not in the footer", h->slot,
			     offset);
		return;
	}
	pd->next++;
	if (e->slot != h->slot || e->stored_len != h->stored_len || e->plain_len != h->plain_len ||
	    e->type != h->type || e->codec != h->codec || memcmp(e->id, h->id, ID_LEN) != 0)
		dump_problem(pd->d, ERR_DAMAGED,
			     "slot %" PRIu32 " at offset %" PRIu64 " differs from its footer entry",
			     h->slot, offset);
}

/* Where the walk can go on after a broken header: the next record that the footer knows, else the
 * end. */
static uint64_t resume_offset(struct pack_dump *pd, uint64_t offset)
{
	skip_entries(pd, offset + 1);
	return pd->next < pd->count ? pd->entries[pd->next].offset : pd->end;
}

static void dump_records(struct pack_dump *pd)
{
	uint64_t offset = PACK_HEADER_LEN;
	while (offset < pd->end) {
		struct err err = ERR_INIT;
		struct record_header h;
		int r = pd->end - offset < RECORD_HEADER_LEN ?
				err_set(&err, ERR_DAMAGED, "%" PRIu64 " bytes are no record",
					pd->end - offset) :
				record_header_decode(pd->p + offset, &h, &err);
		if (r == 0 && h.stored_len > pd->end - offset - RECORD_HEADER_LEN)
			r = err_set(&err, ERR_DAMAGED, "the record of slot %" PRIu32 " is cut off",
				    h.slot);
		if (r < 0) {
			dump_problem(pd->d, r, "offset %" PRIu64 ": %s", offset, err.text);
			offset = resume_offset(pd, offset);
			continue;
		}
		dump_record(pd, offset, &h);
		compare_entry(pd, offset, &h);
		offset += RECORD_HEADER_LEN + h.stored_len;
	}
	skip_entries(pd, UINT64_MAX);
}

void dump_pack(struct dump *d, const uint8_t *p, size_t n)
{
	cleanup_free struct footer_entry *entries = NULL;
	struct pack_dump pd = { .d = d, .p = p, .n = n, .end = n };
	buf_printf(d->out, "file pack\nlength %zu\n", n);
	dump_pack_header(&pd);
	dump_pack_trailer(&pd, &entries);
	dump_records(&pd);
}

/* --- index segment --- */

static void check_part(struct dump *d, const char *what, const uint8_t *p, uint64_t n,
		       uint64_t expected)
{
	if (check_xxh3(p, (size_t)n) != expected)
		dump_problem(d, ERR_DAMAGED, "the check of the %s does not match", what);
}

static void dump_segment_records(struct dump *d, const struct segment_header *h, const uint8_t *p)
{
	const uint8_t *records = p + h->records_offset, *before = NULL;
	for (uint64_t i = 0; i < h->records; i++) {
		const uint8_t *record = records + i * SEGMENT_RECORD_LEN;
		uint64_t locator = get_le64(record + SEGMENT_KEY_LEN);
		buf_printf(d->out, "record");
		dump_hex(d, "key", record, SEGMENT_KEY_LEN);
		buf_printf(d->out, " pack %" PRIu64 " slot %" PRIu32 "\n", locator_pack(locator),
			   locator_slot(locator));
		if (!locator_run_valid(locator, 1))
			dump_problem(d, ERR_DAMAGED, "record %" PRIu64 " has an invalid locator",
				     i);
		int order = before ? memcmp(before, record, SEGMENT_KEY_LEN) : -1;
		if (order > 0 || (order == 0 && get_le64(before + SEGMENT_KEY_LEN) >= locator))
			dump_problem(d, ERR_DAMAGED, "record %" PRIu64 " is not in order", i);
		if (!segment_bloom_has(p + h->bloom_offset, h->bloom_len, record))
			dump_problem(d, ERR_DAMAGED, "the filter does not have record %" PRIu64, i);
		before = record;
	}
}

static void check_fence(struct dump *d, const struct segment_header *h, const uint8_t *p)
{
	uint64_t at = 0, entries = ((uint64_t)1 << h->fence_bits) + 1;
	for (uint64_t i = 0; i < entries; i++) {
		while (at < h->records) {
			uint64_t key = get_be64(p + h->records_offset + at * SEGMENT_RECORD_LEN);
			/* a shift by 64 is not defined */
			if ((h->fence_bits ? key >> (64 - h->fence_bits) : 0) >= i)
				break;
			at++;
		}
		if (get_le32(p + h->fence_offset + i * 4) != at) {
			dump_problem(d, ERR_DAMAGED, "fence entry %" PRIu64 " is not %" PRIu64, i,
				     at);
			return;
		}
	}
}

void dump_segment(struct dump *d, const uint8_t *p, size_t n)
{
	struct segment_header h;
	struct err err = ERR_INIT;
	buf_printf(d->out, "file segment\nlength %zu\n", n);
	int r = n < SEGMENT_HEADER_LEN ?
			err_set(&err, ERR_DAMAGED, "the index segment ends at %zu", n) :
			segment_header_decode(p, n, &h, &err);
	if (r < 0) {
		dump_problem(d, r, "%s", err.text);
		return;
	}
	buf_printf(d->out, "header number %" PRIu64 " records %" PRIu64 " fence-bits %u", h.number,
		   h.records, h.fence_bits);
	dump_hex(d, "uuid", h.uuid, UUID_LEN);
	buf_printf(d->out,
		   "\nparts records %" PRIu64 " fence %" PRIu64 " bloom %" PRIu64
		   " bloom-length %" PRIu64 "\n",
		   h.records_offset, h.fence_offset, h.bloom_offset, h.bloom_len);
	check_part(d, "records", p + h.records_offset, h.records * SEGMENT_RECORD_LEN,
		   h.records_check);
	check_part(d, "fence", p + h.fence_offset, 4 * (((uint64_t)1 << h.fence_bits) + 1),
		   h.fence_check);
	check_part(d, "filter", p + h.bloom_offset, h.bloom_len, h.bloom_check);
	dump_segment_records(d, &h, p);
	check_fence(d, &h, p);
}
