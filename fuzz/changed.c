/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Change maps (--changed FILE), which come from outside.  Whatever is read: the runs cover the disk in order without gap, and
 * neighbours differ; a map that was added to says nothing less than before.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "ingest/internal.h"

#include "base/banned.h"

#define DISK_BYTES (5 * MiB + 512)
#define UNIT 65536u

static void check_runs(const struct change_map *m)
{
	enum change before = CHANGE_NONE, c;
	uint64_t at, end = 0;

	for (at = 0; at < DISK_BYTES; at = end) {
		c = change_map_get(m, at, &end);
		FUZZ_HOLDS(end > at && end <= DISK_BYTES && c <= CHANGE_HOLE);
		FUZZ_HOLDS(end % UNIT == 0 || end == DISK_BYTES);
		FUZZ_HOLDS(at == 0 || c != before);
		before = c;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct change_map *m = NULL;
	struct err err = ERR_INIT;
	uint64_t end;
	int fd = memfd_create("changed", MFD_CLOEXEC);

	FUZZ_HOLDS(fd >= 0 && write(fd, data, size) == (ssize_t)size &&
		   lseek(fd, 0, SEEK_SET) == 0);
	FUZZ_HOLDS(change_map_new(DISK_BYTES, UNIT, &m, &err) == 0);
	FUZZ_HOLDS(change_map_read(m, fd, "changed", "vda", &err) == 0 || err.code != 0);
	check_runs(m);
	change_map_add(m, 0, DISK_BYTES, CHANGE_HOLE);
	FUZZ_HOLDS(change_map_get(m, 0, &end) != CHANGE_NONE);
	check_runs(m);
	change_map_free(m);
	close(fd);
	return 0;
}
