// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * overlay-sectors URI SEED ROUNDS BASE: two connections to one writable export, each a process, write every other 512-byte sector of
 * the same blocks at the same time: the even ones and the odd ones.  BASE: the image below.
 *
 * In a round each connection writes, or makes zero, BATCH of its own sectors in a window of WINDOW blocks, all under way at a
 * time, and reads some of its own back; the blocks of the window are in all states: base, data, and zero (blocks that both leave alone are
 * trimmed at first).  What a sector must hold follows from the seed alone, so that the parent can make the model of the
 * whole afterwards.
 *
 *  1. A connection reads what it wrote last in each of its own sectors, at any time.
 *  2. At the end, over a third connection and after a flush by one of the two, each sector holds the last write of its writer, and
 *     those never written what was there at first.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define SECTOR 512u
#define BLOCK 4096u
#define WINDOW 64u /* blocks */
#define WINDOW_SECTORS (WINDOW * BLOCK / SECTOR)
#define BATCH 12u
#define TRIM_EVERY 3u /* blocks of a window trimmed at first */
#define WINDOWS 8u /* rounds go from one to the next */

static struct nbd_handle *h;
static uint64_t seed, rounds;

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static void connect_to(const char *uri)
{
	h = nbd_create();
	if (!h || nbd_connect_uri(h, uri) < 0)
		die("%s", nbd_get_error());
}

static uint64_t draw(uint64_t *state, uint64_t below)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % below;
}

/* What round r of connection w writes to its i-th sector. */
static void content(uint8_t dst[SECTOR], unsigned w, uint64_t r, unsigned i)
{
	uint64_t state = (seed * 1000003 + r * 64 + i * 2 + w) * 2 + 1;
	unsigned k;

	for (k = 0; k < SECTOR; k += 8) {
		uint64_t v = draw(&state, UINT64_MAX);

		memcpy(dst + k, &v, sizeof(v));
	}
}

struct step {
	uint32_t sector[BATCH]; /* of the disk; all different */
	bool zero[BATCH];
};

static struct step plan(unsigned w, uint64_t r)
{
	struct step s = { 0 };
	uint64_t state = (seed + r * 7919 + w * 104729) * 2 + 1;
	uint32_t window = (uint32_t)(r % WINDOWS) * WINDOW_SECTORS;
	uint32_t stride = WINDOW_SECTORS / 2 / BATCH;
	unsigned i;

	for (i = 0; i < 8; i++)
		draw(&state, 2);
	for (i = 0; i < BATCH; i++) {
		s.sector[i] = window + 2 * (uint32_t)(i * stride + draw(&state, stride)) + w;
		s.zero[i] = draw(&state, 8) == 0;
	}
	return s;
}

/* Waits for all that is under way. */
static void settle(const int64_t *cookies, unsigned n)
{
	unsigned i;

	for (i = 0; i < n; i++)
		for (;;) {
			int done = nbd_aio_command_completed(h, (uint64_t)cookies[i]);

			if (done < 0)
				die("request failed: %s", nbd_get_error());
			if (done)
				break;
			if (nbd_poll(h, -1) < 0)
				die("%s", nbd_get_error());
		}
}

static void one_round(unsigned w, uint64_t r)
{
	static uint8_t data[BATCH][SECTOR], back[SECTOR], zeroes[SECTOR];
	int64_t cookies[BATCH];
	const struct step s = plan(w, r);
	unsigned i;

	for (i = 0; i < BATCH; i++) {
		uint64_t at = (uint64_t)s.sector[i] * SECTOR;

		content(data[i], w, r, i);
		cookies[i] = s.zero[i] ?
				     nbd_aio_zero(h, SECTOR, at, NBD_NULL_COMPLETION, 0) :
				     nbd_aio_pwrite(h, data[i], SECTOR, at, NBD_NULL_COMPLETION, 0);
		if (cookies[i] < 0)
			die("%s", nbd_get_error());
	}
	settle(cookies, BATCH);
	for (i = 0; i < BATCH; i += 3) {
		if (nbd_pread(h, back, SECTOR, (uint64_t)s.sector[i] * SECTOR, 0) < 0)
			die("%s", nbd_get_error());
		if (memcmp(back, s.zero[i] ? zeroes : data[i], SECTOR) != 0)
			die("connection %u, round %" PRIu64
			    ": sector %u is not what was written just now",
			    w, r, s.sector[i]);
	}
	if (r % 16 == w * 8 && nbd_flush(h, 0) < 0)
		die("flush: %s", nbd_get_error());
}

static int writer(const char *uri, unsigned w)
{
	uint64_t r;

	connect_to(uri);
	for (r = 0; r < rounds; r++)
		one_round(w, r);
	if (w == 0 && nbd_flush(h, 0) < 0)
		die("flush: %s", nbd_get_error());
	nbd_shutdown(h, 0);
	return 0;
}

static uint8_t *model_of(const char *base, uint64_t size)
{
	cleanup_fd int fd = file_open(base, O_RDONLY, 0, NULL);
	uint8_t *m = mem_alloc(size);
	unsigned w, i;
	uint64_t r, b;

	if (!m || fd < 0 || file_pread(fd, m, size, 0, base, NULL) < 0)
		die("cannot read '%s'", base);
	for (b = 0; b < (uint64_t)WINDOWS * WINDOW; b += TRIM_EVERY)
		memset(m + b * BLOCK, 0, BLOCK);
	for (w = 0; w < 2; w++)
		for (r = 0; r < rounds; r++) {
			const struct step s = plan(w, r);

			for (i = 0; i < BATCH; i++) {
				uint8_t *at = m + (uint64_t)s.sector[i] * SECTOR;

				if (s.zero[i])
					memset(at, 0, SECTOR);
				else
					content(at, w, r, i);
			}
		}
	return m;
}

int main(int argc, char **argv)
{
	static uint8_t back[BLOCK];
	cleanup_free uint8_t *model = NULL;
	uint64_t size = (uint64_t)WINDOWS * WINDOW * BLOCK, b;
	unsigned w;
	int status, failed = 0;

	if (argc != 5 || !parse_u64(argv[2], &seed) || !parse_u64(argv[3], &rounds))
		die("usage: overlay-sectors URI SEED ROUNDS BASE");
	connect_to(argv[1]);
	for (b = 0; b < size / BLOCK; b += TRIM_EVERY)
		if (nbd_trim(h, BLOCK, b * BLOCK, 0) < 0)
			die("trim: %s", nbd_get_error());
	for (w = 0; w < 2; w++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			_exit(writer(argv[1], w));
	}
	for (w = 0; w < 2; w++)
		failed |= wait(&status) < 0 || status != 0;
	if (failed)
		return 1;
	model = model_of(argv[4], size);
	for (b = 0; b < size / BLOCK; b++) {
		if (nbd_pread(h, back, BLOCK, b * BLOCK, 0) < 0)
			die("read: %s", nbd_get_error());
		for (w = 0; w < BLOCK / SECTOR; w++)
			if (memcmp(back + w * SECTOR, model + b * BLOCK + w * SECTOR, SECTOR) != 0)
				die("sector %u of block %" PRIu64 " differs from the model", w, b);
	}
	printf("%" PRIu64 " rounds of 2 x %u sectors: as the model\n", rounds, BATCH);
	return 0;
}
