// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * How long NBD reads take, one at a time, and how long a server takes to its first byte.
 *
 *   bench-nbdlat blocks URI SIZE [COUNT SEED [SPAN]]   byte offsets of blocks that hold data, one a line: all of them in
 *                                        order, or COUNT drawn at random; SPAN: at most so many bytes of data taken
 *                                        into account
 *   bench-nbdlat read URI SIZE <OFFSETS  reads SIZE bytes at each offset, queue depth 1
 *   bench-nbdlat write URI SIZE DEPTH COUNT SEED  writes SIZE bytes at COUNT places, DEPTH under way at a time; SEED 0: one
 *                                        place after the other, else by random, no place twice as long as there are others
 *   bench-nbdlat first COUNT KEYFILE NBDKIT-ARGUMENT...  starts nbdkit COUNT times (socket activation) and reads 4 KiB at
 *                                        offset 0; KEYFILE ("-": none) becomes its descriptor 9
 *   bench-nbdlat drop PATH...            writes out and drops files (folders: all in them) from the page cache
 *
 * read and write print {"count","mean_us","p50_us","p99_us","mib_s"}, first {"count","p50_ms","min_ms"}, drop {"bytes","left"}.
 *
 *  1. Offsets come from base:allocation, so that holes, which cost nobody anything, are never measured.
 *  2. `first` counts from before the fork of nbdkit to the first byte in hand: loading, opening, handshake, read.
 *  3. `drop` says what stayed (mincore): a measurement is cold only if that is nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

#include "base/banned.h"

#define READ_MAX (4u << 20)

static int say_nbd(struct err *err, const char *what)
{
	return err_set(err, ERR_IO, "%s: %s", what, nbd_get_error());
}

static void nbd_cleanup(struct nbd_handle **h)
{
	if (*h)
		nbd_close(*h);
}
#define cleanup_nbd __attribute__((cleanup(nbd_cleanup)))

static int connect_to(const char *uri, struct nbd_handle **out, struct err *err)
{
	cleanup_nbd struct nbd_handle *h = nbd_create();

	if (!h || nbd_add_meta_context(h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    nbd_connect_uri(h, uri) < 0)
		return say_nbd(err, uri);
	*out = steal_ptr(h);
	return 0;
}

static int print(struct jval *v, struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	int r = jval_print(v, false, &b, err);

	if (r == 0)
		puts(buf_str(&b));
	return r;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* --- blocks --- */

struct blocks {
	uint64_t *at;
	size_t n, cap;
	uint64_t size, block, position;
	bool failed;
};

static void add_range(struct blocks *b, uint64_t start, uint64_t end)
{
	uint64_t at = MAX(start / b->block * b->block, b->n ? b->at[b->n - 1] + b->block : 0);

	for (; at < end && at + b->block <= b->size; at += b->block) {
		if (b->n == b->cap) {
			uint64_t *more =
				mem_realloc_array(b->at, b->cap ? b->cap * 2 : 4096, sizeof(*more));

			if (!more) {
				b->failed = true;
				return;
			}
			b->at = more;
			b->cap = b->cap ? b->cap * 2 : 4096;
		}
		b->at[b->n++] = at;
	}
}

static int take_extents(void *opaque, const char *context, uint64_t offset, uint32_t *entries,
			size_t n, int *error)
{
	struct blocks *b = opaque;

	(void)error;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
		return 0;
	for (size_t i = 0; i + 1 < n; i += 2) {
		if (!(entries[i + 1] & LIBNBD_STATE_HOLE))
			add_range(b, offset, offset + entries[i]);
		offset += entries[i];
	}
	b->position = offset;
	return 0;
}

static int list_blocks(const char *uri, struct blocks *b, struct err *err)
{
	cleanup_nbd struct nbd_handle *h = NULL;
	int r = connect_to(uri, &h, err);

	if (r < 0)
		return r;
	b->size = (uint64_t)nbd_get_size(h);
	while (b->position < b->size) {
		uint64_t n = MIN(b->size - b->position, GiB), before = b->position;

		if (nbd_block_status(h, n, before,
				     (nbd_extent_callback){ .callback = take_extents,
							    .user_data = b },
				     0) < 0)
			return say_nbd(err, "block status");
		if (b->failed || b->position == before)
			return err_set(err, ERR_IO, "no extents at %" PRIu64, before);
	}
	return 0;
}

static int blocks_main(int argc, char **argv, struct err *err)
{
	struct blocks b = { 0 };
	uint64_t count = 0, seed = 0, span = UINT64_MAX;
	size_t most;
	int r;

	if (argc < 2 || argc == 3 || !parse_size(argv[1], &b.block) || !b.block ||
	    (argc > 3 && (!parse_u64(argv[2], &count) || !parse_u64(argv[3], &seed))) ||
	    (argc > 4 && !parse_size(argv[4], &span)))
		return err_set(err, ERR_USAGE, "blocks URI SIZE [COUNT SEED [SPAN]]");
	r = list_blocks(argv[0], &b, err);
	if (r == 0 && !b.n)
		r = err_set(err, ERR_INVALID, "%s holds no data", argv[0]);
	most = r < 0 ? 0 : (size_t)MIN((uint64_t)b.n, span / b.block);
	srand48((long)seed);
	if (argc > 3)
		for (; r == 0 && most && count; count--)
			printf("%" PRIu64 "\n", b.at[(size_t)(drand48() * (double)most)]);
	else
		for (size_t i = 0; i < most; i++)
			printf("%" PRIu64 "\n", b.at[i]);
	free(b.at);
	return r;
}

/* --- read --- */

static int read_offsets(uint64_t **out, size_t *count, struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		uint64_t v;

		line[strcspn(line, "\n")] = '\0';
		if (!parse_u64(line, &v))
			return err_set(err, ERR_INVALID, "'%s' is no offset", line);
		buf_put(&b, &v, sizeof(v));
	}
	if (b.failed || !b.len)
		return err_set(err, ERR_INVALID, "no offsets on standard input");
	*count = b.len / sizeof(uint64_t);
	*out = (uint64_t *)(void *)steal_ptr(b.data);
	return 0;
}

static int report_reads(uint64_t *ns, size_t n, uint64_t size, uint64_t wall, struct err *err)
{
	cleanup_ptr(jval) v = jval_object();
	uint64_t all = 0;

	for (size_t i = 0; i < n; i++)
		all += ns[i];
	qsort(ns, n, sizeof(*ns), by_value);
	jval_set(v, "count", jval_uint(n));
	jval_set(v, "mean_us", jval_real((double)all / (double)n / 1e3));
	jval_set(v, "p50_us", jval_real((double)ns[n / 2] / 1e3));
	jval_set(v, "p99_us", jval_real((double)ns[n * 99 / 100] / 1e3));
	jval_set(v, "mib_s",
		 jval_real((double)n * (double)size / (double)MiB / ((double)wall / 1e9)));
	return print(v, err);
}

static int read_main(int argc, char **argv, struct err *err)
{
	cleanup_nbd struct nbd_handle *h = NULL;
	cleanup_free uint64_t *offsets = NULL, *ns = NULL;
	cleanup_free uint8_t *data = NULL;
	uint64_t size, begun, t;
	size_t n = 0;
	int r;

	if (argc != 2 || !parse_size(argv[1], &size) || !size || size > READ_MAX)
		return err_set(err, ERR_USAGE, "read URI SIZE <OFFSETS");
	r = read_offsets(&offsets, &n, err);
	if (r == 0)
		r = connect_to(argv[0], &h, err);
	if (r < 0)
		return r;
	data = mem_alloc(size);
	ns = mem_alloc_array(n, sizeof(*ns));
	if (!data || !ns)
		return err_nomem(err, "buffers");
	begun = time_mono_ns();
	for (size_t i = 0; i < n; i++) {
		t = time_mono_ns();
		if (nbd_pread(h, data, size, offsets[i], 0) < 0)
			return say_nbd(err, "read");
		ns[i] = time_mono_ns() - t;
	}
	return report_reads(ns, n, size, time_mono_ns() - begun, err);
}

/* --- write --- */

#define DEPTH_MAX 256

struct writer {
	struct nbd_handle *h;
	uint64_t size, places, stride, seed, n; /* stride: see place() */
	uint64_t *ns;
	unsigned free[DEPTH_MAX], nfree;
	struct slot {
		struct writer *w;
		uint64_t begun, number;
		uint8_t *data;
	} slots[DEPTH_MAX];
	int error;
};

/* All places once before any comes again: a stride without a common divisor (places is a power of two, the stride odd). */
static uint64_t place(const struct writer *w, uint64_t i)
{
	return (w->seed ? (i * w->stride + w->seed) % w->places : i % w->places) * w->size;
}

static int written(void *opaque, int *error)
{
	struct slot *s = opaque;

	s->w->ns[s->number] = time_mono_ns() - s->begun;
	if (*error)
		s->w->error = *error;
	s->w->free[s->w->nfree++] = (unsigned)(s - s->w->slots);
	return 1;
}

static int write_all(struct writer *w, unsigned depth, struct err *err)
{
	uint64_t i = 0;

	while (i < w->n || w->nfree < depth) {
		while (i < w->n && w->nfree) {
			struct slot *s = &w->slots[w->free[--w->nfree]];

			s->number = i;
			s->begun = time_mono_ns();
			put_le64(s->data, i + w->seed); /* no two writes are the same */
			if (nbd_aio_pwrite(w->h, s->data, w->size, place(w, i++),
					   (nbd_completion_callback){ .callback = written,
								      .user_data = s },
					   0) < 0)
				return say_nbd(err, "write");
		}
		if (w->nfree < depth && nbd_poll(w->h, -1) < 0)
			return say_nbd(err, "write");
	}
	return w->error ? err_set_errno(err, ERR_IO, w->error, "write") : 0;
}

static int write_main(int argc, char **argv, struct err *err)
{
	static struct writer w;
	cleanup_nbd struct nbd_handle *h = NULL;
	cleanup_free uint64_t *ns = NULL;
	cleanup_free uint8_t *data = NULL;
	uint64_t depth = 0, begun, i;
	int r;

	if (argc != 5 || !parse_size(argv[1], &w.size) || w.size < 512 || w.size > READ_MAX ||
	    !parse_u64(argv[2], &depth) || !depth || depth > DEPTH_MAX ||
	    !parse_u64(argv[3], &w.n) || !w.n || !parse_u64(argv[4], &w.seed))
		return err_set(err, ERR_USAGE, "write URI SIZE DEPTH COUNT SEED");
	r = connect_to(argv[0], &h, err);
	if (r < 0)
		return r;
	w.h = h;
	for (w.places = 1; w.places * 2 * w.size <= (uint64_t)nbd_get_size(h); w.places *= 2)
		;
	w.stride = (w.places * 618 / 1000) | 1;
	w.ns = ns = mem_alloc_array(w.n, sizeof(*ns));
	data = mem_alloc(depth * w.size);
	if (!ns || !data)
		return err_nomem(err, "buffers");
	random_bytes(data, depth * w.size);
	for (i = 0; i < depth; i++) {
		w.slots[i].w = &w;
		w.slots[i].data = data + i * w.size;
		w.free[w.nfree++] = (unsigned)i;
	}
	begun = time_mono_ns();
	r = write_all(&w, (unsigned)depth, err);
	begun = time_mono_ns() - begun;
	return r < 0 ? r : report_reads(ns, w.n, w.size, begun, err);
}

/* --- first --- */

static int one_start(char **arguments, uint64_t *ns, struct err *err)
{
	cleanup_nbd struct nbd_handle *h = nbd_create();
	uint8_t data[4096];
	uint64_t begun = time_mono_ns();

	if (!h || nbd_set_export_name(h, "") < 0 ||
	    nbd_connect_systemd_socket_activation(h, arguments) < 0)
		return say_nbd(err, "starting nbdkit");
	if (nbd_pread(h, data, sizeof(data), 0, 0) < 0)
		return say_nbd(err, "first read");
	*ns = time_mono_ns() - begun;
	nbd_shutdown(h, 0);
	return 0;
}

static int first_main(int argc, char **argv, struct err *err)
{
	cleanup_ptr(jval) v = jval_object();
	cleanup_free uint64_t *ns = NULL;
	cleanup_free char **arguments = NULL;
	uint64_t n;
	int r = 0;

	if (argc < 3 || !parse_u64(argv[0], &n) || !n)
		return err_set(err, ERR_USAGE, "first COUNT KEYFILE NBDKIT-ARGUMENT...");
	ns = mem_alloc_array(n, sizeof(*ns));
	arguments = mem_alloc_array((size_t)argc + 2, sizeof(*arguments));
	if (!ns || !arguments)
		return err_nomem(err, "arguments");
	arguments[0] = (char *)"nbdkit";
	arguments[1] = (char *)"-f";
	for (int i = 2; i < argc; i++)
		arguments[i] = argv[i];
	for (uint64_t i = 0; i < n && r == 0; i++) {
		int fd = strcmp(argv[1], "-") == 0 ? -1 : file_open(argv[1], O_RDONLY, 0, err);

		if (fd > 0) { /* nbdkit inherits what is not close-on-exec */
			dup2(fd, 9);
			close(fd);
		}
		r = one_start(arguments, &ns[i], err);
		close(9);
	}
	if (r < 0)
		return r;
	qsort(ns, n, sizeof(*ns), by_value);
	jval_set(v, "count", jval_uint(n));
	jval_set(v, "p50_ms", jval_real((double)ns[n / 2] / 1e6));
	jval_set(v, "min_ms", jval_real((double)ns[0] / 1e6));
	return print(v, err);
}

/* --- drop --- */

static uint64_t drop_bytes, drop_left; /* nftw takes no argument for its callback */

static uint64_t resident(int fd, uint64_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = div_round_up(size, page), n = 0;
	cleanup_free unsigned char *in = mem_alloc(pages + 1);
	void *p = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (p == MAP_FAILED)
		return 0;
	if (in && mincore(p, size, in) == 0)
		for (size_t i = 0; i < pages; i++)
			n += in[i] & 1;
	munmap(p, size);
	return (uint64_t)n * page;
}

static int drop_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	cleanup_fd int fd = -1;

	(void)ftw;
	if (kind != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = file_open(path, O_RDONLY, 0, NULL);
	if (fd < 0)
		return 0; /* a file that went meanwhile */
	file_datasync(fd, path, NULL, NULL);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	drop_bytes += (uint64_t)st->st_size;
	drop_left += resident(fd, (uint64_t)st->st_size);
	return 0;
}

static int drop_main(int argc, char **argv, struct err *err)
{
	cleanup_ptr(jval) v = jval_object();

	for (int i = 0; i < argc; i++)
		if (nftw(argv[i], drop_one, 16, FTW_PHYS) < 0)
			return err_set_errno(err, ERR_IO, errno, "'%s'", argv[i]);
	jval_set(v, "bytes", jval_uint(drop_bytes));
	jval_set(v, "left", jval_uint(drop_left));
	return print(v, err);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int argc, char **argv, struct err *err);
	} commands[] = { { "blocks", blocks_main },
			 { "read", read_main },
			 { "write", write_main },
			 { "first", first_main },
			 { "drop", drop_main } };
	struct err err = ERR_INIT;

	for (size_t i = 0; argc > 2 && i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (commands[i].fn(argc - 2, argv + 2, &err) == 0)
			return 0;
		fprintf(stderr, "bench-nbdlat %s: %s\n", argv[1], err.text);
		return 1;
	}
	fprintf(stderr, "usage: bench-nbdlat blocks|read|write|first|drop ARGUMENT...\n");
	return 2;
}
