/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a power cut may leave of a folder whose calls were recorded (tests/powerloss-record.c): a model of a file system with a
 * write cache, and states drawn from it.
 *
 * The model, chosen so strict that only what was synced counts:
 *
 *	data	What was written to a file before its last fsync or fdatasync is there, with the length of then.  Each later
 *		write and truncation happened or not, whatever its order; a write may be torn: each 512-byte sector of it is
 *		new, old, or (in some states) garbage.  Bytes outside a write are never touched (SQLite relies on that too:
 *		"powersafe overwrite").
 *	names	A folder's entries are as at its last fsync.  For each name changed since, any of the values it has had since
 *		may be there, each name on its own: a rename may have happened half, so that a file has both names or none.
 *		Syncing a file says nothing about its name; syncing a folder says nothing about the folder's own name.
 *
 * A real file system gives more (ordered journal, atomic rename, names with fsync); nothing here relies on it.
 */
#ifndef LIVEPOINT_TESTS_POWERLOSS_MODEL_H
#define LIVEPOINT_TESTS_POWERLOSS_MODEL_H

#include "tests/powerloss.h"
#include "tests/reliability.h"

struct pl_node;
struct pl_open_fd;
struct pl_model {
	struct rel *t; /* borrowed: for random numbers and for failures */
	/* Files whose names end so have no garbage in them: their sectors are old or new.  NULL: none. */
	const char *whole_sectors;
	char trace_path[256];
	struct buf trace;
	size_t *starts; /* of the records */
	size_t nrecords;
	struct pl_node *root;
	struct pl_open_fd *fds;
	size_t nfds;
	unsigned state; /* number of the state to be drawn, not 0 */
};

/* The library to preload. */
const char *pl_preload(void);
void pl_put_mark(struct pl_model *p,
		 const char *text); /* into the trace; text ends with a newline */
void pl_read_trace(struct pl_model *p);
/* How often the mark stands in the first `count` records. */
unsigned pl_marks(const struct pl_model *p, size_t count, const char *text);
/* The last mark in the first `count` records, without its newline; "the beginning". */
void pl_last_mark(const struct pl_model *p, size_t count, char *out, size_t size);
/* The last mark that starts with a word, whole; false if there is none. */
bool pl_find_mark(const struct pl_model *p, size_t count, const char *word, char *out, size_t size);
/* The model as it is after the first `count` records. */
void pl_build(struct pl_model *p, size_t count);
/* Ends the test unless the trace's end, built, is the folder as it is: nothing was missed. */
void pl_compare(struct pl_model *p, const struct pl_node *n, const char *path);
enum pl_luck { PL_LUCK_NONE, PL_LUCK_ALL, PL_LUCK_ANY };
/* Writes a state that a disk may have, as the folder path. */
void pl_put_state(struct pl_model *p, struct pl_node *n, const char *path, enum pl_luck luck);

#endif
