// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What a first backup and a verify of a file cannot do without, each step alone: bench-primitives [OPTION...] FILE DIR
 *
 *   --suite N    cipher suite (0: ids are SHA-256, XXH3 checks; 1: HMAC-SHA-256 and AES-256-GCM)
 *   --level N    zstd level (1)
 *
 * Goes once through the data of FILE (holes are skipped) in buffers of 1 MiB and chunks of 64 KiB, as a backup does,
 * on one thread, and adds up the CPU seconds (CLOCK_THREAD_CPUTIME_ID) of: read, zero test, content id, compression
 * and sealing of each chunk that had not come before, write to a file without a name in DIR, then reading that back,
 * opening (cipher, zstd, check) and the content id again.  Everything goes through codec/, so that it is the code of
 * the program that is measured.  Prints one JSON object: bytes and seconds.
 *
 *  1. One buffer goes through all its steps before the next one, so that data is as warm in the CPU's caches as in a
 *     backup; what lies between steps (the table of ids seen) is not counted.
 *  2. What is opened again must have its id: a wrong result is an error, not a figure.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "codec/codec.h"

#include "base/banned.h"

#define BUFFER (1u << 20)
#define CHUNK CHUNK_SIZE_DEFAULT
#define CHUNKS (BUFFER / CHUNK)

enum step { READ, ZERO, ID, COMPRESS, SEAL, WRITE, REREAD, OPEN, REID, STEPS };
static const char *const step_names[STEPS] = { "read",	"zero",	  "id",	  "compress", "seal",
					       "write", "reread", "open", "reid" };

struct record {
	struct record_header h;
	uint64_t offset; /* of the payload in the file */
};

struct work {
	int level;
	struct codec_keys *keys;
	struct codec_ctx *ctx;
	struct codec_pack_key *pk;
	int in, out;
	uint64_t out_at, data, unique; /* bytes */
	uint64_t ns[STEPS];
	uint8_t *buffer, *packed, *sealed; /* BUFFER bytes; the last two with room for overhead */
	struct record *records;
	size_t nrecords, cap;
	uint8_t (*seen)[ID_LEN]; /* open addressing; zeroes: free */
	size_t seen_cap;
};

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void charge(struct work *w, enum step step, uint64_t *since)
{
	uint64_t now = cpu_ns();

	w->ns[step] += now - *since;
	*since = cpu_ns();
}

/* Has the id come before?  Remembers it. */
static bool seen_before(struct work *w, const uint8_t id[ID_LEN])
{
	size_t at = get_le64(id) & (w->seen_cap - 1);

	while (!mem_is_zero(w->seen[at], ID_LEN)) {
		if (memcmp(w->seen[at], id, ID_LEN) == 0)
			return true;
		at = (at + 1) & (w->seen_cap - 1);
	}
	memcpy(w->seen[at], id, ID_LEN);
	return false;
}

/* The chunks of one buffer that are neither zero nor known: fills which[], returns their number. */
static int choose(struct work *w, size_t chunks, unsigned which[CHUNKS], uint8_t ids[][ID_LEN],
		  struct err *err)
{
	bool zero[CHUNKS];
	uint64_t t = cpu_ns();
	unsigned n = 0;
	int r = 0;

	for (size_t i = 0; i < chunks; i++)
		zero[i] = mem_is_zero(w->buffer + i * CHUNK, CHUNK);
	charge(w, ZERO, &t);
	for (size_t i = 0; i < chunks && r == 0; i++)
		if (!zero[i])
			r = codec_id(w->ctx, w->buffer + i * CHUNK, CHUNK, ids[i], err);
	charge(w, ID, &t);
	for (unsigned i = 0; i < chunks && r == 0; i++)
		if (!zero[i] && !seen_before(w, ids[i]))
			which[n++] = i;
	return r < 0 ? r : (int)n;
}

static int compress_all(struct work *w, unsigned n, const unsigned *which, size_t *lens,
			enum object_codec *codecs, struct err *err)
{
	uint64_t t = cpu_ns();
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++)
		r = codec_compress(w->ctx, w->level, w->buffer + which[i] * CHUNK, CHUNK,
				   w->packed + i * CHUNK, CHUNK, &codecs[i], &lens[i], err);
	charge(w, COMPRESS, &t);
	return r;
}

static int seal_all(struct work *w, unsigned n, const unsigned *which, const size_t *lens,
		    const enum object_codec *codecs, uint8_t ids[][ID_LEN], size_t *total,
		    struct err *err)
{
	uint64_t t = cpu_ns();
	size_t at = 0;
	int r = 0;

	for (unsigned i = 0; i < n && r == 0; i++) {
		const uint8_t *plain = w->buffer + which[i] * CHUNK;
		struct record *c = &w->records[w->nrecords++];

		c->h = (struct record_header){ .type = OBJECT_CHUNK,
					       .codec = (uint8_t)codecs[i],
					       .level = (int8_t)(codecs[i] ? w->level : 0),
					       .slot = (uint32_t)i,
					       .plain_len = CHUNK };
		memcpy(c->h.id, ids[which[i]], ID_LEN);
		if (!codec_keys_suite(w->keys)->keyed)
			c->h.xxh3 = check_xxh3(plain, CHUNK);
		r = codec_seal_record(w->ctx, w->pk, &c->h,
				      codecs[i] ? w->packed + i * CHUNK : plain, lens[i],
				      w->sealed + at, err);
		c->offset = w->out_at + at;
		at += c->h.stored_len;
	}
	charge(w, SEAL, &t);
	*total = at;
	return r;
}

static int reserve(struct work *w, struct err *err)
{
	struct record *more;

	if (w->nrecords + CHUNKS <= w->cap)
		return 0;
	more = mem_realloc_array(w->records, w->cap * 2, sizeof(*more));
	if (!more)
		return err_nomem(err, "records");
	w->records = more;
	w->cap *= 2;
	return 0;
}

static int one_buffer(struct work *w, uint64_t offset, size_t n, const char *path, struct err *err)
{
	size_t chunks = div_round_up(n, CHUNK), lens[CHUNKS], total = 0;
	enum object_codec codecs[CHUNKS];
	uint8_t ids[CHUNKS][ID_LEN];
	unsigned which[CHUNKS];
	uint64_t t;
	int r = reserve(w, err), count;

	if (r < 0)
		return r;
	t = cpu_ns();
	r = file_pread(w->in, w->buffer, n, offset, path, err);
	charge(w, READ, &t);
	if (r < 0)
		return r;
	memset(w->buffer + n, 0, chunks * CHUNK - n);
	w->data += n;
	count = choose(w, chunks, which, ids, err);
	if (count < 0)
		return count;
	w->unique += (uint64_t)count * CHUNK;
	r = compress_all(w, (unsigned)count, which, lens, codecs, err);
	if (r == 0)
		r = seal_all(w, (unsigned)count, which, lens, codecs, ids, &total, err);
	t = cpu_ns();
	if (r == 0 && total)
		r = file_pwrite(w->out, w->sealed, total, w->out_at, "the scratch file", NULL, err);
	charge(w, WRITE, &t);
	w->out_at += total;
	return r;
}

/* Data of the file, widened to chunks. */
static int forward(struct work *w, const char *path, struct err *err)
{
	uint64_t size, at = 0, end, t;
	int r = file_size(w->in, &size, path, err);

	while (r == 0 && at < size) {
		off_t start = lseek(w->in, (off_t)at, SEEK_DATA);
		off_t hole = start < 0 ? -1 : lseek(w->in, start, SEEK_HOLE);

		if (start < 0 && errno == ENXIO)
			break;
		if (start < 0 || hole < 0)
			return err_set_errno(err, ERR_IO, errno, "holes of '%s'", path);
		at = MAX(at, (uint64_t)start / CHUNK * CHUNK);
		end = MIN(size, round_up_u64((uint64_t)hole, CHUNK));
		for (; at < end && r == 0; at += MIN(BUFFER, end - at))
			r = one_buffer(w, at, MIN(BUFFER, end - at), path, err);
	}
	t = cpu_ns();
	if (r == 0)
		r = file_datasync(w->out, "the scratch file", NULL, err);
	charge(w, WRITE, &t);
	return r;
}

/* Records of up to 1 MiB at once, as they lie in the file. */
static int backward(struct work *w, struct err *err)
{
	size_t i = 0, k, end;
	uint8_t id[ID_LEN];
	int r = 0;

	while (i < w->nrecords && r == 0) {
		uint64_t start = w->records[i].offset, t = cpu_ns();

		end = MIN(i + CHUNKS, w->nrecords);
		r = file_pread(w->out, w->sealed,
			       w->records[end - 1].offset + w->records[end - 1].h.stored_len -
				       start,
			       start, "the scratch file", err);
		charge(w, REREAD, &t);
		for (k = i; k < end && r == 0; k++)
			r = codec_open_record(w->ctx, w->pk, &w->records[k].h,
					      w->sealed + (w->records[k].offset - start),
					      w->buffer + (k - i) * CHUNK, err);
		charge(w, OPEN, &t);
		for (k = i; k < end && r == 0; k++) {
			r = codec_id(w->ctx, w->buffer + (k - i) * CHUNK, CHUNK, id, err);
			if (r == 0 && memcmp(id, w->records[k].h.id, ID_LEN) != 0)
				r = err_set(err, ERR_INTERNAL, "a chunk came back different");
		}
		charge(w, REID, &t);
		i = end;
	}
	return r;
}

static int prepare(struct work *w, unsigned suite, const char *path, const char *dir,
		   struct err *err)
{
	static const uint8_t uuid[UUID_LEN] = "bench";
	uint8_t salt[SALT_LEN] = { 0 }; /* suite 0 has none */
	uint64_t size;
	int r;

	if (suite)
		random_bytes(salt, sizeof(salt));
	w->in = file_open(path, O_RDONLY, 0, err);
	w->out = w->in < 0 ? w->in : file_open(dir, O_TMPFILE | O_RDWR, 0600, err);
	if (w->out < 0)
		return w->out;
	r = file_size(w->in, &size, path, err);
	if (r < 0)
		return r;
	for (w->seen_cap = 1024; w->seen_cap < 2 * (size / CHUNK); w->seen_cap *= 2)
		;
	w->seen = mem_alloc_array(w->seen_cap, ID_LEN);
	w->cap = 1024;
	w->records = mem_alloc_array(w->cap, sizeof(*w->records));
	w->buffer = mem_alloc(BUFFER);
	w->packed = mem_alloc(BUFFER);
	w->sealed = mem_alloc(BUFFER + CHUNKS * TAG_MAX);
	if (!w->seen || !w->records || !w->buffer || !w->packed || !w->sealed)
		return err_nomem(err, "buffers");
	r = suite ? codec_keys_generate(suite, uuid, &w->keys, err) :
		    codec_keys_plain(uuid, &w->keys, err);
	if (r == 0)
		r = codec_ctx_new(w->keys, &w->ctx, err);
	return r < 0 ? r :
		       codec_pack_key_new(w->keys, salt, codec_keys_epoch(w->keys), 1, &w->pk, err);
}

static void release(struct work *w)
{
	codec_pack_key_free(w->pk);
	codec_ctx_free(w->ctx);
	codec_keys_free(w->keys);
	base_cleanup_fd(&w->in);
	base_cleanup_fd(&w->out);
	free(w->buffer);
	free(w->packed);
	free(w->sealed);
	free(w->records);
	free(w->seen);
}

static int report(const struct work *w, struct err *err)
{
	cleanup_ptr(jval) v = jval_object();
	cleanup_buf struct buf b = BUF_INIT;
	double all = 0;
	int r;

	jval_set(v, "data_bytes", jval_uint(w->data));
	jval_set(v, "unique_bytes", jval_uint(w->unique));
	jval_set(v, "stored_bytes", jval_uint(w->out_at));
	for (int i = 0; i < STEPS; i++) {
		jval_set(v, step_names[i], jval_real((double)w->ns[i] / 1e9));
		all += (double)w->ns[i] / 1e9;
	}
	jval_set(v, "sum", jval_real(all));
	r = jval_print(v, false, &b, err);
	if (r == 0)
		puts(buf_str(&b));
	return r;
}

int main(int argc, char **argv)
{
	struct work w = { .level = 1, .in = -1, .out = -1 };
	struct err err = ERR_INIT;
	unsigned suite = 0;
	int i, r;

	for (i = 1; i + 3 < argc && str_starts(argv[i], "--"); i += 2) {
		if (strcmp(argv[i], "--suite") == 0)
			suite = (unsigned)strtoul(argv[i + 1], NULL, 10);
		else if (strcmp(argv[i], "--level") == 0)
			w.level = (int)strtol(argv[i + 1], NULL, 10);
		else
			break;
	}
	if (argc - i != 2 || str_starts(argv[i], "--")) {
		fprintf(stderr, "usage: bench-primitives [--suite N] [--level N] FILE DIR\n");
		return 2;
	}
	r = prepare(&w, suite, argv[i], argv[i + 1], &err);
	if (r == 0)
		r = forward(&w, argv[i], &err);
	if (r == 0)
		r = backward(&w, &err);
	if (r == 0)
		r = report(&w, &err);
	release(&w);
	if (r < 0) {
		fprintf(stderr, "bench-primitives: %s\n", err.text);
		return 1;
	}
	return 0;
}
