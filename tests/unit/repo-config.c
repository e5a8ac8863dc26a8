// SPDX-License-Identifier: GPL-3.0-or-later
/* Files kept with points: through a session and back, taken over from the parent, what is refused, damage. */
#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/repo-help.h"

#include "repo/internal.h"

#include "base/banned.h"

#define BIG (CONFIG_PART + 1000)

struct setting {
	char dir[64];
	struct repo *r;
	uint8_t *big;
};

static void begin(struct setting *t, bool encrypted)
{
	help_dir(t->dir);
	help_init(t->dir, encrypted);
	t->r = help_open(t->dir, REPO_WRITE, 2);
	t->big = malloc(BIG);
	assert_non_null(t->big);
	help_random(t->big, BIG, 1);
}

static void end(struct setting *t)
{
	repo_close(t->r);
	help_remove(t->dir);
	free(t->big);
}

static struct repo_session *session(struct setting *t, const char *name)
{
	struct session_spec spec = { .name = name, .compression = -1 };
	struct err err = ERR_INIT;
	struct repo_session *s;

	ok(repo_session_begin(t->r, &spec, &s, &err));
	return s;
}

static struct repo_point *publish(struct setting *t, struct repo_session *s)
{
	struct publish_spec spec = { 0 };
	struct session_result result;
	struct err err = ERR_INIT;
	struct repo_point *p;

	ok(repo_session_publish(s, &spec, &result, &err));
	ok(repo_point_open(t->r, result.id, &p, &err));
	return p;
}

static void holds(struct repo_point *p, const char *name, const void *want, size_t n)
{
	cleanup_buf struct buf got = BUF_INIT;
	struct err err = ERR_INIT;

	ok(repo_config_read(p, name, &got, &err));
	assert_int_equal(got.len, n);
	assert_true(n == 0 || memcmp(got.data, want, n) == 0);
}

static const struct object_ref *part_of(struct repo_point *p, const char *name, unsigned i)
{
	const struct manifest_config *c = repo_config_find(repo_point_manifest(p), name);

	assert_non_null(c);
	assert_true(i < c->nparts);
	return &c->parts[i];
}

/* A point with "big", "xml" and "none". */
static struct repo_point *first(struct setting *t)
{
	struct repo_session *s = session(t, "a");
	struct err err = ERR_INIT;

	ok(repo_session_config(s, "big", t->big, BIG, &err));
	ok(repo_session_config(s, "xml", "<domain/>", 9, &err));
	ok(repo_session_config(s, "none", NULL, 0, &err));
	ok(repo_session_config_inherit(s, &err)); /* from nobody */
	return publish(t, s);
}

static void round_trip(bool encrypted)
{
	struct setting t;
	struct repo_point *one, *two, *three;
	struct repo_session *s;
	struct err err = ERR_INIT;
	cleanup_buf struct buf b = BUF_INIT;

	begin(&t, encrypted);
	one = first(&t);
	assert_int_equal(repo_point_manifest(one)->nconfigs, 3);
	holds(one, "big", t.big, BIG);
	holds(one, "xml", "<domain/>", 9);
	holds(one, "none", "", 0);
	assert_int_equal(repo_config_read(one, "nvram", &b, &err), ERR_NOT_FOUND);
	assert_non_null(strstr(err.text, "big, xml, none"));

	/* what is given counts, the rest comes from the parent, by reference */
	s = session(&t, "a");
	ok(repo_session_config(s, "xml", "<new/>", 6, &err));
	ok(repo_session_config_inherit(s, &err));
	two = publish(&t, s);
	assert_int_equal(repo_point_manifest(two)->nconfigs, 3);
	holds(two, "big", t.big, BIG);
	holds(two, "xml", "<new/>", 6);
	holds(two, "none", "", 0);
	for (unsigned i = 0; i < 2; i++)
		assert_true(part_of(one, "big", i)->locator == part_of(two, "big", i)->locator);

	/* without a word there are none */
	three = publish(&t, session(&t, "a"));
	assert_int_equal(repo_point_manifest(three)->nconfigs, 0);
	repo_point_close(one);
	repo_point_close(two);
	repo_point_close(three);
	end(&t);
}

static void test_plain(void **state)
{
	(void)state;
	round_trip(false);
}

static void test_encrypted(void **state)
{
	(void)state;
	round_trip(true);
}

/* From a file and from a pipe, whose reads are short; equal parts are the parent's. */
static void test_fd(void **state)
{
	struct setting t;
	struct repo_point *one, *two;
	struct repo_session *s;
	struct err err = ERR_INIT;
	cleanup_free char *path = NULL;
	int fd, pipes[2];

	(void)state;
	begin(&t, false);
	one = first(&t);
	path = str_printf("%s/file", t.dir);
	fd = file_open(path, O_RDWR | O_CREAT, 0600, &err);
	assert_true(fd >= 0);
	ok(file_pwrite(fd, t.big, BIG, 0, path, NULL, &err));
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(write(pipes[1], "<do", 3), 3);
	assert_int_equal(write(pipes[1], "main/>", 6), 6);
	close(pipes[1]);
	s = session(&t, "a");
	ok(repo_session_config_fd(s, "big", fd, path, &err));
	ok(repo_session_config_fd(s, "xml", pipes[0], "pipe", &err));
	two = publish(&t, s);
	close(fd);
	close(pipes[0]);
	holds(two, "big", t.big, BIG);
	holds(two, "xml", "<domain/>", 9);
	for (unsigned i = 0; i < 2; i++)
		assert_true(part_of(one, "big", i)->locator == part_of(two, "big", i)->locator);
	assert_true(part_of(one, "xml", 0)->locator == part_of(two, "xml", 0)->locator);
	repo_point_close(one);
	repo_point_close(two);
	end(&t);
}

static void test_refused(void **state)
{
	static const char *const names[] = { "", ".x", "-x", "a/b", "a b" };
	struct setting t;
	struct repo_session *s;
	struct err err = ERR_INIT;
	cleanup_free uint8_t *huge = calloc(1, CONFIG_BYTES_MAX + 1);

	(void)state;
	assert_non_null(huge);
	begin(&t, false);
	s = session(&t, "a");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(repo_session_config(s, names[i], "x", 1, &err), ERR_INVALID);
	for (unsigned i = 0; i < POINT_CONFIGS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		ok(repo_session_config(s, name, "x", 1, &err));
		assert_int_equal(repo_session_config(s, name, "x", 1, &err), ERR_EXISTS);
	}
	assert_int_equal(repo_session_config(s, "more", "x", 1, &err), ERR_TOO_BIG);
	repo_session_abort(s);
	s = session(&t, "a");
	assert_int_equal(repo_session_config(s, "huge", huge, CONFIG_BYTES_MAX + 1, &err),
			 ERR_TOO_BIG);
	repo_session_abort(s);
	end(&t);
}

static void mark_damaged(struct setting *t, const struct object_ref *ref)
{
	uint32_t slot = locator_slot(ref->locator);
	struct err err = ERR_INIT;
	struct catalog *c;

	ok(repo_catalog_get(t->r, &c, &err));
	ok(catalog_slots_damaged(c, locator_pack(ref->locator), &slot, 1, true, &err));
	repo_catalog_put(t->r, c);
}

/* A part that is known to be damaged is no twin, neither when it is given again nor when it is taken over: if it reads well
 * after all it is stored anew; else the new point has the bad one, and says so when it is read. */
static void test_damaged(void **state)
{
	struct setting t;
	struct repo_point *one, *two, *three, *four;
	struct repo_session *s;
	struct err err = ERR_INIT;
	cleanup_buf struct buf b = BUF_INIT;
	cleanup_free char *path = NULL;
	uint64_t pack;
	int fd;

	(void)state;
	begin(&t, false);
	one = first(&t);
	mark_damaged(&t, part_of(one, "big", 1));
	s = session(&t, "a");
	ok(repo_session_config_inherit(s, &err));
	two = publish(&t, s);
	holds(two, "big", t.big, BIG);
	assert_true(part_of(one, "big", 0)->locator == part_of(two, "big", 0)->locator);
	assert_true(part_of(one, "big", 1)->locator != part_of(two, "big", 1)->locator);

	mark_damaged(&t, part_of(two, "big", 0));
	s = session(&t, "a");
	ok(repo_session_config(s, "big", t.big, BIG, &err));
	three = publish(&t, s);
	assert_true(part_of(two, "big", 0)->locator != part_of(three, "big", 0)->locator);
	assert_true(part_of(two, "big", 1)->locator == part_of(three, "big", 1)->locator);
	holds(three, "big", t.big, BIG);

	pack = locator_pack(part_of(three, "big", 0)->locator);
	path = str_printf("%s/packs/%02x/%012llx.pack", t.dir, (unsigned)(pack & 0xff),
			  (unsigned long long)pack);
	fd = file_open(path, O_RDWR, 0, &err);
	assert_true(fd >= 0);
	ok(file_pwrite(fd, "XXXX", 4, 100000, path, NULL, &err));
	close(fd);
	store_drop_cache(t.r->store);
	mark_damaged(&t, part_of(three, "big", 0));
	s = session(&t, "a");
	ok(repo_session_config_inherit(s, &err));
	four = publish(&t, s);
	assert_true(part_of(three, "big", 0)->locator == part_of(four, "big", 0)->locator);
	assert_int_equal(repo_config_read(four, "big", &b, &err), ERR_DAMAGED);
	assert_non_null(strstr(err.text, "config/big"));
	repo_point_close(one);
	repo_point_close(two);
	repo_point_close(three);
	repo_point_close(four);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	cmocka_unit_test(test_encrypted),
		cmocka_unit_test(test_fd),	cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests_name("repo-config", tests, NULL, NULL);
}
