// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The n-th allocation fails, for n = 1, 2, ... until nothing fails any more: forget and hold, prune, verify of all data; each on a
 * fresh copy of a repository.
 *
 * Every 7th of them, all with LIVEPOINT_SLOW=1 (tests/slow/nomem.sh).
 *
 * Each time: the answer is "out of memory" or the right one; both points that stay are listed and read right; then a prune
 * works without help and leaves nothing over.  Memory that leaks on these paths shows in the run under ASan.
 */
#include <stdlib.h>
#include <unistd.h>

#include "repo/gc.h"
#include "repo/retention.h"
#include "tests/unit/repo-help.h"

#include "base/proc.h"

#include "base/banned.h"

#define SIZE (2 * MiB)
#define STAY 2

static struct nomem {
	char dir[64], template[80], where[80];
	uint8_t key[REPO_KEYS_MAX];
	size_t key_len;
	bool encrypted;
	uint8_t id[STAY + 1][POINT_ID_LEN]; /* the last one goes */
	char text[STAY + 1][POINT_TEXT_MAX];
	uint8_t *data[STAY + 1];
	uint8_t *back;
} m;

static void run(const char *const *argv)
{
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	ok(proc_run(argv, &out, 4096, &err));
	buf_release(&out);
}

static int open_repo(struct repo **out, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	int ret = repo_open(m.where, REPO_WRITE, &r, err);

	if (ret == 0 && m.encrypted)
		ret = repo_unlock_raw(r, m.key, m.key_len, err);
	if (ret == 0)
		ret = repo_start(r, 4 * MiB, REPO_SERIAL, err);
	if (ret == 0)
		*out = steal_ptr(r);
	return ret;
}

/* --- what is tried --- */

static int try_forget(struct repo *r, struct err *err)
{
	const char *points[] = { m.text[STAY] };
	struct forget_plan plan = { 0 };
	int ret = repo_forget_points(r, points, 1, 0, false, &plan, err);

	if (ret == 0)
		forget_plan_release(&plan);
	return ret == 0 ? repo_protect(r, m.text[0], "kept", 0, err) : ret;
}

static int try_prune(struct repo *r, struct err *err)
{
	struct prune_spec spec = { .min_doomed = 0 };
	struct prune_result result;
	int ret = repo_prune(r, &spec, &result, err);

	if (ret == 0)
		assert_int_equal(result.packs_damaged, 0);
	return ret;
}

static int try_verify(struct repo *r, struct err *err)
{
	struct verify_spec spec = { .data = true };
	struct verify_result result;
	int ret = repo_verify(r, &spec, &result, err);

	if (ret == 0)
		assert_int_equal(result.findings, 0);
	return ret;
}

/* --- what must hold --- */

static void read_point(struct repo *r, unsigned i)
{
	cleanup_ptr(repo_point) p = NULL;
	cleanup_ptr(repo_disk) d = NULL;
	struct err err = ERR_INIT;

	ok(repo_point_open(r, m.id[i], &p, &err));
	ok(repo_disk_open(p, NULL, &d, &err));
	ok(repo_disk_read(d, m.back, SIZE, 0, &err));
	assert_memory_equal(m.back, m.data[i], SIZE);
}

static void look(unsigned n, bool may_be_there)
{
	struct point_filter all = { 0 };
	struct point_list list;
	struct err err = ERR_INIT;
	struct repo *r;

	ok(open_repo(&r, &err));
	ok(repo_points(r, &all, &list, &err));
	if (list.count != STAY && !(may_be_there && list.count == STAY + 1))
		fail_msg("allocation %u: %zu points are listed", n, list.count);
	point_list_release(&list);
	for (unsigned i = 0; i < STAY; i++)
		read_point(r, i);
	ok(try_prune(r, &err));
	for (unsigned i = 0; i < STAY; i++)
		read_point(r, i);
	assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	repo_close(r);
}

static void prepare(bool encrypted)
{
	struct session_result result;
	struct err err = ERR_INIT;
	struct repo *r;

	memset(&m, 0, sizeof(m));
	m.encrypted = encrypted;
	/* in memory where that is possible: thousands of commits */
	str_copy(m.dir, sizeof(m.dir), "/dev/shm/lp-unit-XXXXXX");
	if (!mkdtemp(m.dir))
		help_dir(m.dir);
	snprintf(m.where, sizeof(m.where), "%s/r", m.dir);
	snprintf(m.template, sizeof(m.template), "%s/template", m.dir);
	help_init(m.where, encrypted);
	m.back = malloc(SIZE);
	assert_non_null(m.back);
	r = help_open(m.where, REPO_WRITE, REPO_SERIAL);
	if (encrypted)
		ok(repo_export_key(r, m.key, &m.key_len, &err));
	for (unsigned i = 0; i <= STAY; i++) {
		/* the point that goes comes before the last one that stays, which keeps half of it */
		unsigned at = i == 0 ? 0 : i == 1 ? STAY : 1;

		m.data[at] = calloc(1, SIZE);
		assert_non_null(m.data[at]);
		help_text(m.data[at], 256 * KiB, 1);
		help_random(m.data[at] + MiB, 256 * KiB, 2 + (at == 0));
		help_random(m.data[at] + MiB + 512 * KiB, 128 * KiB, 10 + at);
		help_backup(r, "n", m.data[at], SIZE, &result);
		memcpy(m.id[at], result.id, POINT_ID_LEN);
		str_copy(m.text[at], sizeof(m.text[at]), result.point);
	}
	repo_close(r);
}

static void keep_template(void)
{
	run((const char *const[]){ "cp", "-r", m.where, m.template, NULL });
}

static void fresh(void)
{
	run((const char *const[]){ "rm", "-rf", m.where, NULL });
	run((const char *const[]){ "cp", "-r", m.template, m.where, NULL });
}

/* Is the hook still waiting for its allocation? */
static bool still_armed(unsigned n)
{
	for (unsigned i = 0; i <= n; i++) {
		void *p = mem_alloc(1);

		if (!p)
			return true;
		free(p);
	}
	return false;
}

/* A failed hint may be passed over: then it is 0 all the same. */
static void loop(const char *name, int (*fn)(struct repo *r, struct err *err), bool may_be_there)
{
	const unsigned stride = getenv("LIVEPOINT_SLOW") ? 1 : 7;
	unsigned fired = 0, refused = 0;

	for (unsigned n = 1 + (unsigned)getpid() % stride;; n += stride) {
		struct err err = ERR_INIT;
		struct repo *r = NULL;
		bool armed;
		int ret;

		fresh();
		mem_fail_after(n);
		ret = open_repo(&r, &err);
		if (ret == 0)
			ret = fn(r, &err);
		repo_close(r);
		armed = still_armed(n);
		mem_fail_after(0);
		if (ret < 0 && ret != ERR_NOMEM)
			fail_msg("%s, allocation %u: error '%s': %s", name, n, err_code_name(ret),
				 err.text);
		fired += !armed;
		refused += ret < 0;
		look(n, may_be_there && ret < 0);
		if (armed) {
			if (ret < 0)
				fail_msg("%s, untouched: %s", name, err.text);
			break;
		}
	}
	print_message("%s, %s: %u allocations failed, one at a time; %u ended it\n", name,
		      m.encrypted ? "encrypted" : "plain", fired, refused);
	assert_true(refused > 20u / (stride == 1 ? 1 : 2));
}

static void all(bool encrypted)
{
	struct err err = ERR_INIT;
	struct repo *r;

	prepare(encrypted);
	keep_template();
	loop("forget and protect", try_forget, true);
	fresh();
	ok(open_repo(&r, &err));
	ok(try_forget(r, &err));
	repo_close(r);
	run((const char *const[]){ "rm", "-rf", m.template, NULL });
	keep_template();
	loop("prune", try_prune, false);
	loop("verify", try_verify, false);
	help_remove(m.dir);
	for (unsigned i = 0; i <= STAY; i++)
		free(m.data[i]);
	free(m.back);
}

static void test_plain(void **state)
{
	(void)state;
	all(false);
}

static void test_encrypted(void **state)
{
	(void)state;
	all(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_encrypted),
	};

	return cmocka_run_group_tests_name("repo-nomem-gc", tests, NULL, NULL);
}
