/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a repository holds, in numbers. From catalog and footers; the key is needed only for `logical` figures. */
#ifndef LIVEPOINT_REPO_STATS_H
#define LIVEPOINT_REPO_STATS_H

#include "repo/repo.h"

struct repo_stats {
	uint64_t points, names, packs, segments;
	uint64_t disk_bytes; /* sizes of all disks of all points */
	uint64_t referenced_bytes; /* data (not holes) that the points refer to, counted in every point; UINT64_MAX: locked */
	uint64_t chunks; /* unique stored chunks */
	uint64_t chunk_plain_bytes; /* their plain bytes: referenced / this = dedup ratio */
	uint64_t chunk_stored_bytes; /* their stored bytes: plain / this = compression ratio */
	uint64_t map_stored_bytes; /* leaves, pages, roots, manifests */
	uint64_t pack_bytes; /* files in packs/ */
	uint64_t index_bytes; /* files in index/ */
	uint64_t catalog_bytes;
};
/* Raised by every publication; never falls but when an older copy of the repository is put back. */
int repo_generation(struct repo *r, uint64_t *generation, struct err *err);
int repo_stats(struct repo *r, struct repo_stats *out, struct err *err);

#endif
