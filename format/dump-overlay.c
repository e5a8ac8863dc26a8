// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Text dumps of an overlay's header and of a state log: the header, then each record with its entries.
 *
 * Invariant: nothing is allocated for what the file says that it has.
 */
#include <inttypes.h>

#include "format/internal.h"
#include "format/overlay.h"

#include "base/banned.h"

void dump_overlay_header(struct dump *d, const uint8_t *p, size_t n)
{
	struct overlay_header h;
	struct err err = ERR_INIT;
	int r = overlay_header_decode(p, n, &h, &err);

	buf_printf(d->out, "file overlay-header\n");
	if (r < 0) {
		dump_problem(d, r, "%s", err.text);
		return;
	}
	buf_printf(d->out, "id %s\n", h.id);
	if (h.name[0])
		buf_printf(d->out, "name %s\n", h.name);
	buf_printf(d->out,
		   "created %" PRId64 "\nblock-size %" PRIu32 "\nsuite %u\nepoch %" PRIu32
		   "\nlayers %" PRIu32 " to %" PRIu32 "\n",
		   h.created, h.block_size, h.suite, h.epoch, h.first, h.last);
	buf_printf(d->out, "keys");
	dump_hex(d, "uuid", h.uuid, UUID_LEN);
	dump_hex(d, "point", h.point, POINT_ID_LEN);
	dump_hex(d, "salt", h.salt, SALT_LEN);
	dump_hex(d, "mac", h.mac, ID_LEN);
	buf_put_u8(d->out, '\n');
	for (size_t i = 0; i < h.ndisks; i++)
		buf_printf(d->out, "disk %zu name %s size %" PRIu64 "\n", i, h.disks[i].name,
			   h.disks[i].size);
	overlay_header_release(&h);
}

static const char *state_name(unsigned state)
{
	return state == 1 ? "data" : "zero";
}

static void dump_page(struct dump *d, uint64_t page, const uint8_t *states)
{
	unsigned count[4] = { 0 };

	for (unsigned i = 0; i < OVERLAY_PAGE_BLOCKS; i++)
		count[states[i / 4] >> i % 4 * 2 & 3]++;
	buf_printf(d->out, "page %" PRIu64 " data %u zero %u xxh3 %016" PRIx64 "\n", page, count[1],
		   count[2], check_xxh3(states, OVERLAY_PAGE_LEN));
}

static void dump_record(struct dump *d, uint64_t at, const struct overlay_record *r)
{
	buf_printf(d->out, "record %" PRIu64 " offset %" PRIu64 " %s %zu", r->number, at,
		   r->kind == OVERLAY_RUNS ? "runs" : "pages", r->entries);
	dump_hex(d, "mac", r->mac, ID_LEN);
	buf_put_u8(d->out, '\n');
	for (size_t i = 0; i < r->entries; i++) {
		if (r->kind == OVERLAY_RUNS) {
			struct overlay_run run = overlay_record_get_run(r, i);

			buf_printf(d->out, "run %s first %" PRIu64 " count %" PRIu64 "\n",
				   state_name(run.state), run.first, run.count);
		} else {
			uint64_t page;
			const uint8_t *states = overlay_record_get_page(r, i, &page);

			dump_page(d, page, states);
		}
	}
}

void dump_overlay_log(struct dump *d, const uint8_t *p, size_t n)
{
	struct overlay_log_header h;
	struct overlay_record rec;
	struct err err = ERR_INIT;
	uint64_t last = 0, at = OVERLAY_LOG_HEADER_LEN;
	int r = n < OVERLAY_LOG_HEADER_LEN ? err_set(&err, ERR_DAMAGED, "the header is cut off") :
					     overlay_log_header_decode(p, &h, &err);

	buf_printf(d->out, "file overlay-log\n");
	if (r < 0) {
		dump_problem(d, r, "%s", err.text);
		return;
	}
	buf_printf(d->out,
		   "overlay %s\ndisk %s\nsize %" PRIu64 "\nlayer %" PRIu32
		   "\nsuite %u\nepoch %" PRIu32 "\n",
		   h.id, h.disk, h.size, h.layer, h.suite, h.epoch);
	buf_printf(d->out, "keys");
	dump_hex(d, "uuid", h.uuid, UUID_LEN);
	dump_hex(d, "log", h.log, OVERLAY_LOG_ID_LEN);
	dump_hex(d, "mac", h.mac, ID_LEN);
	buf_put_u8(d->out, '\n');
	while (overlay_record_decode(p + at, (size_t)(n - at), &h, &rec, NULL) == 0) {
		if (rec.number != ++last)
			dump_problem(d, ERR_DAMAGED, "record %" PRIu64 " in the place of %" PRIu64,
				     rec.number, last);
		last = rec.number;
		dump_record(d, at, &rec);
		at += rec.size;
	}
	buf_printf(d->out, "end %" PRIu64 "\n", at);
	if (!mem_is_zero(p + at, (size_t)(n - at)))
		dump_problem(d, ERR_DAMAGED, "bytes behind the last record that are no record");
}
