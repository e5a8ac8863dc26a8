/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The state object: the catalog's small tables as one object; byte table in livepoint-repository(5).
 *
 * Encoder and decoder ask the same function about the meaning of the whole, so that nothing is written that would be
 * refused.
 *
 * Invariants:
 *  1. Ids ascend strictly in both lists, so that a value has one encoding.
 *  2. Counts are compared with the bytes that are there before anything is allocated for them.
 *  3. The audit log's MAC is zero exactly when the log is empty.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "format/internal.h"
#include "format/state.h"

#include "base/banned.h"

static const uint8_t state_magic[4] = "LPST";
#define STATE_HEADER_LEN 112
#define HOLD_FIXED_LEN 34
#define POINT_LEN 33
enum state_point_kind { STATE_FORGOTTEN = 1, STATE_EXPIRED = 2 };

bool hold_reason_valid(const char *reason)
{
	size_t n = strnlen(reason, HOLD_REASON_MAX + 1);
	return n <= HOLD_REASON_MAX && text_bytes_valid((const uint8_t *)reason, n);
}

void holds_free(struct hold *holds, size_t count)
{
	for (size_t i = 0; holds && i < count; i++)
		free(holds[i].reason);
	free(holds);
}

void state_release(struct state *s)
{
	holds_free(s->holds, s->nholds);
	free(s->points);
	s->holds = NULL;
	s->points = NULL;
	s->nholds = s->npoints = 0;
}

/* What is wrong with the whole, or NULL. */
static const char *state_wrong(const struct state *s)
{
	if (s->next_pack < 1 || s->next_pack > PACK_NUMBER_MAX + 1)
		return "next pack number out of range";
	if (s->next_sequence == 0 || s->next_segment == 0)
		return "a counter is 0";
	if ((s->audit_number == 0) != mem_is_zero(s->audit_mac, ID_LEN))
		return "number and MAC of the audit log do not fit";
	for (size_t i = 0; i < s->nholds; i++) {
		if (i > 0 && memcmp(s->holds[i - 1].point, s->holds[i].point, POINT_ID_LEN) >= 0)
			return "holds out of order";
		if (!s->holds[i].reason || !hold_reason_valid(s->holds[i].reason))
			return "the reason of a hold is too long or no text";
	}
	for (size_t i = 1; i < s->npoints; i++)
		if (memcmp(s->points[i - 1].id, s->points[i].id, POINT_ID_LEN) >= 0)
			return "points out of order";
	return NULL;
}

static size_t encoded_length(const struct state *s)
{
	size_t n = STATE_HEADER_LEN + s->npoints * POINT_LEN;
	for (size_t i = 0; i < s->nholds; i++)
		n += HOLD_FIXED_LEN + strlen(s->holds[i].reason);
	return n;
}

int state_encode(const struct state *s, struct buf *out, struct err *err)
{
	const char *wrong = s->nholds > STATE_MAX || s->npoints > STATE_MAX ? NULL : state_wrong(s);
	if (wrong)
		return err_set(err, ERR_INTERNAL, "state object: %s", wrong);
	if (s->nholds > STATE_MAX || s->npoints > STATE_MAX || encoded_length(s) > STATE_MAX)
		return err_set(
			err, ERR_TOO_BIG,
			"%zu holds and %zu forgotten points do not fit a state object of %u bytes",
			s->nholds, s->npoints, STATE_MAX);
	buf_put(out, state_magic, 4);
	buf_put_le16(out, FORMAT_VERSION);
	buf_put_le16(out, 0);
	buf_put(out, s->uuid, UUID_LEN);
	buf_put_le64(out, (uint64_t)s->time);
	buf_put_le64(out, s->generation);
	buf_put_le64(out, s->next_pack);
	buf_put_le64(out, s->next_sequence);
	buf_put_le64(out, s->next_segment);
	buf_put_le64(out, s->audit_number);
	buf_put(out, s->audit_mac, ID_LEN);
	buf_put_le32(out, (uint32_t)s->nholds);
	buf_put_le32(out, (uint32_t)s->npoints);
	for (size_t i = 0; i < s->nholds; i++) {
		const struct hold *h = &s->holds[i];
		size_t n = strlen(h->reason);
		buf_put(out, h->point, POINT_ID_LEN);
		buf_put_le64(out, (uint64_t)h->since);
		buf_put_le64(out, (uint64_t)h->until);
		buf_put_le16(out, (uint16_t)n);
		buf_put(out, h->reason, n);
	}
	for (size_t i = 0; i < s->npoints; i++) {
		const struct state_point *p = &s->points[i];
		buf_put(out, p->id, POINT_ID_LEN);
		buf_put_u8(out, p->expired ? STATE_EXPIRED : STATE_FORGOTTEN);
		buf_put_le64(out, (uint64_t)p->forgotten);
		buf_put_le64(out, (uint64_t)p->until);
	}
	return out->failed ? err_nomem(err, "a state object") : 0;
}

static int hold_decode(struct cursor *c, struct hold *h, struct err *err)
{
	cursor_get(c, h->point, POINT_ID_LEN);
	h->since = (int64_t)cursor_le64(c);
	h->until = (int64_t)cursor_le64(c);
	size_t n = cursor_le16(c);
	const uint8_t *text = n > HOLD_REASON_MAX ? NULL : cursor_take(c, n);
	if (c->failed || (n > 0 && (!text || memchr(text, 0, n))))
		return err_set(err, ERR_DAMAGED, "hold of a state object is cut off or no text");
	h->reason = mem_alloc(n + 1);
	if (!h->reason)
		return err_nomem(err, "a state object");
	if (n > 0)
		memcpy(h->reason, text, n);
	return 0;
}

static int point_decode(struct cursor *c, struct state_point *p, struct err *err)
{
	cursor_get(c, p->id, POINT_ID_LEN);
	unsigned kind = cursor_u8(c);
	p->forgotten = (int64_t)cursor_le64(c);
	p->until = (int64_t)cursor_le64(c);
	if (c->failed || (kind != STATE_FORGOTTEN && kind != STATE_EXPIRED))
		return err_set(err, ERR_DAMAGED, "point of a state object of kind %u", kind);
	p->expired = kind == STATE_EXPIRED;
	return 0;
}

/* Both lists; what was filled is released by the caller, also after an error. */
static int lists_decode(struct cursor *c, uint32_t nholds, uint32_t npoints, struct state *s,
			struct err *err)
{
	size_t left = cursor_left(c);
	if (nholds > left / HOLD_FIXED_LEN || npoints > left / POINT_LEN)
		return err_set(err, ERR_DAMAGED,
			       "state object of %" PRIu32 " holds and %" PRIu32
			       " points in %zu bytes",
			       nholds, npoints, left);
	/* one more, so that no entries are not NULL */
	s->holds = mem_alloc_array((size_t)nholds + 1, sizeof(*s->holds));
	s->points = mem_alloc_array((size_t)npoints + 1, sizeof(*s->points));
	if (!s->holds || !s->points)
		return err_nomem(err, "a state object");
	while (s->nholds < nholds) {
		int r = hold_decode(c, &s->holds[s->nholds++], err);
		if (r < 0)
			return r;
	}
	while (s->npoints < npoints) {
		int r = point_decode(c, &s->points[s->npoints++], err);
		if (r < 0)
			return r;
	}
	if (cursor_left(c) > 0)
		return err_set(err, ERR_DAMAGED, "bytes behind the end of a state object");
	return 0;
}

int state_decode(const void *p, size_t n, struct state *out, struct err *err)
{
	const uint8_t *in = p;
	if (n < STATE_HEADER_LEN || n > STATE_MAX || memcmp(in, state_magic, 4) != 0)
		return err_set(err, ERR_DAMAGED, "not a state object (%zu bytes)", n);
	if (get_le16(in + 4) != FORMAT_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "state object of version %u",
			       get_le16(in + 4));
	if (get_le16(in + 6) != 0)
		return err_set(err, ERR_DAMAGED, "reserved bytes of a state object are not zero");
	struct state s = { .time = (int64_t)get_le64(in + 24),
			   .generation = get_le64(in + 32),
			   .next_pack = get_le64(in + 40),
			   .next_sequence = get_le64(in + 48),
			   .next_segment = get_le64(in + 56),
			   .audit_number = get_le64(in + 64) };
	memcpy(s.uuid, in + 8, UUID_LEN);
	memcpy(s.audit_mac, in + 72, ID_LEN);
	struct cursor c = cursor_of(in + STATE_HEADER_LEN, n - STATE_HEADER_LEN);
	int r = lists_decode(&c, get_le32(in + 104), get_le32(in + 108), &s, err);
	const char *wrong = r < 0 ? NULL : state_wrong(&s);
	if (wrong)
		r = err_set(err, ERR_DAMAGED, "state object: %s", wrong);
	if (r < 0) {
		state_release(&s);
		return r;
	}
	*out = s;
	return 0;
}
