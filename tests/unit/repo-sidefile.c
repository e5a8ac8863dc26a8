/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Proofs by booting and the fate of side files: what was stored comes back, says `boot` in the catalog, is unreadable
 * without the key, is refused for another point or in another kind, and goes when its point or name is gone.
 */
#include "tests/unit/repo-help.h"

#include "repo/internal.h"
#include "repo/proof.h"

#include "base/banned.h"

static void backup(const char *path, const char *name, uint8_t id[POINT_ID_LEN])
{
	struct repo *r = help_open(path, REPO_WRITE, 1);
	struct session_spec spec = { .name = name, .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = MiB };
	struct publish_spec publish = { 0 };
	struct session_result result;
	struct repo_session *s;
	struct err err = ERR_INIT;

	ok(repo_session_begin(r, &spec, &s, &err));
	ok(session_disk_begin(s, &disk, &err));
	ok(session_disk_hole(s, 0, MiB, &err));
	ok(session_disk_end(s, MiB, 0, &err));
	ok(repo_session_publish(s, &publish, &result, &err));
	memcpy(id, result.id, POINT_ID_LEN);
	repo_close(r);
}

static int verified_kind(struct repo *r, const uint8_t id[POINT_ID_LEN])
{
	struct point_row row = { 0 };
	struct catalog *c;
	struct err err = ERR_INIT;
	int kind;

	ok(repo_catalog_get(r, &c, &err));
	ok(catalog_point_by_id(c, id, &row, &err));
	kind = row.verified_kind;
	point_row_release(&row);
	repo_catalog_put(r, c);
	return kind;
}

static struct proof proof_of(const uint8_t id[POINT_ID_LEN], bool passed)
{
	struct proof p = { .time = 1795280000,
			   .passed = passed,
			   .verdict = (char *)"{\"marker\":\"LIVEPOINT-BOOT-OK\"}",
			   .png = (uint8_t *)"\x89PNG with a secret screen",
			   .png_len = 26 };

	memcpy(p.point, id, POINT_ID_LEN);
	return p;
}

static void proof_path(char path[160], const char *repo, const uint8_t id[POINT_ID_LEN])
{
	char hex[2 * POINT_ID_LEN + 1];

	hex_encode(hex, id, POINT_ID_LEN);
	snprintf(path, 160, "%s/proofs/%s.proof", repo, hex);
}

static void comes_back(bool encrypted)
{
	char dir[64], path[96], one[160], two[160];
	uint8_t a[POINT_ID_LEN], b[POINT_ID_LEN];
	struct proof p, got = { 0 };
	struct buf file = BUF_INIT;
	struct err err = ERR_INIT;
	struct repo *r;

	help_dir(dir);
	snprintf(path, sizeof(path), "%s/r", dir);
	help_init(path, encrypted);
	backup(path, "web1", a);
	backup(path, "web2", b);
	r = help_open(path, REPO_WRITE, 1);
	assert_int_equal(repo_proof_load(r, a, &got, &err), ERR_NOT_FOUND);
	p = proof_of(a, false);
	ok(repo_proof_store(r, &p, &err));
	assert_int_equal(verified_kind(r, a), VERIFIED_NONE);
	p.passed = true;
	ok(repo_proof_store(r, &p, &err));
	assert_int_equal(verified_kind(r, a), VERIFIED_BOOT);
	ok(repo_proof_load(r, a, &got, &err));
	assert_true(got.passed);
	assert_int_equal(got.time, p.time);
	assert_string_equal(got.verdict, p.verdict);
	assert_int_equal(got.png_len, p.png_len);
	assert_memory_equal(got.png, p.png, p.png_len);
	proof_release(&got);

	proof_path(one, path, a);
	proof_path(two, path, b);
	ok(file_read_all(one, SIDEFILE_MAX, &file, &err));
	assert_int_equal(memmem(file.data, file.len, "secret", 6) == NULL, encrypted);
	/* under another point's name it is right in itself, and refused */
	ok(file_write_all(two, file.data, file.len, 0600, true, "test", &err));
	assert_int_equal(repo_proof_load(r, b, &got, &err), ERR_DAMAGED);
	for (size_t i = 0; i < file.len; i += 3) {
		file.data[i] ^= 1;
		ok(file_write_all(one, file.data, file.len, 0600, true, "test", &err));
		file.data[i] ^= 1;
		assert_true(repo_proof_load(r, a, &got, &err) < 0);
	}
	ok(file_write_all(one, file.data, file.len, 0600, true, "test", &err));
	ok(repo_proof_load(r, a, &got, &err));
	proof_release(&got);
	buf_release(&file);
	repo_close(r);
	help_remove(dir);
}

static void plain(void **state)
{
	(void)state;
	comes_back(false);
}

static void encrypted(void **state)
{
	(void)state;
	comes_back(true);
}

static void goes_with_its_point(void **state)
{
	char dir[64], path[96], proof[160], gone[160], trace[160], lost[160];
	uint8_t id[POINT_ID_LEN], no_point[POINT_ID_LEN] = { 7 };
	struct catalog *c;
	struct err err = ERR_INIT;
	struct proof p;
	struct repo *r;

	(void)state;
	help_dir(dir);
	snprintf(path, sizeof(path), "%s/r", dir);
	help_init(path, false);
	backup(path, "web1", id);
	r = help_open(path, REPO_WRITE, 1);
	ok(repo_catalog_get(r, &c, &err));
	ok(sidefile_sweep(r, c, &err)); /* no folder yet */
	p = proof_of(id, true);
	ok(repo_proof_store(r, &p, &err));
	proof_path(proof, path, id);
	proof_path(gone, path, no_point);
	snprintf(trace, sizeof(trace), "%s/traces", path);
	ok(dir_make(trace, 0700, "test", &err));
	snprintf(trace, sizeof(trace), "%s/traces/web1~vda.trace", path);
	snprintf(lost, sizeof(lost), "%s/traces/web9~vda.trace", path);
	ok(file_write_all(gone, "x", 1, 0600, true, "test", &err));
	ok(file_write_all(trace, "x", 1, 0600, true, "test", &err));
	ok(file_write_all(lost, "x", 1, 0600, true, "test", &err));
	ok(sidefile_sweep(r, c, &err));
	assert_int_equal(access(proof, F_OK), 0);
	assert_int_equal(access(trace, F_OK), 0);
	assert_int_equal(access(gone, F_OK), -1);
	assert_int_equal(access(lost, F_OK), -1);
	repo_catalog_put(r, c);
	repo_close(r);
	help_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain),
		cmocka_unit_test(encrypted),
		cmocka_unit_test(goes_with_its_point),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
