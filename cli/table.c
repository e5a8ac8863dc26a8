// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Tables for people: cells are collected, then printed in columns as wide as their widest cell.
 *
 * Two spaces stand between columns, none at the end of a line, so that awk splits them.  Widths are
 * counted in characters (UTF-8), which is right for all but wide ones.
 */
#include "cli/internal.h"

#include <stdlib.h>

#include "base/banned.h"

struct table {
	const char *const *heads; /* borrowed */
	unsigned columns;
	size_t *width; /* of each column, characters; owned */
	char **cells; /* owned; rows one after the other */
	size_t ncells, cap;
	bool failed; /* out of memory */
};

static const char *head_text(const struct table *t, unsigned column)
{
	const char *head = t->heads[column];

	return head[0] == '>' ? head + 1 : head;
}

int table_new(const char *const *heads, unsigned columns, struct table **out, struct err *err)
{
	cleanup_ptr(table) t = mem_alloc(sizeof(*t));
	unsigned i;

	if (!t)
		return err_nomem(err, "building a table");
	t->heads = heads;
	t->columns = columns;
	t->width = mem_alloc_array(columns, sizeof(*t->width));
	if (!t->width)
		return err_nomem(err, "building a table");
	for (i = 0; i < columns; i++)
		t->width[i] = strlen(head_text(t, i));
	*out = steal_ptr(t);
	return 0;
}

void table_free(struct table *t)
{
	size_t i;

	if (!t)
		return;
	for (i = 0; i < t->ncells; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t->width);
	free(t);
}

/* Characters of UTF-8 text: bytes that do not continue one. */
static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static bool table_grow(struct table *t)
{
	size_t cap = t->cap ? 2 * t->cap : 64;
	char **cells;

	if (t->ncells < t->cap)
		return true;
	cells = mem_realloc_array(t->cells, cap, sizeof(*cells));
	if (!cells)
		return false;
	t->cells = cells;
	t->cap = cap;
	return true;
}

void table_cell(struct table *t, const char *fmt, ...)
{
	char *text = NULL;
	unsigned column = (unsigned)(t->ncells % t->columns);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0 || !table_grow(t)) {
		if (n >= 0)
			free(text);
		t->failed = true;
		return;
	}
	t->cells[t->ncells++] = out_clean(text);
	t->width[column] = MAX(t->width[column], text_width(text));
}

static void print_cell(const struct table *t, unsigned column, const char *text)
{
	size_t pad = t->width[column] - text_width(text);
	bool right = t->heads[column][0] == '>', last = column + 1 == t->columns;

	if (right)
		printf("%*s%s", (int)pad, "", text);
	else
		printf("%s%*s", text, last ? 0 : (int)pad, "");
	fputs(last ? "\n" : "  ", stdout);
}

int table_print(struct table *t, struct err *err)
{
	unsigned column;
	size_t i;

	if (t->failed)
		return err_nomem(err, "building a table");
	progress_clear();
	for (column = 0; column < t->columns; column++)
		print_cell(t, column, head_text(t, column));
	for (i = 0; i < t->ncells; i++)
		print_cell(t, (unsigned)(i % t->columns), t->cells[i]);
	return out_check(err);
}
