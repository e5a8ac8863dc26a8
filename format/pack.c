/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Pack files: header, record headers, footer, trailer; byte tables in livepoint-repository(5).
 *
 * Invariants:
 *  1. The check of a part is tested before its version, so that a flipped bit is damage and only a
 *     whole object of another version is unsupported; every later version keeps magic and check
 *     there.
 *  2. Epoch 0 means "not sealed": then salt and nonce are zero and nothing was added to the
 *     payload.  Any other epoch means sealed: then there is no XXH3.
 *  3. A footer lists records in the order of the file, which is the order of their slots.
 */
#include <inttypes.h>

#include "format/internal.h"

#include "base/banned.h"

static const uint8_t pack_magic[8] = "LVPTPACK";
static const uint8_t record_magic[4] = "LPRC";
static const uint8_t footer_magic[FOOTER_MAGIC_LEN] = "LVPTFOOT";
static const uint8_t trailer_magic[8] = "LVPTTAIL";
#define PACK_CHECK_OFFSET 120
#define RECORD_CHECK_OFFSET 92
#define TRAILER_CHECK_OFFSET 56
#define ZSTD_LEVEL_MAX 22

void pack_header_encode(const struct pack_header *h, uint8_t out[PACK_HEADER_LEN])
{
	memset(out, 0, PACK_HEADER_LEN);
	memcpy(out, pack_magic, 8);
	put_le16(out + 8, FORMAT_VERSION);
	put_le16(out + 10, h->suite);
	put_le32(out + 12, (uint32_t)h->kind);
	put_le64(out + 16, h->number);
	memcpy(out + 24, h->uuid, UUID_LEN);
	memcpy(out + 40, h->instance, 16);
	memcpy(out + 56, h->salt, SALT_LEN);
	put_le32(out + 88, h->epoch);
	put_le64(out + PACK_CHECK_OFFSET, check_xxh3(out, PACK_CHECK_OFFSET));
}

static int pack_header_check(const uint8_t *in, struct err *err)
{
	if (memcmp(in, pack_magic, 8) != 0)
		return err_set(err, ERR_DAMAGED, "not a pack: wrong magic");
	if (get_le64(in + PACK_CHECK_OFFSET) != check_xxh3(in, PACK_CHECK_OFFSET))
		return err_set(err, ERR_DAMAGED, "the check of the pack header does not match");
	if (get_le16(in + 8) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "pack of version %u", get_le16(in + 8));
	if (get_le16(in + 10) > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "pack of cipher suite %u", get_le16(in + 10));
	if (get_le32(in + 12) != PACK_DATA && get_le32(in + 12) != PACK_MAP)
		return err_set(err, ERR_UNSUPPORTED, "pack of kind %" PRIu32, get_le32(in + 12));
	return 0;
}

int pack_header_decode(const uint8_t in[PACK_HEADER_LEN], struct pack_header *out, struct err *err)
{
	int r = pack_header_check(in, err);
	if (r < 0)
		return r;
	struct pack_header h = { .suite = get_le16(in + 10),
				 .kind = (enum pack_kind)get_le32(in + 12),
				 .number = get_le64(in + 16),
				 .epoch = get_le32(in + 88) };
	memcpy(h.uuid, in + 24, UUID_LEN);
	memcpy(h.instance, in + 40, 16);
	memcpy(h.salt, in + 56, SALT_LEN);
	if (h.number == 0 || h.number > PACK_NUMBER_MAX)
		return err_set(err, ERR_DAMAGED, "pack number %" PRIu64 " is out of range",
			       h.number);
	if (!mem_is_zero(in + 92, PACK_CHECK_OFFSET - 92))
		return err_set(err, ERR_DAMAGED, "reserved bytes of the pack header are not zero");
	if ((h.suite == 0) != (h.epoch == 0) || (h.suite == 0 && !mem_is_zero(h.salt, SALT_LEN)))
		return err_set(err, ERR_DAMAGED, "salt and key epoch do not fit cipher suite %u",
			       h.suite);
	*out = h;
	return 0;
}

const char *record_fields_wrong(unsigned type, unsigned codec, uint32_t slot, uint32_t plain_len,
				uint32_t stored_len)
{
	if (type < OBJECT_CHUNK || type > OBJECT_TYPE_LAST)
		return "unknown object type";
	if (codec > CODEC_ZSTD)
		return "unknown codec";
	if (slot >= SLOT_MAX_COUNT)
		return "slot out of range";
	if (plain_len < 1 || plain_len > OBJECT_PLAIN_MAX)
		return "plain length out of range";
	/* what does not shrink is stored raw; sealing adds a tag */
	if (codec == CODEC_RAW ? stored_len < plain_len || stored_len > plain_len + TAG_MAX :
				 stored_len < 1 || stored_len >= plain_len + TAG_MAX)
		return "stored length out of range";
	return NULL;
}

static const char *record_sealing_wrong(const struct record_header *h)
{
	if (h->codec == CODEC_RAW ? h->level != 0 : h->level == 0 || h->level > ZSTD_LEVEL_MAX)
		return "compression level out of range";
	if (h->epoch != 0)
		return h->xxh3 != 0 ? "check of the plaintext beside a seal" : NULL;
	if (!mem_is_zero(h->nonce, NONCE_MAX))
		return "nonce without a seal";
	if (h->stored_len > h->plain_len ||
	    (h->codec == CODEC_ZSTD && h->stored_len == h->plain_len))
		return "stored length out of range";
	return NULL;
}

void record_header_encode(const struct record_header *h, uint8_t out[RECORD_HEADER_LEN])
{
	memset(out, 0, RECORD_HEADER_LEN);
	memcpy(out, record_magic, 4);
	out[4] = FORMAT_VERSION;
	out[5] = h->type;
	out[6] = h->codec;
	out[7] = (uint8_t)h->level;
	put_le32(out + 8, h->slot);
	put_le32(out + 12, h->plain_len);
	put_le32(out + 16, h->stored_len);
	put_le32(out + 20, h->epoch);
	memcpy(out + 24, h->id, ID_LEN);
	put_le64(out + 56, h->xxh3);
	memcpy(out + 64, h->nonce, NONCE_MAX);
	put_le32(out + RECORD_CHECK_OFFSET, check_crc32c(out, RECORD_CHECK_OFFSET));
}

int record_header_decode(const uint8_t in[RECORD_HEADER_LEN], struct record_header *out,
			 struct err *err)
{
	if (memcmp(in, record_magic, 4) != 0)
		return err_set(err, ERR_DAMAGED, "not a record: wrong magic");
	if (get_le32(in + RECORD_CHECK_OFFSET) != check_crc32c(in, RECORD_CHECK_OFFSET))
		return err_set(err, ERR_DAMAGED, "the check of the record header does not match");
	if (in[4] != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "record of version %u", in[4]);
	struct record_header h = { .type = in[5],
				   .codec = in[6],
				   .level = (int8_t)in[7],
				   .slot = get_le32(in + 8),
				   .plain_len = get_le32(in + 12),
				   .stored_len = get_le32(in + 16),
				   .epoch = get_le32(in + 20),
				   .xxh3 = get_le64(in + 56) };
	memcpy(h.id, in + 24, ID_LEN);
	memcpy(h.nonce, in + 64, NONCE_MAX);
	const char *wrong = record_fields_wrong(h.type, h.codec, h.slot, h.plain_len, h.stored_len);
	if (!wrong)
		wrong = record_sealing_wrong(&h);
	if (!wrong && get_le32(in + 88) != 0)
		wrong = "reserved bytes are not zero";
	if (wrong)
		return err_set(err, ERR_DAMAGED, "record header of slot %" PRIu32 ": %s", h.slot,
			       wrong);
	*out = h;
	return 0;
}

void record_aad(const uint8_t uuid[UUID_LEN], const struct record_header *h,
		uint8_t out[RECORD_AAD_LEN])
{
	memcpy(out, uuid, UUID_LEN);
	out[16] = FORMAT_VERSION;
	out[17] = h->type;
	out[18] = h->codec;
	out[19] = (uint8_t)h->level;
	put_le32(out + 20, h->plain_len);
	put_le32(out + 24, h->stored_len);
	put_le32(out + 28, h->epoch);
	memcpy(out + 32, h->id, ID_LEN);
}

void footer_encode(struct buf *out, const struct footer_entry *entries, size_t count)
{
	buf_put(out, footer_magic, FOOTER_MAGIC_LEN);
	for (size_t i = 0; i < count; i++) {
		uint8_t raw[FOOTER_ENTRY_LEN] = { 0 };
		put_le32(raw, entries[i].slot);
		put_le32(raw + 4, entries[i].offset);
		put_le32(raw + 8, entries[i].stored_len);
		put_le32(raw + 12, entries[i].plain_len);
		raw[16] = entries[i].type;
		raw[17] = entries[i].codec;
		memcpy(raw + 20, entries[i].id, ID_LEN);
		buf_put(out, raw, sizeof(raw));
	}
}

void pack_trailer_encode(const struct pack_trailer *t, uint8_t out[PACK_TRAILER_LEN])
{
	memset(out, 0, PACK_TRAILER_LEN);
	memcpy(out, trailer_magic, 8);
	put_le64(out + 8, t->footer_offset);
	put_le32(out + 16, t->footer_len);
	put_le32(out + 20, t->count);
	put_le32(out + 24, t->slots);
	memcpy(out + 32, t->instance, 16);
	put_le64(out + 48, t->footer_check);
	put_le64(out + TRAILER_CHECK_OFFSET, check_xxh3(out, TRAILER_CHECK_OFFSET));
}

int pack_trailer_decode(const uint8_t in[PACK_TRAILER_LEN], uint64_t file_size,
			struct pack_trailer *out, struct err *err)
{
	if (memcmp(in, trailer_magic, 8) != 0)
		return err_set(err, ERR_DAMAGED, "no pack trailer: wrong magic");
	if (get_le64(in + TRAILER_CHECK_OFFSET) != check_xxh3(in, TRAILER_CHECK_OFFSET))
		return err_set(err, ERR_DAMAGED, "the check of the pack trailer does not match");
	struct pack_trailer t = { .footer_offset = get_le64(in + 8),
				  .footer_len = get_le32(in + 16),
				  .count = get_le32(in + 20),
				  .slots = get_le32(in + 24),
				  .footer_check = get_le64(in + 48) };
	memcpy(t.instance, in + 32, 16);
	if (get_le32(in + 28) != 0)
		return err_set(err, ERR_DAMAGED, "reserved bytes of the pack trailer are not zero");
	if (t.slots > SLOT_MAX_COUNT || t.count > t.slots)
		return err_set(err, ERR_DAMAGED,
			       "the pack trailer tells of %" PRIu32 " entries and %" PRIu32
			       " slots",
			       t.count, t.slots);
	if (t.footer_len != FOOTER_MAGIC_LEN + t.count * FOOTER_ENTRY_LEN)
		return err_set(err, ERR_DAMAGED,
			       "a footer of %" PRIu32 " bytes does not hold %" PRIu32 " entries",
			       t.footer_len, t.count);
	if (file_size > PACK_BYTES_MAX || t.footer_offset < PACK_HEADER_LEN ||
	    t.footer_offset > file_size ||
	    t.footer_offset + t.footer_len + PACK_TRAILER_LEN != file_size)
		return err_set(err, ERR_DAMAGED,
			       "footer at %" PRIu64 " with %" PRIu32
			       " bytes does not fit a pack of %" PRIu64 " bytes",
			       t.footer_offset, t.footer_len, file_size);
	*out = t;
	return 0;
}

/* end: where the previous record ended; moved on. */
static const char *entry_decode(const uint8_t *raw, const struct pack_trailer *t,
				int64_t *slot_before, uint64_t *end, struct footer_entry *e)
{
	*e = (struct footer_entry){ .slot = get_le32(raw),
				    .offset = get_le32(raw + 4),
				    .stored_len = get_le32(raw + 8),
				    .plain_len = get_le32(raw + 12),
				    .type = raw[16],
				    .codec = raw[17] };
	memcpy(e->id, raw + 20, ID_LEN);
	const char *wrong =
		record_fields_wrong(e->type, e->codec, e->slot, e->plain_len, e->stored_len);
	if (wrong)
		return wrong;
	if (get_le16(raw + 18) != 0)
		return "reserved bytes are not zero";
	if (e->slot >= t->slots || (int64_t)e->slot <= *slot_before)
		return "slot out of order";
	if (e->offset < *end)
		return "record overlaps the one before";
	*end = (uint64_t)e->offset + RECORD_HEADER_LEN + e->stored_len;
	if (*end > t->footer_offset)
		return "record reaches into the footer";
	*slot_before = e->slot;
	return NULL;
}

int footer_decode(const void *p, size_t n, const struct pack_trailer *t,
		  struct footer_entry **entries, struct err *err)
{
	const uint8_t *in = p;
	if (n != t->footer_len || n != FOOTER_MAGIC_LEN + (uint64_t)t->count * FOOTER_ENTRY_LEN ||
	    memcmp(in, footer_magic, FOOTER_MAGIC_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "no pack footer of %zu bytes", n);
	if (check_xxh3(p, n) != t->footer_check)
		return err_set(err, ERR_DAMAGED, "the check of the pack footer does not match");
	/* one more, so that no entries are not NULL */
	cleanup_free struct footer_entry *list =
		mem_alloc_array((size_t)t->count + 1, sizeof(*list));
	if (!list)
		return err_nomem(err, "a pack footer");
	int64_t slot_before = -1;
	uint64_t end = PACK_HEADER_LEN;
	for (uint32_t i = 0; i < t->count; i++) {
		const uint8_t *raw = in + FOOTER_MAGIC_LEN + (size_t)i * FOOTER_ENTRY_LEN;
		const char *wrong = entry_decode(raw, t, &slot_before, &end, &list[i]);
		if (wrong)
			return err_set(err, ERR_DAMAGED,
				       "footer entry %" PRIu32 " (slot %" PRIu32 "): %s", i,
				       list[i].slot, wrong);
	}
	*entries = steal_ptr(list);
	return 0;
}
