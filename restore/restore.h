/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Restore: a point's disks to a sparse file, a block device or an NBD export, whole or only what differs.
 *
 * One thread at a time.
 */
#ifndef LIVEPOINT_RESTORE_RESTORE_H
#define LIVEPOINT_RESTORE_RESTORE_H

#include "base/progress.h"
#include "repo/repo.h"

struct restore_spec {
	const char *point; /* POINT[/DISK] */
	const char *target; /* path, device, NBD URI; with several disks a folder (DIR/DISK.raw) */
	bool overwrite; /* an existing file may be replaced */
	bool delta; /* write only blocks that differ from what the target holds */
	const char *
		from; /* POINT2 that the target is known to hold: differences come from the maps; needs delta */
	bool verify; /* read the target back and compare content ids */
	bool keep_going; /* leave damaged ranges of the target untouched and go on */
	progress_fn progress;
	void *progress_opaque;
	const volatile int *stop;
};
struct restore_range {
	char disk[DISK_NAME_MAX_LEN + 1];
	uint64_t start, length; /* bytes */
};
struct restore_result {
	uint64_t size; /* of the disks, bytes */
	uint64_t written, zeroed; /* bytes */
	uint64_t compared; /* bytes of the target read */
	struct restore_range *damaged; /* left untouched */
	size_t ndamaged;
	double seconds;
};
void restore_result_release(struct restore_result *r);
/* With keep_going and damage: ERR_DAMAGED, result filled, everything else written. */
int restore_run(struct repo *r, const struct restore_spec *spec, struct restore_result *result,
		struct err *err);

#endif
