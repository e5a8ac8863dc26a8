// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Header of an overlay and state log of a layer; byte tables in livepoint-repository(5).
 *
 * Encoder and decoder ask the same functions about the meaning, so that nothing is written that would be refused.
 *
 * Invariants:
 *  1. A record is told by magic, id of its log and check together: bytes of an older log, or of a disk, never look like one.
 *  2. Blocks beyond the end of the disk have no state: a run ends at the last block, a page is zero behind it.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "format/internal.h"
#include "format/overlay.h"

#include "base/banned.h"

static const uint8_t header_magic[8] = "LVPTOVLY", log_magic[8] = "LVPTOLOG";
static const uint8_t record_magic[4] = "LPOR";
#define HEADER_FIXED_LEN 128u
#define ID_FIELD_LEN 16u
#define RUN_COUNT_MAX (((uint64_t)1 << 56) - 1)

bool overlay_id_valid(const char *id)
{
	if (strnlen(id, OVERLAY_ID_TEXT) != OVERLAY_ID_TEXT - 1 || id[0] != 'o')
		return false;
	return strspn(id + 1, "0123456789abcdef") == OVERLAY_ID_TEXT - 2;
}

/* A text in a field padded with zeroes; false if there is none or more behind it. */
static bool text_field(const uint8_t *p, size_t n, char *dst, size_t size)
{
	size_t len = strnlen((const char *)p, n);
	if (len >= size || !mem_is_zero(p + len, n - len))
		return false;
	memset(dst, 0, size);
	memcpy(dst, p, len);
	return true;
}

/* What is wrong with suite, epoch and their company, or NULL. */
static const char *suite_wrong(unsigned suite, uint32_t epoch, const uint8_t mac[ID_LEN])
{
	if (suite > SUITE_LAST)
		return "cipher suite is not known";
	if ((suite == 0) != (epoch == 0) || epoch > KEY_EPOCHS_MAX)
		return "key epoch does not fit the cipher suite";
	if (suite == 0 && mac && !mem_is_zero(mac, ID_LEN))
		return "there is a MAC without a cipher suite";
	return NULL;
}

/* --- header of an overlay --- */

bool overlay_header_is(const void *p, size_t n)
{
	return n >= sizeof(header_magic) && memcmp(p, header_magic, sizeof(header_magic)) == 0;
}

void overlay_header_release(struct overlay_header *h)
{
	free(h->disks);
	h->disks = NULL;
	h->ndisks = 0;
}

static const char *disks_wrong(const struct overlay_header *h)
{
	if (h->ndisks == 0 || h->ndisks > POINT_DISKS_MAX)
		return "number of disks out of range";
	for (size_t i = 0; i < h->ndisks; i++) {
		if (!disk_name_valid(h->disks[i].name))
			return "name of a disk is not valid";
		if (h->disks[i].size % OVERLAY_SECTOR != 0 || h->disks[i].size > INT64_MAX)
			return "size of a disk is not valid";
		for (size_t k = 0; k < i; k++)
			if (strcmp(h->disks[i].name, h->disks[k].name) == 0)
				return "a disk stands there twice";
	}
	return NULL;
}

static const char *header_wrong(const struct overlay_header *h)
{
	const char *wrong = suite_wrong(h->suite, h->epoch, NULL);
	if (wrong)
		return wrong;
	if (h->suite == 0 && !mem_is_zero(h->salt, SALT_LEN))
		return "there is a salt without a cipher suite";
	if (h->block_size != OVERLAY_BLOCK_SIZE)
		return "block size is not 4096";
	if (!overlay_id_valid(h->id))
		return "id is not valid";
	if (h->name[0] && !name_valid(h->name))
		return "name is not valid";
	if (h->first == 0 || h->last < h->first)
		return "numbers of the layers are not valid";
	return disks_wrong(h);
}

int overlay_header_encode(const struct overlay_header *h, struct buf *out, struct err *err)
{
	const char *wrong = header_wrong(h);
	if (wrong)
		return err_set(err, ERR_INTERNAL, "overlay header: %s", wrong);
	buf_put(out, header_magic, sizeof(header_magic));
	buf_put_le16(out, FORMAT_VERSION);
	buf_put_le16(out, h->suite);
	buf_put_le32(out, h->block_size);
	buf_put(out, h->uuid, UUID_LEN);
	buf_put(out, h->id, strlen(h->id));
	buf_put_zero(out, ID_FIELD_LEN - strlen(h->id));
	buf_put(out, h->point, POINT_ID_LEN);
	buf_put_le64(out, (uint64_t)h->created);
	buf_put_le32(out, h->epoch);
	buf_put_le32(out, h->first);
	buf_put_le32(out, h->last);
	buf_put_le16(out, (uint16_t)h->ndisks);
	buf_put_le16(out, (uint16_t)strlen(h->name));
	buf_put(out, h->salt, SALT_LEN);
	buf_put_zero(out, 8);
	buf_put(out, h->name, strlen(h->name));
	for (size_t i = 0; i < h->ndisks; i++) {
		buf_put_u8(out, (uint8_t)strlen(h->disks[i].name));
		buf_put(out, h->disks[i].name, strlen(h->disks[i].name));
		buf_put_le64(out, h->disks[i].size);
	}
	return out->failed ? err_nomem(err, "an overlay's header") : 0;
}

void overlay_header_seal(struct buf *out, const uint8_t mac[ID_LEN])
{
	static const uint8_t none[ID_LEN];
	buf_put(out, mac ? mac : none, ID_LEN);
	if (!out->failed)
		buf_put_le64(out, check_xxh3(out->data, out->len));
}

static bool name_decode(struct cursor *c, size_t n, char *dst, size_t size)
{
	const uint8_t *text = n < size ? cursor_take(c, n) : NULL;
	if (n >= size || (n > 0 && (!text || memchr(text, 0, n))))
		return false;
	memset(dst, 0, size);
	if (n > 0)
		memcpy(dst, text, n);
	return true;
}

static int disks_decode(struct cursor *c, unsigned count, struct overlay_header *h, struct err *err)
{
	if (count == 0 || count > POINT_DISKS_MAX)
		return err_set(err, ERR_DAMAGED, "overlay header: %u disks", count);
	h->disks = mem_alloc_array(count, sizeof(*h->disks));
	if (!h->disks)
		return err_nomem(err, "an overlay's header");
	while (h->ndisks < count) {
		struct overlay_header_disk *d = &h->disks[h->ndisks++];
		if (!name_decode(c, cursor_u8(c), d->name, sizeof(d->name)))
			return err_set(err, ERR_DAMAGED, "overlay header: name of a disk");
		d->size = cursor_le64(c);
	}
	if (c->failed || cursor_left(c) > 0)
		return err_set(err, ERR_DAMAGED, "overlay header: length does not fit its disks");
	return 0;
}

int overlay_header_decode(const void *p, size_t n, struct overlay_header *out, struct err *err)
{
	const uint8_t *in = p;
	const char *wrong;
	if (n < HEADER_FIXED_LEN + OVERLAY_HEADER_TAIL || n > OVERLAY_HEADER_MAX ||
	    !overlay_header_is(p, n))
		return err_set(err, ERR_DAMAGED, "not an overlay's header (%zu bytes)", n);
	if (get_le64(in + n - 8) != check_xxh3(in, n - 8))
		return err_set(err, ERR_DAMAGED, "check of an overlay's header does not match");
	if (get_le16(in + 8) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "overlay header of version %u",
			       get_le16(in + 8));
	struct overlay_header h = { .suite = get_le16(in + 10),
				    .block_size = get_le32(in + 12),
				    .created = (int64_t)get_le64(in + 64),
				    .epoch = get_le32(in + 72),
				    .first = get_le32(in + 76),
				    .last = get_le32(in + 80) };
	struct cursor c =
		cursor_of(in + HEADER_FIXED_LEN, n - HEADER_FIXED_LEN - OVERLAY_HEADER_TAIL);
	memcpy(h.uuid, in + 16, UUID_LEN);
	memcpy(h.point, in + 48, POINT_ID_LEN);
	memcpy(h.salt, in + 88, SALT_LEN);
	memcpy(h.mac, in + n - OVERLAY_HEADER_TAIL, ID_LEN);
	if (h.suite > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "overlay of cipher suite %u", h.suite);
	if (!mem_is_zero(in + 120, 8) || !text_field(in + 32, ID_FIELD_LEN, h.id, sizeof(h.id)) ||
	    !name_decode(&c, get_le16(in + 86), h.name, sizeof(h.name)))
		return err_set(err, ERR_DAMAGED, "overlay header: id, name or reserved bytes");
	int r = disks_decode(&c, get_le16(in + 84), &h, err);
	wrong = r < 0 ? NULL : header_wrong(&h);
	if (r == 0 && !wrong)
		wrong = suite_wrong(h.suite, h.epoch, h.mac);
	if (wrong)
		r = err_set(err, ERR_DAMAGED, "overlay header: %s", wrong);
	if (r < 0) {
		overlay_header_release(&h);
		return r;
	}
	*out = h;
	return 0;
}

/* --- header of a state log --- */

bool overlay_log_is(const void *p, size_t n)
{
	return n >= sizeof(log_magic) && memcmp(p, log_magic, sizeof(log_magic)) == 0;
}

void overlay_log_header_encode(const struct overlay_log_header *h,
			       uint8_t out[OVERLAY_LOG_HEADER_LEN])
{
	memset(out, 0, OVERLAY_LOG_HEADER_LEN);
	memcpy(out, log_magic, sizeof(log_magic));
	put_le16(out + 8, FORMAT_VERSION);
	put_le16(out + 10, h->suite);
	put_le32(out + 12, h->layer);
	memcpy(out + 16, h->uuid, UUID_LEN);
	memcpy(out + 32, h->log, OVERLAY_LOG_ID_LEN);
	put_le64(out + 48, h->size);
	put_le32(out + 56, OVERLAY_BLOCK_SIZE);
	put_le32(out + 60, h->epoch);
	memcpy(out + 64, h->id, strnlen(h->id, OVERLAY_ID_TEXT - 1));
	memcpy(out + 80, h->disk, strnlen(h->disk, DISK_NAME_MAX_LEN));
	memcpy(out + OVERLAY_LOG_HEADER_MACED, h->mac, ID_LEN);
	put_le64(out + 504, check_xxh3(out, 504));
}

int overlay_log_header_decode(const uint8_t in[OVERLAY_LOG_HEADER_LEN],
			      struct overlay_log_header *out, struct err *err)
{
	if (!overlay_log_is(in, OVERLAY_LOG_HEADER_LEN))
		return err_set(err, ERR_DAMAGED, "not a state log of an overlay");
	if (get_le64(in + 504) != check_xxh3(in, 504))
		return err_set(err, ERR_DAMAGED, "check of a state log's header does not match");
	if (get_le16(in + 8) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "state log of version %u", get_le16(in + 8));
	struct overlay_log_header h = { .suite = get_le16(in + 10),
					.layer = get_le32(in + 12),
					.size = get_le64(in + 48),
					.epoch = get_le32(in + 60) };
	memcpy(h.uuid, in + 16, UUID_LEN);
	memcpy(h.log, in + 32, OVERLAY_LOG_ID_LEN);
	memcpy(h.mac, in + OVERLAY_LOG_HEADER_MACED, ID_LEN);
	if (h.suite > SUITE_LAST)
		return err_set(err, ERR_UNSUPPORTED, "state log of cipher suite %u", h.suite);
	const char *wrong = suite_wrong(h.suite, h.epoch, h.mac);
	if (wrong)
		return err_set(err, ERR_DAMAGED, "state log: %s", wrong);
	if (get_le32(in + 56) != OVERLAY_BLOCK_SIZE || h.layer == 0 || h.size % OVERLAY_SECTOR ||
	    h.size > INT64_MAX || !mem_is_zero(in + 176, 328))
		return err_set(err, ERR_DAMAGED,
			       "state log: block size, layer, size or reserved bytes");
	if (!text_field(in + 64, ID_FIELD_LEN, h.id, sizeof(h.id)) || !overlay_id_valid(h.id) ||
	    !text_field(in + 80, DISK_NAME_MAX_LEN, h.disk, sizeof(h.disk)) ||
	    !disk_name_valid(h.disk))
		return err_set(err, ERR_DAMAGED, "state log: name of the overlay or the disk");
	*out = h;
	return 0;
}

/* --- records --- */

uint64_t overlay_record_size(uint64_t n)
{
	return round_up_u64(OVERLAY_RECORD_HEAD + n + OVERLAY_RECORD_TAIL, OVERLAY_SECTOR);
}

void overlay_record_begin(struct buf *out, enum overlay_record_kind kind, uint64_t number,
			  const uint8_t log[OVERLAY_LOG_ID_LEN])
{
	buf_put(out, record_magic, sizeof(record_magic));
	buf_put_u8(out, (uint8_t)kind);
	buf_put_zero(out, 3);
	buf_put_le64(out, number);
	buf_put(out, log, OVERLAY_LOG_ID_LEN);
	buf_put_zero(out, 8); /* length: by overlay_record_end() */
}

void overlay_record_run(struct buf *out, const struct overlay_run *run)
{
	buf_put_le64(out, run->first);
	buf_put_le64(out, run->count | (uint64_t)run->state << 56);
}

void overlay_record_page(struct buf *out, uint64_t page, const uint8_t states[OVERLAY_PAGE_LEN])
{
	buf_put_le64(out, page);
	buf_put(out, states, OVERLAY_PAGE_LEN);
}

size_t overlay_record_end(struct buf *out)
{
	if (!out->failed)
		put_le32(out->data + 32, (uint32_t)(out->len - OVERLAY_RECORD_HEAD));
	return out->len;
}

void overlay_record_close(struct buf *out, const uint8_t mac[ID_LEN])
{
	static const uint8_t none[ID_LEN];
	buf_put(out, mac ? mac : none, ID_LEN);
	if (!out->failed)
		buf_put_le32(out, check_crc32c(out->data, out->len));
	buf_put_zero(out, (size_t)round_up_u64(out->len, OVERLAY_SECTOR) - out->len);
}

uint64_t overlay_record_head(const uint8_t *head, const struct overlay_log_header *log)
{
	uint32_t n = get_le32(head + 32);
	if (memcmp(head, record_magic, sizeof(record_magic)) != 0 || !mem_is_zero(head + 5, 3) ||
	    memcmp(head + 16, log->log, OVERLAY_LOG_ID_LEN) != 0 || get_le32(head + 36) != 0)
		return 0;
	if (n == 0 || n > OVERLAY_ENTRIES_MAX || get_le64(head + 8) == 0)
		return 0;
	if (head[4] == OVERLAY_RUNS ? n % OVERLAY_RUN_LEN != 0 :
				      head[4] != OVERLAY_PAGES || n % (8 + OVERLAY_PAGE_LEN) != 0)
		return 0;
	return overlay_record_size(n);
}

struct overlay_run overlay_record_get_run(const struct overlay_record *r, size_t i)
{
	const uint8_t *p = r->data + i * OVERLAY_RUN_LEN;
	uint64_t both = get_le64(p + 8);
	return (struct overlay_run){ .first = get_le64(p),
				     .count = both & RUN_COUNT_MAX,
				     .state = (unsigned)(both >> 56) };
}

const uint8_t *overlay_record_get_page(const struct overlay_record *r, size_t i, uint64_t *page)
{
	const uint8_t *p = r->data + i * (8 + OVERLAY_PAGE_LEN);
	*page = get_le64(p);
	return p + 8;
}

static const char *runs_wrong(const struct overlay_record *r, uint64_t blocks)
{
	for (size_t i = 0; i < r->entries; i++) {
		struct overlay_run run = overlay_record_get_run(r, i);
		if (run.state != 1 && run.state != 2)
			return "a state is not known";
		if (run.count == 0 || run.first >= blocks || run.count > blocks - run.first)
			return "a run is not within the disk";
	}
	return NULL;
}

static const char *pages_wrong(const struct overlay_record *r, uint64_t blocks)
{
	uint64_t page, before = 0;
	for (size_t i = 0; i < r->entries; i++) {
		const uint8_t *states = overlay_record_get_page(r, i, &page);
		if (i > 0 && page <= before)
			return "pages are out of order";
		if (page >= div_round_up(blocks, OVERLAY_PAGE_BLOCKS))
			return "a page is not within the disk";
		before = page;
		uint64_t n = MIN(blocks - page * OVERLAY_PAGE_BLOCKS, OVERLAY_PAGE_BLOCKS);
		for (size_t k = 0; k < OVERLAY_PAGE_LEN; k += 8) {
			uint64_t word = get_le64(states + k);
			if (word & word >> 1 & UINT64_C(0x5555555555555555))
				return "a state is not known";
			if (word && k * 4 >= n)
				return "a state lies beyond the disk";
			if (k * 4 < n && n - k * 4 < 32 && word >> 2 * (n - k * 4))
				return "a state lies beyond the disk";
		}
	}
	return NULL;
}

int overlay_record_decode(const void *p, size_t n, const struct overlay_log_header *log,
			  struct overlay_record *out, struct err *err)
{
	const uint8_t *in = p;
	uint64_t blocks = div_round_up(log->size, OVERLAY_BLOCK_SIZE);
	uint64_t size = n < OVERLAY_RECORD_HEAD ? 0 : overlay_record_head(in, log);
	if (size == 0 || size > n)
		return err_set(err, ERR_DAMAGED, "no record of this state log");
	size_t len = get_le32(in + 32), maced = OVERLAY_RECORD_HEAD + len;
	struct overlay_record r = { .kind = (enum overlay_record_kind)in[4],
				    .number = get_le64(in + 8),
				    .data = in + OVERLAY_RECORD_HEAD,
				    .maced = maced,
				    .mac = in + maced,
				    .size = size };
	if (get_le32(in + maced + ID_LEN) != check_crc32c(in, maced + ID_LEN))
		return err_set(err, ERR_DAMAGED, "check of a record does not match");
	r.entries = len / (r.kind == OVERLAY_RUNS ? OVERLAY_RUN_LEN : 8 + OVERLAY_PAGE_LEN);
	const char *wrong = r.kind == OVERLAY_RUNS ? runs_wrong(&r, blocks) :
						     pages_wrong(&r, blocks);
	if (!wrong && log->suite == 0 && !mem_is_zero(r.mac, ID_LEN))
		wrong = "there is a MAC without a cipher suite";
	if (!wrong && !mem_is_zero(in + maced + OVERLAY_RECORD_TAIL,
				   (size_t)size - maced - OVERLAY_RECORD_TAIL))
		wrong = "padding is not zero";
	if (wrong)
		return err_set(err, ERR_DAMAGED, "record %" PRIu64 " of a state log: %s", r.number,
			       wrong);
	*out = r;
	return 0;
}
