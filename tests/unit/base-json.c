// SPDX-License-Identifier: GPL-3.0-or-later
/* JSON values, and streams of objects in every cut: whole, in single bytes, around the reader's buffer end. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <pthread.h>

#include <cmocka.h>

#include "base/json.h"

#include "base/banned.h"

static struct jval *make_document(void)
{
	struct jval *o = jval_object(), *a = jval_array();

	jval_set(o, "zebra", jval_str("first"));
	jval_set(o, "none", NULL);
	jval_set(o, "text", jval_str("a\"b\n\xff\xc3\xa9\xed\xa0\x80"));
	jval_set(o, "no", jval_bool(false));
	jval_append(a, jval_int(INT64_MIN));
	jval_append(a, jval_uint(INT64_MAX));
	jval_append(a, jval_real(0.5));
	jval_append(a, jval_str(NULL));
	jval_append(a, jval_real(INFINITY));
	jval_set(o, "list", a);
	jval_set(o, "bad\xfe", jval_object());
	return o;
}

static const char document_line[] =
	"{\"zebra\":\"first\",\"none\":null,\"text\":\"a\\\"b\\n\xef\xbf\xbd\xc3\xa9"
	"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"no\":false,"
	"\"list\":[-9223372036854775808,9223372036854775807,0.5,null,null],"
	"\"bad\xef\xbf\xbd\":{}}";

static void test_print(void **state)
{
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_ptr(jval) o = make_document();
	cleanup_ptr(jval) big = jval_uint(UINT64_MAX);
	struct err err = ERR_INIT;

	(void)state;
	buf_put(&out, "> ", 2);
	assert_int_equal(jval_print(o, false, &out, &err), 0);
	assert_string_equal(buf_str(&out) + 2, document_line);
	buf_reset(&out);
	assert_int_equal(jval_print(big, false, &out, &err), 0);
	assert_string_equal(buf_str(&out), "1.84467440737096e19");
	jval_free(steal_ptr(big));
	big = jval_real(0.018207934);
	buf_reset(&out);
	assert_int_equal(jval_print(big, false, &out, &err), 0);
	assert_string_equal(buf_str(&out), "0.018207934");
	jval_free(steal_ptr(o));
	o = jval_object();
	jval_set(o, "a", jval_int(1));
	buf_reset(&out);
	assert_int_equal(jval_print(o, true, &out, &err), 0);
	assert_string_equal(buf_str(&out), "{\n  \"a\": 1\n}");
	buf_reset(&out);
	assert_int_equal(jval_print(NULL, true, &out, &err), 0);
	assert_string_equal(buf_str(&out), "null");
}

/* The n-th allocation fails, for each n: either the whole document is printed or nothing. */
static void test_print_no_memory(void **state)
{
	struct err err = ERR_INIT;
	unsigned n;
	int r = -1;

	(void)state;
	for (n = 1; r < 0; n++) {
		cleanup_buf struct buf out = BUF_INIT;
		struct jval *o;

		mem_fail_after(n);
		o = make_document();
		r = jval_print(o, false, &out, &err);
		mem_fail_after(0);
		if (r < 0) { /* what was lost is said once, not of the next document too */
			cleanup_buf struct buf next = BUF_INIT;

			assert_int_equal(jval_print(NULL, false, &next, NULL), 0);
		}
		if (r < 0) {
			assert_int_equal(r, ERR_NOMEM);
			assert_int_equal(out.len, 0);
		} else {
			assert_string_equal(buf_str(&out), document_line);
		}
		jval_free(o);
	}
	assert_true(n > 20);
}

static int count_members(void *opaque, const char *key, const struct jval *v)
{
	(void)v;
	++*(int *)opaque;
	return strcmp(key, "stop") == 0 ? 5 : 0;
}

static void test_parse(void **state)
{
	static const char text[] =
		"{\"s\":\"x\",\"b\":true,\"u\":7,\"i\":-7,\"r\":1.5,\"n\":null,\"a\":[1,2],\"stop\":0,\"z\":0}";
	struct err err = ERR_INIT;
	struct jval *o = NULL;
	uint64_t u = 99;
	int64_t i = 99;
	bool b = false;
	int members = 0;

	(void)state;
	assert_int_equal(jval_parse(text, sizeof(text) - 1, &o, &err), 0);
	assert_true(jval_is_object(o));
	assert_string_equal(jval_as_str(jval_get(o, "s")), "x");
	assert_true(jval_as_bool(jval_get(o, "b"), &b) && b);
	assert_true(jval_as_uint(jval_get(o, "u"), &u) && u == 7);
	assert_false(jval_as_uint(jval_get(o, "i"), &u));
	assert_true(jval_as_int(jval_get(o, "i"), &i) && i == -7);
	assert_false(jval_as_int(jval_get(o, "r"), &i));
	assert_false(jval_as_bool(jval_get(o, "n"), &b));
	assert_true(jval_is_null(jval_get(o, "n")));
	assert_true(jval_is_null(jval_get(o, "absent")));
	assert_false(jval_is_null(o));
	assert_null(jval_as_str(jval_get(o, "u")));
	assert_null(jval_get(jval_get(o, "a"), "s"));
	assert_null(jval_get(NULL, "s"));
	assert_true(jval_is_array(jval_get(o, "a")));
	assert_int_equal(jval_count(jval_get(o, "a")), 2);
	assert_int_equal(jval_count(o), 0);
	assert_true(jval_as_uint(jval_at(jval_get(o, "a"), 1), &u) && u == 2);
	assert_null(jval_at(jval_get(o, "a"), 2));
	assert_int_equal(jval_each(o, count_members, &members), 5);
	assert_int_equal(members, 8);
	assert_int_equal(jval_each(NULL, count_members, &members), 0);
	jval_free(o);
}

static void test_parse_bad(void **state)
{
	static const char *const bad[] = {
		"",	"{",	    "{\"a\":1}x", "{\"a\":1,\"a\":2}",
		"[1,]", "\"\xff\"", "{'a':1}",	  "18446744073709551616"
	};
	struct err err = ERR_INIT;
	struct jval *o = (struct jval *)&err;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(jval_parse(bad[i], strlen(bad[i]), &o, &err), ERR_INVALID);
		assert_ptr_equal(o, &err);
	}
	assert_int_equal(jval_parse("{\n\n!", 4, &o, &err), ERR_INVALID);
	assert_non_null(strstr(err.text, "line 3"));
	mem_fail_after(1);
	assert_int_equal(jval_parse("[1]", 3, &o, &err), ERR_NOMEM);
	mem_fail_after(0);
}

/* --- streams --- */

struct seen {
	uint64_t next, objects, stop_at;
	int stop_with;
};

static int see(void *opaque, const struct jval *object, struct err *err)
{
	struct seen *seen = opaque;
	uint64_t n = UINT64_MAX;

	assert_true(jval_is_object(object));
	if (jval_as_uint(jval_get(object, "n"), &n))
		assert_int_equal(n, seen->objects);
	seen->objects++;
	if (seen->objects == seen->stop_at) {
		if (seen->stop_with < 0)
			err_set(err, seen->stop_with, "not wanted");
		return seen->stop_with;
	}
	return 0;
}

static int stream_file(const void *text, size_t n, struct seen *seen, struct err *err)
{
	cleanup_fd int fd = memfd_create("stream", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, text, n, 0), (ssize_t)n);
	return json_stream_each(fd, "list.json", see, seen, err);
}

struct feeder {
	int fd;
	const char *text;
	size_t n, piece;
};

static void *feed(void *opaque)
{
	struct feeder *f = opaque;
	size_t at, n;

	for (at = 0; at < f->n; at += n) {
		n = MIN(f->piece, f->n - at);
		if (write(f->fd, f->text + at, n) != (ssize_t)n)
			break;
	}
	close(f->fd);
	return NULL;
}

/* The same text through a pipe in small pieces. */
static int stream_pieces(const char *text, size_t n, size_t piece, struct seen *seen,
			 struct err *err)
{
	struct feeder f = { .text = text, .n = n, .piece = piece };
	pthread_t id;
	int ends[2], r;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	f.fd = ends[1];
	assert_int_equal(pthread_create(&id, NULL, feed, &f), 0);
	r = json_stream_each(ends[0], "list.json", see, seen, err);
	pthread_join(id, NULL);
	close(ends[0]);
	return r;
}

static void test_stream_forms(void **state)
{
	static const struct {
		const char *text;
		uint64_t objects;
	} good[] = {
		{ "", 0 },
		{ " \r\n\t", 0 },
		{ "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n", 3 },
		{ "{\"n\":0}{\"n\":1} {\"n\":2}", 3 },
		{ "[]", 0 },
		{ " [ ] \n", 0 },
		{ "[{\"n\":0},{\"n\":1}\n,\n{\"n\":2}]\n", 3 },
		{ "{\n  \"n\": 0,\n  \"x\": {\"y\": [{}, \"}\\\"]{\\\\\"]}\n}\n{\"n\":1,\"\\\\\":\"\\\\\"}",
		  2 }
	};
	size_t i, piece;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		for (piece = 0; piece < 4; piece++) {
			struct seen seen = { 0 };
			struct err err = ERR_INIT;
			size_t n = strlen(good[i].text);
			int r = piece ? stream_pieces(good[i].text, n, piece, &seen, &err) :
					stream_file(good[i].text, n, &seen, &err);

			if (r)
				fail_msg("'%s': %s", good[i].text, err.text);
			assert_int_equal(seen.objects, good[i].objects);
		}
	}
}

static void test_stream_bad(void **state)
{
	static const struct {
		const char *text;
		uint64_t objects; /* seen before the error */
		const char *says;
	} bad[] = { { "hello", 0, "byte offset 0, after object 0" },
		    { "{\"n\":0}\nx", 1, "byte offset 8, after object 1" },
		    { "{\"n\":0},{\"n\":1}", 1, "byte offset 7," },
		    { "{\"n\":0}[]", 1, "byte offset 7," },
		    { "[{\"n\":0} {\"n\":1}]", 1, "byte offset 9," },
		    { "[{\"n\":0},]", 1, "byte offset 9," },
		    { "[,]", 0, "byte offset 1," },
		    { "[1]", 0, "byte offset 1," },
		    { "[] []", 0, "byte offset 3," },
		    { "[[{}]]", 0, "byte offset 1," },
		    { "]", 0, "byte offset 0," },
		    { "{\"n\":0}\n{\"n\":}", 1, "object 2 at byte offset 8: not JSON" },
		    { "{\"n\":0} {]", 1, "object 2 at byte offset 8: not JSON" },
		    { "{\"n\":0}{\"n\":1", 1,
		      "object 2 at byte offset 7: the file ends inside it, at byte offset 13" },
		    { "{\"n", 0, "object 1 at byte offset 0: the file ends inside" },
		    { "{\"n\":\"\\", 0, "the file ends inside" },
		    { "[", 0, "ends inside its array at byte offset 1, after object 0" },
		    { "[{\"n\":0}", 1, "ends inside its array at byte offset 8, after object 1" },
		    { "[{\"n\":0},", 1, "ends inside its array" } };
	size_t i, piece;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		for (piece = 0; piece < 2; piece++) {
			struct seen seen = { 0 };
			struct err err = ERR_INIT;
			size_t n = strlen(bad[i].text);
			int r = piece ? stream_pieces(bad[i].text, n, piece, &seen, &err) :
					stream_file(bad[i].text, n, &seen, &err);

			assert_int_equal(r, ERR_INVALID);
			assert_int_equal(seen.objects, bad[i].objects);
			if (!strstr(err.text, bad[i].says) || !strstr(err.text, "'list.json'"))
				fail_msg("'%s' gave: %s", bad[i].text, err.text);
			assert_string_equal(err.object, "list.json");
		}
	}
}

static void test_stream_stops(void **state)
{
	static const char text[] = "{\"n\":0}{\"n\":1}{\"n\":2}";
	struct seen seen = { .stop_at = 2, .stop_with = 9 };
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(stream_file(text, sizeof(text) - 1, &seen, &err), 9);
	assert_int_equal(seen.objects, 2);
	seen = (struct seen){ .stop_at = 3, .stop_with = ERR_SOURCE };
	assert_int_equal(stream_file(text, sizeof(text) - 1, &seen, &err), ERR_SOURCE);
	assert_string_equal(err.text, "'list.json': object 3 at byte offset 14: not wanted");
}

/* Objects of all lengths, so that the reader's 64 KiB pieces end at every place within one. */
static void test_stream_long(void **state)
{
	cleanup_buf struct buf text = BUF_INIT;
	struct seen seen = { 0 };
	struct err err = ERR_INIT;
	uint64_t n;

	(void)state;
	buf_put(&text, "[", 1);
	for (n = 0; n < 20000; n++)
		buf_printf(&text, "%s{\"n\":%llu,\"t\":\"%.*s\\\"{\"}", n ? ",\n" : "",
			   (unsigned long long)n, (int)(n * 7 % 61),
			   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	buf_put(&text, "]", 1);
	assert_true(text.len > 10 * 65536);
	assert_int_equal(stream_file(text.data, text.len, &seen, &err), 0);
	assert_int_equal(seen.objects, 20000);
	seen.objects = 0;
	assert_int_equal(stream_pieces((const char *)text.data, text.len, 4093, &seen, &err), 0);
	assert_int_equal(seen.objects, 20000);
}

/* One object around the end of the first piece: blanks move it over the boundary byte by byte. */
static void test_stream_boundary(void **state)
{
	static const char object[] = "{\"n\":0,\"t\":\"a\\\\\\\"}\"}";
	size_t shift;

	(void)state;
	for (shift = 0; shift <= sizeof(object); shift++) {
		cleanup_buf struct buf text = BUF_INIT;
		struct seen seen = { 0 };
		struct err err = ERR_INIT;
		size_t i;

		for (i = 0; i < 65536 - shift; i++)
			buf_put_u8(&text, ' ');
		buf_put(&text, object, sizeof(object) - 1);
		assert_int_equal(stream_file(text.data, text.len, &seen, &err), 0);
		assert_int_equal(seen.objects, 1);
	}
}

static void test_stream_limit(void **state)
{
	size_t extra;

	(void)state;
	for (extra = 0; extra < 2; extra++) {
		cleanup_buf struct buf text = BUF_INIT;
		struct seen seen = { 0 };
		struct err err = ERR_INIT;
		size_t filler = (size_t)MiB - strlen("{\"t\":\"\"}") + extra;
		int r;

		buf_put(&text, "{\"n\":0}\n{\"t\":\"", 14);
		buf_reserve(&text, filler);
		memset(text.data + text.len, 'y', filler);
		text.len += filler;
		buf_put(&text, "\"}", 2);
		r = stream_file(text.data, text.len, &seen, &err);
		assert_int_equal(r, extra ? ERR_TOO_BIG : 0);
		assert_int_equal(seen.objects, extra ? 1 : 2);
		if (extra)
			assert_string_equal(
				err.text,
				"'list.json': object 2 at byte offset 8: longer than 1048576 bytes");
	}
}

static void test_stream_no_memory(void **state)
{
	static const char text[] = "{\"n\":0}\n{\"n\":1}";
	struct err err = ERR_INIT;
	unsigned n;
	int r = -1;

	(void)state;
	for (n = 1; r < 0; n++) {
		struct seen seen = { 0 };

		mem_fail_after(n);
		r = stream_file(text, sizeof(text) - 1, &seen, &err);
		mem_fail_after(0);
		assert_true(r == 0 || r == ERR_NOMEM);
		if (r == 0)
			assert_int_equal(seen.objects, 2);
	}
	assert_true(n > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_print),
		cmocka_unit_test(test_print_no_memory),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_parse_bad),
		cmocka_unit_test(test_stream_forms),
		cmocka_unit_test(test_stream_bad),
		cmocka_unit_test(test_stream_stops),
		cmocka_unit_test(test_stream_long),
		cmocka_unit_test(test_stream_boundary),
		cmocka_unit_test(test_stream_limit),
		cmocka_unit_test(test_stream_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
