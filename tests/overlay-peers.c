// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * overlay-peers OURS THEIRS SEED COUNT: the same random requests to a writable export and to nbdkit's cow filter over the
 * same image, which must not be told apart.
 *
 * Requests: writes and write-zeroes of any offset and length, with and without FUA, NO_HOLE and FAST_ZERO; trims of whole
 * 4096-byte blocks (what a server does with the edges of others is its own affair: trims of ours with edges are followed by
 * a write of the whole range to both); flushes; reads.  The image is read and compared as a whole every COMPARE requests and at the
 * end, when extents are asked for too.
 *
 *  1. A read gives the same bytes from both.
 *  2. What either calls a hole, or zero, reads as zeroes from both.
 *  3. An unaligned trim of ours changes whole blocks only, and to zeroes.
 *
 * Prints how many requests of each kind were made; exit 1 with the first difference.
 */
#include <errno.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

#include "base/banned.h"

#define LENGTH_MAX (192u * 1024)
#define BLOCK 4096u
#define COMPARE 400

struct peer {
	const char *name;
	struct nbd_handle *h;
	uint8_t *image; /* as read last */
};
static struct peer ours = { .name = "ours" }, theirs = { .name = "theirs" };
static uint64_t size, state;
static unsigned made[6];
static const char *const kinds[] = { "write", "zero", "trim", "flush", "read", "odd trim" };

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

/* xorshift64 (Marsaglia, "Xorshift RNGs", 2003): the same requests for the same seed. */
static uint64_t draw(uint64_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % below;
}

static void ok(const struct peer *p, int r, const char *what, uint64_t offset, uint64_t n)
{
	if (r < 0)
		die("%s: %s of %" PRIu64 " bytes at %" PRIu64 ": %s", p->name, what, n, offset,
		    nbd_get_error());
}

static void open_peer(struct peer *p, const char *uri)
{
	p->h = nbd_create();
	if (!p->h || nbd_add_meta_context(p->h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    nbd_connect_uri(p->h, uri) < 0)
		die("%s: %s", p->name, nbd_get_error());
	if (!p->image) {
		size = (uint64_t)nbd_get_size(p->h);
		p->image = mem_alloc(size);
	}
	if (!p->image)
		die("no memory");
}

static void read_image(struct peer *p)
{
	uint64_t at, n;

	for (at = 0; at < size; at += n) {
		n = MIN(size - at, 4 * MiB);
		ok(p, nbd_pread(p->h, p->image + at, n, at, 0), "read", at, n);
	}
}

static void compare(unsigned after)
{
	uint64_t i;

	read_image(&ours);
	read_image(&theirs);
	if (memcmp(ours.image, theirs.image, size) == 0)
		return;
	for (i = 0; ours.image[i] == theirs.image[i]; i++)
		;
	die("after %u requests byte %" PRIu64 " is %02x, and %02x of the peer", after, i,
	    ours.image[i], theirs.image[i]);
}

/* --- extents --- */

struct look {
	const struct peer *p;
	uint64_t at, zeroes;
};

static int look_at(void *opaque, const char *context, uint64_t offset, uint32_t *entries, size_t n,
		   int *error)
{
	struct look *l = opaque;
	size_t i;
	uint64_t k;

	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
		return 0;
	for (i = 0; i + 1 < n; i += 2, offset += entries[i - 2]) {
		if (!entries[i + 1])
			continue;
		for (k = offset; k < MIN(offset + entries[i], size); k++)
			if (ours.image[k] || theirs.image[k])
				die("%s calls byte %" PRIu64 " a hole (%u), and it reads as %02x",
				    l->p->name, k, entries[i + 1], ours.image[k]);
		l->zeroes += entries[i];
	}
	l->at = offset;
	return 0;
}

static void check_extents(const struct peer *p)
{
	struct look l = { .p = p };

	while (l.at < size) {
		uint64_t before = l.at;

		ok(p,
		   nbd_block_status(p->h, size - before, before,
				    (nbd_extent_callback){ .callback = look_at, .user_data = &l },
				    0),
		   "block status", before, size - before);
		if (l.at <= before)
			die("%s: no extents at %" PRIu64, p->name, before);
	}
	printf("%s: %" PRIu64 " bytes are called holes\n", p->name, l.zeroes);
}

/* --- requests --- */

static uint32_t fua(void)
{
	return draw(8) == 0 ? LIBNBD_CMD_FLAG_FUA : 0;
}

static void both_write(const uint8_t *data, uint64_t n, uint64_t at)
{
	uint32_t flags = fua();

	ok(&ours, nbd_pwrite(ours.h, data, n, at, flags), "write", at, n);
	ok(&theirs, nbd_pwrite(theirs.h, data, n, at, flags), "write", at, n);
}

/* The peer of nbdkit 1.32 knows no write-zeroes: zeroes are written to it. */
static void both_zero(uint64_t n, uint64_t at)
{
	static const uint8_t zeroes[LENGTH_MAX];
	uint32_t flags = fua() | (draw(2) ? LIBNBD_CMD_FLAG_NO_HOLE : 0);

	if (draw(3) == 0)
		flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
	ok(&ours, nbd_zero(ours.h, n, at, flags), "zero", at, n);
	ok(&theirs, nbd_pwrite(theirs.h, zeroes, n, at, flags & LIBNBD_CMD_FLAG_FUA), "write", at,
	   n);
}

static void both_trim(uint64_t n, uint64_t at)
{
	uint32_t flags = fua();

	at = at / BLOCK * BLOCK;
	n = MIN((n + BLOCK - 1) / BLOCK * BLOCK, size - at);
	ok(&ours, nbd_trim(ours.h, n, at, flags), "trim", at, n);
	ok(&theirs, nbd_trim(theirs.h, n, at, flags), "trim", at, n);
}

/* The blocks at the edges stay; then both get what we have. */
static void odd_trim(uint64_t n, uint64_t at)
{
	static uint8_t before[LENGTH_MAX + 2 * BLOCK], after[LENGTH_MAX + 2 * BLOCK];
	uint64_t from = at / BLOCK * BLOCK, to = MIN((at + n + BLOCK - 1) / BLOCK * BLOCK, size);
	uint64_t first = (at + BLOCK - 1) / BLOCK * BLOCK,
		 end = at + n == size ? size : (at + n) / BLOCK * BLOCK;

	ok(&ours, nbd_pread(ours.h, before, to - from, from, 0), "read", from, to - from);
	ok(&ours, nbd_trim(ours.h, n, at, 0), "trim", at, n);
	ok(&ours, nbd_pread(ours.h, after, to - from, from, 0), "read", from, to - from);
	if (first < end)
		memset(before + (first - from), 0, end - first);
	if (memcmp(before, after, to - from) != 0)
		die("trim of %" PRIu64 " bytes at %" PRIu64 " has changed an edge, or left a block",
		    n, at);
	both_write(after, to - from, from);
}

static void one_read(uint64_t n, uint64_t at)
{
	static uint8_t a[LENGTH_MAX], b[LENGTH_MAX];

	ok(&ours, nbd_pread(ours.h, a, n, at, 0), "read", at, n);
	ok(&theirs, nbd_pread(theirs.h, b, n, at, 0), "read", at, n);
	if (memcmp(a, b, n) != 0)
		die("a read of %" PRIu64 " bytes at %" PRIu64 " differs", n, at);
}

static void one_request(void)
{
	static uint8_t data[LENGTH_MAX];
	/* short ones, and whole sectors and blocks, are what shows edges */
	uint64_t most = draw(3) ? 3 * BLOCK : LENGTH_MAX, n = 1 + draw(most), at, i;
	unsigned kind = (unsigned)draw(20);

	if (draw(3) == 0)
		n = (n + 511) / 512 * 512;
	n = MIN(n, most);
	at = draw(size - n + 1);
	if (draw(3) == 0)
		at = at / BLOCK * BLOCK;
	if (kind < 9) {
		for (i = 0; i < n; i++)
			data[i] = (uint8_t)(draw(256));
		both_write(data, n, at);
		made[0]++;
	} else if (kind < 12) {
		both_zero(n, at);
		made[1]++;
	} else if (kind < 15) {
		both_trim(n, at);
		made[2]++;
	} else if (kind < 16) {
		ok(&ours, nbd_flush(ours.h, 0), "flush", 0, 0);
		ok(&theirs, nbd_flush(theirs.h, 0), "flush", 0, 0);
		made[3]++;
	} else if (kind < 19) {
		one_read(n, at);
		made[4]++;
	} else {
		odd_trim(n, at);
		made[5]++;
	}
}

int main(int argc, char **argv)
{
	uint64_t seed, count, i;

	if (argc != 5 || !parse_u64(argv[3], &seed) || !parse_u64(argv[4], &count))
		die("usage: overlay-peers OURS THEIRS SEED COUNT");
	state = seed * 2 + 1;
	open_peer(&ours, argv[1]);
	open_peer(&theirs, argv[2]);
	if ((uint64_t)nbd_get_size(ours.h) != size)
		die("the sizes differ");
	compare(0);
	for (i = 1; i <= count; i++) {
		one_request();
		if (i % COMPARE == 0)
			compare((unsigned)i);
	}
	compare((unsigned)count);
	check_extents(&ours);
	check_extents(&theirs);
	for (i = 0; i < ARRAY_SIZE(made); i++)
		printf("%s %u\n", kinds[i], made[i]);
	nbd_shutdown(ours.h, 0);
	nbd_shutdown(theirs.h, 0);
	return 0;
}
