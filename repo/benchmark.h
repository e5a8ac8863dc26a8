/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How fast this machine does what backups and reads consist of: hashing, compressing, sealing, and the disk.
 * One thread, made-up data; for choosing settings, not for comparing machines (bench/ does that).
 *
 * One thread at a time.
 */
#ifndef LIVEPOINT_REPO_BENCHMARK_H
#define LIVEPOINT_REPO_BENCHMARK_H

#include "base/base.h"

struct benchmark_spec {
	const char *dir; /* disk rows: a file without a name in this folder */
	uint32_t chunk_size; /* bytes; 0: default */
	unsigned millis; /* for each row, at least about so long */
	uint64_t file_bytes; /* size of the file of the disk rows; 0: 256 MiB */
	const volatile int *stop; /* or NULL */
};
struct benchmark_row {
	const char *name; /* "sha256", "zstd-default", "disk-write"; static */
	const char *what; /* a few words; static */
	uint64_t bytes; /* plain bytes worked on */
	double seconds;
	double ratio; /* plain to stored bytes of the compression rows; 0 elsewhere */
};
#define BENCHMARK_ROWS_MAX 24
/* Fills rows and *count.  ERR_IO and the like if the folder cannot be written. */
int repo_benchmark(const struct benchmark_spec *spec, struct benchmark_row rows[BENCHMARK_ROWS_MAX],
		   size_t *count, struct err *err);

#endif
