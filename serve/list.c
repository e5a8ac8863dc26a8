// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * ID.json: what a server is, and by its lock whether it lives; listing and stopping.
 *
 * Supervisor and server inherit the descriptor on which ID.json was locked (flock belongs to the open file description),
 * so the lock can be taken exactly when both have ended, however they did.  Whoever takes it removes the files.
 *
 * Clients are counted as the connected sockets of the address, in /proc/PID/net/unix or tcp: one that was accepted has
 * the path, or the port, of the socket that accepted it.  (/proc/PID/fd of a server with a key is for root only.)
 *
 * Invariants:
 *  1. Files are removed only while holding their lock, or when no ID.json exists.
 *  2. A signal goes only to a supervisor whose lock is held and whose start time is the recorded one.
 */
#include "serve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"

#include "base/banned.h"

#define RECORD_MAX (1024 * 1024)
#define TICK_MS 20
#define TERM_MS 10000 /* nbdkit finishes requests under way first */
#define TERM_OVERLAY_MS 60000 /* and flushes an overlay: what was written to it may be much */
#define TERM_CLIENTS_MS                                                                            \
	1500 /* and waits for idle clients to leave, which they need not do: no use in waiting longer */
#define KILL_MS 5000
#define SETTLE_MS 250 /* a client that has just gone may still be seen */

static const char *const kind_names[] = { "export", "shared", "proxy" };

const char *serve_kind_name(enum serve_kind kind)
{
	return kind_names[kind];
}

void serve_export_release(struct serve_export *e)
{
	size_t i;

	for (i = 0; i < e->ndisks; i++) {
		free(e->disks[i].name);
		free(e->disks[i].uri);
	}
	free(e->disks);
	free(e->point);
	free(e->repo);
	free(e->overlay);
	free(e->uri);
	free(e->socket);
	free(e->target);
	memset(e, 0, sizeof(*e));
}

void serve_exports_free(struct serve_export *list, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		serve_export_release(&list[i]);
	free(list);
}

void record_release(struct record *r)
{
	serve_export_release(&r->e);
	free(r->socket);
	r->socket = NULL;
}
#define cleanup_record __attribute__((cleanup(record_release)))

/* --- ID.json --- */

int record_write(int fd, const char *path, const struct record *r, struct err *err)
{
	cleanup_ptr(jval) doc = jval_object();
	struct jval *disks = jval_array();
	cleanup_buf struct buf text = BUF_INIT;
	size_t i;
	int code;

	for (i = 0; i < r->e.ndisks; i++) {
		struct jval *disk = jval_object();

		jval_set(disk, "name", jval_str(r->e.disks[i].name));
		jval_set(disk, "uri", jval_str(r->e.disks[i].uri));
		jval_append(disks, disk);
	}
	jval_set(doc, "id", jval_str(r->e.id));
	jval_set(doc, "kind", jval_str(serve_kind_name(r->e.kind)));
	jval_set(doc, "uri", jval_str(r->e.uri));
	jval_set(doc, "target", jval_str(r->e.target));
	jval_set(doc, "keys", jval_uint(r->keys));
	jval_set(doc, "repo", jval_str(r->e.repo));
	jval_set(doc, "point", jval_str(r->e.point));
	jval_set(doc, "disks", disks);
	jval_set(doc, "overlay", jval_str(r->e.overlay));
	jval_set(doc, "socket", jval_str(r->socket));
	jval_set(doc, "port", jval_uint(r->port));
	jval_set(doc, "supervisor", jval_int(r->e.supervisor));
	jval_set(doc, "start_ticks", jval_uint(r->start_ticks));
	jval_set(doc, "since", jval_int(r->e.since));
	code = jval_print(doc, true, &text, err);
	buf_put_u8(&text, '\n');
	if (code == 0 && text.failed)
		code = err_nomem(err, path);
	return code < 0 ? code :
			  file_pwrite(fd, text.data, text.len, 0, path, "serve.record.write", err);
}

/* Copies a string member; false if it is missing. */
static bool take_str(const struct jval *doc, const char *key, char **dst)
{
	const char *s = jval_as_str(jval_get(doc, key));

	*dst = s ? str_dup(s) : NULL;
	return *dst;
}

static bool parse_disks(const struct jval *array, struct serve_export *e)
{
	size_t n = jval_count(array), i;

	e->disks = mem_alloc_array(n ? n : 1, sizeof(*e->disks));
	if (!e->disks)
		return false;
	e->ndisks = n;
	for (i = 0; i < n; i++)
		if (!take_str(jval_at(array, i), "name", &e->disks[i].name) ||
		    !take_str(jval_at(array, i), "uri", &e->disks[i].uri))
			return false;
	return true;
}

/* A record without a kind is an export: older versions made no others. */
static bool parse_kind(const struct jval *doc, struct record *r)
{
	const char *name = jval_as_str(jval_get(doc, "kind"));
	uint64_t keys = 0;
	size_t i = 0;

	while (name && i < ARRAY_SIZE(kind_names) && strcmp(name, kind_names[i]) != 0)
		i++;
	if (i == ARRAY_SIZE(kind_names))
		return false;
	r->e.kind = (enum serve_kind)i;
	jval_as_uint(jval_get(doc, "keys"), &keys);
	r->keys = (unsigned)keys;
	take_str(doc, "uri", &r->e.uri);
	take_str(doc, "target", &r->e.target);
	take_str(doc, "point", &r->e.point);
	if (r->e.kind == SERVE_EXPORT)
		return r->e.point && r->e.ndisks > 0;
	return r->e.uri && r->e.socket;
}

/* False for anything but a whole record: its writer may be at it just now. */
static bool record_parse(const struct buf *text, const char *id, struct record *r)
{
	cleanup_ptr(jval) doc = NULL;
	uint64_t port;

	if (jval_parse((const char *)text->data, text->len, &doc, NULL) < 0 ||
	    !jval_as_uint(jval_get(doc, "port"), &port) || port > UINT16_MAX)
		return false;
	r->port = (uint16_t)port;
	str_copy(r->e.id, sizeof(r->e.id), id);
	take_str(doc, "overlay", &r->e.overlay);
	take_str(doc, "socket", &r->socket);
	take_str(doc, "socket", &r->e.socket);
	return take_str(doc, "repo", &r->e.repo) &&
	       jval_as_int(jval_get(doc, "supervisor"), &r->e.supervisor) && r->e.supervisor > 1 &&
	       jval_as_int(jval_get(doc, "since"), &r->e.since) &&
	       jval_as_uint(jval_get(doc, "start_ticks"), &r->start_ticks) &&
	       parse_disks(jval_get(doc, "disks"), &r->e) && parse_kind(doc, r);
}

int record_server_pid(const char *dir, const char *id, int64_t *pid, struct err *err)
{
	cleanup_free char *path = run_file(dir, id, "pid");
	cleanup_buf struct buf text = BUF_INIT;
	uint64_t number;
	int code;

	if (!path)
		return err_nomem(err, "path");
	code = file_read_all(path, PID_FILE_LEN, &text, err);
	if (code < 0)
		return code;
	if (text.len)
		text.data[strcspn(buf_str(&text), " \n")] = 0;
	if (!parse_u64(buf_str(&text), &number) || number < 2 || number > INT32_MAX)
		return err_set(err, ERR_INVALID, "'%s' has no process number", path);
	*pid = (int64_t)number;
	return 0;
}

/* The last words of a supervisor that gave up: nobody could read them once the files are gone. */
static void tell_why(const char *dir, const char *id)
{
	cleanup_free char *path = run_file(dir, id, "log");
	char tail[4 * ERR_TEXT_MAX], *last = tail, *next;

	if (!path)
		return;
	run_log_tail(path, tail, sizeof(tail));
	while ((next = strstr(last, "; livepoint: ")))
		last = next + 2;
	if (strstr(last, GAVE_UP))
		log_warning("export '%s': %s", id, last);
}

/* Returns the descriptor, -1 if there is no file, or a code; *dead: the lock was free, and is ours now. */
static int record_open(const char *path, bool *dead, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDWR, 0, err);
	struct stat st;
	int locked;

	if (fd < 0) {
		if (fd == ERR_NOT_FOUND)
			return -1;
		return fd;
	}
	locked = file_trylock(fd, path, err);
	if (locked < 0)
		return locked;
	/* Somebody else removed it between our open and lock: the name may stand for another file by now. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -1;
	*dead = locked;
	return steal_fd(&fd);
}

int record_read(const char *dir, const char *id, struct record *out, struct err *err)
{
	cleanup_free char *path = run_file(dir, id, "json");
	cleanup_record struct record r = { 0 };
	cleanup_buf struct buf text = BUF_INIT;
	cleanup_fd int fd = -1;
	bool dead = false;
	int code;

	if (!path)
		return err_nomem(err, "path");
	fd = record_open(path, &dead, err);
	if (fd < 0)
		return fd == -1 ? 0 : fd;
	if (dead) {
		tell_why(dir, id);
		return run_remove(dir, id, err);
	}
	code = file_read_all(path, RECORD_MAX, &text, err);
	if (code < 0)
		return code == ERR_NOT_FOUND ? 0 : code;
	if (!record_parse(&text, id, &r) || record_server_pid(dir, id, &r.e.pid, NULL) < 0)
		return 0;
	*out = r;
	memset(&r, 0, sizeof(r));
	return 1;
}

/* --- the folder --- */

struct listing {
	const char *dir;
	struct record *rows; /* owned */
	size_t count;
};

static void listing_release(struct listing *l)
{
	size_t i;

	for (i = 0; i < l->count; i++)
		record_release(&l->rows[i]);
	free(l->rows);
}
#define cleanup_listing __attribute__((cleanup(listing_release)))

static int listing_add(struct listing *l, const char *id, struct err *err)
{
	struct record r = { 0 };
	struct record *rows;
	int code = record_read(l->dir, id, &r, err);

	if (code <= 0)
		return code;
	rows = mem_realloc_array(l->rows, l->count + 1, sizeof(*rows));
	if (!rows) {
		record_release(&r);
		return err_nomem(err, "list of exports");
	}
	l->rows = rows;
	rows[l->count++] = r;
	return 0;
}

/* ID.json is a server; another file of an id without ID.json was left by a removal that was cut short. */
static int visit(void *opaque, const char *name, struct err *err)
{
	struct listing *l = opaque;
	cleanup_free char *json = NULL;
	char id[SERVE_ID_LEN + 1];

	str_copy(id, sizeof(id), name);
	if (!run_id_valid(id) || name[SERVE_ID_LEN] != '.')
		return 0;
	if (strcmp(name + SERVE_ID_LEN, ".json") == 0)
		return listing_add(l, id, err);
	json = run_file(l->dir, id, "json");
	if (!json)
		return err_nomem(err, "path");
	return access(json, F_OK) < 0 && errno == ENOENT ? run_remove(l->dir, id, err) : 0;
}

static int by_age(const void *a, const void *b)
{
	const struct serve_export *x = &((const struct record *)a)->e,
				  *y = &((const struct record *)b)->e;

	if (x->since != y->since)
		return x->since < y->since ? -1 : 1;
	return strcmp(x->id, y->id);
}

static int listing_make(struct listing *l, struct err *err)
{
	int code;

	if (access(l->dir, F_OK) < 0 && errno == ENOENT)
		return 0;
	code = run_folder_check(l->dir, err);
	if (code < 0)
		return code;
	code = dir_each(l->dir, visit, l, err);
	if (code < 0)
		return err_prefix(err, "run folder");
	if (l->count)
		qsort(l->rows, l->count, sizeof(*l->rows), by_age);
	return 0;
}

static struct serve_export steal_export(struct record *r)
{
	struct serve_export e = r->e;

	memset(&r->e, 0, sizeof(r->e));
	return e;
}

int serve_export_list(struct serve_export **out, size_t *count, struct err *err)
{
	cleanup_listing struct listing l = { 0 };
	cleanup_free char *dir = NULL;
	struct serve_export *list;
	size_t i;

	if (run_folder_path(&dir, err) < 0)
		return err->code;
	l.dir = dir;
	if (listing_make(&l, err) < 0)
		return err->code;
	list = mem_alloc_array(l.count ? l.count : 1, sizeof(*list));
	if (!list)
		return err_nomem(err, "list of exports");
	for (i = 0; i < l.count; i++)
		list[i] = steal_export(&l.rows[i]);
	*count = l.count;
	*out = list;
	return 0;
}

int list_find_shared(const char *dir, const char *repo, unsigned keys, struct serve_export *out,
		     struct err *err)
{
	cleanup_listing struct listing l = { .dir = dir };
	size_t i;
	int code = listing_make(&l, err);

	for (i = 0; code == 0 && i < l.count; i++) {
		struct record *r = &l.rows[i];

		if (r->e.kind != SERVE_SHARED || r->keys != keys || strcmp(r->e.repo, repo) != 0)
			continue;
		*out = steal_export(r);
		return 1;
	}
	return code;
}

/* --- clients --- */

/* A line of /proc/net/unix (proc(5)): connected, with this path? */
static bool is_unix_client(const char *line, const char *path)
{
	unsigned state = 0;
	int at = 0;

	if (sscanf(line, "%*s %*x %*x %*x %*x %x %*u %n", &state, &at) != 1 || at == 0)
		return false;
	return state == 3 /* SS_CONNECTED */ && strcmp(line + at, path) == 0;
}

/* A line of /proc/net/tcp or tcp6: established, with this local port, by a process of ours?  (Another service may have
 * the port on another address of the host; it is then counted too.) */
static bool is_tcp_client(const char *line, uint16_t port)
{
	unsigned state = 0, local = 0, uid = 0;

	return sscanf(line, "%*s %*[0-9A-F]:%x %*s %x %*s %*s %*s %u", &local, &state, &uid) == 3 &&
	       local == port && state == 1 /* TCP_ESTABLISHED */ && uid == geteuid();
}

static unsigned count_connected(const struct record *r, const char *table)
{
	cleanup_free char *path =
		str_printf("/proc/%lld/net/%s", (long long)r->e.supervisor, table);
	cleanup_stdio FILE *f = path ? fopen(path, "re") : NULL;
	cleanup_free char *line = NULL;
	size_t room = 0;
	unsigned n = 0;

	while (f && getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = 0;
		n += r->socket ? is_unix_client(line, r->socket) : is_tcp_client(line, r->port);
	}
	return n;
}

static unsigned count_clients(const struct record *r)
{
	return r->socket ? count_connected(r, "unix") :
			   count_connected(r, "tcp") + count_connected(r, "tcp6");
}

/* --- stopping --- */

/* Waits until the lock is free; true if the server has ended. */
static bool wait_end(const char *dir, const char *id, unsigned ms)
{
	cleanup_free char *path = run_file(dir, id, "json");
	unsigned waited;

	for (waited = 0; path; waited += TICK_MS) {
		bool dead = false;
		cleanup_fd int fd = record_open(path, &dead, NULL);

		if (dead || fd < 0)
			return true;
		if (waited >= ms)
			return false;
		time_sleep_ms(TICK_MS);
	}
	return false;
}

static unsigned term_ms(const struct record *r)
{
	if (count_clients(r))
		return TERM_CLIENTS_MS;
	return r->e.overlay || r->e.kind == SERVE_SHARED ? TERM_OVERLAY_MS : TERM_MS;
}

static int end_server(const char *dir, const struct record *r, struct err *err)
{
	pid_t pid = (pid_t)r->e.supervisor;
	const struct {
		int signal;
		unsigned ms;
	} steps[] = { { SIGTERM, term_ms(r) }, { SIGKILL, KILL_MS } };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		if (proc_start_ticks(pid) == r->start_ticks && kill(pid, steps[i].signal) < 0 &&
		    errno != ESRCH)
			return err_set_errno(err, ERR_FAILED, errno,
					     "cannot end export '%s' (process %d)", r->e.id,
					     (int)pid);
		if (wait_end(dir, r->e.id, steps[i].ms)) {
			struct record none;
			int code = record_read(dir, r->e.id, &none,
					       err); /* takes the lock and removes the files */

			waitpid(pid, NULL, WNOHANG); /* if it is a child of this very process */
			return code < 0 ? code : 0;
		}
	}
	return err_set(err, ERR_FAILED, "export '%s' (process %d) does not end", r->e.id, (int)pid);
}

static int refuse_clients(const struct record *r, struct err *err)
{
	unsigned waited = 0, n;

	while ((n = count_clients(r)) > 0 && waited < SETTLE_MS) {
		time_sleep_ms(TICK_MS);
		waited += TICK_MS;
	}
	if (n == 0)
		return 0;
	err_set(err, ERR_LOCKED,
		"export '%s' of %s has %u client%s connected (--force ends it all the same)",
		r->e.id, r->e.point ? r->e.point : r->e.repo, n, n == 1 ? "" : "s");
	return err_object(err, "%s", r->e.id);
}

int serve_export_stop(const char *id, bool force, struct err *err)
{
	cleanup_listing struct listing l = { 0 };
	cleanup_free char *dir = NULL;
	int ended = 0, result = 0, code;
	size_t i;

	if (run_folder_path(&dir, err) < 0)
		return err->code;
	l.dir = dir;
	if (listing_make(&l, err) < 0)
		return err->code;
	for (i = 0; i < l.count; i++) {
		struct err one = ERR_INIT;

		if (id && strcmp(l.rows[i].e.id, id) != 0)
			continue;
		code = force ? 0 : refuse_clients(&l.rows[i], &one);
		if (code == 0)
			code = end_server(dir, &l.rows[i], &one);
		if (code == 0)
			ended++;
		else if (result ==
			 0) { /* the others are ended all the same; the first problem is told */
			result = code;
			*err = one;
		}
	}
	if (id && result == 0 && ended == 0) {
		err_set(err, ERR_NOT_FOUND, "no export '%s' of this user runs on this host", id);
		return err_object(err, "%s", id);
	}
	return result < 0 ? result : ended;
}
