// SPDX-License-Identifier: GPL-3.0-or-later
/* The model of a file system with a write cache; what it is: tests/powerloss-model.h. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/powerloss-model.h"

#include "base/banned.h"

#define SECTOR 512

struct pl_change { /* a write or truncation since the last sync */
	bool truncate;
	uint64_t offset, len; /* truncate: offset is the size */
	const uint8_t *data; /* in the trace */
};

struct pl_node {
	bool folder;
	/* file */
	struct buf synced, now;
	struct pl_change *changes;
	size_t nchanges;
	bool whole; /* its sectors are never torn */
	unsigned drawn; /* the state for which `state` was drawn */
	struct buf state;
	/* folder */
	struct pl_entry *entries;
	size_t nentries;
};

struct pl_entry {
	char name[64];
	struct pl_node **values; /* since the last sync, oldest first; NULL: not there */
	size_t nvalues;
};

struct pl_open_fd {
	uint32_t pid;
	int32_t fd;
	struct pl_node *node;
};

static void *grown(const struct pl_model *p, void *array, size_t n, size_t size)
{
	array = realloc(array, n * size);
	if (!array)
		rel_fail(p->t, "out of memory");
	return array;
}

static struct pl_node *node_new(const struct pl_model *p, bool folder)
{
	struct pl_node *n = calloc(1, sizeof(*n));

	if (!n)
		rel_fail(p->t, "out of memory");
	n->folder = folder;
	return n;
}

static struct pl_node *value_now(const struct pl_entry *e)
{
	return e->values[e->nvalues - 1];
}

static struct pl_entry *entry_find(const struct pl_node *folder, const char *name, size_t len)
{
	for (size_t i = 0; i < folder->nentries; i++) {
		struct pl_entry *e = &folder->entries[i];

		if (strlen(e->name) == len && memcmp(e->name, name, len) == 0)
			return e;
	}
	return NULL;
}

/* The folder of path and the last part of it. */
static struct pl_node *walk(const struct pl_model *p, const char *path, const char **last)
{
	struct pl_node *n = p->root;
	const char *slash;

	for (; (slash = strchr(path, '/')); path = slash + 1) {
		struct pl_entry *e = entry_find(n, path, (size_t)(slash - path));

		if (!e || !value_now(e))
			rel_fail(p->t, "the trace uses '%s', which is not there", path);
		n = value_now(e);
	}
	*last = path;
	return n;
}

static struct pl_node *lookup(const struct pl_model *p, const char *path)
{
	const char *last;
	struct pl_node *folder = walk(p, path, &last);
	struct pl_entry *e;

	if (!*last)
		return folder;
	e = entry_find(folder, last, strlen(last));
	return e ? value_now(e) : NULL;
}

static void set_name(const struct pl_model *p, const char *path, struct pl_node *value)
{
	const char *last;
	struct pl_node *folder = walk(p, path, &last);
	struct pl_entry *e = entry_find(folder, last, strlen(last));

	if (!e) {
		folder->entries = grown(p, folder->entries, folder->nentries + 1, sizeof(*e));
		e = &folder->entries[folder->nentries++];
		memset(e, 0, sizeof(*e));
		if (!str_copy(e->name, sizeof(e->name), last))
			rel_fail(p->t, "the name '%s' is too long", last);
		e->values = grown(p, NULL, 1, sizeof(*e->values));
		e->values[e->nvalues++] = NULL;
	}
	e->values = grown(p, e->values, e->nvalues + 1, sizeof(*e->values));
	e->values[e->nvalues++] = value;
}

static void content_change(const struct pl_model *p, struct buf *b, const struct pl_change *c)
{
	uint64_t size = c->truncate ? c->offset : MAX((uint64_t)b->len, c->offset + c->len);

	if (size > b->len) {
		if (!buf_reserve(b, size - b->len))
			rel_fail(p->t, "out of memory");
		memset(b->data + b->len, 0, size - b->len);
	}
	b->len = size;
	if (!c->truncate)
		memcpy(b->data + c->offset, c->data, c->len);
}

static void file_change(const struct pl_model *p, struct pl_node *n, struct pl_change c)
{
	n->changes = grown(p, n->changes, n->nchanges + 1, sizeof(c));
	n->changes[n->nchanges++] = c;
	content_change(p, &n->now, &c);
}

static void node_sync(const struct pl_model *p, struct pl_node *n)
{
	size_t kept = 0;

	if (!n->folder) {
		buf_reset(&n->synced);
		buf_put(&n->synced, n->now.data, n->now.len);
		if (n->synced.failed)
			rel_fail(p->t, "out of memory");
		n->nchanges = 0;
		return;
	}
	for (size_t i = 0; i < n->nentries; i++) {
		struct pl_entry e = n->entries[i];

		e.values[0] = value_now(&e);
		e.nvalues = 1;
		if (e.values[0])
			n->entries[kept++] = e;
		else
			free(e.values);
	}
	n->nentries = kept;
}

static struct pl_open_fd *fd_find(struct pl_model *p, const struct pl_record *r)
{
	for (size_t i = 0; i < p->nfds; i++)
		if (p->fds[i].pid == r->pid && p->fds[i].fd == r->fd)
			return &p->fds[i];
	return NULL;
}

static struct pl_node *fd_node(struct pl_model *p, const struct pl_record *r)
{
	struct pl_open_fd *f = fd_find(p, r);

	if (!f || !f->node)
		rel_fail(p->t, "the trace uses descriptor %d, which is not open", r->fd);
	return f->node;
}

static void fd_means(struct pl_model *p, const struct pl_record *r, struct pl_node *n)
{
	struct pl_open_fd *f = fd_find(p, r);

	if (!f) {
		p->fds = grown(p, p->fds, p->nfds + 1, sizeof(*f));
		f = &p->fds[p->nfds++];
		f->pid = r->pid;
		f->fd = r->fd;
	}
	f->node = n;
}

static void apply(struct pl_model *p, size_t i)
{
	const uint8_t *at = p->trace.data + p->starts[i];
	struct pl_record r;
	char a[512] = "", b[512] = "";
	struct pl_node *made;

	memcpy(&r, at, sizeof(r));
	at += sizeof(r);
	if (r.alen >= sizeof(a) || r.blen >= sizeof(b))
		rel_fail(p->t, "a path of the trace is too long");
	memcpy(a, at, r.alen);
	memcpy(b, at + r.alen, r.blen);
	at += r.alen + r.blen;
	switch ((enum pl_op)r.op) {
	case PL_CREATE:
		made = node_new(p, false);
		made->whole = p->whole_sectors && str_ends(a, p->whole_sectors);
		set_name(p, a, made);
		break;
	case PL_MKDIR:
		if (*a)
			set_name(p, a, node_new(p, true));
		break;
	case PL_OPEN:
		fd_means(p, &r, lookup(p, a));
		break;
	case PL_CLOSE:
		if (fd_find(p, &r))
			fd_means(p, &r, NULL);
		break;
	case PL_WRITE:
		file_change(p, fd_node(p, &r), (struct pl_change){ false, r.offset, r.len, at });
		break;
	case PL_TRUNCATE:
		file_change(p, fd_node(p, &r), (struct pl_change){ true, r.offset, 0, NULL });
		break;
	case PL_SYNC:
		node_sync(p, fd_node(p, &r));
		break;
	case PL_RENAME:
		set_name(p, b, lookup(p, a));
		set_name(p, a, NULL);
		break;
	case PL_LINK:
		set_name(p, b, lookup(p, a));
		break;
	case PL_UNLINK:
		set_name(p, a, NULL);
		break;
	case PL_MARK:
		break;
	}
}

static void node_free(struct pl_node *n)
{
	/* Nodes are shared between names and states; the process ends soon.  What is big goes. */
	buf_release(&n->synced);
	buf_release(&n->now);
	buf_release(&n->state);
}

static void free_tree(struct pl_node *n)
{
	for (size_t i = 0; i < n->nentries; i++)
		for (size_t k = 0; k < n->entries[i].nvalues; k++)
			if (n->entries[i].values[k])
				free_tree(n->entries[i].values[k]);
	node_free(n);
}

/* The model as it is after the first `count` records. */
void pl_build(struct pl_model *p, size_t count)
{
	if (p->root)
		free_tree(p->root);
	p->root = node_new(p, true);
	p->nfds = 0;
	for (size_t i = 0; i < count; i++)
		apply(p, i);
}

/* --- drawing a state --- */

static void draw_torn(struct pl_model *p, struct buf *b, const struct pl_change *c, bool garbage)
{
	uint8_t junk[SECTOR];

	for (uint64_t at = c->offset; at < c->offset + c->len;) {
		uint64_t next = MIN(c->offset + c->len, (at / SECTOR + 1) * SECTOR);
		struct pl_change piece = { false, at, next - at, c->data + (at - c->offset) };

		if (garbage && rel_random(p->t, 3) == 0) {
			for (size_t i = 0; i < sizeof(junk); i++)
				junk[i] = (uint8_t)rel_random(p->t, 256);
			piece.data = junk;
			content_change(p, b, &piece);
		} else if (rel_random(p->t, 2)) {
			content_change(p, b, &piece);
		}
		at = next;
	}
}

static void draw_file(struct pl_model *p, struct pl_node *n, enum pl_luck luck)
{
	enum { NONE, ALL, PREFIX, SUBSET, TORN, GARBAGE } how = NONE;
	size_t prefix = n->nchanges ? rel_random(p->t, n->nchanges + 1) : 0;

	if (n->drawn == p->state)
		return;
	n->drawn = p->state;
	buf_reset(&n->state);
	buf_put(&n->state, n->synced.data, n->synced.len);
	if (n->state.failed)
		rel_fail(p->t, "out of memory");
	if (luck == PL_LUCK_ALL)
		how = ALL;
	else if (luck == PL_LUCK_ANY)
		how = (int)rel_random(p->t, 6);
	for (size_t i = 0; i < n->nchanges && how != NONE; i++) {
		const struct pl_change *c = &n->changes[i];

		if ((how == PREFIX && i >= prefix) || (how >= SUBSET && rel_random(p->t, 2)))
			continue;
		if (how >= TORN && !c->truncate)
			draw_torn(p, &n->state, c, how == GARBAGE && !n->whole);
		else
			content_change(p, &n->state, c);
	}
}

void pl_put_state(struct pl_model *p, struct pl_node *n, const char *path, enum pl_luck luck)
{
	struct err err = ERR_INIT;

	if (!n->folder) {
		cleanup_fd int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);

		draw_file(p, n, luck);
		rel_ok(p->t, fd);
		if (n->state.len)
			rel_ok(p->t,
			       file_pwrite(fd, n->state.data, n->state.len, 0, path, NULL, &err));
		return;
	}
	if (mkdir(path, 0700) < 0)
		rel_fail(p->t, "cannot make '%s'", path);
	for (size_t i = 0; i < n->nentries; i++) {
		struct pl_entry *e = &n->entries[i];
		cleanup_free char *below = str_printf("%s/%s", path, e->name);
		size_t k = 0;

		if (luck == PL_LUCK_ALL)
			k = e->nvalues - 1;
		else if (luck == PL_LUCK_ANY)
			k = rel_random(p->t, e->nvalues);
		if (e->values[k])
			pl_put_state(p, e->values[k], below, luck);
	}
}

void pl_read_trace(struct pl_model *p)
{
	struct err err = ERR_INIT;
	size_t at = 0;

	rel_ok(p->t, file_read_all(p->trace_path, 512 * MiB, &p->trace, &err));
	while (at < p->trace.len) {
		struct pl_record r;

		memcpy(&r, p->trace.data + at, sizeof(r));
		p->starts = grown(p, p->starts, p->nrecords + 1, sizeof(*p->starts));
		p->starts[p->nrecords++] = at;
		at += sizeof(r) + r.alen + r.blen +
		      (r.op == PL_WRITE || r.op == PL_MARK ? r.len : 0);
	}
	if (at != p->trace.len || p->nrecords < 100)
		rel_fail(p->t, "the trace is not whole (%zu records)", p->nrecords);
}

/* How often the mark stands in the first `count` records. */
unsigned pl_marks(const struct pl_model *p, size_t count, const char *text)
{
	unsigned n = 0;

	for (size_t i = 0; i < count; i++) {
		const uint8_t *at = p->trace.data + p->starts[i];
		struct pl_record r;

		memcpy(&r, at, sizeof(r));
		n += r.op == PL_MARK && r.len == strlen(text) &&
		     memcmp(at + sizeof(r) + r.alen + r.blen, text, r.len) == 0;
	}
	return n;
}

void pl_last_mark(const struct pl_model *p, size_t count, char *out, size_t size)
{
	while (count--) {
		const uint8_t *at = p->trace.data + p->starts[count];
		struct pl_record r;

		memcpy(&r, at, sizeof(r));
		if (r.op != PL_MARK)
			continue;
		snprintf(out, size, "%.*s", (int)(r.len ? r.len - 1 : 0),
			 (const char *)at + sizeof(r));
		return;
	}
	str_copy(out, size, "the beginning");
}

bool pl_find_mark(const struct pl_model *p, size_t count, const char *word, char *out, size_t size)
{
	while (count--) {
		const uint8_t *at = p->trace.data + p->starts[count];
		struct pl_record r;

		memcpy(&r, at, sizeof(r));
		if (r.op != PL_MARK || r.len < strlen(word) ||
		    memcmp(at + sizeof(r), word, strlen(word)) != 0)
			continue;
		snprintf(out, size, "%.*s", (int)r.len, (const char *)at + sizeof(r));
		return true;
	}
	return false;
}

/* The trace's end is the folder as it is: nothing was missed. */
void pl_compare(struct pl_model *p, const struct pl_node *n, const char *path)
{
	struct err err = ERR_INIT;
	struct buf real = BUF_INIT;
	size_t found = 0, there = 0;
	struct dirent *d;
	DIR *dir;

	if (!n->folder) {
		rel_ok(p->t, file_read_all(path, 512 * MiB, &real, &err));
		if (real.len != n->now.len ||
		    (real.len && memcmp(real.data, n->now.data, real.len)))
			rel_fail(p->t, "'%s' is not what the trace says", path);
		buf_release(&real);
		return;
	}
	for (size_t i = 0; i < n->nentries; i++) {
		const struct pl_entry *e = &n->entries[i];
		cleanup_free char *below = str_printf("%s/%s", path, e->name);

		if (value_now(e)) {
			pl_compare(p, value_now(e), below);
			found++;
		}
	}
	dir = opendir(path);
	while (dir && (d = readdir(dir)))
		there += strcmp(d->d_name, ".") && strcmp(d->d_name, "..") &&
			 !str_ends(d->d_name, "-shm");
	if (dir)
		closedir(dir);
	if (there != found)
		rel_fail(p->t, "'%s' has %zu entries, %zu by the trace", path, there, found);
}

void pl_put_mark(struct pl_model *p, const char *text)
{
	struct pl_record r = { .op = PL_MARK, .len = strlen(text) };
	cleanup_stdio FILE *f = fopen(p->trace_path, "a");

	if (!f || fwrite(&r, sizeof(r), 1, f) != 1 || fwrite(text, r.len, 1, f) != 1)
		rel_fail(p->t, "cannot mark the trace");
}

const char *pl_preload(void)
{
	const char *lib = getenv("POWERLOSS_RECORD");

	return lib ? lib : "tests/.libs/powerloss-record.so";
}
