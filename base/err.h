/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Errors: a code from base/errcodes.def and a fixed-size text on the caller's stack.
 *
 * A fallible function returns 0 or more for success and a negative code for failure;
 * its last parameter is a struct err that it fills.  Each layer prefixes what it knows:
 *
 *	r = store_open(path, err);
 *	if (r < 0)
 *		return err_prefix(err, "repository '%s'", path);
 *
 * Wording: lower case, what failed first, subject in quotes, offset or id always, a secret
 * never.  Nothing here allocates.  Any thread, each with its own struct err.
 */
#ifndef LIVEPOINT_BASE_ERR_H
#define LIVEPOINT_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum err_code {
	ERR_OK = 0,
	ERR_FIRST_ = -1000,
#define ERRCODE(name, json, eno, status, sentence) name,
#include "base/errcodes.def"
#undef ERRCODE
	ERR_LAST_
};

#define ERR_TEXT_MAX 1024
#define ERR_OBJECT_MAX 160

struct err {
	int code; /* 0 or an err_code */
	bool no_file; /* ERR_NOT_FOUND of a file or folder: nothing of the interface's (point, disk, export) */
	char text[ERR_TEXT_MAX]; /* sentence for a person, no newline at the end */
	char object[ERR_OBJECT_MAX]; /* the object that it is about, "" if none */
};

#define ERR_INIT                                                                                   \
	{                                                                                          \
		0                                                                                  \
	}

/* Sets code and text; returns code, so that callers write "return err_set(...)".  err may be NULL. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same from errno value eno: picks the code (ENOSPC and EDQUOT: ERR_NOSPC, ENOMEM, EROFS,
 * EACCES and EPERM, EEXIST, else `code`) and appends ": " and strerror.  Returns the picked code. */
int err_set_errno(struct err *err, int code, int eno, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the text; returns err->code. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Names the object that the error is about (for the JSON field); returns err->code. */
int err_object(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Changes the code and keeps the text; returns code. */
int err_recode(struct err *err, int code);

/* Out of memory while doing `what`; returns ERR_NOMEM. */
int err_nomem(struct err *err, const char *what);

void err_clear(struct err *err);

/* Of the table.  code may be any int: unknown ones count as ERR_FAILED; 0 gives "ok", 0, 0, "ok". */
const char *err_code_name(int code); /* as in JSON */
int err_code_errno(int code);
int err_code_exit(int code);
const char *err_code_sentence(int code);

#endif
