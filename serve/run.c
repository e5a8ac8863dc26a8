// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The run folder: where it is, who may enter, what lies in it.
 *
 * Root's is /run/livepoint, 0711: QEMU's user must reach the sockets, whose own modes say who connects.  Others have
 * $XDG_RUNTIME_DIR/livepoint, else /tmp/livepoint-UID, 0700.  LIVEPOINT_RUN_DIR names another folder for anybody; one
 * that is there already keeps its mode.
 *
 * Invariants:
 *  1. A folder that belongs to somebody else, is a link, or can be written by others is refused, also for listing and
 *     stopping: /tmp is shared, and a record that somebody else wrote could name any process of ours.
 *  2. ID.json is made first and removed last, so that nothing lies here that no ID.json leads to, but for a moment.
 */
#include "serve/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define ROOT_FOLDER "/run/livepoint"
#define QEMU_GROUP "libvirt-qemu"
#define LOG_TAIL_BYTES 2048

static const char *absolute_from_environment(const char *name)
{
	const char *value = getenv(name);

	return value && value[0] == '/' ? value : NULL;
}

int run_folder_path(char **out, struct err *err)
{
	const char *base = absolute_from_environment("LIVEPOINT_RUN_DIR");
	const char *given = getenv("LIVEPOINT_RUN_DIR");

	/* Not made absolute: each folder that a command is called in would have exports of its own. */
	if (!base && given && *given)
		return err_set(err, ERR_USAGE,
			       "LIVEPOINT_RUN_DIR must be an absolute path, not '%s'", given);
	if (base)
		*out = str_dup(base);
	else if (geteuid() == 0)
		*out = str_dup(ROOT_FOLDER);
	else if ((base = absolute_from_environment("XDG_RUNTIME_DIR")))
		*out = str_printf("%s/livepoint", base);
	else
		*out = str_printf("/tmp/livepoint-%u", (unsigned)geteuid());
	return *out ? 0 : err_nomem(err, "run folder");
}

int run_folder_check(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return err_set_errno(err, ERR_IO, errno, "run folder '%s'", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_PERM, "run folder '%s' is not a folder", path);
	if (st.st_uid != geteuid())
		return err_set(err, ERR_PERM, "run folder '%s' belongs to user %u, not to us", path,
			       (unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, ERR_PERM,
			       "run folder '%s' can be written by others (mode %04o)", path,
			       (unsigned)st.st_mode & 07777);
	return 0;
}

int run_folder_make(char **out, struct err *err)
{
	mode_t mode = geteuid() == 0 ? 0711 : 0700;
	cleanup_free char *path = NULL;
	int made, code = run_folder_path(&path, err);

	if (code < 0)
		return code;
	made = dir_make(path, mode, "serve.folder.make", err);
	if (made < 0)
		return err_prefix(err, "run folder");
	code = run_folder_check(path, err);
	if (code < 0)
		return code;
	/* The umask may have taken bits; a folder that somebody named keeps the mode that they gave it. */
	if ((made || !absolute_from_environment("LIVEPOINT_RUN_DIR")) && chmod(path, mode) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot set the mode of '%s'", path);
	*out = steal_ptr(path);
	return 0;
}

int serve_run_folder(char **out, struct err *err)
{
	return run_folder_make(out, err);
}

char *run_file(const char *dir, const char *id, const char *suffix)
{
	return str_printf("%s/%s.%s", dir, id, suffix);
}

bool run_id_valid(const char *id)
{
	size_t i;

	if (strlen(id) != SERVE_ID_LEN || id[0] != 'x')
		return false;
	for (i = 1; i < SERVE_ID_LEN; i++)
		if (!strchr("0123456789abcdef", id[i]))
			return false;
	return true;
}

int run_remove(const char *dir, const char *id, struct err *err)
{
	static const char *const suffixes[] = { "sock", "pid", "log", "json" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(suffixes); i++) {
		cleanup_free char *path = run_file(dir, id, suffixes[i]);
		int r = path ? file_unlink(path, "serve.file.unlink", err) : err_nomem(err, "path");

		if (r < 0)
			return r;
	}
	return 0;
}

int run_socket_group(const char *wanted, gid_t *gid, struct err *err)
{
	const struct group *g;

	if (geteuid() != 0)
		return wanted ?
			       err_set(err, ERR_USAGE,
				       "a socket group needs root: the run folder of others is closed to all") :
			       0;
	g = getgrnam(wanted ? wanted : QEMU_GROUP);
	if (!g)
		return wanted ? err_set(err, ERR_INVALID, "no such group: '%s'", wanted) : 0;
	*gid = g->gr_gid;
	return 1;
}

/* Appends a line; nbdkit's own words in front say nothing here. */
static void add_line(char *dst, size_t size, const char *line, size_t n)
{
	size_t used = strlen(dst), skip = 0;

	if (n > 8 && memcmp(line, "nbdkit: ", 8) == 0)
		skip = 8;
	if (n > skip + 7 && memcmp(line + skip, "error: ", 7) == 0)
		skip += 7;
	snprintf(dst + used, size - used, "%s%.*s", used ? "; " : "", (int)(n - skip), line + skip);
}

void run_log_tail(const char *path, char *dst, size_t size)
{
	cleanup_fd int fd = file_open(path, O_RDONLY, 0, NULL);
	uint64_t bytes = 0, from;
	char tail[LOG_TAIL_BYTES + 1];
	char *line, *next;
	ssize_t got;

	dst[0] = 0;
	if (fd < 0 || file_size(fd, &bytes, path, NULL) < 0)
		return;
	from = bytes > LOG_TAIL_BYTES ? bytes - LOG_TAIL_BYTES : 0;
	got = file_pread_some(fd, tail, LOG_TAIL_BYTES, from, path, NULL);
	if (got <= 0)
		return;
	tail[got] = 0;
	for (line = tail; *line; line = next) {
		size_t n = strcspn(line, "\n");

		next = line + n + (line[n] == '\n');
		/* a cut first line, and a child's debug output, are of no use */
		if (n && !(line == tail && from) && !strstr(line, ": debug: "))
			add_line(dst, size, line, n);
	}
}
