// SPDX-License-Identifier: GPL-3.0-or-later
/* Text dumps: the words, that damage is named, and that nothing hostile reaches a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/format-samples.h"

#include "base/banned.h"

static unsigned count_of(const char *text, const char *word)
{
	unsigned n = 0;
	for (const char *p = strstr(text, word); p; p = strstr(p + 1, word))
		n++;
	return n;
}

/* Lines of printable ASCII that all have a key and a value. */
static void check_text(struct buf *out)
{
	const char *text = buf_str(out);
	assert_true(out->len > 0 && out->data[out->len - 1] == '\n');
	for (size_t i = 0; i < out->len; i++)
		assert_true(text[i] == '\n' || (text[i] >= 0x20 && text[i] < 0x7f));
	assert_int_equal(count_of(text, "\n\n"), 0);
}

static void test_conf_and_key(void **state)
{
	struct sample_source s = { 1 };
	struct conf c = sample_conf(&s);
	struct key_file k = sample_key(&s);
	cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT, key_out = BUF_INIT;
	uint8_t raw[KEY_FILE_LEN];
	struct err err = ERR_INIT;
	(void)state;
	assert_int_equal(conf_encode(&c, &file, NULL), 0);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), 0);
	check_text(&out);
	assert_non_null(strstr(buf_str(&out), "file livepoint.conf\nuuid "));
	str_copy(k.label, sizeof(k.label), "b\xc3\xa4r\\");
	key_file_encode(&k, raw);
	assert_int_equal(dump_file(raw, sizeof(raw), &key_out, &err), 0);
	check_text(&key_out);
	assert_non_null(strstr(buf_str(&key_out), "\nlabel b\\xc3\\xa4r\\x5c\n"));
	raw[50] ^= 1;
	buf_reset(&key_out);
	assert_int_equal(dump_file(raw, sizeof(raw), &key_out, &err), ERR_DAMAGED);
	assert_non_null(strstr(buf_str(&key_out), "\nproblem "));
}

static void test_key_ring(void **state)
{
	struct sample_source s = { 3 };
	struct key_ring k;
	cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT;
	struct err err = ERR_INIT;
	(void)state;
	sample_key_ring(&s, &k);
	assert_int_equal(key_ring_encode(&k, &file, NULL), 0);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), 0);
	check_text(&out);
	assert_int_equal(count_of(buf_str(&out), "\nslot "), k.nslots);
	assert_non_null(strstr(buf_str(&out), " label slot 0 \\xc3\\xa9\n"));
	file.data[50] ^= 1;
	buf_reset(&out);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), ERR_DAMAGED);
	assert_non_null(strstr(buf_str(&out), "\nproblem "));
}

static void test_pack(void **state)
{
	struct sample_source s = { 2 };
	cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT;
	struct err err = ERR_INIT;
	(void)state;
	size_t footer = sample_pack_file(&s, 5, &file);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), 0);
	check_text(&out);
	assert_int_equal(count_of(buf_str(&out), "\nrecord "), 5);
	assert_int_equal(count_of(buf_str(&out), "\ntrailer "), 1);
	assert_int_equal(count_of(buf_str(&out), "problem"), 0);
	/* stable */
	cleanup_buf struct buf again = BUF_INIT;
	assert_int_equal(dump_file(file.data, file.len, &again, &err), 0);
	assert_string_equal(buf_str(&out), buf_str(&again));
	/* one record header broken: the others are still there */
	file.data[PACK_HEADER_LEN + 30] ^= 1;
	buf_reset(&out);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), ERR_DAMAGED);
	assert_int_equal(count_of(buf_str(&out), "\nrecord "), 4);
	file.data[PACK_HEADER_LEN + 30] ^= 1;
	/* no footer: the walk finds them all */
	file.data[footer] ^= 1;
	buf_reset(&out);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), ERR_DAMAGED);
	assert_int_equal(count_of(buf_str(&out), "\nrecord "), 5);
	buf_reset(&out);
	assert_int_equal(dump_file(file.data, footer, &out, &err), ERR_DAMAGED);
	assert_int_equal(count_of(buf_str(&out), "\nrecord "), 5);
}

/* A record header that is right in itself but another one than the footer's. */
static void test_footer_against_headers(void **state)
{
	struct sample_source s = { 3 };
	cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT;
	struct record_header h;
	struct err err = ERR_INIT;
	(void)state;
	sample_pack_file(&s, 3, &file);
	uint8_t *raw = file.data + PACK_HEADER_LEN;
	assert_int_equal(record_header_decode(raw, &h, NULL), 0);
	h.id[5] ^= 1;
	record_header_encode(&h, raw);
	assert_int_equal(dump_file(file.data, file.len, &out, &err), ERR_DAMAGED);
	assert_non_null(strstr(err.text, "differs from its footer entry"));
	assert_int_equal(count_of(buf_str(&out), "problem"), 1);
}

static void test_segment(void **state)
{
	struct sample_source s = { 4 };
	(void)state;
	for (unsigned count = 0; count < 80; count += 13) {
		cleanup_buf struct buf file = BUF_INIT, out = BUF_INIT;
		struct err err = ERR_INIT;
		sample_segment_file(&s, count, &file);
		assert_int_equal(dump_file(file.data, file.len, &out, &err), 0);
		check_text(&out);
		assert_int_equal(count_of(buf_str(&out), "\nrecord "), count);
		for (size_t at = 0; at < file.len; at++) {
			cleanup_buf struct buf bad = BUF_INIT;
			file.data[at] ^= 0x40;
			assert_int_equal(dump_file(file.data, file.len, &bad, &err), ERR_DAMAGED);
			file.data[at] ^= 0x40;
		}
	}
}

static void test_objects(void **state)
{
	struct sample_source s = { 5 };
	uint64_t locators[100];
	uint8_t digest[ID_LEN] = { 1 };
	struct err err = ERR_INIT;
	cleanup_buf struct buf leaf = BUF_INIT, page = BUF_INIT, manifest = BUF_INIT,
			       out = BUF_INIT;
	struct object_ref refs[3] = { sample_ref(&s), { 0 }, sample_ref(&s) };
	cleanup_ptr(manifest) m = sample_manifest(&s, 2, 2);
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		locators[i] = i < 10 ? LOCATOR_NONE :
			      i < 20 ? LOCATOR_UNREADABLE :
				       locator_make(7, i);
	assert_int_equal(leaf_encode(locators, 100, digest, &leaf, NULL), 0);
	assert_int_equal(dump_object(OBJECT_LEAF, leaf.data, leaf.len, &out, &err), 0);
	assert_non_null(strstr(buf_str(&out),
			       "\nrun 0 hole start 0 count 10\nrun 1 unreadable start 10 count 10\n"
			       "run 2 data start 20 count 80 pack 7 slot 20\n"));
	assert_int_equal(page_encode(refs, 3, &page, NULL), 0);
	assert_int_equal(dump_object(OBJECT_PAGE, page.data, page.len, &out, &err), 0);
	assert_non_null(strstr(buf_str(&out), "\nleaf 1 none\n"));
	free(m->labels[0].value);
	m->labels[0].value = str_dup("\x1b[31m\n");
	assert_int_equal(manifest_encode(m, &manifest, NULL), 0);
	assert_int_equal(dump_object(OBJECT_MANIFEST, manifest.data, manifest.len, &out, &err), 0);
	assert_non_null(strstr(buf_str(&out), "value \\x1b[31m\\x0a\n"));
	assert_int_equal(dump_object(OBJECT_CHUNK, "abc", 3, &out, &err), 0);
	check_text(&out);
	assert_int_equal(dump_object(OBJECT_ROOT, page.data, page.len, &out, &err), ERR_DAMAGED);
	assert_int_equal(dump_object((enum object_type)9, "abc", 3, &out, &err), ERR_UNSUPPORTED);
	check_text(&out);
}

static void test_unknown_file(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	(void)state;
	assert_int_equal(dump_file("what is this", 12, &out, NULL), ERR_DAMAGED);
	assert_int_equal(dump_file("", 0, &out, NULL), ERR_DAMAGED);
	assert_int_equal(dump_file("LVPTPACK", 8, &out, NULL), ERR_DAMAGED);
	assert_int_equal(dump_file("LVPTISEG", 8, &out, NULL), ERR_DAMAGED);
	check_text(&out);
}

static void test_allocation_failures(void **state)
{
	struct sample_source s = { 6 };
	cleanup_buf struct buf file = BUF_INIT;
	int r = ERR_NOMEM;
	unsigned n = 0;
	(void)state;
	sample_pack_file(&s, 20, &file);
	while (r != 0 && ++n < 1000) {
		cleanup_buf struct buf out = BUF_INIT;
		struct err err = ERR_INIT;
		mem_fail_after(n);
		r = dump_file(file.data, file.len, &out, &err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
	}
	assert_int_equal(r, 0);
	assert_true(n > 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conf_and_key), cmocka_unit_test(test_key_ring),
		cmocka_unit_test(test_pack),	     cmocka_unit_test(test_footer_against_headers),
		cmocka_unit_test(test_segment),	     cmocka_unit_test(test_objects),
		cmocka_unit_test(test_unknown_file), cmocka_unit_test(test_allocation_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
