// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * JSON over jansson, and a reader for long streams of objects.
 *
 * How it works: a jval is a json_t under another name.  jansson allocates through mem_alloc(), so that
 * allocation fault loops reach it.  The stream reader finds the ends of objects with a small scanner
 * (brackets, strings, escapes) and gives each object alone to the parser, which does the real checks.
 *
 * Invariants:
 *  1. A document in whose making an allocation failed is never printed as if it were whole: the
 *     failure is remembered for the thread, and its next jval_print() fails.
 *  2. The stream reader holds one object of at most STREAM_OBJECT_MAX bytes and one piece of the file.
 *  3. Whatever is printed is valid UTF-8.
 */
#include "base/json.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/file.h"

#include "base/banned.h"

#define STREAM_PIECE ((size_t)64 * 1024)
#define STREAM_OBJECT_MAX ((size_t)MiB)

static _Thread_local bool json_lost; /* invariant 1 */
static pthread_once_t json_once = PTHREAD_ONCE_INIT;

static void *json_alloc(size_t n)
{
	void *p = mem_alloc(n);

	if (!p)
		json_lost = true;
	return p;
}

static void json_setup(void)
{
	json_set_alloc_funcs(json_alloc, free);
}

static json_t *json_of(const struct jval *v)
{
	return (json_t *)(uintptr_t)v; /* jansson counts references in values that we hold const */
}

static struct jval *jval_of(json_t *json)
{
	if (!json)
		json_lost = true;
	return (struct jval *)json;
}

struct jval *jval_object(void)
{
	pthread_once(&json_once, json_setup);
	return jval_of(json_object());
}

struct jval *jval_array(void)
{
	pthread_once(&json_once, json_setup);
	return jval_of(json_array());
}

struct jval *jval_null(void)
{
	return jval_of(json_null());
}

struct jval *jval_bool(bool v)
{
	return jval_of(json_boolean(v));
}

struct jval *jval_int(int64_t v)
{
	pthread_once(&json_once, json_setup);
	return jval_of(json_integer(v));
}

struct jval *jval_uint(uint64_t v)
{
	return v > INT64_MAX ? jval_real((double)v) : jval_int((int64_t)v);
}

/* JSON has no infinities and no NaN: they become null. */
struct jval *jval_real(double v)
{
	pthread_once(&json_once, json_setup);
	return __builtin_isfinite(v) ? jval_of(json_real(v)) : jval_null();
}

/* Length of the UTF-8 sequence at s (RFC 3629: shortest form, no surrogates), 0 if it is none.
 * s is terminated, and a terminator continues no sequence. */
static size_t utf8_length(const char *s)
{
	const uint8_t *b = (const uint8_t *)s;
	uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
	size_t n, i;

	if (b[0] < 0x80)
		return 1;
	if (b[0] < 0xc2 || b[0] > 0xf4)
		return 0;
	n = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
	if (b[0] == 0xe0)
		low = 0xa0;
	else if (b[0] == 0xf0)
		low = 0x90;
	else if (b[0] == 0xed)
		high = 0x9f;
	else if (b[0] == 0xf4)
		high = 0x8f;
	if (b[1] < low || b[1] > high)
		return 0;
	for (i = 2; i < n; i++)
		if (b[i] < 0x80 || b[i] > 0xbf)
			return 0;
	return n;
}

/* s itself if it is UTF-8, else a copy in `copy` with U+FFFD for each other byte; NULL: out of memory. */
static const char *utf8_text(const char *s, struct buf *copy)
{
	const char *p = s;
	size_t n;

	while (*p && (n = utf8_length(p)))
		p += n;
	if (!*p)
		return s;
	buf_put(copy, s, (size_t)(p - s));
	for (; *p; p += n ? n : 1) {
		n = utf8_length(p);
		if (n)
			buf_put(copy, p, n);
		else
			buf_put(copy, "\xef\xbf\xbd", 3);
	}
	s = buf_str(copy);
	return copy->failed ? NULL : s;
}

struct jval *jval_str(const char *s)
{
	cleanup_buf struct buf copy = BUF_INIT;

	if (!s)
		return jval_null();
	pthread_once(&json_once, json_setup);
	s = utf8_text(s, &copy);
	return jval_of(s ? json_string_nocheck(s) : NULL);
}

void jval_free(struct jval *v)
{
	json_decref(json_of(v));
}

static json_t *taken(struct jval *value)
{
	return value ? json_of(value) : json_null();
}

void jval_set(struct jval *object, const char *key, struct jval *value)
{
	cleanup_buf struct buf copy = BUF_INIT;

	key = utf8_text(key, &copy);
	/* Without a key or an object jansson frees the value and fails. */
	if (json_object_set_new_nocheck(json_of(object), key, taken(value)) < 0)
		json_lost = true;
}

void jval_append(struct jval *array, struct jval *value)
{
	if (json_array_append_new(json_of(array), taken(value)) < 0)
		json_lost = true;
}

static int print_piece(const char *piece, size_t n, void *opaque)
{
	struct buf *out = opaque;

	buf_put(out, piece, n);
	return out->failed ? -1 : 0;
}

int jval_print(const struct jval *v, bool pretty, struct buf *out, struct err *err)
{
	size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION(15) |
		       (pretty ? JSON_INDENT(2) : JSON_COMPACT);
	size_t before = out->len;
	bool lost = json_lost;

	json_lost = false;
	if (!lost && json_dump_callback(v ? json_of(v) : json_null(), print_piece, out, flags) == 0)
		return 0;
	out->len = before;
	/* What the printing itself could not get, too: the next document is another one. */
	json_lost = false;
	return err_nomem(err, "printing JSON");
}

int jval_parse(const char *text, size_t n, struct jval **out, struct err *err)
{
	bool lost_before = json_lost, lost;
	json_error_t error;
	json_t *json;

	pthread_once(&json_once, json_setup);
	/* jansson tells a failed allocation as any error of syntax: only the allocator knows. */
	json_lost = false;
	json = json_loadb(text, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	lost = json_lost;
	json_lost = lost_before;
	if (!json && lost)
		return err_nomem(err, "parsing JSON");
	if (!json)
		return err_set(err, ERR_INVALID, "not JSON: line %d, column %d: %s", error.line,
			       error.column, error.text);
	*out = (struct jval *)json;
	return 0;
}

const struct jval *jval_get(const struct jval *object, const char *key)
{
	return (const struct jval *)json_object_get(json_of(object), key);
}

size_t jval_count(const struct jval *array)
{
	return json_array_size(json_of(array));
}

const struct jval *jval_at(const struct jval *array, size_t i)
{
	return (const struct jval *)json_array_get(json_of(array), i);
}

bool jval_is_object(const struct jval *v)
{
	return json_is_object(json_of(v));
}

bool jval_is_array(const struct jval *v)
{
	return json_is_array(json_of(v));
}

bool jval_is_null(const struct jval *v)
{
	return !v || json_is_null(json_of(v));
}

const char *jval_as_str(const struct jval *v)
{
	return json_string_value(json_of(v));
}

bool jval_as_bool(const struct jval *v, bool *out)
{
	if (!json_is_boolean(json_of(v)))
		return false;
	*out = json_is_true(json_of(v));
	return true;
}

bool jval_as_int(const struct jval *v, int64_t *out)
{
	if (!json_is_integer(json_of(v)))
		return false;
	*out = json_integer_value(json_of(v));
	return true;
}

bool jval_as_uint(const struct jval *v, uint64_t *out)
{
	int64_t i;

	if (!jval_as_int(v, &i) || i < 0)
		return false;
	*out = (uint64_t)i;
	return true;
}

int jval_each(const struct jval *object,
	      int (*fn)(void *opaque, const char *key, const struct jval *v), void *opaque)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_of(object), key, value) {
		int r = fn(opaque, key, (const struct jval *)value);

		if (r)
			return r;
	}
	return 0;
}

/* --- streams --- */

enum stream_state {
	STREAM_START, /* nothing seen yet */
	STREAM_BETWEEN, /* an object may come, without array */
	STREAM_ARRAY_FIRST, /* after "[": an object or "]" */
	STREAM_ARRAY_NEXT, /* after ",": an object */
	STREAM_ARRAY_AFTER, /* after an object: "," or "]" */
	STREAM_END, /* after "]": only white space */
	STREAM_OBJECT, /* inside an object */
};

struct stream {
	const char *path;
	int (*fn)(void *opaque, const struct jval *object, struct err *err);
	void *opaque;
	enum stream_state state;
	bool in_array, in_string, escaped;
	unsigned depth; /* open brackets of the object */
	uint64_t number; /* of the object, from 1 */
	uint64_t start; /* byte offset of the object */
	struct buf text; /* of the object so far */
};

static int stream_where(const struct stream *s, int r, struct err *err)
{
	err_prefix(err, "'%s': object %llu at byte offset %llu", s->path,
		   (unsigned long long)s->number, (unsigned long long)s->start);
	err_object(err, "%s", s->path);
	return r;
}

static int stream_finish_object(struct stream *s, struct err *err)
{
	struct jval *parsed = NULL;
	cleanup_ptr(jval) object = NULL;
	int r = jval_parse((const char *)s->text.data, s->text.len, &parsed, err);

	if (r < 0)
		return stream_where(s, r, err);
	object = parsed;
	buf_reset(&s->text);
	s->state = s->in_array ? STREAM_ARRAY_AFTER : STREAM_BETWEEN;
	r = s->fn(s->opaque, object, err);
	return r < 0 ? stream_where(s, r, err) : r;
}

/* Looks at one byte inside an object; true: it is the object's last. */
static bool stream_scan(struct stream *s, char c)
{
	if (s->escaped) {
		s->escaped = false;
	} else if (s->in_string) {
		s->escaped = c == '\\';
		s->in_string = c != '"';
	} else if (c == '"') {
		s->in_string = true;
	} else if (c == '{' || c == '[') {
		s->depth++;
	} else if (c == '}' || c == ']') {
		s->depth--;
	}
	return s->depth == 0;
}

/* Takes bytes of the object from p on; returns how many, or a code, or fn's value in *ended. */
static ssize_t stream_object(struct stream *s, const char *p, size_t n, int *ended, struct err *err)
{
	bool whole = false;
	size_t i = 0;

	while (i < n && !whole)
		whole = stream_scan(s, p[i++]);
	if (i > STREAM_OBJECT_MAX - s->text.len)
		return stream_where(
			s, err_set(err, ERR_TOO_BIG, "longer than %zu bytes", STREAM_OBJECT_MAX),
			err);
	buf_put(&s->text, p, i);
	if (s->text.failed)
		return err_nomem(err, "reading JSON");
	if (whole)
		*ended = stream_finish_object(s, err);
	return (ssize_t)i;
}

/* Looks at one byte between objects; false: it must not stand there. */
static bool stream_between(struct stream *s, char c, uint64_t offset)
{
	enum stream_state state = s->state;
	bool may_open = state != STREAM_ARRAY_AFTER && state != STREAM_END;

	if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
		return true;
	if (c == '{' && may_open) {
		s->state = STREAM_OBJECT;
		s->start = offset;
		s->number++;
		return true;
	}
	if (c == '[' && state == STREAM_START) {
		s->in_array = true;
		s->state = STREAM_ARRAY_FIRST;
		return true;
	}
	if (c == ',' && state == STREAM_ARRAY_AFTER) {
		s->state = STREAM_ARRAY_NEXT;
		return true;
	}
	if (c == ']' && (state == STREAM_ARRAY_FIRST || state == STREAM_ARRAY_AFTER)) {
		s->state = STREAM_END;
		return true;
	}
	return false;
}

static int stream_garbage(const struct stream *s, uint64_t offset, struct err *err)
{
	err_set(err, ERR_INVALID, "'%s': no JSON object at byte offset %llu, after object %llu",
		s->path, (unsigned long long)offset, (unsigned long long)s->number);
	err_object(err, "%s", s->path);
	return ERR_INVALID;
}

static int stream_feed(struct stream *s, const char *p, size_t n, uint64_t offset, struct err *err)
{
	size_t i = 0;

	while (i < n) {
		int ended = 0;
		ssize_t used;

		if (s->state != STREAM_OBJECT && !stream_between(s, p[i], offset + i))
			return stream_garbage(s, offset + i, err);
		if (s->state != STREAM_OBJECT) {
			i++;
			continue;
		}
		used = stream_object(s, p + i, n - i, &ended, err);
		if (used < 0)
			return (int)used;
		if (ended)
			return ended;
		i += (size_t)used;
	}
	return 0;
}

static int stream_end(const struct stream *s, uint64_t offset, struct err *err)
{
	if (s->state == STREAM_START || s->state == STREAM_BETWEEN || s->state == STREAM_END)
		return 0;
	if (s->state == STREAM_OBJECT)
		return stream_where(s,
				    err_set(err, ERR_INVALID,
					    "the file ends inside it, at byte offset %llu",
					    (unsigned long long)offset),
				    err);
	err_set(err, ERR_INVALID,
		"'%s': ends inside its array at byte offset %llu, after object %llu", s->path,
		(unsigned long long)offset, (unsigned long long)s->number);
	err_object(err, "%s", s->path);
	return ERR_INVALID;
}

int json_stream_each(int fd, const char *path,
		     int (*fn)(void *opaque, const struct jval *object, struct err *err),
		     void *opaque, struct err *err)
{
	cleanup_free char *piece = mem_realloc_array(NULL, STREAM_PIECE, 1);
	struct stream s = { .path = path, .fn = fn, .opaque = opaque };
	uint64_t offset = 0;
	ssize_t got = 0;
	int r = 0;

	if (!piece)
		return err_nomem(err, "reading JSON");
	while (r == 0) {
		got = file_read_some(fd, piece, STREAM_PIECE, path, err);
		if (got <= 0)
			break;
		r = stream_feed(&s, piece, (size_t)got, offset, err);
		offset += (uint64_t)got;
	}
	buf_release(&s.text);
	if (r == 0)
		r = got < 0 ? (int)got : stream_end(&s, offset, err);
	return r;
}
