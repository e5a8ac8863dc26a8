// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Numbered records on a file system that loses its disk at any moment.
 *
 *   overlay-records write FOLDER ACKS   appends records to FOLDER/records, each followed by fsync, and then notes its number in
 *                                       ACKS (on a disk that stays), until something fails; between them it writes to
 *                                       FOLDER/noise without a sync, and makes and removes small files
 *   overlay-records check FOLDER ACKS   every record up to the number in ACKS is there, whole, in order; prints the number
 *
 * A record is RECORD bytes, all of which follow from its number, so that a torn, old or foreign one shows.  A later record may be there
 * or not: it was not acknowledged.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define RECORD 1536u /* no multiple of a block: records share blocks */
#define NOISE (24 * MiB)

static void fill(uint8_t dst[RECORD], uint64_t number)
{
	uint64_t state = number * 2 + 1;
	unsigned i;

	put_le64(dst, number);
	for (i = 8; i < RECORD; i += 8) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		put_le64(dst + i, state);
	}
}

/* 0 if there is none yet. */
static uint64_t acknowledged(int fd)
{
	uint8_t b[8];

	return pread(fd, b, sizeof(b), 0) == sizeof(b) ? get_le64(b) : 0;
}

static void noise(const char *folder, int fd, uint64_t number)
{
	static uint8_t data[64 * 1024];
	char path[512];

	memset(data, (int)number, sizeof(data));
	if (pwrite(fd, data, sizeof(data), (off_t)(number * 7919 * 4096 % NOISE)) < 0)
		return;
	snprintf(path, sizeof(path), "%s/small-%u", folder, (unsigned)(number % 5));
	if (number % 2)
		(void)!file_unlink(path, "test.noise.unlink", NULL);
	else
		close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static int write_main(const char *folder, int acks)
{
	cleanup_free char *path = str_printf("%s/records", folder);
	cleanup_free char *noisy = str_printf("%s/noise", folder);
	uint64_t n = acknowledged(acks);
	uint8_t record[RECORD], b[8];
	int fd = path ? open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;
	int other = noisy ? open(noisy, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;

	for (; fd >= 0 && other >= 0; n++) {
		fill(record, n);
		if (pwrite(fd, record, RECORD, (off_t)(n * RECORD)) != RECORD ||
		    file_datasync(fd, path, "test.record.sync", NULL) < 0)
			break;
		put_le64(b, n + 1);
		if (pwrite(acks, b, sizeof(b), 0) != sizeof(b))
			return 1;
		noise(folder, other, n);
	}
	return 0; /* its end is a failure by design */
}

static int check_main(const char *folder, int acks)
{
	cleanup_free char *path = str_printf("%s/records", folder);
	uint64_t have = acknowledged(acks), n;
	uint8_t want[RECORD], got[RECORD];
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd < 0 && have) {
		fprintf(stderr, "%" PRIu64 " records were acknowledged, and there is no file\n",
			have);
		return 1;
	}
	for (n = 0; n < have; n++) {
		ssize_t r = pread(fd, got, RECORD, (off_t)(n * RECORD));

		fill(want, n);
		if (r == RECORD && memcmp(got, want, RECORD) == 0)
			continue;
		fprintf(stderr, "record %" PRIu64 " of %" PRIu64 " is not there (%zd bytes%s%s)\n",
			n, have, r, r < 0 ? ", " : "", r < 0 ? strerror(errno) : "");
		return 1;
	}
	printf("%" PRIu64 "\n", have);
	return 0;
}

int main(int argc, char **argv)
{
	int acks = argc == 4 ? open(argv[3], O_CREAT | O_RDWR | O_CLOEXEC, 0600) : -1;

	if (acks >= 0 && strcmp(argv[1], "write") == 0)
		return write_main(argv[2], acks);
	if (acks >= 0 && strcmp(argv[1], "check") == 0)
		return check_main(argv[2], acks);
	fprintf(stderr, "usage: overlay-records write|check FOLDER ACKS\n");
	return 2;
}
