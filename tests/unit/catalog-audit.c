// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The audit log: numbers, times, macs, one row exactly if its change is there, reading in batches.
 */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static void test_append(void **state)
{
	struct fixture *f = *state;
	struct audit a = { .entry = { .command = "init" }, .fn = help_mac };
	struct audit_entry want;
	uint8_t mac[ID_LEN], zero[ID_LEN] = { 0 };
	uint64_t number = 9;
	int64_t now = time_now();

	assert_ok(f, catalog_audit_head(f->c, &number, mac, &f->err));
	assert_int_equal(number, 0);
	assert_memory_equal(mac, zero, ID_LEN);
	assert_ok(f, catalog_audit_append(f->c, &a, &f->err));
	assert_int_equal(a.entry.number, 1);
	assert_true(a.entry.time >= now && a.entry.time <= time_now());
	want = a.entry;
	want.subject = want.actor = "";
	want.detail = "{}";
	assert_ok(f, help_mac(NULL, zero, &want, mac, &f->err));
	assert_memory_equal(mac, a.entry.mac, ID_LEN);
	/* the next one is over it; a clock that was set back does not go back here */
	help_sql(f, "UPDATE audit SET time = 99999999999");
	memcpy(zero, mac, ID_LEN);
	a.entry.time = 0;
	a.entry.subject = "web1";
	a.entry.detail = "{\"x\":1}";
	a.entry.actor = "root@h pid 1";
	assert_ok(f, catalog_audit_append(f->c, &a, &f->err));
	assert_int_equal(a.entry.time, 99999999999);
	assert_ok(f, help_mac(NULL, zero, &a.entry, mac, &f->err));
	assert_memory_equal(mac, a.entry.mac, ID_LEN);
	assert_ok(f, catalog_audit_head(f->c, &number, zero, &f->err));
	assert_int_equal(number, 2);
	assert_memory_equal(mac, zero, ID_LEN);
	assert_ok(f, catalog_audit_append(f->c, NULL, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM audit"), 2);
	help_again(f);
	help_check(f);
}

/* An entry that cannot be made takes its change with it. */
static void test_refused(void **state)
{
	struct fixture *f = *state;
	int code = ERR_KEY;
	struct audit a = HELP_AUDIT("forget");
	uint8_t id[1][POINT_ID_LEN];

	help_backup(f, "a", 5, 1);
	help_id(id[0], 1);
	a.opaque = &code;
	assert_nothing(f, catalog_audit_append(f->c, &a, &f->err), ERR_KEY);
	assert_nothing(
		f, catalog_forget(f->c, (const uint8_t(*)[POINT_ID_LEN])id, 1, 2, 3, &a, &f->err),
		ERR_KEY);
	a.fn = NULL;
	assert_nothing(f, catalog_audit_append(f->c, &a, &f->err), ERR_INTERNAL);
	assert_int_equal(a.entry.number, 0);
	a.fn = help_mac;
	a.opaque = NULL;
	help_sql(f, "UPDATE meta SET audit_number = 9223372036854775807, audit_mac = zeroblob(32)");
	assert_nothing(f, catalog_audit_append(f->c, &a, &f->err), ERR_INTERNAL);
	help_sql(f, "UPDATE meta SET audit_number = 3, audit_mac = NULL");
	assert_nothing(f, catalog_audit_append(f->c, &a, &f->err), ERR_DAMAGED);
}

/* A publication and its row are one transaction. */
static void test_publish(void **state)
{
	struct fixture *f = *state;
	int code = ERR_KEY;
	struct audit a = HELP_AUDIT("backup");
	struct session_done done = { 0 };
	struct object_ref ref = { 0 };
	struct manifest m;
	uint8_t id[POINT_ID_LEN];
	uint64_t token = help_session(f, "a"), seq = 0, gen = 0;
	int64_t time = 5;

	assert_ok(f, catalog_reserve(f->c, token, "a", &time, &seq, &gen, &f->err));
	m = help_manifest("a", time, seq, gen, 0);
	m.ndisks = 0;
	help_id(id, 1);
	a.opaque = &code;
	assert_nothing(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, &a, &f->err),
		       ERR_KEY);
	a.opaque = NULL;
	assert_ok(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, &a, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM audit JOIN point"), 1);
	assert_nothing(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, &a, &f->err),
		       ERR_FENCED);
}

struct seen {
	struct fixture *f;
	uint64_t next, stop;
	int code;
};

static int see(void *opaque, const struct audit_entry *e, struct err *err)
{
	struct seen *s = opaque;
	uint64_t number;
	uint8_t mac[ID_LEN];

	assert_int_equal(e->number, s->next++);
	assert_string_equal(e->command, "step");
	assert_int_equal(e->time, e->number);
	assert_ok(s->f, catalog_audit_head(s->f->c, &number, mac, &s->f->err)); /* no transaction */
	if (e->number != s->stop)
		return 0;
	return s->code < 0 ? err_set(err, s->code, "enough") : s->code;
}

static void test_each(void **state)
{
	struct fixture *f = *state;
	struct seen s = { f, 1, 0, 0 };
	unsigned i, n;
	int r = ERR_NOMEM;

	assert_ok(f, catalog_audit_each(f->c, 1, see, &s, &f->err));
	assert_int_equal(s.next, 1);
	for (i = 1; i <= 300; i++) {
		struct audit a = HELP_AUDIT("step");

		a.entry.time = i;
		assert_ok(f, catalog_audit_append(f->c, &a, &f->err));
	}
	assert_ok(f, catalog_audit_each(f->c, 0, see, &s, &f->err));
	assert_int_equal(s.next, 301);
	s.next = 256;
	assert_ok(f, catalog_audit_each(f->c, 256, see, &s, &f->err));
	assert_int_equal(s.next, 301);
	assert_ok(f, catalog_audit_each(f->c, 301, see, &s, &f->err));
	assert_ok(f, catalog_audit_each(f->c, UINT64_MAX, see, &s, &f->err));
	assert_int_equal(s.next, 301);
	s = (struct seen){ f, 1, 130, 1 };
	assert_int_equal(catalog_audit_each(f->c, 1, see, &s, &f->err), 0);
	assert_int_equal(s.next, 131);
	s = (struct seen){ f, 1, 7, ERR_DAMAGED };
	assert_code(f, catalog_audit_each(f->c, 1, see, &s, &f->err), ERR_DAMAGED);
	assert_int_equal(s.next, 8);
	for (n = 1; r < 0 && n < 3000; n += n < 20 ? 1 : 97) {
		s = (struct seen){ f, 1, 0, 0 };
		mem_fail_after(n);
		r = catalog_audit_each(f->c, 1, see, &s, &f->err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_int_equal(r, 0);
}

static void test_check(void **state)
{
	static const struct {
		const char *sql, *undo, *words;
	} rows[] = {
		{ "UPDATE audit SET number = 5 WHERE number = 3",
		  "UPDATE audit SET number = 3 WHERE number = 5", "audit entry 5 has none before" },
		{ "UPDATE audit SET number = 9 WHERE number = 1",
		  "UPDATE audit SET number = 1 WHERE number = 9", "audit entry 2 has none before" },
		{ "UPDATE meta SET audit_number = 1, audit_mac = zeroblob(32)",
		  "UPDATE meta SET audit_number = 0, audit_mac = NULL",
		  "audit entry 1 is not above" },
	};
	struct fixture *f = *state;
	struct audit a = HELP_AUDIT("step");
	size_t i;

	for (i = 0; i < 3; i++)
		assert_ok(f, catalog_audit_append(f->c, &a, &f->err));
	help_check(f);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		cleanup_buf struct buf b = BUF_INIT;

		help_sql(f, rows[i].sql);
		assert_true(catalog_check(f->c, &b, &f->err) > 0);
		if (!strstr(buf_str(&b), rows[i].words))
			fail_msg("%s: %s", rows[i].sql, buf_str(&b));
		help_sql(f, rows[i].undo);
		help_check(f);
	}
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_append), T(test_refused), T(test_publish), T(test_each), T(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
