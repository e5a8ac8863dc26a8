/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of repo/ share: a repository in a temporary folder, disks made in memory, backups of them. */
#ifndef LIVEPOINT_TESTS_REPO_HELP_H
#define LIVEPOINT_TESTS_REPO_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/proc.h"
#include "repo/session.h"
#include "repo/verify.h"

#define CHUNK CHUNK_SIZE_DEFAULT
#define PASS "correct horse"

#define ok(call) help_ok((call), &err, #call, __LINE__)
static inline void help_ok(int r, const struct err *err, const char *what, int line)
{
	if (r < 0)
		fail_msg("line %d: %s: %d %s", line, what, r, err->text);
}

static inline void help_dir(char dir[64])
{
	str_copy(dir, 64, "/tmp/lp-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
}

static inline void help_remove(const char *dir)
{
	const char *argv[] = { "rm", "-rf", dir, NULL };
	struct buf out = BUF_INIT;

	assert_int_equal(proc_run(argv, &out, 4096, NULL), 0);
	buf_release(&out);
}

static inline void help_init(const char *path, bool encrypted)
{
	struct err err = ERR_INIT;
	struct repo_init_spec spec = { .suite = encrypted,
				       .passphrase = PASS,
				       .passphrase_len = strlen(PASS),
				       .compression = -1,
				       .kdf_n = 1024 };

	ok(repo_init(path, &spec, &err));
}

static inline struct repo *help_open(const char *path, enum repo_mode mode, uint32_t threads)
{
	struct err err = ERR_INIT;
	struct repo *r;

	ok(repo_open(path, mode, &r, &err));
	if (repo_is_locked(r))
		ok(repo_unlock(r, PASS, strlen(PASS), true, &err));
	ok(repo_start(r, 4 * MiB, threads, &err));
	return r;
}

/* xorshift64*, Vigna 2016: the same bytes for the same seed */
static inline void help_random(uint8_t *p, size_t n, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;

	for (size_t i = 0; i < n; i++) {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		p[i] = (uint8_t)((x * 0x2545f4914f6cdd1du) >> 56);
	}
}

/* Bytes that compress to about half. */
static inline void help_text(uint8_t *p, size_t n, uint64_t seed)
{
	help_random(p, n, seed);
	for (size_t i = 0; i < n; i++)
		p[i] = "etaoin shrdlu cm"[p[i] & 15];
}

static inline void help_write_disk(struct repo_session *s, const char *name, const uint8_t *data,
				   uint64_t size)
{
	struct err err = ERR_INIT;
	struct disk_spec spec = { .name = name, .size = size, .method = METHOD_FULL };

	ok(session_disk_begin(s, &spec, &err));
	for (uint64_t at = 0; at < size;) {
		size_t n = MIN(size - at, SESSION_BUFFER);
		uint8_t *buffer;

		ok(session_buffer(s, &buffer, &err));
		memcpy(buffer, data + at, n);
		ok(session_disk_write(s, buffer, at, n, &err));
		at += n;
	}
	ok(session_disk_end(s, size, size, &err));
}

static inline void help_backup(struct repo *r, const char *name, const uint8_t *data, uint64_t size,
			       struct session_result *result)
{
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = name, .compression = -1 };
	struct publish_spec publish = { 0 };
	struct repo_session *s;

	ok(repo_session_begin(r, &spec, &s, &err));
	help_write_disk(s, "vda", data, size);
	ok(repo_session_publish(s, &publish, result, &err));
}

static inline void help_compare(struct repo *r, const uint8_t id[POINT_ID_LEN], const uint8_t *data,
				uint64_t size)
{
	struct err err = ERR_INIT;
	struct repo_point *p;
	struct repo_disk *d;
	cleanup_free uint8_t *back = malloc(size ? size : 1);

	ok(repo_point_open(r, id, &p, &err));
	ok(repo_disk_open(p, NULL, &d, &err));
	assert_int_equal(repo_disk_size(d), round_up_u64(size, 512));
	ok(repo_disk_read(d, back, size, 0, &err));
	assert_memory_equal(back, data, size);
	for (uint64_t at = 0; size > 5000 && at + 5000 < size; at += 77777) {
		ok(repo_disk_read(d, back, 4999, at, &err));
		assert_memory_equal(back, data + at, 4999);
	}
	repo_disk_close(d);
	repo_point_close(p);
}

#endif
