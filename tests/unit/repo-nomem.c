/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The n-th allocation fails, for n = 1, 2, ... until nothing fails any more: open, back up, read, close.
 *
 * Each time: the answer is "out of memory" or the right one; no point is lost, none is listed that was not reported;
 * what is read is right.  Every 8th time and at the end: a session works without help and leaves nothing over.
 * Memory that leaks on these paths shows in the run under ASan.
 */
#include "tests/unit/repo-help.h"

#include "base/banned.h"

#define SIZE (3 * MiB + 512)
#define CONFIG_AT (2 * MiB) /* where data changes each time */
#define CONFIG_SIZE 70000u

struct nomem {
	char dir[64], where[80];
	uint8_t key[REPO_KEYS_MAX];
	size_t key_len;
	bool encrypted;
	uint8_t *data, *back; /* the disk; what was read */
	uint8_t first[POINT_ID_LEN]; /* made before */
	uint8_t first_data[SIZE];
	uint64_t points; /* that must be listed */
	unsigned fired; /* counts */
};

static int open_repo(struct nomem *m, struct repo **out, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	int ret = repo_open(m->where, REPO_WRITE, &r, err);

	if (ret == 0 && m->encrypted)
		ret = repo_unlock_raw(r, m->key, m->key_len, err);
	if (ret == 0)
		ret = repo_start(r, 4 * MiB, REPO_SERIAL, err);
	if (ret == 0)
		*out = steal_ptr(r);
	return ret;
}

static int backup(struct nomem *m, struct repo *r, struct session_result *result, struct err *err)
{
	struct session_spec spec = { .name = "n", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = SIZE, .method = METHOD_FULL };
	struct publish_spec publish = { 0 };
	cleanup_ptr(repo_session) s = NULL;
	int ret = repo_session_begin(r, &spec, &s, err);

	if (ret == 0)
		ret = repo_session_config(s, "f", m->data + CONFIG_AT, CONFIG_SIZE, err);
	if (ret == 0 && !repo_session_parent(s))
		ret = repo_session_config(s, "old", "<domain/>", 9, err);
	if (ret == 0)
		ret = repo_session_config_inherit(s, err);
	if (ret == 0)
		ret = session_disk_begin(s, &disk, err);
	for (uint64_t at = 0; at < SIZE && ret == 0; at += SESSION_BUFFER) {
		size_t n = MIN(SIZE - at, (uint64_t)SESSION_BUFFER);
		uint8_t *buffer;

		ret = session_buffer(s, &buffer, err);
		if (ret < 0)
			break;
		memcpy(buffer, m->data + at, n);
		ret = session_disk_write(s, buffer, at, n, err);
	}
	if (ret == 0)
		ret = session_disk_end(s, SIZE, SIZE, err);
	return ret < 0 ? ret : repo_session_publish(steal_ptr(s), &publish, result, err);
}

static int read_point(struct nomem *m, struct repo *r, const uint8_t *id, const uint8_t *data,
		      struct err *err)
{
	cleanup_ptr(repo_point) p = NULL;
	cleanup_ptr(repo_disk) d = NULL;
	cleanup_buf struct buf file = BUF_INIT;
	int ret = repo_point_open(r, id, &p, err);

	if (ret == 0)
		ret = repo_disk_open(p, NULL, &d, err);
	if (ret == 0)
		ret = repo_disk_read(d, m->back, SIZE, 0, err);
	if (ret == 0)
		assert_memory_equal(m->back, data, SIZE);
	if (ret == 0)
		ret = repo_config_read(p, "f", &file, err);
	if (ret == 0) {
		assert_int_equal(file.len, CONFIG_SIZE);
		assert_memory_equal(file.data, data + CONFIG_AT, CONFIG_SIZE);
		ret = repo_config_read(p, "old", &file, err);
	}
	if (ret == 0) {
		assert_int_equal(file.len, CONFIG_SIZE + 9);
		assert_memory_equal(file.data + CONFIG_SIZE, "<domain/>", 9);
	}
	return ret;
}

/* open, backup, read both, close; *made: the backup said so. */
static int everything(struct nomem *m, bool *made, struct err *err)
{
	cleanup_ptr(repo) r = NULL;
	struct session_result result;
	int ret = open_repo(m, &r, err);

	if (ret == 0)
		ret = backup(m, r, &result, err);
	*made = ret == 0 && r;
	if (ret == 0)
		ret = read_point(m, r, result.id, m->data, err);
	if (ret == 0)
		ret = read_point(m, r, m->first, m->first_data, err);
	return ret;
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

static void look(struct nomem *m, unsigned n, bool made, bool whole)
{
	struct err err = ERR_INIT;
	struct point_filter all = { 0 };
	struct point_list list;
	struct session_result result;
	struct repo *r;

	ok(open_repo(m, &r, &err));
	ok(repo_points(r, &all, &list, &err));
	m->points += made;
	if (list.count != m->points)
		fail_msg("allocation %u: %zu points are listed instead of %llu", n, list.count,
			 (unsigned long long)m->points);
	point_list_release(&list);
	if (whole) {
		ok(read_point(m, r, m->first, m->first_data, &err));
		ok(backup(m, r, &result, &err));
		m->points++;
		ok(read_point(m, r, result.id, m->data, &err));
		assert_int_equal(repo_leftovers(r, NULL, NULL, &err), 0);
	}
	repo_close(r);
}

static void prepare(struct nomem *m, bool encrypted)
{
	struct session_result result;
	struct err err = ERR_INIT;
	struct repo *r;

	memset(m, 0, sizeof(*m));
	m->encrypted = encrypted;
	/* in memory where that is possible: thousands of commits */
	str_copy(m->dir, sizeof(m->dir), "/dev/shm/lp-unit-XXXXXX");
	if (!mkdtemp(m->dir))
		help_dir(m->dir);
	snprintf(m->where, sizeof(m->where), "%s/r", m->dir);
	help_init(m->where, encrypted);
	m->data = calloc(1, SIZE);
	m->back = malloc(SIZE);
	assert_non_null(m->data);
	assert_non_null(m->back);
	help_text(m->data, 512 * KiB, 1);
	help_random(m->data + 2 * MiB, 128 * KiB, 2);
	memcpy(m->first_data, m->data, SIZE);
	r = help_open(m->where, REPO_WRITE, REPO_SERIAL);
	if (encrypted)
		ok(repo_export_key(r, m->key, &m->key_len, &err));
	ok(backup(m, r, &result, &err));
	memcpy(m->first, result.id, POINT_ID_LEN);
	m->points = 1;
	repo_close(r);
}

static void nomem_loop(bool encrypted)
{
	static struct nomem m;
	unsigned n;

	prepare(&m, encrypted);
	for (n = 1;; n++) {
		struct err err = ERR_INIT;
		bool made, armed;
		int ret;

		m.data[2 * MiB + n % (128 * KiB)] ^= 0x55; /* something new each time */
		mem_fail_after(n);
		ret = everything(&m, &made, &err);
		armed = still_armed(n);
		mem_fail_after(0);
		if (ret < 0 && ret != ERR_NOMEM)
			fail_msg("allocation %u: error '%s': %s", n, err_code_name(ret), err.text);
		m.fired += !armed;
		look(&m, n, made, armed || n % 8 == 0);
		if (armed) {
			assert_int_equal(ret, 0);
			break;
		}
	}
	print_message("%s: %u allocations failed, one at a time\n",
		      encrypted ? "encrypted" : "plain", m.fired);
	assert_true(m.fired > 100);
	help_remove(m.dir);
	free(m.data);
	free(m.back);
}

static void test_plain(void **state)
{
	(void)state;
	nomem_loop(false);
}

static void test_encrypted(void **state)
{
	(void)state;
	nomem_loop(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_encrypted),
	};

	return cmocka_run_group_tests_name("repo-nomem", tests, NULL, NULL);
}
