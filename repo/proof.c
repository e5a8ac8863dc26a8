// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Proofs by booting (repo/proof.h).
 *
 * Invariants:
 *  1. The file is there before the catalog says that the point was booted.
 *  2. A proof that failed does not take away the mark of an earlier one: `show` tells both.
 */
#include "base/file.h"
#include "repo/internal.h"
#include "repo/proof.h"

#include "base/banned.h"

static char *proof_path(struct repo *r, const uint8_t point[POINT_ID_LEN])
{
	char hex[2 * POINT_ID_LEN + 1];

	hex_encode(hex, point, POINT_ID_LEN);
	return str_printf("%s/proofs/%s.proof", r->path, hex);
}

int repo_proof_store(struct repo *r, const struct proof *p, struct err *err)
{
	cleanup_free char *folder = str_printf("%s/proofs", r->path);
	cleanup_free char *path = proof_path(r, p->point);
	cleanup_buf struct buf payload = BUF_INIT;
	struct point_row row = { 0 };
	struct catalog *c = NULL;
	int code;

	if (!folder || !path)
		return err_nomem(err, "path of a proof");
	code = proof_encode(p, &payload, err);
	if (code == 0)
		code = sidefile_write(r, SIDEFILE_PROOF, folder, path, &payload, err);
	if (code < 0 || !p->passed)
		return code;
	code = repo_catalog_get(r, &c, err);
	if (code < 0)
		return code;
	/* Booting says nothing about damage that was found in what it did not read. */
	code = catalog_point_by_id(c, p->point, &row, err);
	if (code == 0)
		code = catalog_point_set_verified(c, p->point, VERIFIED_BOOT, p->time, 1,
						  row.damaged, err);
	point_row_release(&row);
	repo_catalog_put(r, c);
	return code;
}

int repo_proof_load(struct repo *r, const uint8_t point[POINT_ID_LEN], struct proof *out,
		    struct err *err)
{
	cleanup_free char *path = proof_path(r, point);
	cleanup_buf struct buf payload = BUF_INIT;
	int code = path ? 0 : err_nomem(err, "path of a proof");

	if (code == 0)
		code = sidefile_read(r, SIDEFILE_PROOF, path, &payload, err);
	if (code == 0)
		code = proof_decode(payload.data, payload.len, out, err);
	if (code < 0)
		return code;
	if (memcmp(out->point, point, POINT_ID_LEN) != 0) {
		proof_release(out);
		return err_set(err, ERR_DAMAGED, "'%s': the proof of another point", path);
	}
	return 0;
}
