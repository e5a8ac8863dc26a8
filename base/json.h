/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * JSON (RFC 8259) over jansson; the only file that includes it.
 * Values are owned by the caller until they are put into an object or array, which *takes* them
 * (NULL values are taken as JSON null).  After a failed allocation the calling thread's next jval_print() fails
 * with ERR_NOMEM, so that makers need no checks; make and print a document in one thread.  One thread at a time.
 */
#ifndef LIVEPOINT_BASE_JSON_H
#define LIVEPOINT_BASE_JSON_H

#include "base/buf.h"

struct jval; /* a JSON value */

struct jval *jval_object(void);
struct jval *jval_array(void);
struct jval *jval_null(void);
struct jval *jval_bool(bool v);
struct jval *jval_int(int64_t v);
struct jval *jval_uint(uint64_t v); /* above INT64_MAX: as a real */
struct jval *jval_real(double v);
struct jval *jval_str(const char *s); /* NULL gives null; bytes that are not UTF-8 become U+FFFD */
void jval_free(struct jval *v);
void jval_set(struct jval *object, const char *key, struct jval *value); /* takes value */
void jval_append(struct jval *array, struct jval *value); /* takes value */
/* Appends text to out: indented if pretty, else one line; keys in the order of insertion; no newline at the end. */
int jval_print(const struct jval *v, bool pretty, struct buf *out, struct err *err);

/* Parses one document of at most n bytes; fills *out (caller frees). ERR_INVALID with the line. */
int jval_parse(const char *text, size_t n, struct jval **out, struct err *err);
/* Accessors: borrowed; NULL, false or the default when absent or of another type. */
const struct jval *jval_get(const struct jval *object, const char *key);
size_t jval_count(const struct jval *array);
const struct jval *jval_at(const struct jval *array, size_t i);
bool jval_is_object(const struct jval *v);
bool jval_is_array(const struct jval *v);
bool jval_is_null(const struct jval *v); /* NULL too */
const char *jval_as_str(const struct jval *v);
bool jval_as_bool(const struct jval *v, bool *out);
bool jval_as_uint(const struct jval *v, uint64_t *out);
bool jval_as_int(const struct jval *v, int64_t *out);
/* Calls fn for each member. */
int jval_each(const struct jval *object,
	      int (*fn)(void *opaque, const char *key, const struct jval *v), void *opaque);

/* A stream of objects: one a line, concatenated, or the elements of one array; read in pieces, each object
 * parsed alone (at most 1 MiB), so that memory does not grow with the file.  fn returns 0 to go on.
 * Errors name the object's number and byte offset. */
int json_stream_each(int fd, const char *path,
		     int (*fn)(void *opaque, const struct jval *object, struct err *err),
		     void *opaque, struct err *err);

DEFINE_CLEANUP(jval, jval_free)

#endif
