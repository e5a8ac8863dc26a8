// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Numbered records: what a guest was told to be durable, and whether it is there.
 *
 *   livepoint-records run         in the guest: appends records until it is killed
 *   livepoint-records check FILE  anywhere: judges a file of records
 *
 * Record n is 512 bytes at offset n * 512 of /records, a function of n alone.  "run" writes it, syncs the file, and only then
 * says "SEQ n" on the serial console.  With a second disk (a file system with the label lp-data, anywhere; asked for by
 * /etc/livepoint-data) the record is written and synced in /data/records first.  As process 1 (init=) it does the same without
 * anything else in the guest, which spares an emulated machine most of its boot.
 *
 * It runs if /etc/livepoint-records exists (its text, if any: milliseconds between records) or livepoint.records=MS is on the
 * kernel command line, which overrules the file; livepoint.records=off forbids it.  Built by build.sh, with the C library
 * linked in: the same program judges on the host.
 *
 *  1. SEQ n is said after record n and all before it are durable as far as the kernel knows.
 *  2. After a crash it goes on behind the last whole record, and says from where: "RECORDS FROM n".
 *  3. An error of a write or a sync is said ("RECORDS ERROR ...") and ends it: nothing is tried again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/banned.h"

#define RECORD 512 /* bytes */
#define PAUSE_DEFAULT 20 /* milliseconds */
#define DATA_WAIT 300 /* tenths of a second */
#define SHOWN 5 /* bad records that are named */

/* The magic, the number, and bytes that follow from it: no mixture of two records is a third. */
static void record_make(uint64_t n, uint8_t out[RECORD])
{
	uint64_t x = n * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;

	memcpy(out, "LPRECORD", 8);
	for (unsigned i = 0; i < 8; i++)
		out[8 + i] = (uint8_t)(n >> 8 * i);
	for (unsigned i = 16; i < RECORD; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		out[i] = (uint8_t)(x >> 24);
	}
}

/* 1: record n stands in its place; 0: nothing but zeroes does; -1: anything else. */
static int record_judge(int fd, uint64_t n)
{
	uint8_t want[RECORD], got[RECORD];
	ssize_t r = pread(fd, got, RECORD, (off_t)(n * RECORD));

	if (r != RECORD)
		return -1;
	record_make(n, want);
	if (memcmp(got, want, RECORD) == 0)
		return 1;
	for (unsigned i = 0; i < RECORD; i++)
		if (got[i])
			return -1;
	return 0;
}

/* --- the console --- */

static int console = -1;

/* One write a line. */
static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	char line[256];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line) - 2, fmt, args);
	va_end(args);
	if (n < 0)
		return;
	n = n > (int)sizeof(line) - 3 ? (int)sizeof(line) - 3 : n;
	line[n++] = '\n';
	if (write(console < 0 ? 1 : console, line, (size_t)n) < 0)
		console = -1; /* then standard output has it */
}

/* Process 1 must not end: the kernel would panic and the machine go down. */
static void leave(int status) __attribute__((noreturn));
static void leave(int status)
{
	while (getpid() == 1)
		pause();
	exit(status);
}

static void give_up(const char *what)
{
	say("RECORDS ERROR %s: %s", what, strerror(errno));
	leave(1);
}

/* --- what was asked for --- */

static size_t read_text(const char *path, char *dst, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, dst, size - 1);

	if (fd >= 0)
		close(fd);
	dst[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* Milliseconds between records; -1: not wanted. */
static long wanted(void)
{
	char text[4096], *word;
	long pause = -1;

	if (access("/etc/livepoint-records", F_OK) == 0)
		pause = read_text("/etc/livepoint-records", text, sizeof(text)) && text[0] >= '0' &&
					text[0] <= '9' ?
				strtol(text, NULL, 10) :
				PAUSE_DEFAULT;
	if (getpid() == 1 && pause < 0)
		pause = PAUSE_DEFAULT;
	read_text("/proc/cmdline", text, sizeof(text));
	word = strstr(text, "livepoint.records=");
	if (word && word[18] == 'o')
		pause = -1;
	else if (word)
		pause = strtol(word + 18, NULL, 10);
	return pause;
}

/* --- the second disk --- */

static bool is_data(const char *device)
{
	uint8_t super[1024];
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	bool yes = fd >= 0 && pread(fd, super, sizeof(super), 1024) == (ssize_t)sizeof(super) &&
		   super[0x38] == 0x53 && super[0x39] == 0xef &&
		   memcmp(super + 0x78, "lp-data", 8) == 0;

	if (fd >= 0)
		close(fd);
	return yes;
}

/* Looks at every block device, as nobody may have made links by label. */
static bool mount_data(void)
{
	char line[256], name[64], device[80];
	FILE *list = fopen("/proc/partitions", "re");
	bool done = false;

	while (list && !done && fgets(line, sizeof(line), list)) {
		if (sscanf(line, "%*u %*u %*u %63s", name) != 1)
			continue;
		snprintf(device, sizeof(device), "/dev/%s", name);
		done = is_data(device) && mount(device, "/data", "ext4", 0, NULL) == 0;
	}
	if (list)
		fclose(list);
	return done;
}

static int open_data(void)
{
	static const struct timespec tenth = { .tv_nsec = 100 * 1000 * 1000 };

	if (access("/etc/livepoint-data", F_OK) != 0)
		return -1;
	(void)mkdir("/data", 0755);
	for (int i = 0; !mount_data(); i++) {
		if (i == DATA_WAIT) {
			errno = ENODEV;
			give_up("second disk");
		}
		nanosleep(&tenth, NULL);
	}
	return open("/data/records", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/* --- writing --- */

/* The number of the next record: behind the last whole one. */
static uint64_t next_of(int fd)
{
	struct stat st;
	uint64_t n;

	if (fstat(fd, &st) < 0)
		give_up("look at the records");
	n = (uint64_t)st.st_size / RECORD;
	while (n && record_judge(fd, n - 1) != 1)
		n--;
	return n;
}

static void append(int fd, uint64_t n, const uint8_t *record, const char *where)
{
	char what[64];

	if (pwrite(fd, record, RECORD, (off_t)(n * RECORD)) == RECORD && fsync(fd) == 0)
		return;
	snprintf(what, sizeof(what), "record %" PRIu64 " of %s", n, where);
	give_up(what);
}

static void run(void) __attribute__((noreturn));
static void run(void)
{
	struct timespec between;
	uint8_t record[RECORD];
	int fd, data;
	uint64_t n;
	long pause;

	console = open("/dev/ttyS0", O_WRONLY | O_NOCTTY | O_CLOEXEC);
	if (getpid() == 1 && mount(NULL, "/", NULL, MS_REMOUNT, NULL) < 0)
		give_up("make / writable");
	pause = wanted();
	if (pause < 0)
		leave(0);
	between =
		(struct timespec){ .tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000 * 1000 };
	data = open_data();
	fd = open("/records", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		give_up("open /records");
	n = next_of(fd);
	say("RECORDS FROM %" PRIu64 "%s", n, data < 0 ? "" : ", two disks");
	for (;; n++) {
		record_make(n, record);
		if (data >= 0)
			append(data, n, record, "/data");
		append(fd, n, record, "/");
		say("SEQ %" PRIu64, n);
		if (pause)
			nanosleep(&between, NULL);
	}
}

/* --- judging --- */

static int check(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t slots, end = 0, gaps = 0, torn = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		fprintf(stderr, "livepoint-records: '%s': %s\n", path, strerror(errno));
		return 2;
	}
	slots = ((uint64_t)st.st_size + RECORD - 1) / RECORD;
	for (end = slots; end && record_judge(fd, end - 1) != 1;)
		end--;
	for (uint64_t n = 0; n < end; n++) {
		int r = record_judge(fd, n);

		if (r != 1 && gaps + torn < SHOWN)
			fprintf(stderr, "livepoint-records: record %" PRIu64 " is %s\n", n,
				r ? "torn" : "missing");
		gaps += r == 0;
		torn += r < 0;
	}
	close(fd);
	if (end)
		printf("highest=%" PRIu64, end - 1);
	else
		printf("highest=-");
	printf(" gaps=%" PRIu64 " torn=%" PRIu64 " tail=%" PRIu64 "\n", gaps, torn, slots - end);
	return gaps || torn;
}

int main(int argc, char **argv)
{
	if (getpid() == 1 || (argc == 2 && strcmp(argv[1], "run") == 0))
		run();
	if (argc == 3 && strcmp(argv[1], "check") == 0)
		return check(argv[2]);
	fprintf(stderr, "usage: %s run | check FILE\n", argv[0]);
	return 2;
}
