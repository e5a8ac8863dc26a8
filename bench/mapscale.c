// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Synthetic disks for what must not depend on size or age.
 *
 *   bench-mapscale make REPO NAME SIZE EVERY POINTS PERCENT  points of a disk of SIZE with a chunk of data in each EVERY
 *                                   bytes; every point after the first rewrites PERCENT of them, drawn at random
 *   bench-mapscale image FILE SIZE EVERY             the same disk as a sparse file
 *   bench-mapscale change FILE SIZE EVERY COUNT SEED rewrites COUNT of its chunks; their ranges as JSON lines
 *   bench-mapscale ranges FILE RANGES                reads the ranges that change printed
 *   bench-mapscale open REPO POINT                   milliseconds to open repository and point, and to a first read
 *   bench-mapscale read REPO POINT random|sequential COUNT  reads of 4 KiB or 1 MiB through repo/, at most COUNT
 *   bench-mapscale key REPO                          the repository key, raw, on standard output, for key-fd= of the
 *                                   plugin; the passphrase is in LIVEPOINT_PASSPHRASE
 *
 * make goes through repo/session.h as a backup does, with data made in memory: real packs, maps and catalog, without a
 * source to read.  A chunk compresses to about half; a rewritten one shares nothing with what it was.
 *
 *  1. Data depends on chunk and version only: two runs make the same disks.
 *  2. `open` and `read` are one process each: nothing is open or cached before them but what the page cache holds.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "repo/session.h"

#include "base/banned.h"

DEFINE_CLEANUP(repo_stream, repo_stream_free)

#define CHUNK CHUNK_SIZE_DEFAULT
#define DAY 86400
#define FIRST_TIME ((int64_t)1700000000)

static uint64_t next_random(uint64_t *state) /* xorshift64*, Vigna 2016 */
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

static void fill_chunk(uint8_t *p, uint64_t chunk, uint64_t version)
{
	uint64_t state = (chunk + 1) * 0x9e3779b97f4a7c15ull + version * 0x7feb352d4f6cdd1dull + 1;
	uint64_t common[4], v;

	for (int i = 0; i < 4; i++)
		common[i] = next_random(&state);
	for (size_t at = 0; at < CHUNK; at += 64) {
		for (size_t k = 0; k < 32; k += 8) {
			v = next_random(&state);
			memcpy(p + at + k, &v, 8);
		}
		memcpy(p + at + 32, common, 32);
	}
}

static int print(struct jval *v, struct err *err)
{
	cleanup_buf struct buf b = BUF_INIT;
	int r = jval_print(v, false, &b, err);

	if (r == 0)
		puts(buf_str(&b));
	return r;
}

static int open_repo(const char *path, enum repo_mode mode, struct repo **out, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	int ret = repo_open(path, mode, &r, err);

	if (ret == 0 && repo_is_locked(r))
		ret = err_set(err, ERR_KEY, "'%s': only plain repositories", path);
	if (ret == 0)
		ret = repo_start(r, 0, 0, err);
	if (ret == 0)
		*out = steal_ptr(r);
	return ret;
}

/* --- make --- */

struct shape {
	uint64_t size, every;
	unsigned points;
	double percent;
};

static int put_chunks(struct repo_session *s, uint64_t chunk, uint64_t count, uint64_t version,
		      struct err *err)
{
	while (count) {
		uint64_t n = MIN(count, SESSION_BUFFER / CHUNK);
		uint8_t *buffer;
		int r = session_buffer(s, &buffer, err);

		if (r < 0)
			return r;
		for (uint64_t i = 0; i < n; i++)
			fill_chunk(buffer + i * CHUNK, chunk + i, version);
		r = session_disk_write(s, buffer, chunk * CHUNK, n * CHUNK, err);
		if (r < 0)
			return r;
		chunk += n;
		count -= n;
	}
	return 0;
}

/* All of the disk: data as it must be in version 0, else what the draw chose, the rest unchanged. */
static int put_disk(struct repo_session *s, const struct shape *shape, unsigned version,
		    uint64_t *state, struct err *err)
{
	uint64_t step = shape->every / CHUNK, chunks = shape->size / CHUNK, kept = 0;
	int r = 0;

	for (uint64_t at = 0; at < chunks && r == 0; at += step) {
		bool draw = version == 0 ||
			    (double)(next_random(state) >> 11) * 0x1p-53 * 100 < shape->percent;

		if (!draw)
			continue;
		if (at > kept)
			r = version ? session_disk_unchanged(s, kept * CHUNK, (at - kept) * CHUNK,
							     err) :
				      session_disk_hole(s, kept * CHUNK, (at - kept) * CHUNK, err);
		if (r == 0)
			r = put_chunks(s, at, 1, version, err);
		kept = at + 1;
	}
	if (r == 0 && kept < chunks)
		r = version ?
			    session_disk_unchanged(s, kept * CHUNK, (chunks - kept) * CHUNK, err) :
			    session_disk_hole(s, kept * CHUNK, (chunks - kept) * CHUNK, err);
	return r;
}

static int one_point(struct repo *r, const char *name, const struct shape *shape, unsigned version,
		     uint64_t *state, struct session_result *result, struct err *err)
{
	cleanup_ptr(repo_session) s = NULL;
	struct session_spec spec = { .name = name, .compression = -1 };
	struct disk_spec disk = { .name = "vda",
				  .size = shape->size,
				  .method = version ? METHOD_MAP : METHOD_FULL };
	struct publish_spec publish = { .time = FIRST_TIME + (int64_t)version * DAY,
					.consistency = CONSISTENCY_CRASH };
	int ret = repo_session_begin(r, &spec, &s, err);

	if (ret == 0)
		ret = session_disk_begin(s, &disk, err);
	if (ret == 0)
		ret = put_disk(s, shape, version, state, err);
	if (ret == 0)
		ret = session_disk_end(s, shape->size, 0, err);
	return ret < 0 ? ret : repo_session_publish(steal_ptr(s), &publish, result, err);
}

static int parse_shape(char **argv, struct shape *shape)
{
	return parse_size(argv[0], &shape->size) && parse_size(argv[1], &shape->every) &&
	       shape->every && shape->every % CHUNK == 0 && shape->size % shape->every == 0;
}

static int make_main(int argc, char **argv, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	cleanup_ptr(jval) v = jval_object();
	struct session_result first = { 0 }, last = { 0 };
	uint64_t points, state = 1, begun = time_mono_ns();
	struct shape shape;
	int ret;

	if (argc != 6 || !parse_shape(argv + 2, &shape) || !parse_u64(argv[4], &points) || !points)
		return err_set(err, ERR_USAGE, "make REPO NAME SIZE EVERY POINTS PERCENT");
	shape.points = (unsigned)points;
	shape.percent = strtod(argv[5], NULL);
	ret = open_repo(argv[0], REPO_WRITE, &r, err);
	for (unsigned i = 0; i < shape.points && ret == 0; i++)
		ret = one_point(r, argv[1], &shape, i, &state, i ? &last : &first, err);
	if (ret < 0)
		return ret;
	jval_set(v, "first", jval_str(first.point));
	jval_set(v, "latest", jval_str(shape.points > 1 ? last.point : first.point));
	jval_set(v, "points", jval_uint(points));
	jval_set(v, "seconds", jval_real((double)(time_mono_ns() - begun) / 1e9));
	return print(v, err);
}

/* --- image, change --- */

static int image_main(int argc, char **argv, struct err *err)
{
	cleanup_free uint8_t *p = mem_alloc(CHUNK);
	cleanup_fd int fd = -1;
	struct shape shape;
	int r = 0;

	if (argc != 3 || !p || !parse_shape(argv + 1, &shape))
		return err_set(err, ERR_USAGE, "image FILE SIZE EVERY");
	fd = file_open(argv[0], O_RDWR | O_CREAT | O_TRUNC, 0644, err);
	if (fd < 0)
		return fd;
	if (ftruncate(fd, (off_t)shape.size) < 0)
		return err_set(err, ERR_IO, "'%s' cannot have that size: %m", argv[0]);
	for (uint64_t at = 0; at < shape.size && r == 0; at += shape.every) {
		fill_chunk(p, at / CHUNK, 0);
		r = file_pwrite(fd, p, CHUNK, at, argv[0], NULL, err);
	}
	return r;
}

static int change_main(int argc, char **argv, struct err *err)
{
	cleanup_free uint8_t *p = mem_alloc(CHUNK);
	uint64_t count, seed, places, state;
	cleanup_fd int fd = -1;
	struct shape shape;
	int r = 0;

	if (argc != 5 || !p || !parse_shape(argv + 1, &shape) || !parse_u64(argv[3], &count) ||
	    !count || !parse_u64(argv[4], &seed))
		return err_set(err, ERR_USAGE, "change FILE SIZE EVERY COUNT SEED");
	places = shape.size / shape.every;
	if (count > places)
		return err_set(err, ERR_USAGE, "only %" PRIu64 " chunks have data", places);
	fd = file_open(argv[0], O_RDWR, 0, err);
	if (fd < 0)
		return fd;
	state = seed + 1;
	for (uint64_t i = 0; i < count && r == 0; i++) {
		/* one in each of `count` equal parts: no chunk twice, any distance */
		uint64_t from = places * i / count, to = places * (i + 1) / count;
		uint64_t at = (from + next_random(&state) % (to - from)) * shape.every;

		fill_chunk(p, at / CHUNK, seed + 1);
		r = file_pwrite(fd, p, CHUNK, at, argv[0], NULL, err);
		printf("{\"start\":%" PRIu64 ",\"length\":%u}\n", at, CHUNK);
	}
	return r;
}

struct ranges {
	int fd;
	const char *path;
	uint8_t *data; /* CHUNK bytes */
};

static int read_range(void *opaque, const struct jval *object, struct err *err)
{
	const struct ranges *x = opaque;
	uint64_t start, length;

	if (!jval_as_uint(jval_get(object, "start"), &start) ||
	    !jval_as_uint(jval_get(object, "length"), &length) || length > CHUNK)
		return err_set(err, ERR_INVALID, "not a range of ours");
	return file_pread(x->fd, x->data, length, start, x->path, err);
}

static int ranges_main(int argc, char **argv, struct err *err)
{
	cleanup_free uint8_t *data = mem_alloc(CHUNK);
	cleanup_fd int fd = -1, list = -1;

	if (argc != 2 || !data)
		return err_set(err, ERR_USAGE, "ranges FILE RANGES");
	fd = file_open(argv[0], O_RDONLY, 0, err);
	list = fd < 0 ? fd : file_open(argv[1], O_RDONLY, 0, err);
	if (list < 0)
		return list;
	return json_stream_each(list, argv[1], read_range,
				&(struct ranges){ .fd = fd, .path = argv[0], .data = data }, err);
}

/* --- open, read --- */

static int open_disk(struct repo *r, const char *text, struct repo_point **point,
		     struct repo_disk **disk, struct err *err)
{
	__attribute__((cleanup(repo_spec_release))) struct repo_spec spec = { 0 };
	int ret = repo_resolve(r, text, &spec, err);

	if (ret == 0)
		ret = repo_point_open(r, spec.row.id, point, err);
	return ret < 0 ? ret : repo_disk_open(*point, NULL, disk, err);
}

static int open_main(int argc, char **argv, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	cleanup_ptr(repo_point) point = NULL;
	cleanup_ptr(repo_disk) disk = NULL;
	cleanup_ptr(jval) v = jval_object();
	uint64_t begun = time_mono_ns(), opened, pointed, end;
	uint8_t data[4096];
	int ret;

	if (argc != 2)
		return err_set(err, ERR_USAGE, "open REPO POINT");
	ret = open_repo(argv[0], REPO_READ, &r, err);
	opened = time_mono_ns();
	if (ret == 0)
		ret = open_disk(r, argv[1], &point, &disk, err);
	pointed = time_mono_ns();
	if (ret == 0) /* a chunk of data of the last leaf: nothing that opening has touched */
		ret = repo_disk_read(disk, data, sizeof(data),
				     (repo_disk_size(disk) - 1) / (64 * MiB) * (64 * MiB), err);
	end = time_mono_ns();
	if (ret < 0)
		return ret;
	jval_set(v, "repo_ms", jval_real((double)(opened - begun) / 1e6));
	jval_set(v, "point_ms", jval_real((double)(pointed - opened) / 1e6));
	jval_set(v, "read_ms", jval_real((double)(end - pointed) / 1e6));
	jval_set(v, "all_ms", jval_real((double)(end - begun) / 1e6));
	return print(v, err);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int read_all(struct repo_disk *d, bool sequential, uint64_t count, uint64_t *ns,
		    struct err *err)
{
	size_t n = sequential ? MiB : 4 * KiB;
	cleanup_ptr(repo_stream) stream = NULL;
	cleanup_free uint8_t *data = mem_alloc(n);
	uint64_t state = 7, blocks = repo_disk_size(d) / n;
	int r = data ? repo_stream_new(d, &stream, err) : err_nomem(err, "buffer");

	for (uint64_t i = 0; i < count && r == 0; i++) {
		uint64_t at = (sequential ? i : next_random(&state) % blocks) * n,
			 begun = time_mono_ns();

		repo_stream_hint(stream, at, n);
		r = repo_disk_read(d, data, n, at, err);
		ns[i] = time_mono_ns() - begun;
	}
	return r;
}

static int read_main(int argc, char **argv, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	cleanup_ptr(repo_point) point = NULL;
	cleanup_ptr(repo_disk) disk = NULL;
	cleanup_ptr(jval) v = jval_object();
	cleanup_free uint64_t *ns = NULL;
	uint64_t count, all = 0;
	bool sequential;
	int ret;

	if (argc != 4 || !parse_u64(argv[3], &count) || !count)
		return err_set(err, ERR_USAGE, "read REPO POINT random|sequential COUNT");
	sequential = strcmp(argv[2], "sequential") == 0;
	ret = open_repo(argv[0], REPO_READ, &r, err);
	if (ret == 0)
		ret = open_disk(r, argv[1], &point, &disk, err);
	if (ret < 0)
		return ret;
	if (sequential)
		count = MIN(count, repo_disk_size(disk) / MiB);
	ns = mem_alloc_array(count, sizeof(*ns));
	ret = ns ? read_all(disk, sequential, count, ns, err) : err_nomem(err, "times");
	if (ret < 0)
		return ret;
	for (uint64_t i = 0; i < count; i++)
		all += ns[i];
	qsort(ns, count, sizeof(*ns), by_value);
	jval_set(v, "count", jval_uint(count));
	jval_set(v, "p50_us", jval_real((double)ns[count / 2] / 1e3));
	jval_set(v, "mean_us", jval_real((double)all / (double)count / 1e3));
	jval_set(v, "mib_s",
		 jval_real((double)count * (sequential ? 1 : 4.0 / 1024) / ((double)all / 1e9)));
	return print(v, err);
}

static int key_main(int argc, char **argv, struct err *err)
{
	const char *passphrase = getenv("LIVEPOINT_PASSPHRASE");
	cleanup_ptr(repo) r = NULL;
	uint8_t key[REPO_KEYS_MAX];
	size_t n;
	int ret;

	if (argc != 1 || !passphrase)
		return err_set(err, ERR_USAGE, "key REPO, with LIVEPOINT_PASSPHRASE");
	ret = repo_open(argv[0], REPO_READ, &r, err);
	if (ret == 0)
		ret = repo_unlock(r, passphrase, strlen(passphrase), true, err);
	if (ret == 0)
		ret = repo_export_key(r, key, &n, err);
	return ret < 0 ? ret : file_write(STDOUT_FILENO, key, n, "stdout", err);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int argc, char **argv, struct err *err);
	} commands[] = { { "make", make_main },	    { "image", image_main },
			 { "change", change_main }, { "ranges", ranges_main },
			 { "open", open_main },	    { "read", read_main },
			 { "key", key_main } };
	struct err err = ERR_INIT;

	for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (commands[i].fn(argc - 2, argv + 2, &err) == 0)
			return 0;
		fprintf(stderr, "bench-mapscale %s: %s\n", argv[1], err.text);
		return 1;
	}
	fprintf(stderr,
		"usage: bench-mapscale make|image|change|ranges|open|read|key ARGUMENT...\n");
	return 2;
}
