// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Measures the primitives of a backup and of a read on this machine, each alone, one thread.
 *
 * How: a sample of made-up data (words of a small language, numbers, and a quarter of random bytes, which
 * together compress about as disks do) is cut into chunks; each primitive goes through all of them again and
 * again until the time is up.  The disk is measured with a file that has no name, so that nothing stays.
 *
 * Invariants:
 *  1. Each row has worked on all of the sample at least once, so that ratios are of the same data.
 *  2. What was sealed is opened again and compared: a wrong result is an error, not a figure.
 */
#include "repo/benchmark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/codec.h"
#include "format/format.h"

#include "base/banned.h"

#define SAMPLE_BYTES (8u << 20)
#define FILE_BYTES_DEFAULT (256 * MiB)
#define IO_BYTES (1u << 20)
#define PIECES_MIN 64 /* of random reads, however short the time */
#define SEED 0x4c504e5453414d50ull

struct bench {
	const struct benchmark_spec *spec;
	struct benchmark_row *rows;
	size_t count;
	uint32_t chunk; /* bytes */
	size_t nchunks;
	uint8_t *sample; /* SAMPLE_BYTES */
	uint8_t *packed; /* nchunks slots of chunk + TAG_MAX bytes */
	uint8_t *out; /* one chunk */
	struct record_header *headers; /* nchunks */
	size_t *packed_len; /* nchunks: 0: stored raw */
	struct codec_keys *plain, *keyed;
	struct codec_ctx *plain_ctx, *keyed_ctx;
	struct codec_pack_key *pack_key;
};

static void bench_release(struct bench *b)
{
	codec_pack_key_free(b->pack_key);
	codec_ctx_free(b->plain_ctx);
	codec_ctx_free(b->keyed_ctx);
	codec_keys_free(b->plain);
	codec_keys_free(b->keyed);
	free(b->sample);
	free(b->packed);
	free(b->out);
	free(b->headers);
	free(b->packed_len);
}

/* xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators"). */
static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* Three of four 4 KiB blocks are text, the fourth is random. */
static void fill_sample(uint8_t *p, size_t n)
{
	static const char *const words[] = {
		"the ",	   "disk ",  "of ",	"and ", "/usr/lib/", "return ",
		"error: ", "0x",     "struct ", "int ", "\n",	     "\t",
		"config.", "value=", "from ",	"to ",	"package",   "version",
		"http",	   "index",  "size",	"<td>", "</td>",     "\0\0\0\0",
	};
	uint64_t state = SEED;
	size_t i = 0, k, len;

	while (i < n) {
		uint64_t x = next_random(&state);

		if ((i >> 12) % 4 == 3) {
			p[i++] = (uint8_t)x;
			continue;
		}
		if (x % 5 == 0) {
			p[i++] = (uint8_t)('0' + (x >> 8) % 10);
			continue;
		}
		k = (x >> 16) % ARRAY_SIZE(words);
		len = MIN(words[k][0] ? strlen(words[k]) : 4, n - i);
		memcpy(p + i, words[k], len);
		i += len;
	}
}

static int bench_prepare(struct bench *b, struct err *err)
{
	static const uint8_t uuid[UUID_LEN] = "benchmark";
	uint8_t salt[SALT_LEN];
	int r;

	b->chunk = b->spec->chunk_size ? b->spec->chunk_size : CHUNK_SIZE_DEFAULT;
	b->nchunks = SAMPLE_BYTES / b->chunk;
	b->sample = mem_alloc(SAMPLE_BYTES);
	b->packed = mem_alloc_array(b->nchunks, b->chunk + TAG_MAX);
	b->out = mem_alloc(b->chunk + TAG_MAX);
	b->headers = mem_alloc_array(b->nchunks, sizeof(*b->headers));
	b->packed_len = mem_alloc_array(b->nchunks, sizeof(*b->packed_len));
	if (!b->sample || !b->packed || !b->out || !b->headers || !b->packed_len)
		return err_nomem(err, "benchmark");
	fill_sample(b->sample, SAMPLE_BYTES);
	random_bytes(salt, sizeof(salt));
	r = codec_keys_plain(uuid, &b->plain, err);
	if (r >= 0)
		r = codec_keys_generate(1, uuid, &b->keyed, err);
	if (r >= 0)
		r = codec_ctx_new(b->plain, &b->plain_ctx, err);
	if (r >= 0)
		r = codec_ctx_new(b->keyed, &b->keyed_ctx, err);
	if (r >= 0)
		r = codec_pack_key_new(b->keyed, salt, codec_keys_epoch(b->keyed), 1, &b->pack_key,
				       err);
	return r;
}

/* One primitive on one chunk; level is the row's. Returns stored bytes (0: not about that) or a code. */
typedef int (*step_fn)(struct bench *b, size_t chunk, int level, struct err *err);

/* Goes through the sample until the time is up and adds the row. */
static int measure(struct bench *b, const char *name, const char *what, step_fn step, int level,
		   struct err *err)
{
	uint64_t begun = time_mono_ns(), rounds = 0, stored = 0, spent;
	size_t i;
	int r;

	do {
		stored = 0;
		for (i = 0; i < b->nchunks; i++) {
			r = step(b, i, level, err);
			if (r < 0)
				return err_prefix(err, "benchmark of %s", name);
			stored += (uint64_t)r;
			if (b->spec->stop && *b->spec->stop)
				return err_set(err, *b->spec->stop, "benchmark of %s: stopped",
					       name);
		}
		rounds++;
		spent = time_mono_ns() - begun;
	} while (spent < (uint64_t)b->spec->millis * 1000000);
	b->rows[b->count++] = (struct benchmark_row){
		.name = name,
		.what = what,
		.bytes = rounds * b->nchunks * b->chunk,
		.seconds = (double)spent / 1e9,
		.ratio = stored ? (double)b->nchunks * b->chunk / (double)stored : 0,
	};
	return 0;
}

static const uint8_t *chunk_of(const struct bench *b, size_t i)
{
	return b->sample + i * b->chunk;
}

static uint8_t *packed_of(const struct bench *b, size_t i)
{
	return b->packed + i * (b->chunk + TAG_MAX);
}

/* A chunk of zeroes but for its last byte: the dearest answer. */
static int step_zero(struct bench *b, size_t i, int level, struct err *err)
{
	(void)i;
	(void)level;
	b->out[b->chunk - 1] = 1;
	return mem_is_zero(b->out, b->chunk) ? err_set(err, ERR_INTERNAL, "zero test is wrong") : 0;
}

static int step_xxh3(struct bench *b, size_t i, int level, struct err *err)
{
	(void)level;
	(void)err;
	b->headers[i].xxh3 = check_xxh3(chunk_of(b, i), b->chunk);
	return 0;
}

static int step_sha256(struct bench *b, size_t i, int level, struct err *err)
{
	(void)level;
	return codec_id(b->plain_ctx, chunk_of(b, i), b->chunk, b->headers[i].id, err);
}

static int step_hmac(struct bench *b, size_t i, int level, struct err *err)
{
	(void)level;
	return codec_id(b->keyed_ctx, chunk_of(b, i), b->chunk, b->headers[i].id, err);
}

static int step_compress(struct bench *b, size_t i, int level, struct err *err)
{
	enum object_codec codec;
	size_t n = 0;
	int r = codec_compress(b->plain_ctx, level, chunk_of(b, i), b->chunk, b->out, b->chunk,
			       &codec, &n, err);

	return r < 0 ? r : (int)n;
}

/* Seals raw bytes, so that the row is the cipher alone. */
static int step_seal(struct bench *b, size_t i, int level, struct err *err)
{
	struct record_header *h = &b->headers[i];
	int r;

	(void)level;
	h->type = OBJECT_CHUNK;
	h->codec = CODEC_RAW;
	h->level = 0;
	h->slot = (uint32_t)i;
	h->plain_len = b->chunk;
	r = codec_seal_record(b->keyed_ctx, b->pack_key, h, chunk_of(b, i), b->chunk,
			      packed_of(b, i), err);
	return r < 0 ? r : 0;
}

static int step_open(struct bench *b, size_t i, int level, struct err *err)
{
	int r;

	(void)level;
	r = codec_open_record(b->keyed_ctx, b->pack_key, &b->headers[i], packed_of(b, i), b->out,
			      err);
	if (r < 0)
		return r;
	if (memcmp(b->out, chunk_of(b, i), b->chunk) != 0)
		return err_set(err, ERR_INTERNAL, "the opened chunk differs");
	return 0;
}

/* Compress and seal all chunks once: what step_read then reads. */
static int pack_sample(struct bench *b, struct err *err)
{
	size_t i, n = 0;
	int r;

	for (i = 0; i < b->nchunks; i++) {
		struct record_header *h = &b->headers[i];
		enum object_codec codec;
		const uint8_t *payload = chunk_of(b, i);

		r = codec_compress(b->keyed_ctx, compression_level(COMPRESSION_DEFAULT), payload,
				   b->chunk, b->out, b->chunk, &codec, &n, err);
		if (r < 0)
			return r;
		h->codec = (uint8_t)codec;
		h->level = codec == CODEC_RAW ? 0 : (int8_t)compression_level(COMPRESSION_DEFAULT);
		r = codec_seal_record(b->keyed_ctx, b->pack_key, h,
				      codec == CODEC_RAW ? payload : b->out, n, packed_of(b, i),
				      err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int measure_codec(struct bench *b, struct err *err)
{
	static const struct {
		const char *name, *what;
		enum compression compression;
	} levels[] = {
		{ "compress-fast", "zstd, --compression fast", COMPRESSION_FAST },
		{ "compress-default", "zstd, --compression default", COMPRESSION_DEFAULT },
		{ "compress-better", "zstd, --compression better", COMPRESSION_BETTER },
		{ "compress-best", "zstd, --compression best", COMPRESSION_BEST },
	};
	static const struct {
		const char *name, *what;
		step_fn step;
	} hashes[] = {
		{ "zero-test", "is a chunk all zeroes", step_zero },
		{ "xxh3", "check of plain records", step_xxh3 },
		{ "sha256", "content id, not encrypted", step_sha256 },
		{ "hmac-sha256", "content id, encrypted", step_hmac },
		{ "seal", "AES-256-GCM", step_seal },
		{ "open", "AES-256-GCM, checked", step_open },
	};
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(hashes) && r >= 0; i++)
		r = measure(b, hashes[i].name, hashes[i].what, hashes[i].step, 0, err);
	for (i = 0; i < ARRAY_SIZE(levels) && r >= 0; i++)
		r = measure(b, levels[i].name, levels[i].what, step_compress,
			    compression_level(levels[i].compression), err);
	if (r >= 0)
		r = pack_sample(b, err);
	return r < 0 ? r :
		       measure(b, "read-chunk", "open and decompress, as a reader does", step_open,
			       0, err);
}

/* A file that is gone when it is closed, or when we are killed. */
static int nameless_file(const char *dir, struct err *err)
{
	cleanup_free char *path = NULL;
	int fd = file_open(dir, O_TMPFILE | O_RDWR, 0600, NULL);

	if (fd >= 0)
		return fd;
	/* some file systems have no O_TMPFILE */
	path = str_printf("%s/benchmark-%d.tmp", dir, (int)getpid());
	if (!path)
		return err_nomem(err, "benchmark");
	fd = file_create(path, "repo.benchmark.create", err);
	if (fd >= 0)
		file_unlink(path, "repo.benchmark.unlink", NULL);
	return fd;
}

static void add_disk_row(struct bench *b, const char *name, const char *what, uint64_t bytes,
			 uint64_t begun)
{
	b->rows[b->count++] = (struct benchmark_row){
		.name = name,
		.what = what,
		.bytes = bytes,
		.seconds = (double)(time_mono_ns() - begun) / 1e9,
	};
}

/* Reads `count` pieces of n bytes, in order or anywhere. */
static int read_pieces(struct bench *b, int fd, uint64_t size, size_t n, bool anywhere,
		       uint64_t *done, struct err *err)
{
	uint64_t state = SEED, end = time_mono_ns() + (uint64_t)b->spec->millis * 1000000;
	uint64_t pieces = size / n, i;
	cleanup_free uint8_t *piece = mem_alloc(n);
	int r;

	if (!piece)
		return err_nomem(err, "benchmark");
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (anywhere)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (i = 0; i < pieces && (!anywhere || i < PIECES_MIN || time_mono_ns() < end); i++) {
		uint64_t at = (anywhere ? next_random(&state) % pieces : i) * n;

		r = file_pread(fd, piece, n, at, b->spec->dir, err);
		if (r < 0)
			return r;
		if (b->spec->stop && *b->spec->stop)
			return err_set(err, *b->spec->stop, "benchmark of the disk: stopped");
	}
	*done = i * n;
	return 0;
}

static int measure_disk(struct bench *b, struct err *err)
{
	cleanup_fd int fd = nameless_file(b->spec->dir, err);
	uint64_t size = b->spec->file_bytes ? b->spec->file_bytes : FILE_BYTES_DEFAULT, at,
		 done = 0, begun;
	int r;

	if (fd < 0)
		return err_prefix(err, "benchmark of the disk in '%s'", b->spec->dir);
	begun = time_mono_ns();
	for (at = 0; at < size; at += IO_BYTES) {
		r = file_pwrite(fd, b->sample + at % SAMPLE_BYTES, IO_BYTES, at, b->spec->dir,
				"repo.benchmark.write", err);
		if (r < 0)
			return r;
		if (b->spec->stop && *b->spec->stop)
			return err_set(err, *b->spec->stop, "benchmark of the disk: stopped");
	}
	r = file_datasync(fd, b->spec->dir, "repo.benchmark.sync", err);
	if (r < 0)
		return r;
	add_disk_row(b, "disk-write", "in order, 1 MiB, with sync", at, begun);
	begun = time_mono_ns();
	r = read_pieces(b, fd, size, IO_BYTES, false, &done, err);
	if (r < 0)
		return r;
	add_disk_row(b, "disk-read", "in order, 1 MiB, cache dropped", done, begun);
	begun = time_mono_ns();
	r = read_pieces(b, fd, size, b->chunk, true, &done, err);
	if (r < 0)
		return r;
	add_disk_row(b, "disk-read-chunks", "anywhere, one chunk at a time", done, begun);
	return 0;
}

int repo_benchmark(const struct benchmark_spec *spec, struct benchmark_row rows[BENCHMARK_ROWS_MAX],
		   size_t *count, struct err *err)
{
	struct bench b = { .spec = spec, .rows = rows };
	int r;

	r = bench_prepare(&b, err);
	if (r >= 0)
		r = measure_codec(&b, err);
	if (r >= 0)
		r = measure_disk(&b, err);
	bench_release(&b);
	if (r < 0)
		return r;
	*count = b.count;
	return 0;
}
