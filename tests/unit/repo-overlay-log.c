// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * State logs that are cut off, changed, or of somebody else; compaction, room that is made, sets that are flushed for want of
 * memory, all with small limits; and failures: a full file system, syncs and writes that fail.
 *
 * Each failure has its process: the environment of faults is read once.
 */
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/overlay-help.h"

#include "base/banned.h"

#define FLUSHES 6

static void log_path(const struct world *w, char out[160])
{
	snprintf(out, 160, "%s/vda.1.log", w->dir);
}

static void put_log(const struct world *w, const void *p, size_t n)
{
	char path[160];
	struct err err = ERR_INIT;

	log_path(w, path);
	ok(file_write_all(path, p, n, 0600, true, "test.log", &err));
}

/* A closed layer with so many flushed blocks, far apart; the log as it is, and where each flush ended in it. */
static void make_log(struct world *w, bool encrypted, struct buf *log, uint64_t ends[FLUSHES])
{
	char path[160];
	struct err err = ERR_INIT;

	world_begin(w, 1 * MiB, encrypted, 3);
	for (uint64_t i = 0; i < FLUSHES; i++) {
		ok(overlay_layer_write(w->l, &base, "new", 3, 3 * i * OVERLAY_BLOCK, &err));
		ok(overlay_layer_flush(w->l, &err));
		ends[i] = w->l->log.end;
	}
	world_close(w);
	log_path(w, path);
	ok(file_read_all(path, 1 * MiB, log, &err));
}

/* Opens; returns the number of blocks that are there, a prefix of all, or the error. */
static int open_and_count(struct world *w, bool frozen)
{
	struct overlay_layer_spec spec = world_spec(w);
	struct overlay_layer *l = NULL;
	struct err err = ERR_INIT;
	uint8_t got[3];
	int n = 0, r = overlay_layer_open(&spec, frozen, false, &l, &err);

	if (r < 0) {
		assert_true(err.text[0]);
		return r;
	}
	for (unsigned i = 0; i < FLUSHES; i++) {
		ok(overlay_layer_read(l, &base, got, 3, 3 * i * (uint64_t)OVERLAY_BLOCK, &err));
		if (memcmp(got, "new", 3) != 0)
			assert_int_equal(got[0], base_byte(3 * i * (uint64_t)OVERLAY_BLOCK));
		else
			assert_int_equal(n++, i);
	}
	overlay_layer_close(l);
	return n;
}

static int flushed_at(const uint64_t ends[FLUSHES], uint64_t length)
{
	int n = 0;

	while (n < FLUSHES && ends[n] <= length)
		n++;
	return n;
}

static void test_cut_at_every_byte(void **state)
{
	(void)state;
	for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
		cleanup_buf struct buf log = BUF_INIT;
		uint64_t ends[FLUSHES];
		struct err err = ERR_INIT;
		struct world w;

		make_log(&w, encrypted, &log, ends);
		for (size_t n = 0; n <= ends[FLUSHES - 1] + 100; n += encrypted ? 37 : 1) {
			int there;

			put_log(&w, log.data, n);
			there = open_and_count(&w, n % 2);
			if (n < OVERLAY_LOG_HEADER_LEN)
				assert_int_equal(there, ERR_DAMAGED);
			else
				assert_int_equal(there, flushed_at(ends, n));
		}
		/* and it goes on behind the cut */
		put_log(&w, log.data, ends[3] - 1);
		world_open(&w, true);
		ok(overlay_layer_write(w.l, &base, "new", 3, 9 * OVERLAY_BLOCK, &err));
		ok(overlay_layer_flush(w.l, &err));
		world_close(&w);
		assert_int_equal(open_and_count(&w, false), 4);
		world_end(&w);
	}
}

static void test_flipped_bytes(void **state)
{
	cleanup_buf struct buf log = BUF_INIT;
	uint64_t ends[FLUSHES];
	struct world w;

	(void)state;
	make_log(&w, false, &log, ends);
	for (size_t i = 0; i < ends[FLUSHES - 1] + OVERLAY_SECTOR; i += i % 512 < 128 ? 1 : 17) {
		int there;

		log.data[i] ^= 1u << i % 8;
		put_log(&w, log.data, log.len);
		there = open_and_count(&w, i % 2);
		/* the last record cannot be told from one that was being written */
		if (i < ends[FLUSHES - 2])
			assert_int_equal(there, ERR_DAMAGED);
		else
			assert_int_equal(there, i < ends[FLUSHES - 1] ? FLUSHES - 1 : FLUSHES);
		log.data[i] ^= 1u << i % 8;
	}
	world_end(&w);
}

/* Records out of their place, of another layer, or made without the key. */
static void test_forged(void **state)
{
	(void)state;
	for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
		cleanup_buf struct buf log = BUF_INIT;
		cleanup_free uint8_t *copy = NULL;
		uint64_t ends[FLUSHES], last;
		struct overlay_log_header h;
		struct world w;

		make_log(&w, encrypted, &log, ends);
		copy = mem_dup(log.data, log.len);
		/* one left out of the middle */
		memmove(copy + ends[1], copy + ends[2], ends[5] - ends[2]);
		memset(copy + ends[4], 0, ends[5] - ends[4]);
		put_log(&w, copy, log.len);
		assert_int_equal(open_and_count(&w, false), ERR_DAMAGED);
		/* the last one, with a right check */
		memcpy(copy, log.data, log.len);
		last = ends[FLUSHES - 2];
		copy[last + OVERLAY_RECORD_HEAD] ^= 1;
		put_le32(copy + last + 72 + 16, check_crc32c(copy + last, 72 + 16));
		put_log(&w, copy, log.len);
		if (encrypted)
			assert_int_equal(open_and_count(&w, false), ERR_DAMAGED);
		/* a header that claims another layer, or was made without the key */
		memcpy(copy, log.data, log.len);
		assert_int_equal(overlay_log_header_decode(copy, &h, NULL), 0);
		h.layer = 2;
		overlay_log_header_encode(&h, copy);
		put_log(&w, copy, log.len);
		assert_int_equal(open_and_count(&w, false), ERR_DAMAGED);
		h.layer = 1;
		if (encrypted)
			h.mac[0] ^= 1;
		else
			str_copy(h.disk, sizeof(h.disk), "vdb");
		overlay_log_header_encode(&h, copy);
		put_log(&w, copy, log.len);
		assert_int_equal(open_and_count(&w, false), ERR_DAMAGED);
		put_log(&w, log.data, log.len);
		assert_int_equal(open_and_count(&w, false), FLUSHES);
		world_end(&w);
	}
}

/* --- in a process of its own --- */

struct case_of {
	void (*run)(void);
	const char *fault, *numbers;
};

static int in_child(void *arg, struct buf *result, struct err *err)
{
	const struct case_of *c = arg;

	(void)result, (void)err;
	if (c->fault)
		setenv("LIVEPOINT_FAULT", c->fault, 1);
	if (c->numbers)
		setenv("LIVEPOINT_FAULT_NUMBER", c->numbers, 1);
	c->run();
	return 0;
}

static void apart(void (*run)(void), const char *fault, const char *numbers)
{
	struct case_of c = { run, fault, numbers };
	cleanup_buf struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	if (proc_call(in_child, &c, &out, &err) < 0)
		fail_msg("%s %s: %s", fault ? fault : "", numbers ? numbers : "", err.text);
}

/* A failed assertion ends the child. */
static void must(bool holds, int line)
{
	if (!holds) {
		fprintf(stderr, "%s:%d: does not hold\n", __FILE__, line);
		abort();
	}
}
#define MUST(condition) must((condition), __LINE__)

static void random_with_reopening(void)
{
	struct world w;
	struct err err = ERR_INIT;

	for (unsigned encrypted = 0; encrypted < 2; encrypted++) {
		uint8_t log[OVERLAY_LOG_ID_LEN];

		world_begin(&w, 64 * MiB + 300 * KiB, encrypted, 99 + encrypted);
		model_begin(&w);
		memcpy(log, w.l->log.h.log, sizeof(log));
		for (unsigned i = 0; i < 1500; i++) {
			random_step(&w);
			if (i % 150 != 149)
				continue;
			ok(overlay_layer_flush(w.l, &err));
			model_flushed(&w);
			world_close(&w);
			world_open(&w, false);
			world_compare(&w, w.size, 0);
		}
		MUST(memcmp(log, w.l->log.h.log, sizeof(log)) != 0); /* it was compacted */
		world_end(&w);
	}
}

/* Pages in which every block is on its own are written as they are, not as runs. */
static void compacted_pages(void)
{
	struct world w;
	struct err err = ERR_INIT;

	world_begin(&w, 64 * MiB + 300 * KiB, true, 4);
	for (uint64_t b = 0; b < w.l->blocks; b += 2)
		ok(b % 3 ? overlay_layer_trim(w.l, OVERLAY_BLOCK, b * OVERLAY_BLOCK, &err) :
			   overlay_layer_write(w.l, &base, "x", 1, b * OVERLAY_BLOCK, &err));
	ok(overlay_layer_flush(w.l, &err));
	ok(overlay_layer_trim(w.l, OVERLAY_BLOCK, OVERLAY_BLOCK, &err));
	ok(overlay_layer_flush(w.l, &err));
	MUST(w.l->log.end < 16 * KiB); /* 8 230 runs would be 128 KiB */
	world_close(&w);
	world_open(&w, false);
	for (uint64_t b = 0; b < w.l->blocks; b++)
		MUST(block_table_get(&w.l->table, b) == (b == 1 ? BLOCK_ZERO :
							 b % 2	? BLOCK_BASE :
							 b % 3	? BLOCK_ZERO :
								  BLOCK_DATA));
	world_end(&w);
}

static void test_small_limits(void **state)
{
	(void)state;
	apart(random_with_reopening, NULL,
	      "overlay.log.compact:4096,overlay.log.step:512,overlay.pending:7");
	apart(compacted_pages, NULL, "overlay.log.compact:4096");
}

/* The first flush is fine, the second fails: what was flushed stays, all else is an error, for ever. */
static void sync_fails(void)
{
	struct world w;
	struct err err = ERR_INIT;
	uint8_t got[3];

	world_begin(&w, 1 * MiB, false, 4);
	ok(overlay_layer_write(w.l, &base, "old", 3, 0, &err));
	ok(overlay_layer_flush(w.l, &err));
	ok(overlay_layer_write(w.l, &base, "new", 3, 8 * OVERLAY_BLOCK, &err));
	MUST(overlay_layer_flush(w.l, &err) == ERR_IO);
	MUST(overlay_layer_failed(w.l));
	MUST(overlay_layer_flush(w.l, &err) == ERR_IO);
	MUST(overlay_layer_write(w.l, &base, "new", 3, 0, &err) == ERR_IO);
	MUST(overlay_layer_zero(w.l, &base, 8192, 0, &err) == ERR_IO);
	MUST(overlay_layer_trim(w.l, 8192, 0, &err) == ERR_IO);
	MUST(overlay_layer_read(w.l, &base, got, 3, 0, &err) == ERR_IO);
	ok(overlay_layer_read(w.l, &base, got, 3, 4 * OVERLAY_BLOCK, &err));
	world_close(&w);
	unsetenv("LIVEPOINT_FAULT");
	world_open(&w, true);
	ok(overlay_layer_read(w.l, &base, got, 3, 0, &err));
	MUST(memcmp(got, "old", 3) == 0);
	world_end(&w);
}

/* A write that fails is that request's business; the next ones work, and nothing that was flushed is harmed. */
static void write_fails(void)
{
	struct world w;
	struct err err = ERR_INIT;
	unsigned failures = 0;
	uint8_t got[3];

	world_begin(&w, 1 * MiB, false, 4);
	ok(overlay_layer_write(w.l, &base, "old", 3, 0, &err));
	ok(overlay_layer_flush(w.l, &err));
	for (uint64_t i = 1; i < 200; i++) {
		int r = overlay_layer_write(w.l, &base, "new", 3, i * OVERLAY_BLOCK, &err);

		MUST(r == 0 || r == ERR_NOSPC);
		failures += r < 0;
		ok(overlay_layer_read(w.l, &base, got, 3, i * OVERLAY_BLOCK, &err));
		MUST(got[0] == (r < 0 ? base_byte(i * OVERLAY_BLOCK) : 'n'));
		ok(overlay_layer_flush(w.l, &err));
	}
	MUST(failures == 1 && !overlay_layer_failed(w.l));
	world_end(&w);
}

/* Room for the log is asked for, and refused, when something is written; what was answered can be flushed. */
static void no_room_for_log(void)
{
	struct world w;
	struct err err = ERR_INIT;
	unsigned answered = 0;
	uint8_t got[3];

	world_begin(&w, 1 * MiB, false, 4);
	for (uint64_t i = 0; i < 200; i++) {
		int r = overlay_layer_write(w.l, &base, "new", 3, i * OVERLAY_BLOCK, &err);

		MUST(r == 0 || r == ERR_NOSPC);
		MUST(r < 0 || answered == i);
		answered += r == 0;
		ok(overlay_layer_flush(w.l, &err));
	}
	MUST(answered > 100 && answered < 200 && !overlay_layer_failed(w.l));
	world_close(&w);
	world_open(&w, true);
	for (uint64_t i = 0; i < 200; i++) {
		ok(overlay_layer_read(w.l, &base, got, 3, i * OVERLAY_BLOCK, &err));
		MUST(got[0] == (i < answered ? 'n' : base_byte(i * OVERLAY_BLOCK)));
	}
	world_end(&w);
}

/* A compaction that cannot be made is left. */
static void compaction_fails(void)
{
	struct world w;
	struct err err = ERR_INIT;
	uint8_t got[3];

	world_begin(&w, 1 * MiB, false, 4);
	for (uint64_t i = 0; i < 100; i++) {
		ok(overlay_layer_write(w.l, &base, "new", 3, 2 * i * OVERLAY_BLOCK, &err));
		ok(overlay_layer_flush(w.l, &err));
	}
	world_close(&w);
	world_open(&w, true);
	for (uint64_t i = 0; i < 100; i++) {
		ok(overlay_layer_read(w.l, &base, got, 3, 2 * i * OVERLAY_BLOCK, &err));
		MUST(memcmp(got, "new", 3) == 0);
	}
	world_end(&w);
}

static void test_failures(void **state)
{
	static const char *const lasting[] = { "overlay.data.sync:2:eio", "overlay.log.sync:2:eio",
					       "overlay.log.append:2:eio",
					       "overlay.log.append:2:enospc",
					       "overlay.log.append:2:short" };
	static const char *const passing[] = { "overlay.data.write:7:enospc",
					       "overlay.data.write:7:short" };
	static const char *const compact[] = {
		"overlay.compact.sync:1:eio",	"overlay.compact.rename:1:enospc",
		"overlay.log.create:2:enospc",	"overlay.log.header:2:short",
		"overlay.compact.remove:2:eio", "overlay.data.punch:1+:eio"
	};

	(void)state;
#ifndef ENABLE_FAULT_POINTS
	skip();
#endif
	for (size_t i = 0; i < ARRAY_SIZE(lasting); i++)
		apart(sync_fails, lasting[i], NULL);
	for (size_t i = 0; i < ARRAY_SIZE(passing); i++)
		apart(write_fails, passing[i], NULL);
	apart(no_room_for_log, "overlay.log.extend:2+:enospc", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(compact); i++)
		apart(compaction_fails, compact[i], "overlay.log.compact:4096");
}

/* A file system that becomes full: every error is a write's, the flush of what was answered works, and it is there. */
static void full_file_system(void)
{
	static uint8_t data[64 * 1024];
	const char *dir = "/tmp/lp-unit-full";
	char folder[64];
	struct world w;
	struct err err = ERR_INIT;
	unsigned failures = 0;

	MUST(unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	snprintf(folder, sizeof(folder), "%s", dir);
	MUST(mkdir(folder, 0700) == 0 || access(folder, F_OK) == 0);
	MUST(mount("lp-unit", folder, "tmpfs", 0, "size=2m") == 0);
	world_begin_in(&w, folder, 16 * MiB, false, 8);
	model_begin(&w);
	for (unsigned i = 0; i < 1500; i++) {
		uint64_t n = (1 + world_random(&w, 8)) * OVERLAY_BLOCK;
		uint64_t offset = world_random(&w, (w.size - n) / SECTOR) * SECTOR;
		int r;

		memset(data, (int)(1 + i % 255), n);
		r = i % 10 == 9 ? overlay_layer_trim(w.l, n, offset, &err) :
				  overlay_layer_write(w.l, &base, data, n, offset, &err);
		MUST(r == 0 || r == ERR_NOSPC);
		failures += r < 0;
		if (r == 0 && i % 10 == 9)
			model_trim(&w, n, offset);
		else if (r == 0)
			model_write(&w, data, n, offset);
		else /* a part of it may have been written where blocks were data */
			ok(overlay_layer_read(w.l, &base, w.now + offset, n, offset, &err));
		if (i % 7 == 6)
			ok(overlay_layer_flush(w.l, &err));
	}
	MUST(failures > 0);
	ok(overlay_layer_flush(w.l, &err));
	world_close(&w);
	world_open(&w, true);
	world_compare(&w, w.size, 0);
	world_close(&w);
	MUST(umount(folder) == 0);
	rmdir(folder);
}

static void test_full(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	apart(full_file_system, NULL, "overlay.log.step:512");
}

int main(void)
{
	/* those in processes of their own come first: this one must not have read the environment of faults yet */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_limits),  cmocka_unit_test(test_failures),
		cmocka_unit_test(test_full),	      cmocka_unit_test(test_cut_at_every_byte),
		cmocka_unit_test(test_flipped_bytes), cmocka_unit_test(test_forged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
