// SPDX-License-Identifier: GPL-3.0-or-later
/* Leases, pins, and the steps of a session: locks, fencing, numbers, reservations, checkpoint, publish, sweep. */
#include "tests/unit/catalog-help.h"

#include "base/banned.h"

static void test_whole_session(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_INGEST, "web1");
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has_parent = true;
	uint64_t first;

	assert_ok(f, catalog_session_begin(f->c, &l, NULL, &packs, &has_parent, &parent, NULL,
					   &f->err));
	assert_int_equal(l.token, 1);
	assert_int_equal(l.gen, 1);
	assert_false(has_parent);
	assert_int_equal(packs.count, 0);
	assert_ok(f, catalog_lease_end(f->c, l.token, &f->err));
	assert_ok(f, catalog_lease_end(f->c, l.token, &f->err)); /* not there is fine */

	first = help_backup(f, "web1", 1700000000, 1);
	help_backup(f, "web1", 1600000000, 2); /* an older clock, a higher sequence */
	help_backup(f, "other", 1800000000, 3);
	help_sql(f, "UPDATE pack SET gone = x'0300', damaged = x'0002' WHERE number = 1");
	assert_ok(f, catalog_session_begin(f->c, &l, NULL, &packs, &has_parent, &parent, NULL,
					   &f->err));
	assert_true(l.token > 4);
	assert_int_equal(l.gen, 4);
	assert_true(has_parent);
	assert_int_equal(get_be32(parent.id), 2);
	assert_int_equal(packs.count, 3);
	assert_int_equal(packs.rows[0].number, first);
	assert_int_equal(packs.rows[0].state, PACK_LIVE);
	assert_int_equal(packs.rows[0].slots, 10);
	assert_int_equal(packs.rows[0].bytes, 5000);
	assert_int_equal(packs.rows[0].gone.nbytes, 2);
	assert_memory_equal(packs.rows[0].gone.bits, "\3\0", 2);
	assert_memory_equal(packs.rows[0].damaged.bits, "\0\2", 2);
	assert_null(packs.rows[1].gone.bits);
	pack_list_release(&packs);
	point_row_release(&parent);
}

static void test_since(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_INGEST, "web1");
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has_parent = false;
	uint8_t id[POINT_ID_LEN];

	help_backup(f, "web1", 100, 1);
	help_backup(f, "other", 200, 2);
	help_id(id, 2);
	assert_ok(f,
		  catalog_session_begin(f->c, &l, id, &packs, &has_parent, &parent, NULL, &f->err));
	assert_true(has_parent);
	assert_string_equal(parent.m->name, "other");
	pack_list_release(&packs);
	point_row_release(&parent);
	assert_ok(f, catalog_lease_end(f->c, l.token, &f->err));
	help_sql(f, "UPDATE point SET state = 2 WHERE name = 'other'");
	assert_code(
		f, catalog_session_begin(f->c, &l, id, &packs, &has_parent, &parent, NULL, &f->err),
		ERR_NOT_FOUND);
	assert_int_equal(help_number(f, "SELECT count(*) FROM lease"), 0);
	l.name[0] = 0;
	assert_code(f,
		    catalog_session_begin(f->c, &l, NULL, &packs, &has_parent, &parent, NULL,
					  &f->err),
		    ERR_INVALID);
}

static void test_same_name(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_INGEST, "web1"), holder = { 0 };
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has_parent = false;
	uint64_t token = help_session(f, "web1");

	assert_code(f,
		    catalog_session_begin(f->c, &l, NULL, &packs, &has_parent, &parent, &holder,
					  &f->err),
		    ERR_LOCKED);
	assert_int_equal(holder.token, token);
	assert_string_equal(holder.host, "hosty");
	assert_int_equal(holder.pid, 77);
	assert_non_null(strstr(f->err.text, "hosty"));
	assert_non_null(strstr(f->err.text, "77"));
	assert_non_null(strstr(f->err.text, "2001-09-09T01:46:40Z"));
	assert_non_null(strstr(f->err.text, "--wait"));
	help_session(f, "web2");
	assert_ok(f, catalog_lease_end(f->c, token, &f->err));
	assert_true(help_session(f, "web1") > token); /* and the token is a new one */
}

static void test_leases(void **state)
{
	struct fixture *f = *state;
	struct lease reader = help_spec(LEASE_READER, ""), m1 = help_spec(LEASE_MAINTENANCE, ""),
		     m2 = m1;
	struct lease ingest = help_spec(LEASE_INGEST, "x"), *list = NULL;
	size_t n = 9;

	assert_ok(f, catalog_leases(f->c, &list, &n, &f->err));
	assert_int_equal(n, 0);
	free(list);
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
	assert_ok(f, catalog_lease_begin(f->c, &m1, &f->err));
	assert_code(f, catalog_lease_begin(f->c, &m2, &f->err), ERR_LOCKED);
	assert_code(f, catalog_lease_begin(f->c, &ingest, &f->err), ERR_INVALID);
	assert_ok(f, catalog_leases(f->c, &list, &n, &f->err));
	assert_int_equal(n, 2);
	assert_int_equal(list[0].token, reader.token);
	assert_int_equal(list[1].kind, LEASE_MAINTENANCE);
	assert_string_equal(list[1].lock_name, "lock");
	assert_string_equal(list[1].boot_id, "boot");
	assert_int_equal(list[1].start_ticks, 5);
	assert_int_equal(list[1].since, 1000000000);
	free(list);
	assert_ok(f, catalog_lease_end(f->c, m1.token, &f->err));
	assert_ok(f, catalog_lease_begin(f->c, &m2, &f->err));
}

static void test_pins(void **state)
{
	struct fixture *f = *state;
	struct lease a = help_spec(LEASE_READER, ""), b = a;
	uint8_t id[POINT_ID_LEN];

	help_backup(f, "web1", 100, 1);
	help_id(id, 1);
	assert_ok(f, catalog_lease_begin(f->c, &a, &f->err));
	assert_ok(f, catalog_lease_begin(f->c, &b, &f->err));
	assert_ok(f, catalog_pin(f->c, a.token, id, &f->err));
	assert_ok(f, catalog_pin(f->c, a.token, id, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM pin"), 1);
	help_sql(f, "UPDATE point SET state = 2");
	assert_ok(f, catalog_pin(f->c, b.token, id, &f->err)); /* pinned already, so it stays */
	assert_ok(f, catalog_unpin(f->c, b.token, id, &f->err));
	assert_ok(f, catalog_lease_end(f->c, a.token, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM pin"), 0);
	assert_code(f, catalog_pin(f->c, b.token, id, &f->err), ERR_NOT_FOUND);
	assert_code(f, catalog_pin(f->c, a.token, id, &f->err), ERR_FENCED);
	assert_ok(f, catalog_unpin(f->c, a.token, id, &f->err));
}

/* Sum over everything that a session could change. */
static uint64_t fingerprint(struct fixture *f)
{
	return help_number(
		f, "SELECT (SELECT generation * 1000003 + next_pack * 10007 + next_segment * 101"
		   " + next_sequence FROM meta) * 31 + (SELECT count(*) FROM pack) * 7"
		   " + (SELECT coalesce(sum(state), 0) FROM pack) * 1009"
		   " + (SELECT coalesce(sum(state + records), 0) FROM segment) * 2003"
		   " + (SELECT count(*) FROM point) * 4001 + (SELECT count(*) FROM lease)");
}

static void test_fenced(void **state)
{
	struct fixture *f = *state;
	uint64_t token = help_session(f, "web1"), number = 0, seg = 0, before, seq = 0, gen = 0;
	struct pack_done pack = { .slots = 10, .bytes = 5000 };
	struct session_done done = { .packs = &pack, .npacks = 1 };
	struct object_ref ref = { 0 };
	uint8_t id[POINT_ID_LEN] = { 0 };
	struct manifest m;
	int64_t time = 5;

	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &pack.number, &f->err));
	assert_ok(f, catalog_segment_begin(f->c, token, &done.segment, &f->err));
	assert_ok(f, catalog_reserve(f->c, token, "web1", &time, &seq, &gen, &f->err));
	m = help_manifest("web1", time, seq, gen, pack.number);
	assert_ok(f, catalog_lease_end(f->c, token, &f->err));
	before = fingerprint(f);
	assert_code(f, catalog_pack_begin(f->c, token, PACK_DATA, &number, &f->err), ERR_FENCED);
	assert_code(f, catalog_segment_begin(f->c, token, &seg, &f->err), ERR_FENCED);
	assert_code(f, catalog_checkpoint(f->c, token, &done, &f->err), ERR_FENCED);
	assert_code(f, catalog_reserve(f->c, token, "web1", &time, &seq, &gen, &f->err),
		    ERR_FENCED);
	assert_code(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		    ERR_FENCED);
	assert_code(f, catalog_segments_swap(f->c, token, done.segment, 1, NULL, 0, &f->err),
		    ERR_FENCED);
	assert_true(fingerprint(f) == before);
	assert_int_equal(number, 0);
}

static void test_checkpoint(void **state)
{
	struct fixture *f = *state;
	uint64_t token = help_session(f, "web1"), other = help_session(f, "web2"), before;
	struct pack_done packs[2] = { { .slots = 10, .bytes = 5000 },
				      { .slots = 20, .bytes = 6000 } };
	struct session_done done = { .packs = packs, .npacks = 2, .segment_records = 30 };

	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &packs[0].number, &f->err));
	assert_ok(f, catalog_pack_begin(f->c, token, PACK_MAP, &packs[1].number, &f->err));
	assert_int_equal(packs[1].number, packs[0].number + 1);
	assert_ok(f, catalog_segment_begin(f->c, token, &done.segment, &f->err));
	before = fingerprint(f);
	assert_code(f, catalog_checkpoint(f->c, other, &done, &f->err), ERR_INTERNAL);
	packs[1].slots = 0;
	assert_code(f, catalog_checkpoint(f->c, token, &done, &f->err), ERR_INTERNAL);
	assert_true(fingerprint(f) == before); /* also the first pack, which was right */
	packs[1].slots = 20;
	assert_ok(f, catalog_checkpoint(f->c, token, &done, &f->err));
	assert_true(fingerprint(f) != before);
	before = fingerprint(f);
	assert_ok(f, catalog_checkpoint(f->c, token, &done, &f->err)); /* after an unknown commit */
	assert_true(fingerprint(f) == before);
	packs[0].slots = 11;
	assert_code(f, catalog_checkpoint(f->c, token, &done, &f->err), ERR_INTERNAL);
	done.npacks = 0;
	done.segment++;
	assert_code(f, catalog_checkpoint(f->c, token, &done, &f->err), ERR_INTERNAL);
	help_check(f);
}

static void test_reserve(void **state)
{
	struct fixture *f = *state;
	uint64_t a, b = help_session(f, "b"), seq = 0, seq2 = 0, gen = 0, gen2 = 0;
	int64_t time = 1000;

	help_backup(f, "web1", 1000, 1);
	help_backup(f, "web1", 1001, 2);
	help_backup(f, "web1", 1003, 3);
	help_sql(f, "UPDATE point SET state = 2 WHERE time = 1001"); /* forgotten is still taken */
	a = help_session(f, "web1");
	assert_ok(f, catalog_reserve(f->c, a, "web1", &time, &seq, &gen, &f->err));
	assert_int_equal(time, 1002);
	time = 1000;
	assert_ok(f, catalog_reserve(f->c, b, "web1", &time, &seq2, &gen2, &f->err));
	assert_int_equal(time, 1004); /* 1002 is promised */
	assert_int_equal(seq2, seq + 1);
	assert_int_equal(gen2, gen + 1);
	time = 1002;
	assert_ok(f, catalog_reserve(f->c, a, "web1", &time, &seq2, &gen2, &f->err));
	assert_int_equal(time, 1002); /* its own promise is not in its way */
	assert_int_equal(seq2, seq + 2);
	assert_ok(f, catalog_lease_end(f->c, a, &f->err));
	time = 1002;
	assert_ok(f, catalog_reserve(f->c, b, "web1", &time, &seq2, &gen2, &f->err));
	assert_int_equal(time, 1002);
	help_sql(f, "UPDATE point SET state = 3 WHERE time = 1001");
	time = 1000;
	assert_ok(f, catalog_reserve(f->c, b, "web1", &time, &seq2, &gen2, &f->err));
	assert_int_equal(time, 1001); /* expired never comes back */
}

static void test_publish_refuses(void **state)
{
	struct fixture *f = *state;
	uint64_t token = help_session(f, "web1"), seq = 0, gen = 0;
	struct session_done done = { 0 };
	struct object_ref ref = { 0 };
	struct lease reader = help_spec(LEASE_READER, "");
	struct manifest m;
	uint8_t id[POINT_ID_LEN] = { 7 };
	int64_t time = 50;

	m = help_manifest("web1", time, 1, 1, 1);
	assert_code(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		    ERR_INTERNAL);
	assert_ok(f, catalog_reserve(f->c, token, "web1", &time, &seq, &gen, &f->err));
	m = help_manifest("web1", time + 1, seq, gen, 1);
	assert_code(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		    ERR_INTERNAL);
	m = help_manifest("web2", time, seq, gen, 1);
	assert_code(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		    ERR_INTERNAL);
	m = help_manifest("web1", time, seq, gen, 1);
	m.uuid[0] ^= 1;
	assert_code(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		    ERR_INTERNAL);
	m.uuid[0] ^= 1;
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
	assert_code(
		f, catalog_publish(f->c, reader.token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		ERR_INTERNAL);
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 0);
	assert_ok(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM lease WHERE kind = 1"), 0);
	assert_code(f, catalog_publish(f->c, token, &done, NULL, 0, id, &ref, &m, NULL, &f->err),
		    ERR_FENCED);
}

static void test_publish_reused(void **state)
{
	struct fixture *f = *state;
	uint64_t pack = help_backup(f, "old", 10, 1), token = help_session(f, "web1");
	uint64_t own_gen = help_number(f, "SELECT gen FROM lease");
	uint8_t bits[2] = { 0x81, 0x02 };
	struct slot_bits reused = { .pack = pack, .nbytes = 2, .bits = bits };
	struct pack_done done_pack = { .slots = 3, .bytes = 100 };
	struct session_done done = { .packs = &done_pack, .npacks = 1 };
	char sql[128];
	int64_t time = 60;

	assert_ok(f, catalog_pack_begin(f->c, token, PACK_DATA, &done_pack.number, &f->err));
	help_sql(f, "UPDATE pack SET gone = x'8000' WHERE number = 1");
	assert_code(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1), ERR_INTERNAL);
	assert_non_null(strstr(f->err.text, "slot 7"));
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	assert_int_equal(help_number(f, "SELECT state FROM pack WHERE number = 2"), PACK_WRITING);
	/* condemned, but before the lease was taken */
	help_sql(f, "UPDATE pack SET condemned = x'8000' WHERE number = 1");
	snprintf(sql, sizeof(sql), "UPDATE meta SET condemn_gen = %d", (int)own_gen);
	help_sql(f, sql);
	assert_code(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1), ERR_INTERNAL);
	/* condemned after it; but another slot doomed */
	snprintf(sql, sizeof(sql), "UPDATE meta SET condemn_gen = %d", (int)own_gen + 1);
	help_sql(f, sql);
	help_sql(f, "UPDATE pack SET gone = x'8002', doomed = x'0002' WHERE number = 1");
	assert_code(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1), ERR_INTERNAL);
	assert_non_null(strstr(f->err.text, "slot 9"));
	help_sql(f, "UPDATE pack SET gone = x'8000', doomed = NULL WHERE number = 1");
	/* slot that the pack does not have, pack that is not live, pack that is not there */
	bits[1] = 0x04;
	assert_code(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1), ERR_INTERNAL);
	bits[1] = 0x02;
	help_sql(f, "UPDATE pack SET state = 1 WHERE number = 1");
	assert_code(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1), ERR_INTERNAL);
	help_sql(f, "UPDATE pack SET state = 2 WHERE number = 1");
	reused.pack = 99;
	assert_code(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1), ERR_INTERNAL);
	reused.pack = pack;
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 1);
	assert_ok(f, help_publish(f, token, "web1", &time, 2, &done, &reused, 1));
	assert_int_equal(help_number(f, "SELECT count(*) FROM point"), 2);
	assert_int_equal(help_number(f, "SELECT state FROM pack WHERE number = 2"), PACK_LIVE);
}

static void test_sweep(void **state)
{
	struct fixture *f = *state;
	uint64_t a = help_session(f, "a"), b = help_session(f, "b"), n = 0;
	uint64_t *packs = NULL, *segments = NULL, *tokens = NULL;
	size_t npacks = 9, nsegments = 9, ntokens = 9;

	assert_ok(f, catalog_pack_begin(f->c, a, PACK_DATA, &n, &f->err));
	assert_ok(f, catalog_pack_begin(f->c, b, PACK_DATA, &n, &f->err));
	assert_ok(f, catalog_pack_begin(f->c, a, PACK_DATA, &n, &f->err));
	assert_ok(f, catalog_segment_begin(f->c, a, &n, &f->err));
	assert_ok(f, catalog_writing_tokens(f->c, &tokens, &ntokens, &f->err));
	assert_int_equal(ntokens, 0);
	free(tokens);
	assert_ok(f, catalog_writing(f->c, 0, &packs, &npacks, &segments, &nsegments, &f->err));
	assert_int_equal(npacks + nsegments, 0);
	assert_ok(f, catalog_lease_end(f->c, a, &f->err));
	assert_ok(f, catalog_writing_tokens(f->c, &tokens, &ntokens, &f->err));
	assert_int_equal(ntokens, 1);
	assert_int_equal(tokens[0], a);
	free(tokens);
	assert_ok(f, catalog_writing(f->c, 0, &packs, &npacks, &segments, &nsegments, &f->err));
	assert_int_equal(npacks, 2);
	assert_int_equal(packs[0], 1);
	assert_int_equal(packs[1], 3);
	assert_int_equal(nsegments, 1);
	free(packs);
	free(segments);
	assert_ok(f, catalog_writing(f->c, b, &packs, &npacks, &segments, &nsegments, &f->err));
	assert_int_equal(npacks, 1);
	assert_int_equal(packs[0], 2);
	free(packs);
	free(segments);
	assert_code(f, catalog_writing_delete(f->c, 0, &f->err), ERR_INVALID);
	assert_ok(f, catalog_writing_delete(f->c, a, &f->err));
	assert_int_equal(help_number(f, "SELECT count(*) FROM pack"), 1);
	assert_ok(f, catalog_pack_begin(f->c, b, PACK_DATA, &n, &f->err));
	assert_int_equal(n, 4); /* burnt numbers stay burnt */
	help_check(f);
}

/* Every allocation of the begin of a session fails once; nothing is left behind by a failure. */
static void test_begin_without_memory(void **state)
{
	struct fixture *f = *state;
	struct lease l = help_spec(LEASE_INGEST, "web1");
	struct pack_list packs = { 0 };
	struct point_row parent = { 0 };
	bool has_parent = false;
	unsigned n;
	int r = ERR_NOMEM;

	help_backup(f, "web1", 10, 1);
	help_sql(f, "UPDATE pack SET gone = x'0300', damaged = x'0300'");
	for (n = 1; r < 0 && n < 100; n++) {
		mem_fail_after(n);
		r = catalog_session_begin(f->c, &l, NULL, &packs, &has_parent, &parent, NULL,
					  &f->err);
		mem_fail_after(0);
		if (r < 0) {
			assert_int_equal(r, ERR_NOMEM);
			assert_null(packs.rows);
			assert_null(parent.m);
			assert_int_equal(help_number(f, "SELECT count(*) FROM lease"), 0);
		}
	}
	assert_true(r == 0 && n > 5);
	pack_list_release(&packs);
	point_row_release(&parent);
}

/* A catalog that was moved away gives no lease. */
static void test_moved(void **state)
{
	struct fixture *f = *state;
	struct lease reader = { .kind = LEASE_READER, .lock_name = "lock", .host = "h" };
	char away[128];

	snprintf(away, sizeof(away), "%s.away", f->path);
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
	assert_ok(f, catalog_lease_end(f->c, reader.token, &f->err));
	assert_ok(f, file_rename_new(f->path, away, NULL, &f->err));
	assert_code(f, catalog_lease_begin(f->c, &reader, &f->err), ERR_LOCKED);
	assert_ok(f, file_rename_new(away, f->path, NULL, &f->err));
	assert_ok(f, catalog_lease_begin(f->c, &reader, &f->err));
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, help_setup, help_teardown)
	const struct CMUnitTest tests[] = {
		T(test_whole_session),	T(test_since),	 T(test_same_name),
		T(test_leases),		T(test_pins),	 T(test_fenced),
		T(test_checkpoint),	T(test_reserve), T(test_publish_refuses),
		T(test_publish_reused), T(test_sweep),	 T(test_begin_without_memory),
		T(test_moved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
