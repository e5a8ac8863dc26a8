// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * What tells the watcher of a connection, in the run folder: a note for each recovery on this host (ID.json), and by
 * connection (g and eight hexadecimal digits of a check of its URI) the watcher's lock and log, and whether its libvirt
 * needs a proxy.  All of it is gone after a reboot, as the guests are.
 *
 * Invariant: a note is a hint: it is made before the guest and removed after it; the record counts.
 */
#include "recover/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define NOTE_MAX (64 * KiB)
#define LOG_MAX (4 * MiB) /* a longer one is begun anew */

void note_release(struct note *n)
{
	free(n->repository);
	free(n->folder);
	free(n->connection);
	free(n->uuid);
	memset(n, 0, sizeof(*n));
}

static char *run_path(const char *name, const char *suffix, struct err *err)
{
	cleanup_free char *run = NULL;
	char *path;

	if (serve_run_folder(&run, err) < 0)
		return NULL;
	path = str_printf("%s/%s.%s", run, name, suffix);
	if (!path)
		err_nomem(err, "path");
	return path;
}

int note_write(const struct recovery *r, struct err *err)
{
	cleanup_ptr(jval) doc = jval_object();
	cleanup_buf struct buf text = BUF_INIT;
	cleanup_free char *path = run_path(r->rec.id, "json", err);
	cleanup_free char *folder = realpath(r->folder, NULL);
	int code;

	if (!path)
		return err->code;
	if (!folder)
		return err_set_errno(err, ERR_IO, errno, "'%s'", r->folder);
	jval_set(doc, "id", jval_str(r->rec.id));
	jval_set(doc, "repository", jval_str(r->rec.repository));
	jval_set(doc, "folder", jval_str(folder));
	jval_set(doc, "connection", jval_str(r->rec.connection));
	jval_set(doc, "uuid", jval_str(r->rec.uuid));
	code = jval_print(doc, true, &text, err);
	buf_put_u8(&text, '\n');
	if (code == 0 && text.failed)
		code = err_nomem(err, "note");
	return code < 0 ?
		       code :
		       file_write_all(path, text.data, text.len, 0600, true, "recover.note", err);
}

int note_remove(const char *id, struct err *err)
{
	cleanup_free char *path = run_path(id, "json", err);
	int code;

	if (!path)
		return err->code;
	code = file_unlink(path, "recover.note.unlink", err);
	return code < 0 ? code : 0;
}

static bool note_text(const struct jval *doc, const char *key, char **dst)
{
	const char *s = jval_as_str(jval_get(doc, key));

	return s && text_copy(dst, s);
}

static bool note_read(const char *path, const char *id, struct note *n)
{
	cleanup_buf struct buf text = BUF_INIT;
	cleanup_ptr(jval) doc = NULL;

	str_copy(n->id, sizeof(n->id), id);
	return file_read_all(path, NOTE_MAX, &text, NULL) == 0 &&
	       jval_parse((const char *)text.data, text.len, &doc, NULL) == 0 &&
	       note_text(doc, "repository", &n->repository) &&
	       note_text(doc, "folder", &n->folder) &&
	       note_text(doc, "connection", &n->connection) && note_text(doc, "uuid", &n->uuid);
}

struct note_walk {
	const char *run;
	int (*fn)(void *opaque, const struct note *n, struct err *err);
	void *opaque;
};

static int note_visit(void *opaque, const char *name, struct err *err)
{
	struct note_walk *w = opaque;
	struct note n = { 0 };
	char id[RECOVERY_ID_LEN + 1];
	cleanup_free char *path = NULL;
	int code = 0;

	str_copy(id, sizeof(id), name);
	if (!recovery_id_valid(id) || strcmp(name + RECOVERY_ID_LEN, ".json") != 0)
		return 0;
	path = str_printf("%s/%s", w->run, name);
	if (!path)
		return err_nomem(err, "path");
	if (note_read(path, id, &n))
		code = w->fn(w->opaque, &n, err);
	note_release(&n);
	return code;
}

int note_each(int (*fn)(void *opaque, const struct note *n, struct err *err), void *opaque,
	      struct err *err)
{
	cleanup_free char *run = NULL;
	struct note_walk w = { .fn = fn, .opaque = opaque };
	int code = serve_run_folder(&run, err);

	if (code < 0)
		return code;
	w.run = run;
	return dir_each(run, note_visit, &w, err);
}

/* --- the watcher's files --- */

char *watch_file(const char *connection, const char *suffix, struct err *err)
{
	char name[RECOVERY_ID_LEN + 1];

	snprintf(name, sizeof(name), "g%08x",
		 (unsigned)(check_xxh3(connection, strlen(connection)) & 0xffffffff));
	return run_path(name, suffix, err);
}

int watch_lock(const char *connection, struct err *err)
{
	cleanup_free char *path = watch_file(connection, "lock", err);
	cleanup_fd int fd = path ? file_open(path, O_RDWR | O_CREAT, 0600, err) : err->code;
	int code;

	if (fd < 0)
		return fd;
	code = file_trylock(fd, path, err);
	return code <= 0 ? code : steal_fd(&fd);
}

bool watch_lives(const char *connection)
{
	struct err ignored = ERR_INIT;
	int fd = watch_lock(connection, &ignored);

	if (fd > 0)
		close(fd);
	return fd == 0;
}

/* The log goes on from one watcher to the next. */
static int open_log(const char *connection, struct err *err)
{
	cleanup_free char *path = watch_file(connection, "log", err);
	struct stat st;

	if (!path)
		return err->code;
	return file_open(path,
			 O_WRONLY | O_CREAT | O_APPEND |
				 (stat(path, &st) == 0 && st.st_size > (off_t)LOG_MAX ? O_TRUNC :
											0),
			 0600, err);
}

int watch_start(const char *connection, struct err *err)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *const argv[] = { exe, "watch-guests", connection, NULL };
	/* a key is none of its business */
	const char *const env[] = { "LIVEPOINT_PASSPHRASE=", "LIVEPOINT_PASSPHRASE_FD=",
				    "LIVEPOINT_PASSPHRASE_FILE=", "LIVEPOINT_PASSPHRASE_COMMAND=",
				    NULL };
	cleanup_fd int log = -1;
	struct proc_spec spec = {
		.argv = argv, .env_add = env, .in_fd = -1, .out_fd = -1, .new_session = true
	};
	pid_t pid;

	if (watch_lives(connection))
		return 0;
	if (n <= 0)
		return err_set_errno(err, ERR_FAILED, errno, "cannot find this program");
	exe[n] = 0;
	log = open_log(connection, err);
	if (log < 0)
		return log;
	spec.err_fd = log;
	return proc_start(&spec, &pid, err);
}
