// SPDX-License-Identifier: GPL-3.0-or-later
/* Live file of a layer of an overlay; byte table in livepoint-repository(5). */
#include <endian.h>

#include "format/internal.h"
#include "format/overlay.h"

#include "base/banned.h"

static const uint8_t magic[8] = "LVPTLIVE";
#define LIVE_VERSION 1

void overlay_live_header_encode(const struct overlay_live_header *h,
				uint8_t out[OVERLAY_LIVE_FIXED])
{
	memset(out, 0, OVERLAY_LIVE_FIXED);
	memcpy(out, magic, sizeof(magic));
	put_le32(out + 8, LIVE_VERSION);
	put_le32(out + 12, h->slots);
	memcpy(out + 16, h->boot, OVERLAY_BOOT_LEN);
	memcpy(out + 32, h->id, strnlen(h->id, OVERLAY_ID_TEXT));
	put_le32(out + 48, h->layer);
	put_le64(out + 56, h->size);
	put_le32(out + 64, check_crc32c(out, 64));
}

int overlay_live_header_decode(const uint8_t in[OVERLAY_LIVE_FIXED],
			       struct overlay_live_header *out, struct err *err)
{
	struct overlay_live_header h = { .slots = get_le32(in + 12),
					 .layer = get_le32(in + 48),
					 .size = get_le64(in + 56) };

	if (memcmp(in, magic, sizeof(magic)) != 0)
		return err_set(err, ERR_DAMAGED, "it is no live file of an overlay");
	if (get_le32(in + 64) != check_crc32c(in, 64))
		return err_set(err, ERR_DAMAGED, "header of a live file: wrong check");
	if (get_le32(in + 8) != LIVE_VERSION)
		return err_set(err, ERR_UNSUPPORTED, "live file of version %u", get_le32(in + 8));
	memcpy(h.boot, in + 16, OVERLAY_BOOT_LEN);
	memcpy(h.id, in + 32, OVERLAY_ID_TEXT - 1);
	if (!overlay_id_valid(h.id) || !mem_is_zero(in + 41, 7) || get_le32(in + 52) ||
	    h.slots == 0 || h.slots > OVERLAY_LIVE_SLOTS_MAX || h.layer == 0 || h.size == 0)
		return err_set(err, ERR_DAMAGED, "header of a live file: values that cannot be");
	*out = h;
	return 0;
}

void overlay_live_slot(const struct overlay_run *run, uint64_t words[2])
{
	words[0] = htole64(run->first);
	words[1] = htole64(run->count | (uint64_t)run->state << 56);
}

bool overlay_live_slot_get(const uint8_t slot[OVERLAY_RUN_LEN], uint64_t blocks,
			   struct overlay_run *out)
{
	uint64_t word = get_le64(slot + 8);
	struct overlay_run run = { .first = get_le64(slot),
				   .count = word & (((uint64_t)1 << 56) - 1),
				   .state = (unsigned)(word >> 56) };

	if (run.state < 1 || run.state > 2 || run.count == 0 || run.first >= blocks ||
	    run.count > blocks - run.first)
		return false;
	*out = run;
	return true;
}
