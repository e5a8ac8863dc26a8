/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Backup: sources (file, block device, image format, NBD, stream), change maps, cutting on the grid; fills a write
 * session.  A source that shrinks or errors is never zeroes: the point is not published, or (keep_going) published with
 * the ranges named and unreadable.
 *
 * One thread at a time.
 */
#ifndef LIVEPOINT_INGEST_INGEST_H
#define LIVEPOINT_INGEST_INGEST_H

#include "base/progress.h"
#include "repo/session.h"

struct ingest_source {
	char *disk; /* DISK, or NULL: named as DESIGN 6 says */
	char *where; /* path, nbd URI, or "-" */
	char *changed; /* file of changed ranges, or NULL */
};
/* Parses SOURCE = [DISK=]WHERE; fills *out (caller releases). */
int ingest_source_parse(const char *text, struct ingest_source *out, struct err *err);
void ingest_source_release(struct ingest_source *s);
/* Fills the names of all disks in order: given, of the device's folder, else vda, vdb, ...; duplicates are ERR_USAGE. */
int ingest_disk_names(const struct ingest_source *sources, size_t n,
		      char (*names)[DISK_NAME_MAX_LEN + 1], struct err *err);

/* A file to keep with the point. */
struct ingest_config {
	char *name; /* config_name_valid() */
	const char *path;
};

struct ingest_spec {
	const char *name; /* NAME */
	const struct ingest_source *sources; /* borrowed */
	size_t nsources;
	const char *format; /* of every image file; NULL: by file name ending, else raw */
	bool allow_backing;
	const char *since; /* POINT or NULL */
	bool full;
	double sample_percent; /* of "unchanged" chunks re-read with a change map */
	bool keep_going;
	unsigned reconnect_seconds;
	bool source_frozen;
	int compression; /* -1: the repository's */
	unsigned wait_seconds;
	int64_t time; /* 0: now */
	int consistency; /* enum consistency; 0: crash */
	const struct manifest_label *labels;
	size_t nlabels;
	const struct ingest_config *configs; /* borrowed */
	size_t nconfigs;
	bool dry_run; /* reads and compares, stores nothing that stays */
	progress_fn progress;
	void *progress_opaque;
	const volatile int *stop;
};
struct ingest_disk_result {
	char name[DISK_NAME_MAX_LEN + 1];
	uint64_t size, read_bytes, unreadable_bytes; /* bytes */
	int method;
};
struct ingest_result {
	struct session_result session;
	double seconds;
	struct ingest_disk_result *disks;
	size_t ndisks;
	char **warnings; /* sentences */
	size_t nwarnings;
	bool attention; /* finished, but exit 3: a person must read the warnings */
};
void ingest_result_release(struct ingest_result *r);
int ingest_backup(struct repo *r, const struct ingest_spec *spec, struct ingest_result *result,
		  struct err *err);

#endif
