// SPDX-License-Identifier: GPL-3.0-or-later
/* Headers of overlays, and state logs record by record, with their checks made right. */
#include "format/overlay.h"
#include "fuzz/fuzz.h"

#include "base/banned.h"

static void try_header(uint8_t *raw, size_t n)
{
	struct overlay_header h;
	cleanup_buf struct buf again = BUF_INIT;
	struct err err = ERR_INIT;

	if (n > 8)
		put_le64(raw + n - 8, check_xxh3(raw, n - 8));
	if (overlay_header_decode(raw, n, &h, &err) < 0) {
		FUZZ_HOLDS(err.code && err.text[0]);
		return;
	}
	FUZZ_HOLDS(h.ndisks >= 1 && h.first >= 1 && h.first <= h.last && overlay_id_valid(h.id));
	FUZZ_HOLDS(overlay_header_encode(&h, &again, &err) == 0);
	overlay_header_seal(&again, h.mac);
	fuzz_same(&again, raw, n);
	overlay_header_release(&h);
}

static void record_holds(const struct overlay_record *r, const struct overlay_log_header *h,
			 const uint8_t *raw)
{
	uint64_t blocks = div_round_up(h->size, OVERLAY_BLOCK_SIZE), page;
	cleanup_buf struct buf again = BUF_INIT;

	overlay_record_begin(&again, r->kind, r->number, h->log);
	for (size_t i = 0; i < r->entries; i++) {
		if (r->kind == OVERLAY_RUNS) {
			struct overlay_run run = overlay_record_get_run(r, i);

			FUZZ_HOLDS(run.count && run.first + run.count <= blocks && run.state);
			overlay_record_run(&again, &run);
		} else {
			const uint8_t *states = overlay_record_get_page(r, i, &page);

			overlay_record_page(&again, page, states);
		}
	}
	FUZZ_HOLDS(overlay_record_end(&again) == r->maced);
	overlay_record_close(&again, r->mac);
	fuzz_same(&again, raw, r->size);
}

static void try_log(uint8_t *raw, size_t n)
{
	struct overlay_log_header h;
	struct overlay_record r;
	uint8_t again[OVERLAY_LOG_HEADER_LEN];

	if (n < OVERLAY_LOG_HEADER_LEN)
		return;
	put_le64(raw + 504, check_xxh3(raw, 504));
	if (overlay_log_header_decode(raw, &h, NULL) < 0)
		return;
	overlay_log_header_encode(&h, again);
	FUZZ_HOLDS(memcmp(again, raw, sizeof(again)) == 0);
	for (size_t at = OVERLAY_LOG_HEADER_LEN; n - at >= OVERLAY_RECORD_HEAD;) {
		uint64_t size = overlay_record_head(raw + at, &h);
		size_t checked = OVERLAY_RECORD_HEAD + get_le32(raw + at + 32) + ID_LEN;

		if (size == 0 || size > n - at)
			break;
		put_le32(raw + at + checked, check_crc32c(raw + at, checked));
		if (overlay_record_decode(raw + at, n - at, &h, &r, NULL) == 0)
			record_holds(&r, &h, raw + at);
		at += size;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free uint8_t *raw = fuzz_copy(data, size, 0);

	if (overlay_log_is(raw, size))
		try_log(raw, size);
	else
		try_header(raw, size);
	return 0;
}
