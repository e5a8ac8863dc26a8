// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Where records lie, and who holds one.
 *
 * A record lies in the folder of its overlay.  A repository that cannot be written has none: then it lies in
 * STATE/recoveries/ID/, STATE being LIVEPOINT_STATE_DIR, else /var/lib/livepoint for root, else
 * $XDG_STATE_HOME/livepoint (~/.local/state/livepoint).
 *
 * Invariants:
 *  1. The lock is on a file that is never replaced, so it outlives each record.
 *  2. A record is believed only in a folder of its own name: the overlay's, or the recovery's.
 */
#include "recover/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#include "base/banned.h"

#define ROOT_STATE "/var/lib/livepoint"
#define TICK_MS 20

void recovery_release(struct recovery *r)
{
	base_cleanup_fd(&r->lock_fd);
	recovery_record_release(&r->rec);
	free(r->folder);
	r->folder = NULL;
}

int repository_path(struct repo *repo, char **out, struct err *err)
{
	*out = realpath(repo_path(repo), NULL);
	return *out ? 0 : err_set_errno(err, ERR_IO, errno, "repository '%s'", repo_path(repo));
}

/* --- the state folder --- */

int state_folder(char **out, struct err *err)
{
	const char *given = getenv("LIVEPOINT_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"),
		   *home = getenv("HOME");

	if (given && *given && given[0] != '/')
		return err_set(err, ERR_USAGE,
			       "LIVEPOINT_STATE_DIR must be an absolute path, not '%s'", given);
	if (given && *given)
		*out = str_dup(given);
	else if (geteuid() == 0)
		*out = str_dup(ROOT_STATE);
	else if (xdg && xdg[0] == '/')
		*out = str_printf("%s/livepoint", xdg);
	else if (home && home[0] == '/')
		*out = str_printf("%s/.local/state/livepoint", home);
	else
		return err_set(err, ERR_INVALID,
			       "neither XDG_STATE_HOME nor HOME says where to keep state");
	return *out ? 0 : err_nomem(err, "state folder");
}

/* Makes each missing folder of an absolute path. */
static int make_path(char *path, mode_t mode, struct err *err)
{
	char *slash;
	int code = 0;

	for (slash = strchr(path + 1, '/'); slash && code >= 0; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		if (access(path, F_OK) < 0)
			code = dir_make(path, mode, "recover.folder.make", err);
		*slash = '/';
	}
	return code < 0 ? code : dir_make(path, mode, "recover.folder.make", err);
}

int state_subfolder(const char *name, char **out, struct err *err)
{
	cleanup_free char *state = NULL, *path = NULL;
	int code = state_folder(&state, err);

	if (code < 0)
		return code;
	path = str_printf("%s/%s", state, name);
	if (!path)
		return err_nomem(err, "path");
	code = make_path(path, geteuid() == 0 ? 0711 : 0700, err);
	if (code < 0)
		return err_prefix(err, "state folder");
	*out = steal_ptr(path);
	return 0;
}

/* --- the lock --- */

static int try_lock(const char *path, int *fd_out, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDWR | O_CREAT, 0600, err);
	struct stat st;
	int code;

	if (fd < 0)
		return fd;
	code = file_trylock(fd, path, err);
	if (code <= 0)
		return code;
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return err_set(err, ERR_NOT_FOUND, "the recovery was discarded just now");
	*fd_out = steal_fd(&fd);
	return 1;
}

int recovery_lock(struct recovery *r, unsigned wait_ms, struct err *err)
{
	cleanup_free char *path = str_printf("%s/%s", r->folder, RECORD_LOCK);
	unsigned waited = 0;
	int code;

	if (!path)
		return err_nomem(err, "path");
	while ((code = try_lock(path, &r->lock_fd, err)) == 0 && waited < wait_ms) {
		time_sleep_ms(TICK_MS);
		waited += TICK_MS;
	}
	if (code == 0)
		return err_set(err, ERR_LOCKED, "a command is at work on this recovery");
	return code < 0 ? code : 0;
}

bool recovery_is_locked(const char *folder)
{
	cleanup_free char *path = str_printf("%s/%s", folder, RECORD_LOCK);
	cleanup_fd int fd = path ? file_open(path, O_RDWR, 0, NULL) : -1;

	return fd >= 0 && file_trylock(fd, path, NULL) == 0;
}

/* --- the folders --- */

static char *overlay_folder(struct repo *repo, const char *overlay)
{
	return str_printf("%s/overlays/%s", repo_path(repo), overlay);
}

struct walk {
	struct repo *repo;
	const char *repository; /* absolute path */
	const char *root; /* STATE/recoveries */
	int (*fn)(void *opaque, const char *folder, const struct record *rec, struct err *err);
	void *opaque;
};

/* expected: what the folder is called, so what the record must say it is. */
static int walk_folder(const struct walk *w, const char *folder, const char *expected,
		       struct err *err)
{
	cleanup_record struct record rec = { 0 };
	struct err local = ERR_INIT;
	int code = recovery_record_read(folder, &rec, &local);

	if (code == ERR_NOT_FOUND)
		return 0;
	if (code < 0) {
		*err = local;
		return code;
	}
	if (strcmp(rec.overlay[0] ? rec.overlay : rec.id, expected) != 0)
		return err_set(err, ERR_DAMAGED, "'%s/%s' is of another recovery, '%s'", folder,
			       RECORD_FILE, rec.id);
	if (!rec.overlay[0] && strcmp(rec.repository, w->repository) != 0)
		return 0;
	return w->fn(w->opaque, folder, &rec, err);
}

static int walk_overlays(const struct walk *w, struct err *err)
{
	struct overlay_info *list = NULL;
	size_t count = 0, i;
	int code = repo_overlays(w->repo, &list, &count, err);

	for (i = 0; code == 0 && i < count; i++) {
		cleanup_free char *folder = overlay_folder(w->repo, list[i].id);

		code = folder ? walk_folder(w, folder, list[i].id, err) : err_nomem(err, "path");
	}
	overlay_infos_free(list, count);
	return code;
}

static int visit_state(void *opaque, const char *name, struct err *err)
{
	const struct walk *w = opaque;
	cleanup_free char *folder = NULL;

	if (!recovery_id_valid(name))
		return 0;
	folder = str_printf("%s/%s", w->root, name);
	return folder ? walk_folder(w, folder, name, err) : err_nomem(err, "path");
}

int recovery_each(struct repo *repo,
		  int (*fn)(void *opaque, const char *folder, const struct record *rec,
			    struct err *err),
		  void *opaque, struct err *err)
{
	cleanup_free char *repository = NULL, *state = NULL, *root = NULL;
	struct walk w = { .repo = repo, .fn = fn, .opaque = opaque };
	int code = repository_path(repo, &repository, err);

	if (code < 0)
		return code;
	w.repository = repository;
	code = walk_overlays(&w, err);
	if (code < 0)
		return code;
	code = state_folder(&state, err);
	if (code < 0)
		return code;
	root = str_printf("%s/recoveries", state);
	if (!root)
		return err_nomem(err, "path");
	w.root = root;
	return access(root, F_OK) < 0 ? 0 : dir_each(root, visit_state, &w, err);
}

/* --- finding one --- */

struct search {
	const char *which;
	char *folder; /* owned */
	unsigned found;
	char ids[ERR_TEXT_MAX / 2];
};

static int search_fn(void *opaque, const char *folder, const struct record *rec, struct err *err)
{
	struct search *s = opaque;
	size_t used = strlen(s->ids);

	if (strcmp(rec->id, s->which) != 0 && strcmp(rec->overlay, s->which) != 0 &&
	    strcmp(rec->domain, s->which) != 0)
		return 0;
	s->found++;
	snprintf(s->ids + used, sizeof(s->ids) - used, "%s%s", used ? ", " : "", rec->id);
	return text_copy(&s->folder, folder) ? 0 : err_nomem(err, "path");
}

int recovery_open(struct repo *repo, const char *which, unsigned wait_ms, struct recovery *out,
		  struct err *err)
{
	struct search s = { .which = which };
	cleanup_recovery struct recovery r = RECOVERY_INIT(repo);
	int code = recovery_each(repo, search_fn, &s, err);

	r.folder = s.folder;
	if (code < 0)
		return code;
	if (s.found != 1) {
		if (s.found == 0)
			err_set(err, ERR_NOT_FOUND, "no recovery '%s'", which);
		else
			err_set(err, ERR_AMBIGUOUS, "'%s' is several recoveries: %s", which, s.ids);
		return err_object(err, "%s", which);
	}
	code = recovery_lock(&r, wait_ms, err);
	if (code == 0)
		code = recovery_record_read(r.folder, &r.rec, err);
	if (code < 0) {
		err_prefix(err, "recovery '%s'", which);
		return err_object(err, "%s", which);
	}
	*out = r;
	r = (struct recovery)RECOVERY_INIT(repo);
	return 0;
}

int recovery_save(struct recovery *r, struct err *err)
{
	cleanup_free char *path = str_printf("%s/%s", r->folder, RECORD_FILE);
	cleanup_buf struct buf text = BUF_INIT;
	int code;

	if (!path)
		return err_nomem(err, "path");
	code = recovery_record_encode(&r->rec, &text, err);
	if (code < 0)
		return code;
	code = file_write_all(path, text.data, text.len, 0600, true, "recover.record", err);
	return code < 0 ? err_prefix(err, "recovery '%s'", r->rec.id) : 0;
}
