/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the store needs of the place that keeps the files: one table of operations.  store/dir.c is the
 * directory; an object store would map the same names to keys (publish = put if absent).
 *
 * A file is first made in the folder of its session (staging/TOKEN/NAME), then published under kind and number.
 * Any thread; one backend_file one thread at a time for writing, any thread for reading.
 */
#ifndef LIVEPOINT_STORE_BACKEND_H
#define LIVEPOINT_STORE_BACKEND_H

#include "base/buf.h"

enum backend_kind { BACKEND_PACK, BACKEND_SEGMENT };

struct backend_file {
	int fd;
	char *path; /* for messages; owned */
};

struct backend {
	const struct backend_ops *ops;
	char *path; /* of the repository; owned */
};

struct backend_ops {
	const char *name;
	/* staging/TOKEN; ERR_FENCED when it is gone although it was made before (`again`). */
	int (*stage_make)(struct backend *b, uint64_t token, struct err *err);
	int (*stage_remove)(struct backend *b, uint64_t token, struct err *err);
	int (*stage_create)(struct backend *b, uint64_t token, const char *name,
			    struct backend_file *f, struct err *err);
	int (*write)(struct backend_file *f, const void *p, size_t n, uint64_t offset,
		     const char *point, struct err *err);
	int (*sync)(struct backend_file *f, const char *point, struct err *err);
	/* Never replaces: ERR_EXISTS. */
	int (*publish)(struct backend *b, uint64_t token, const char *name, enum backend_kind kind,
		       uint64_t number, struct err *err);
	/* Puts a staged file in the place of one that must be there (ERR_NOT_FOUND), in one step; ERR_FENCED when the staged
	 * one is gone. */
	int (*replace)(struct backend *b, uint64_t token, const char *name, enum backend_kind kind,
		       uint64_t number, struct err *err);
	/* Removes a staged file; missing is fine. */
	int (*stage_drop)(struct backend *b, uint64_t token, const char *name, struct err *err);
	/* Moves a file to quarantine/NAME, durably; ERR_EXISTS: the name is taken, ERR_NOT_FOUND: no such file.  stays: it keeps
	 * its old name too. */
	int (*quarantine)(struct backend *b, enum backend_kind kind, uint64_t number,
			  const char *name, bool stays, struct err *err);
	/* Makes what was published to the same folder as `number` durable. */
	int (*folder_sync)(struct backend *b, enum backend_kind kind, uint64_t number,
			   struct err *err);
	/* ERR_NOT_FOUND. */
	int (*open)(struct backend *b, enum backend_kind kind, uint64_t number,
		    struct backend_file *f, struct err *err);
	int (*read)(const struct backend_file *f, void *p, size_t n, uint64_t offset,
		    struct err *err);
	int (*size)(const struct backend_file *f, uint64_t *bytes, struct err *err);
	void (*willneed)(const struct backend_file *f, uint64_t offset, uint64_t n);
	void (*close)(struct backend_file *f);
	/* May its file not be replaced or removed (chattr +i, +a; a retention lock)?  Not knowing is no. */
	bool (*fixed)(struct backend *b, enum backend_kind kind, uint64_t number);
	int (*remove)(struct backend *b, enum backend_kind kind, uint64_t number, struct err *err);
	/* strays: pass over names that are no file's (and say so in the log); else the first is ERR_DAMAGED. */
	int (*each)(struct backend *b, enum backend_kind kind, bool strays,
		    int (*fn)(void *opaque, uint64_t number, struct err *err), void *opaque,
		    struct err *err);
};

int backend_dir_open(const char *path, struct backend **out, struct err *err);
void backend_close(struct backend *b);

#endif
