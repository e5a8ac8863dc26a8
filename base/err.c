// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Error values and the table of codes.
 *
 * Invariants:
 *  1. Nothing here allocates or fails; long texts are cut.
 *  2. text and object are always terminated.
 *  3. Arguments may point into err itself: texts are built beside it and copied at the end.
 */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/banned.h"

struct err_row {
	const char *name;
	int eno;
	int status;
	const char *sentence;
};

static const struct err_row err_table[] = {
#define ERRCODE(name, json, eno, status, sentence) { json, eno, status, sentence },
#include "base/errcodes.def"
#undef ERRCODE
};

_Static_assert(ERR_LAST_ - ERR_FIRST_ - 1 == (int)(sizeof(err_table) / sizeof(err_table[0])),
	       "codes and table rows differ");

static const struct err_row err_ok_row = { "ok", 0, 0, "ok" };

static const struct err_row *err_row_of(int code)
{
	if (code == ERR_OK)
		return &err_ok_row;
	if (code <= ERR_FIRST_ || code >= ERR_LAST_)
		code = ERR_FAILED;
	return &err_table[code - ERR_FIRST_ - 1];
}

/* Appends to a text of ERR_TEXT_MAX bytes whose length is len; returns the new length. */
static size_t text_append(char *text, size_t len, const char *more)
{
	size_t n = strlen(more);

	if (n > ERR_TEXT_MAX - 1 - len)
		n = ERR_TEXT_MAX - 1 - len;
	memcpy(text + len, more, n);
	text[len + n] = 0;
	return len + n;
}

static size_t text_format(char *text, const char *fmt, va_list ap)
{
	text[0] = 0;
	vsnprintf(text, ERR_TEXT_MAX, fmt, ap);
	return strlen(text);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	text_format(text, fmt, ap);
	va_end(ap);
	memcpy(err->text, text, strlen(text) + 1);
	err->object[0] = 0;
	err->no_file = false;
	err->code = code;
	return code;
}

static int code_of_errno(int code, int eno)
{
	switch (eno) {
	case ENOSPC:
	case EDQUOT:
		return ERR_NOSPC;
	case ENOMEM:
		return ERR_NOMEM;
	case EROFS:
		return ERR_READONLY;
	case EACCES:
	case EPERM:
		return ERR_PERM;
	case EEXIST:
		return ERR_EXISTS;
	default:
		return code;
	}
}

int err_set_errno(struct err *err, int code, int eno, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX], reason[128];
	va_list ap;
	size_t len;

	code = code_of_errno(code, eno);
	if (!err)
		return code;
	va_start(ap, fmt);
	len = text_format(text, fmt, ap);
	va_end(ap);
	len = text_append(text, len, ": ");
	text_append(text, len, strerror_r(eno, reason, sizeof(reason)));
	memcpy(err->text, text, strlen(text) + 1);
	err->object[0] = 0;
	err->no_file = false;
	err->code = code;
	return code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	size_t len;

	if (!err)
		return ERR_FAILED;
	va_start(ap, fmt);
	len = text_format(text, fmt, ap);
	va_end(ap);
	len = text_append(text, len, ": ");
	text_append(text, len, err->text);
	memcpy(err->text, text, strlen(text) + 1);
	return err->code;
}

int err_object(struct err *err, const char *fmt, ...)
{
	char object[ERR_OBJECT_MAX] = "";
	va_list ap;

	if (!err)
		return ERR_FAILED;
	va_start(ap, fmt);
	vsnprintf(object, sizeof(object), fmt, ap);
	va_end(ap);
	memcpy(err->object, object, strlen(object) + 1);
	return err->code;
}

int err_recode(struct err *err, int code)
{
	if (err)
		err->code = code;
	return code;
}

int err_nomem(struct err *err, const char *what)
{
	return err_set(err, ERR_NOMEM, "out of memory: %s", what);
}

void err_clear(struct err *err)
{
	if (!err)
		return;
	err->code = ERR_OK;
	err->no_file = false;
	err->text[0] = 0;
	err->object[0] = 0;
}

const char *err_code_name(int code)
{
	return err_row_of(code)->name;
}

int err_code_errno(int code)
{
	return err_row_of(code)->eno;
}

int err_code_exit(int code)
{
	return err_row_of(code)->status;
}

const char *err_code_sentence(int code)
{
	return err_row_of(code)->sentence;
}
