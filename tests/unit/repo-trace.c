/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Boot traces (repo/trace.h): what was read is brought into the cache for the next reader, in bounds; a trace that is
 * damaged, of another disk or beyond a smaller disk costs nothing but itself; nothing in it is readable without the key.
 */
#include "tests/unit/repo-help.h"

#include "format/sidefile.h"
#include "repo/internal.h"
#include "repo/overlay.h"
#include "repo/trace.h"

#include "base/banned.h"

#define CHUNKS 96u
#define DISK_BYTES (CHUNKS * (uint64_t)CHUNK)

struct fixture {
	char dir[64], path[96];
	uint8_t id[POINT_ID_LEN];
	struct repo *repo;
	struct repo_point *point;
	struct repo_disk *disk;
};

static void backup(struct fixture *f, uint64_t size, bool full)
{
	struct repo *r = help_open(f->path, REPO_WRITE, 1);
	struct session_spec spec = { .name = "web1", .compression = -1, .full = full };
	struct disk_spec disk = { .name = "vda", .size = size };
	struct publish_spec publish = { 0 };
	struct session_result result;
	struct repo_session *s;
	struct err err = ERR_INIT;
	uint8_t *buffer;

	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	for (uint64_t at = 0; at < size; at += CHUNK) {
		ok(session_buffer(s, &buffer, &err));
		help_random(buffer, CHUNK, at + 1);
		ok(session_disk_write(s, buffer, at, CHUNK, &err));
	}
	ok(session_disk_end(s, size, size, &err));
	ok(repo_session_publish(s, &publish, &result, &err));
	memcpy(f->id, result.id, sizeof(f->id));
	repo_close(r);
}

static void open_disk(struct fixture *f, uint64_t cache)
{
	struct err err = ERR_INIT;

	ok(repo_open(f->path, REPO_READ, &f->repo, &err));
	if (repo_is_locked(f->repo))
		ok(repo_unlock(f->repo, PASS, strlen(PASS), true, &err));
	ok(repo_start(f->repo, cache, 2, &err));
	ok(repo_point_open(f->repo, f->id, &f->point, &err));
	ok(repo_disk_open(f->point, "vda", &f->disk, &err));
}

static void close_disk(struct fixture *f)
{
	repo_disk_close(f->disk);
	repo_point_close(f->point);
	repo_close(f->repo);
}

static void prepare(struct fixture *f, bool encrypted)
{
	help_dir(f->dir);
	snprintf(f->path, sizeof(f->path), "%s/r", f->dir);
	help_init(f->path, encrypted);
	backup(f, DISK_BYTES, false);
}

static void read_chunk(struct fixture *f, struct repo_trace *t, uint64_t chunk)
{
	uint8_t got[CHUNK], want[CHUNK];
	struct err err = ERR_INIT;

	repo_trace_note(t, chunk * CHUNK, CHUNK);
	ok(repo_disk_read(f->disk, got, CHUNK, chunk * CHUNK, &err));
	help_random(want, CHUNK, chunk * CHUNK + 1);
	assert_memory_equal(got, want, CHUNK);
}

/* Reads every third chunk, from the end to the start. */
static void record(struct fixture *f)
{
	struct repo_trace *t;

	open_disk(f, 64 * MiB);
	t = repo_trace_start(f->disk, true);
	assert_non_null(t);
	for (uint64_t chunk = CHUNKS; chunk >= 3; chunk -= 3)
		read_chunk(f, t, chunk - 3);
	repo_trace_end(t);
	close_disk(f);
}

static bool cached(struct fixture *f, uint64_t chunk)
{
	uint64_t locator;
	struct err err = ERR_INIT;

	ok(disk_locators(f->disk, chunk, 1, &locator, &err));
	return cache_has(f->repo->chunks, locator);
}

static unsigned count_cached(struct fixture *f, unsigned chunks)
{
	unsigned n = 0;

	for (uint64_t chunk = 0; chunk < chunks; chunk++)
		n += cached(f, chunk);
	return n;
}

/* Waits, ten seconds at most, until so many are there. */
static void wait_cached(struct fixture *f, unsigned chunks, unsigned want)
{
	for (unsigned i = 0; i < 10000 && count_cached(f, chunks) < want; i++)
		usleep(1000);
	assert_int_equal(count_cached(f, chunks), want);
}

static void trace_file(const struct fixture *f, char path[160])
{
	snprintf(path, 160, "%s/traces/web1~vda.trace", f->path);
}

static void brings_what_was_read(bool encrypted)
{
	struct fixture f;
	struct repo_trace *t;

	prepare(&f, encrypted);
	record(&f);
	open_disk(&f, 64 * MiB);
	t = repo_trace_start(f.disk, true);
	wait_cached(&f, CHUNKS, CHUNKS / 3);
	for (uint64_t chunk = 0; chunk < CHUNKS; chunk++)
		assert_int_equal(cached(&f, chunk), chunk % 3 == 0);
	/* the first three are new to the trace, and in the order of reading */
	read_chunk(&f, t, 1);
	repo_trace_end(t);
	close_disk(&f);
	help_remove(f.dir);
}

static void plain(void **state)
{
	(void)state;
	brings_what_was_read(false);
}

static void encrypted(void **state)
{
	(void)state;
	brings_what_was_read(true);
}

static void stays_ahead_in_bounds(void **state)
{
	struct fixture f;
	struct repo_trace *t;
	const uint64_t cache = 16 * CHUNK * 2; /* half of it: 16 chunks */

	(void)state;
	prepare(&f, false);
	record(&f);
	open_disk(&f, cache);
	t = repo_trace_start(f.disk, true);
	for (unsigned i = 0; i < 2000 && count_cached(&f, CHUNKS) < 16; i++)
		usleep(1000);
	usleep(50000);
	assert_in_range(count_cached(&f, CHUNKS), 1, 16);
	/* the guest reads on: the rest follows, and nothing waits for ever */
	for (uint64_t chunk = CHUNKS; chunk >= 3; chunk -= 3)
		read_chunk(&f, t, chunk - 3);
	repo_trace_end(t);
	close_disk(&f);
	help_remove(f.dir);
}

static void smaller_disk(void **state)
{
	struct fixture f;
	struct repo_trace *t;

	(void)state;
	prepare(&f, false);
	record(&f);
	backup(&f, 12 * CHUNK, true);
	open_disk(&f, 64 * MiB);
	t = repo_trace_start(f.disk, true);
	wait_cached(&f, 12, 4);
	repo_trace_end(t);
	close_disk(&f);
	help_remove(f.dir);
}

/* Each byte of the file changed: no error, no wrong byte, at most nothing brought. */
static void damaged(void **state)
{
	struct fixture f;
	struct buf file = BUF_INIT;
	struct err err = ERR_INIT;
	struct repo_trace *t;
	char path[160];

	(void)state;
	prepare(&f, true);
	record(&f);
	trace_file(&f, path);
	ok(file_read_all(path, SIDEFILE_MAX, &file, &err));
	open_disk(&f, 64 * MiB);
	for (size_t i = 0; i < file.len; i += 7) {
		file.data[i] ^= 0x10;
		ok(file_write_all(path, file.data, file.len, 0600, true, "test", &err));
		file.data[i] ^= 0x10;
		t = repo_trace_start(f.disk, true);
		repo_trace_end(t);
		assert_int_equal(count_cached(&f, CHUNKS), 0);
	}
	for (size_t n = 0; n < file.len; n += 13) {
		ok(file_write_all(path, file.data, n, 0600, true, "test", &err));
		t = repo_trace_start(f.disk, true);
		repo_trace_end(t);
		assert_int_equal(count_cached(&f, CHUNKS), 0);
	}
	close_disk(&f);
	buf_release(&file);
	help_remove(f.dir);
}

static void short_one_does_not_replace(void **state)
{
	struct fixture f;
	struct buf before = BUF_INIT, after = BUF_INIT;
	struct err err = ERR_INIT;
	struct repo_trace *t;
	char path[160];

	(void)state;
	prepare(&f, false);
	record(&f);
	trace_file(&f, path);
	ok(file_read_all(path, SIDEFILE_MAX, &before, &err));
	open_disk(&f, 64 * MiB);
	t = repo_trace_start(f.disk, true);
	for (uint64_t chunk = 0; chunk < 8; chunk++)
		read_chunk(&f, t, chunk);
	repo_trace_end(t);
	close_disk(&f);
	ok(file_read_all(path, SIDEFILE_MAX, &after, &err));
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	buf_release(&before);
	buf_release(&after);
	help_remove(f.dir);
}

static void read_view(struct repo_view *v, uint64_t from, uint64_t to, unsigned step)
{
	uint8_t got[CHUNK];
	struct err err = ERR_INIT;

	for (uint64_t chunk = from; chunk < to; chunk += step)
		ok(repo_view_read(v, got, CHUNK, chunk * CHUNK, &err));
}

static void attach(struct fixture *f, const char *id, struct repo_overlay **o, struct repo_view **v)
{
	struct err err = ERR_INIT;

	open_disk(f, 64 * MiB);
	ok(repo_overlay_attach(f->repo, id, o, &err));
	ok(repo_view_open(*o, "vda", v, &err));
}

static void detach(struct fixture *f, struct repo_overlay *o, struct repo_view *v)
{
	repo_view_close(v);
	repo_overlay_detach(o);
	close_disk(f);
}

/* A fresh overlay's reads are recorded, the next one's are served ahead; one that was written to records nothing. */
static void through_an_overlay(void **state)
{
	char one[OVERLAY_ID_LEN + 1], two[OVERLAY_ID_LEN + 1], path[160];
	struct repo_overlay *o;
	struct repo_view *v;
	struct fixture f;
	struct err err = ERR_INIT;

	(void)state;
	prepare(&f, true);
	trace_file(&f, path);
	f.repo = help_open(f.path, REPO_WRITE, 1);
	ok(repo_overlay_create(f.repo, f.id, NULL, one, &err));
	ok(repo_overlay_create(f.repo, f.id, NULL, two, &err));
	repo_close(f.repo);

	attach(&f, one, &o, &v);
	ok(repo_view_write(v, "x", 1, 0, &err));
	ok(repo_view_flush(v, &err));
	detach(&f, o, v);
	assert_int_equal(access(path, F_OK), -1);
	attach(&f, one, &o, &v);
	read_view(v, 1, 40, 1);
	detach(&f, o, v);
	assert_int_equal(access(path, F_OK), -1);

	attach(&f, two, &o, &v);
	read_view(v, 0, CHUNKS, 4);
	detach(&f, o, v);
	assert_int_equal(access(path, F_OK), 0);
	attach(&f, two, &o, &v);
	wait_cached(&f, CHUNKS, CHUNKS / 4);
	detach(&f, o, v);
	help_remove(f.dir);
}

static void format_refuses(void **state)
{
	uint64_t chunks[] = { 5, 4, 0, 15 };
	struct trace t = { .name = "web1",
			   .disk = "vda",
			   .size = MiB,
			   .chunk_size = 65536,
			   .chunks = chunks,
			   .count = 4 };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;
	struct trace got = { 0 };

	(void)state;
	ok(trace_encode(&t, &out, &err));
	ok(trace_decode(out.data, out.len, &got, &err));
	assert_string_equal(got.name, "web1");
	assert_string_equal(got.disk, "vda");
	assert_int_equal(got.count, 4);
	assert_memory_equal(got.chunks, chunks, sizeof(chunks));
	trace_release(&got);
	for (size_t n = 0; n < out.len; n++)
		assert_int_equal(trace_decode(out.data, n, &got, &err), ERR_DAMAGED);
	buf_put_u8(&out, 0);
	assert_int_equal(trace_decode(out.data, out.len, &got, &err), ERR_DAMAGED);
	out.len--;
	put_le32(out.data + 8, 512); /* chunk size */
	assert_int_equal(trace_decode(out.data, out.len, &got, &err), ERR_DAMAGED);
	chunks[3] = 16;
	assert_int_equal(trace_encode(&t, &out, &err), ERR_INTERNAL);
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(encrypted),
		cmocka_unit_test(stays_ahead_in_bounds),
		cmocka_unit_test(smaller_disk),
		cmocka_unit_test(damaged),
		cmocka_unit_test(short_one_does_not_replace),
		cmocka_unit_test(through_an_overlay),
		cmocka_unit_test(format_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
