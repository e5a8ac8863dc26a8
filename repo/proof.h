/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Proofs by booting: the verdict and the last screen of a point that was booted, kept beside it in proofs/ID.proof (sealed in an
 * encrypted repository), and the mark `verified: boot` in the catalog.  Any thread.
 */
#ifndef LIVEPOINT_REPO_PROOF_H
#define LIVEPOINT_REPO_PROOF_H

#include "format/sidefile.h"
#include "repo/repo.h"

/* Replaces an older proof of the point, and, if it passed, marks the point as booted.  r: REPO_WRITE, unlocked, started.
 * ERR_TOO_BIG for a screen over PROOF_PNG_MAX. */
int repo_proof_store(struct repo *r, const struct proof *p, struct err *err);
/* ERR_NOT_FOUND: it was never booted.  out: proof_release(). */
int repo_proof_load(struct repo *r, const uint8_t point[POINT_ID_LEN], struct proof *out,
		    struct err *err);

#endif
