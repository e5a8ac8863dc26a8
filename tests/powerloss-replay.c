// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * powerloss-replay DIR plain|encrypted STATES SEED [FAULT|plant:NAME]: what a power cut may leave of an init, three backups, a
 * forget, a hold and a prune: the first backup with checkpoints and merges of index segments on its way (packs are full at
 * 64 KiB, and four segments are merged), the last after one that was killed, which it sweeps; the prune removes packs and
 * rewrites packs.
 *
 * The commands run under tests/powerloss-record.c; FAULT (LIVEPOINT_FAULT, "store.folder.sync:1+:skip") plants a bug
 * in the backups, plant:NAME (LIVEPOINT_PLANT) one in all of them.  Then STATES times: a cut after a random call of the trace,
 * in half of the cases from the forget on, and one state that a disk may have then.
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
 *
 * On each state (in half of them the backup comes first): before init had ended, a repository or none.  After: it opens without help; every point whose publication
 * had returned ("catalog.publish.after" in the trace) and that was not forgotten ("catalog.forget.after") is listed and
 * restores; the one under way is there whole or not at all; so are the forget and the hold; a backup works; a prune works
 * and leaves no pack, row or record that nobody needs; no leftovers; verify is clean.
 *
 * Over 800 lines: the model of the file system, what draws states from it and what checks them share all their types, and
 * nobody else has a use for any of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "repo/gc.h"
#include "repo/retention.h"
#include "tests/powerloss.h"
#include "tests/reliability.h"

#include "base/banned.h"

#define DISK                                                                                       \
	(20 *                                                                                      \
	 MiB) /* more than the buffers of a session: a checkpoint is made when one is free again */
#define SHARE 40 /* of the chunks that have data, in 256 */
#define BACKUPS 3
/* What the second has stored is partly used by the third, so that its pack is rewritten. */
#define GOING 1 /* point that is forgotten */
#define HELD 0
#define FEW_SEGMENTS "repo.index.merge:4"
#define SMALL "store.pack.close:65536," FEW_SEGMENTS
#define SECTOR 512

/* --- the file system of the model --- */

struct change { /* a write or truncation since the last sync */
	bool truncate;
	uint64_t offset, len; /* truncate: offset is the size */
	const uint8_t *data; /* in the trace */
};

struct node {
	bool folder;
	/* file */
	struct buf synced, now;
	struct change *changes;
	size_t nchanges;
	unsigned drawn; /* the state for which `state` was drawn */
	struct buf state;
	/* folder */
	struct entry *entries;
	size_t nentries;
};

struct entry {
	char name[64];
	struct node **values; /* since the last sync, oldest first; NULL: not there */
	size_t nvalues;
};

struct open_fd {
	uint32_t pid;
	int32_t fd;
	struct node *node;
};

struct replay {
	struct rel t;
	char trace_path[256], marks_path[256], states[256];
	struct buf trace;
	size_t *starts; /* of the records */
	size_t nrecords;
	struct node *root;
	struct open_fd *fds;
	size_t nfds;
	struct rel_promise *points; /* all that the backups reported, in order */
	size_t npoints;
	uint8_t *disk; /* a later content, for the backup on each state */
	unsigned state;
	unsigned unseen; /* states that a backup was the first to open */
	size_t tail; /* records before the forget */
	unsigned in_tail; /* states cut after it had begun */
};

/* What a state must have. */
enum forgotten { FORGOTTEN_NO, FORGOTTEN_MAYBE, FORGOTTEN_YES };
struct expect {
	size_t committed; /* points */
	enum forgotten forgotten; /* points[GOING] */
	bool held; /* points[HELD] */
};

static void *grown(const struct replay *p, void *array, size_t n, size_t size)
{
	array = realloc(array, n * size);
	if (!array)
		rel_fail(&p->t, "out of memory");
	return array;
}

static struct node *node_new(const struct replay *p, bool folder)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		rel_fail(&p->t, "out of memory");
	n->folder = folder;
	return n;
}

static struct node *value_now(const struct entry *e)
{
	return e->values[e->nvalues - 1];
}

static struct entry *entry_find(const struct node *folder, const char *name, size_t len)
{
	for (size_t i = 0; i < folder->nentries; i++) {
		struct entry *e = &folder->entries[i];

		if (strlen(e->name) == len && memcmp(e->name, name, len) == 0)
			return e;
	}
	return NULL;
}

/* The folder of path and the last part of it. */
static struct node *walk(const struct replay *p, const char *path, const char **last)
{
	struct node *n = p->root;
	const char *slash;

	for (; (slash = strchr(path, '/')); path = slash + 1) {
		struct entry *e = entry_find(n, path, (size_t)(slash - path));

		if (!e || !value_now(e))
			rel_fail(&p->t, "the trace uses '%s', which is not there", path);
		n = value_now(e);
	}
	*last = path;
	return n;
}

static struct node *lookup(const struct replay *p, const char *path)
{
	const char *last;
	struct node *folder = walk(p, path, &last);
	struct entry *e;

	if (!*last)
		return folder;
	e = entry_find(folder, last, strlen(last));
	return e ? value_now(e) : NULL;
}

static void set_name(const struct replay *p, const char *path, struct node *value)
{
	const char *last;
	struct node *folder = walk(p, path, &last);
	struct entry *e = entry_find(folder, last, strlen(last));

	if (!e) {
		folder->entries = grown(p, folder->entries, folder->nentries + 1, sizeof(*e));
		e = &folder->entries[folder->nentries++];
		memset(e, 0, sizeof(*e));
		if (!str_copy(e->name, sizeof(e->name), last))
			rel_fail(&p->t, "the name '%s' is too long", last);
		e->values = grown(p, NULL, 1, sizeof(*e->values));
		e->values[e->nvalues++] = NULL;
	}
	e->values = grown(p, e->values, e->nvalues + 1, sizeof(*e->values));
	e->values[e->nvalues++] = value;
}

static void content_change(const struct replay *p, struct buf *b, const struct change *c)
{
	uint64_t size = c->truncate ? c->offset : MAX((uint64_t)b->len, c->offset + c->len);

	if (size > b->len) {
		if (!buf_reserve(b, size - b->len))
			rel_fail(&p->t, "out of memory");
		memset(b->data + b->len, 0, size - b->len);
	}
	b->len = size;
	if (!c->truncate)
		memcpy(b->data + c->offset, c->data, c->len);
}

static void file_change(const struct replay *p, struct node *n, struct change c)
{
	n->changes = grown(p, n->changes, n->nchanges + 1, sizeof(c));
	n->changes[n->nchanges++] = c;
	content_change(p, &n->now, &c);
}

static void node_sync(const struct replay *p, struct node *n)
{
	size_t kept = 0;

	if (!n->folder) {
		buf_reset(&n->synced);
		buf_put(&n->synced, n->now.data, n->now.len);
		if (n->synced.failed)
			rel_fail(&p->t, "out of memory");
		n->nchanges = 0;
		return;
	}
	for (size_t i = 0; i < n->nentries; i++) {
		struct entry e = n->entries[i];

		e.values[0] = value_now(&e);
		e.nvalues = 1;
		if (e.values[0])
			n->entries[kept++] = e;
		else
			free(e.values);
	}
	n->nentries = kept;
}

static struct open_fd *fd_find(struct replay *p, const struct pl_record *r)
{
	for (size_t i = 0; i < p->nfds; i++)
		if (p->fds[i].pid == r->pid && p->fds[i].fd == r->fd)
			return &p->fds[i];
	return NULL;
}

static struct node *fd_node(struct replay *p, const struct pl_record *r)
{
	struct open_fd *f = fd_find(p, r);

	if (!f || !f->node)
		rel_fail(&p->t, "the trace uses descriptor %d, which is not open", r->fd);
	return f->node;
}

static void fd_means(struct replay *p, const struct pl_record *r, struct node *n)
{
	struct open_fd *f = fd_find(p, r);

	if (!f) {
		p->fds = grown(p, p->fds, p->nfds + 1, sizeof(*f));
		f = &p->fds[p->nfds++];
		f->pid = r->pid;
		f->fd = r->fd;
	}
	f->node = n;
}

static void apply(struct replay *p, size_t i)
{
	const uint8_t *at = p->trace.data + p->starts[i];
	struct pl_record r;
	char a[512] = "", b[512] = "";

	memcpy(&r, at, sizeof(r));
	at += sizeof(r);
	if (r.alen >= sizeof(a) || r.blen >= sizeof(b))
		rel_fail(&p->t, "a path of the trace is too long");
	memcpy(a, at, r.alen);
	memcpy(b, at + r.alen, r.blen);
	at += r.alen + r.blen;
	switch ((enum pl_op)r.op) {
	case PL_CREATE:
		set_name(p, a, node_new(p, false));
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
		file_change(p, fd_node(p, &r), (struct change){ false, r.offset, r.len, at });
		break;
	case PL_TRUNCATE:
		file_change(p, fd_node(p, &r), (struct change){ true, r.offset, 0, NULL });
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

static void node_free(struct node *n)
{
	/* Nodes are shared between names and states; the process ends soon.  What is big goes. */
	buf_release(&n->synced);
	buf_release(&n->now);
	buf_release(&n->state);
}

static void free_tree(struct node *n)
{
	for (size_t i = 0; i < n->nentries; i++)
		for (size_t k = 0; k < n->entries[i].nvalues; k++)
			if (n->entries[i].values[k])
				free_tree(n->entries[i].values[k]);
	node_free(n);
}

/* The model as it is after the first `count` records. */
static void build(struct replay *p, size_t count)
{
	if (p->root)
		free_tree(p->root);
	p->root = node_new(p, true);
	p->nfds = 0;
	for (size_t i = 0; i < count; i++)
		apply(p, i);
}

/* --- drawing a state --- */

enum luck { LUCK_NONE, LUCK_ALL, LUCK_ANY };

static void draw_torn(struct replay *p, struct buf *b, const struct change *c, bool garbage)
{
	uint8_t junk[SECTOR];

	for (uint64_t at = c->offset; at < c->offset + c->len;) {
		uint64_t next = MIN(c->offset + c->len, (at / SECTOR + 1) * SECTOR);
		struct change piece = { false, at, next - at, c->data + (at - c->offset) };

		if (garbage && rel_random(&p->t, 3) == 0) {
			for (size_t i = 0; i < sizeof(junk); i++)
				junk[i] = (uint8_t)rel_random(&p->t, 256);
			piece.data = junk;
			content_change(p, b, &piece);
		} else if (rel_random(&p->t, 2)) {
			content_change(p, b, &piece);
		}
		at = next;
	}
}

static void draw_file(struct replay *p, struct node *n, enum luck luck)
{
	enum { NONE, ALL, PREFIX, SUBSET, TORN, GARBAGE } how = NONE;
	size_t prefix = n->nchanges ? rel_random(&p->t, n->nchanges + 1) : 0;

	if (n->drawn == p->state)
		return;
	n->drawn = p->state;
	buf_reset(&n->state);
	buf_put(&n->state, n->synced.data, n->synced.len);
	if (n->state.failed)
		rel_fail(&p->t, "out of memory");
	if (luck == LUCK_ALL)
		how = ALL;
	else if (luck == LUCK_ANY)
		how = (int)rel_random(&p->t, 6);
	for (size_t i = 0; i < n->nchanges && how != NONE; i++) {
		const struct change *c = &n->changes[i];

		if ((how == PREFIX && i >= prefix) || (how >= SUBSET && rel_random(&p->t, 2)))
			continue;
		if (how >= TORN && !c->truncate)
			draw_torn(p, &n->state, c, how == GARBAGE);
		else
			content_change(p, &n->state, c);
	}
}

static void put_state(struct replay *p, struct node *n, const char *path, enum luck luck)
{
	struct err err = ERR_INIT;

	if (!n->folder) {
		cleanup_fd int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);

		draw_file(p, n, luck);
		rel_ok(&p->t, fd);
		if (n->state.len)
			rel_ok(&p->t,
			       file_pwrite(fd, n->state.data, n->state.len, 0, path, NULL, &err));
		return;
	}
	if (mkdir(path, 0700) < 0)
		rel_fail(&p->t, "cannot make '%s'", path);
	for (size_t i = 0; i < n->nentries; i++) {
		struct entry *e = &n->entries[i];
		cleanup_free char *below = str_printf("%s/%s", path, e->name);
		size_t k = 0;

		if (luck == LUCK_ALL)
			k = e->nvalues - 1;
		else if (luck == LUCK_ANY)
			k = rel_random(&p->t, e->nvalues);
		if (e->values[k])
			put_state(p, e->values[k], below, luck);
	}
}

/* --- recording --- */

static const char *preload(void)
{
	const char *lib = getenv("POWERLOSS_RECORD");

	return lib ? lib : "tests/.libs/powerloss-record.so";
}

/* An init with a cheap key derivation, as its own process under the recorder. */
static int make_repository(const char *path, const char *kind)
{
	struct rel t = { .encrypted = strcmp(kind, "encrypted") == 0 };

	str_copy(t.repo, sizeof(t.repo), path);
	rel_init(&t);
	return 0;
}

static void put_mark(struct replay *p, const char *text)
{
	struct pl_record r = { .op = PL_MARK, .len = strlen(text) };
	cleanup_stdio FILE *f = fopen(p->trace_path, "a");

	if (!f || fwrite(&r, sizeof(r), 1, f) != 1 || fwrite(text, r.len, 1, f) != 1)
		rel_fail(&p->t, "cannot mark the trace");
}

static void record_init(struct replay *p, const char *self)
{
	const char *const argv[] = { self, "make", p->t.repo,
				     p->t.encrypted ? "encrypted" : "plain", NULL };
	struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	rel_ok(&p->t, proc_run(argv, &out, 4096, &err));
	buf_release(&out);
	put_mark(p, "init done\n");
}

static void record_backup(struct replay *p, const char *name, const char *fault)
{
	struct rel *t = &p->t;
	const char *const args[] = { "backup", name, t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, fault, p->marks_path);
	char recorded[sizeof(t->repo)];
	struct repo *r;

	if (!s.exited || s.code)
		rel_fail(t, "the backup to record ended with %d", s.code);
	/* A copy is looked at: even a reader writes its lease into the catalog, and the recorder is not in this process. */
	str_copy(recorded, sizeof(recorded), t->repo);
	rel_copy_tree(t->repo, p->states);
	snprintf(t->repo, sizeof(t->repo), "%s", p->states);
	r = rel_open(t, REPO_READ);
	rel_check_after(t, r, s);
	repo_close(r);
	str_copy(t->repo, sizeof(t->repo), recorded);
}

/* Killed with its packs in place: the next backup sweeps, which is recorded too. */
static void record_killed(struct replay *p)
{
	struct rel *t = &p->t;
	const char *const args[] = { "backup", "web1", t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, "catalog.publish.before:1:kill", NULL);

	if (s.exited)
		rel_fail(t, "the backup to kill ended with %d by itself", s.code);
}

/* Sessions have buffers by the number of CPUs: one, so that the disk has more than they hold everywhere.  Fills *before. */
static void one_cpu(const struct rel *t, cpu_set_t *before)
{
	cpu_set_t one;
	int cpu = 0;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(*before), before) < 0)
		rel_fail(t, "sched_getaffinity: %s", strerror(errno));
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, before))
		cpu++;
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		rel_fail(t, "sched_setaffinity: %s", strerror(errno));
}

static void record_command(struct replay *p, const char *const *args)
{
	struct rel_status s = rel_run(&p->t, args, NULL, p->marks_path);
	char text[1024];

	rel_whole(p->t.err, text, sizeof(text));
	if (!s.exited || s.code)
		rel_fail(&p->t, "the %s to record ended with %d: %s", args[0], s.code, text);
}

/* A point is forgotten, another one held; then prune.  In the trace from p->tail on. */
static void record_retention(struct replay *p)
{
	const struct rel_promise *of = p->t.promises;

	put_mark(p, "retention begins\n");
	record_command(p, (const char *const[]){ "forget", "--grace", "0", of[GOING].text, NULL });
	record_command(p,
		       (const char *const[]){ "protect", of[HELD].text, "--reason", "kept", NULL });
	record_command(p, (const char *const[]){ "prune", "--min-unused", "0", NULL });
}

static void record(struct replay *p, const char *self, const char *fault)
{
	struct rel *t = &p->t;
	cpu_set_t cpus;

	one_cpu(t, &cpus);
	setenv("LD_PRELOAD", preload(), 1);
	setenv("LIVEPOINT_RECORD_DIR", t->repo, 1);
	setenv("LIVEPOINT_RECORD_TRACE", p->trace_path, 1);
	setenv("LIVEPOINT_RECORD_MARKS", p->marks_path, 1);
	record_init(p, self);
	setenv("LIVEPOINT_FAULT_NUMBER", SMALL, 1);
	for (unsigned i = 0; i < BACKUPS; i++) {
		if (i) {
			setenv("LIVEPOINT_FAULT_NUMBER", FEW_SEGMENTS, 1);
			rel_change(t, 60);
		}
		if (i == 2 && !fault)
			record_killed(p);
		record_backup(p, i == 1 ? "db1" : "web1", fault);
	}
	record_retention(p);
	unsetenv("LD_PRELOAD");
	unsetenv("LIVEPOINT_FAULT_NUMBER");
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		rel_fail(t, "sched_setaffinity: %s", strerror(errno));
	rel_change(t, 8);
	p->points = t->promises;
	p->npoints = t->npromises;
}

static void read_trace(struct replay *p)
{
	struct err err = ERR_INIT;
	size_t at = 0;

	rel_ok(&p->t, file_read_all(p->trace_path, 512 * MiB, &p->trace, &err));
	while (at < p->trace.len) {
		struct pl_record r;

		memcpy(&r, p->trace.data + at, sizeof(r));
		p->starts = grown(p, p->starts, p->nrecords + 1, sizeof(*p->starts));
		p->starts[p->nrecords++] = at;
		at += sizeof(r) + r.alen + r.blen +
		      (r.op == PL_WRITE || r.op == PL_MARK ? r.len : 0);
	}
	if (at != p->trace.len || p->nrecords < 100)
		rel_fail(&p->t, "the trace is not whole (%zu records)", p->nrecords);
}

/* How often the mark stands in the first `count` records. */
static unsigned marks(const struct replay *p, size_t count, const char *text)
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

static void last_mark(const struct replay *p, size_t count, char *out, size_t size)
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

static void find_tail(struct replay *p)
{
	while (p->tail < p->nrecords && !marks(p, p->tail, "retention begins\n"))
		p->tail++;
	if (!marks(p, p->nrecords, "store.rewrite.rename\n") ||
	    marks(p, p->nrecords, "catalog.dropped.after\n") <=
		    marks(p, p->nrecords, "store.rewrite.rename\n"))
		rel_fail(&p->t, "the prune of the trace does not remove and rewrite packs");
}

/* The trace's end is the folder as it is: nothing was missed. */
static void compare_folder(struct replay *p, const struct node *n, const char *path)
{
	struct err err = ERR_INIT;
	struct buf real = BUF_INIT;
	size_t found = 0, there = 0;
	struct dirent *d;
	DIR *dir;

	if (!n->folder) {
		rel_ok(&p->t, file_read_all(path, 512 * MiB, &real, &err));
		if (real.len != n->now.len ||
		    (real.len && memcmp(real.data, n->now.data, real.len)))
			rel_fail(&p->t, "'%s' is not what the trace says", path);
		buf_release(&real);
		return;
	}
	for (size_t i = 0; i < n->nentries; i++) {
		const struct entry *e = &n->entries[i];
		cleanup_free char *below = str_printf("%s/%s", path, e->name);

		if (value_now(e)) {
			compare_folder(p, value_now(e), below);
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
		rel_fail(&p->t, "'%s' has %zu entries, %zu by the trace", path, there, found);
}

/* --- checking --- */

static void backup_in_process(struct replay *p, struct repo *r)
{
	struct rel *t = &p->t;
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "web1", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = t->size, .method = METHOD_HASH };
	struct publish_spec publish = { 0 };
	struct session_result result;
	struct repo_session *s;
	uint8_t sha[REL_SHA_LEN], *buffer;

	rel_sha(t, sha);
	rel_ok(t, repo_session_begin(r, &spec, &s, &err));
	rel_ok(t, repo_session_config(s, "sum", sha, sizeof(sha), &err));
	rel_ok(t, session_disk_begin(s, &disk, &err));
	for (uint64_t at = 0; at < t->size; at += SESSION_BUFFER) {
		rel_ok(t, session_buffer(s, &buffer, &err));
		memcpy(buffer, t->disk + at, SESSION_BUFFER);
		rel_ok(t, session_disk_write(s, buffer, at, SESSION_BUFFER, &err));
	}
	rel_ok(t, session_disk_end(s, t->size, t->size, &err));
	rel_ok(t, repo_session_publish(s, &publish, &result, &err));
	rel_promise(t, result.id, result.point, sha);
	rel_check_point(t, r, &t->promises[t->npromises - 1]);
}

static void promise_first(struct replay *p, size_t n)
{
	struct rel *t = &p->t;

	free(t->promises);
	t->promises = NULL;
	t->npromises = 0;
	for (size_t i = 0; i < n; i++)
		rel_promise(t, p->points[i].id, p->points[i].text, p->points[i].sha);
}

/* The points that must be there. */
static void promise_expected(struct replay *p, const struct expect *x,
			     const struct rel_promise *made)
{
	struct rel *t = &p->t;

	promise_first(p, x->committed);
	if (x->forgotten != FORGOTTEN_NO)
		t->promises[GOING] = t->promises[--t->npromises];
	if (made)
		rel_promise(t, made->id, made->text, made->sha);
}

static void check_hold(struct replay *p, struct repo *r)
{
	struct err err = ERR_INIT;
	struct state notes;

	rel_ok(&p->t, repo_notes(r, &notes, &err));
	if (!state_hold(&notes, p->points[HELD].id))
		rel_fail(&p->t, "the hold is lost");
	state_release(&notes);
}

/* What is listed is what was committed, and at most what was under way: a point, or the forget; all of it promised from
 * then on.  made: a point that was made on this state, or NULL. */
static void check_points(struct replay *p, struct repo *r, const struct expect *x,
			 const struct rel_promise *made)
{
	struct rel *t = &p->t;
	struct rel_promise more[2];
	unsigned n;

	promise_expected(p, x, made);
	n = rel_check_list(t, r, 2, more);
	for (unsigned i = 0; i < n; i++) {
		const struct rel_promise *of = NULL;

		if (x->forgotten == FORGOTTEN_MAYBE &&
		    memcmp(more[i].id, p->points[GOING].id, POINT_ID_LEN) == 0)
			of = &p->points[GOING];
		else if (x->committed < p->npoints &&
			 memcmp(more[i].id, p->points[x->committed].id, POINT_ID_LEN) == 0)
			of = &p->points[x->committed];
		else
			rel_fail(
				t,
				"a point is listed that nobody has made, or that was forgotten: %s",
				more[i].text);
		rel_promise(t, of->id, of->text, of->sha);
	}
	for (size_t i = 0; i < t->npromises; i++)
		rel_check_point(t, r, &t->promises[i]);
	if (x->held)
		check_hold(p, r);
}

/* Opened for the first time, to look: false if there is no repository, which is allowed before init has ended. */
static bool look_first(struct replay *p, const struct expect *x, bool inited)
{
	struct rel *t = &p->t;
	struct err err = ERR_INIT;
	struct repo *r;
	int ret = repo_open(t->repo, REPO_READ, &r, &err);

	if (ret == ERR_NO_REPO && !inited)
		return false;
	rel_ok(t, ret);
	repo_close(r);
	r = rel_open(t, rel_random(t, 3) ? REPO_WRITE : REPO_READ);
	check_points(p, r, x, NULL);
	repo_close(r);
	return true;
}

static struct expect expectation(const struct replay *p, size_t cut)
{
	struct expect x = { .committed = marks(p, cut, "catalog.publish.after\n") };

	if (marks(p, cut, "catalog.forget.after\n"))
		x.forgotten = FORGOTTEN_YES;
	else if (marks(p, cut, "catalog.forget.before\n"))
		x.forgotten = FORGOTTEN_MAYBE;
	/* the hold's state object is the first that is published */
	x.held = marks(p, cut, "catalog.state.after\n") > 0;
	return x;
}

static void prune_in_process(struct replay *p, struct repo *r)
{
	struct prune_spec spec = { .min_doomed = 0 };
	struct prune_result result;
	struct err err = ERR_INIT;

	rel_ok(&p->t, repo_prune(r, &spec, &result, &err));
	if (result.waiting || result.bytes_left || result.packs_damaged)
		rel_fail(&p->t, "prune could not end its work");
}

static void check_state(struct replay *p, size_t cut)
{
	struct rel *t = &p->t;
	struct expect x = expectation(p, cut);
	bool inited = marks(p, cut, "init done\n") > 0;
	struct rel_promise made;
	struct repo *r;

	p->unseen += inited && p->state % 2;
	if (!(inited && p->state % 2) && !look_first(p, &x, inited))
		return;
	r = rel_open(t, REPO_WRITE);
	backup_in_process(p, r);
	made = t->promises[t->npromises - 1];
	check_points(p, r, &x, &made);
	/* what a dead prune has left only a prune ends */
	if (cut >= p->tail || p->state % 3 == 0) {
		prune_in_process(p, r);
		check_points(p, r, &x, &made);
		rel_check_slots(t, r);
	}
	rel_check_leftovers(t, r);
	rel_check_verify(t, r, p->state % 10 < 2);
	repo_close(r);
}

static void one_state(struct replay *p, unsigned number)
{
	struct rel *t = &p->t;
	static const char *const names[] = { "nothing unsynced", "everything",
					     "some of what was not synced" };
	size_t cut = rel_random(t, 2) ? rel_random(t, p->nrecords + 1) :
					p->tail + rel_random(t, p->nrecords - p->tail + 1);
	enum luck luck = (int)rel_random(t, 8);
	char mark[128];

	luck = MIN(luck, LUCK_ANY);
	p->state = number + 1;
	last_mark(p, cut, mark, sizeof(mark));
	snprintf(t->what, sizeof(t->what), "state %u, cut after call %zu of %zu (after %s), %s",
		 number, cut, p->nrecords, mark, names[luck]);
	build(p, cut);
	snprintf(t->repo, sizeof(t->repo), "%s", p->states);
	rel_remove_tree(t->repo);
	put_state(p, p->root, t->repo, luck);
	check_state(p, cut);
	p->in_tail += cut > p->tail;
	t->passed++;
}

int main(int argc, char **argv)
{
	struct replay p = { .nrecords = 0 };
	unsigned checkpoints, merges;
	uint64_t states, seed;

	if (argc == 4 && strcmp(argv[1], "make") == 0)
		return make_repository(argv[2], argv[3]);
	if ((argc != 5 && argc != 6) || !parse_u64(argv[3], &states) ||
	    !parse_u64(argv[4], &seed)) {
		fprintf(stderr,
			"usage: powerloss-replay DIR plain|encrypted STATES SEED [FAULT|plant:NAME]\n");
		return 2;
	}
	rel_begin(&p.t, argv[1], strcmp(argv[2], "encrypted") == 0, seed, DISK, SHARE);
	snprintf(p.trace_path, sizeof(p.trace_path), "%s/trace", argv[1]);
	snprintf(p.marks_path, sizeof(p.marks_path), "%s/marks", argv[1]);
	snprintf(p.states, sizeof(p.states), "%s/state", argv[1]);
	if (argc == 6 && str_starts(argv[5], "plant:"))
		p.t.plant = argv[5] + 6;
	record(&p, argv[0], argc == 6 && !p.t.plant ? argv[5] : NULL);
	read_trace(&p);
	find_tail(&p);
	if (marks(&p, p.nrecords, "catalog.publish.after\n") != BACKUPS)
		rel_fail(&p.t, "the trace has not the marks of %u publications", BACKUPS);
	checkpoints = marks(&p, p.nrecords, "catalog.checkpoint.after\n");
	merges = marks(&p, p.nrecords, "catalog.swap.after\n");
	if (!checkpoints || !merges)
		rel_fail(&p.t, "the trace has %u checkpoints and %u merges of index segments",
			 checkpoints, merges);
	build(&p, p.nrecords);
	compare_folder(&p, p.root, p.t.repo);
	p.t.promises = NULL;
	p.t.npromises = 0;
	for (unsigned i = 0; i < states; i++)
		one_state(&p, i);
	printf("%s: %zu calls recorded, %u checkpoints, %u merges of index segments, %u packs rewritten and %u "
	       "removed by prune among them; %u states, %u of them first opened by a backup, %u cut in forget, "
	       "protect and prune\n",
	       argv[2], p.nrecords, checkpoints, merges,
	       marks(&p, p.nrecords, "store.rewrite.rename\n"),
	       marks(&p, p.nrecords, "catalog.dropped.after\n") -
		       marks(&p, p.nrecords, "store.rewrite.rename\n"),
	       p.t.passed, p.unseen, p.in_tail);
	printf("%u passed, 0 failed\n", p.t.passed);
	free(p.points);
	rel_end(&p.t);
	return 0;
}
