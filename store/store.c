/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening the data folders, lock files, and the staging folders of sessions.
 *
 * 1. A lock file is locked before anybody can read its name in a lease, and its inode is compared after locking, so
 *    that a file which a sweeper removed in between is not mistaken for a held one.
 * 2. A stage makes its folder once; when it is missing later, the session was ended from outside (ERR_FENCED).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "store/internal.h"

#include "base/banned.h"

static const char *const folders[] = { "keys", "packs", "index", "overlays", "staging", "locks" };

static int no_flock(const char *repo, struct err *err)
{
	return err_set(err, ERR_UNSUPPORTED,
		       "the file system of '%s' has no working flock(2), which leases need", repo);
}

/* 1: who has the lock by one descriptor keeps it from another one; 0: not. */
static int lock_excludes(const char *path, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDONLY, 0, err);
	int r = fd < 0 ? fd : file_trylock(fd, path, err);

	return r < 0 ? r : !r;
}

static int probe_lock(const char *repo, const char *path, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDONLY, 0, err);
	int r = fd < 0 ? fd : file_trylock(fd, path, err);

	if (r == 1)
		r = lock_excludes(path, err);
	if (r == 0 || r == ERR_IO)
		return no_flock(repo, err);
	return r < 0 ? r : 0;
}

static int probe_file(const char *repo, const char *path, struct err *err)
{
	cleanup_fd int fd = file_create(path, "store.init.probe", err);
	int r = fd < 0 ? fd : file_pwrite(fd, "probe", 5, 0, path, "store.init.write", err);

	if (r < 0)
		return r;
	r = file_datasync(fd, path, "store.init.sync", err);
	return r < 0 ? err_prefix(err, "the file system of '%s' cannot make files durable", repo) :
		       0;
}

static int probe_rename(const char *repo, const char *from, const char *to, struct err *err)
{
	struct err local = ERR_INIT;
	int r = file_rename_new(from, to, "store.init.rename", err);

	if (r < 0)
		return err_prefix(
			err, "'%s' needs one file system for staging/ and packs/, with renameat2",
			repo);
	r = probe_file(repo, from, err);
	if (r < 0)
		return r;
	r = file_rename_new(from, to, NULL, &local);
	if (r == 0)
		return err_set(err, ERR_UNSUPPORTED,
			       "the file system of '%s' replaces a file by a rename that must not",
			       repo);
	(void)file_unlink(from, NULL, NULL);
	if (r == ERR_EXISTS)
		return 0;
	if (err)
		*err = local;
	return r;
}

/* Probes what the protocol rests on: files that can be made durable, rename without replacing from staging/ to packs/, and
 * flock that excludes.  What stays after a failure goes with the folders. */
static int probe(const char *repo, struct err *err)
{
	cleanup_free char *from = str_printf("%s/staging/probe", repo);
	cleanup_free char *to = str_printf("%s/packs/probe", repo);
	int r;

	if (!from || !to)
		return err_nomem(err, "probe of the file system");
	r = probe_file(repo, from, err);
	if (r == 0)
		r = probe_rename(repo, from, to, err);
	if (r == 0)
		r = probe_lock(repo, to, err);
	if (r == 0)
		r = file_unlink(to, NULL, err);
	return r < 0 ? r : 0;
}

/* After a power cut the probe's names must not come back: what lies in staging/ is a session's. */
static int sync_probed(const char *repo, struct err *err)
{
	static const char *const probed[] = { "staging", "packs" };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(probed) && r == 0; i++) {
		cleanup_free char *path = str_printf("%s/%s", repo, probed[i]);

		if (!path)
			return err_nomem(err, "path of a folder");
		r = dir_sync(path, "store.init.dirsync", err);
	}
	return r < 0 ? err_prefix(err, "the file system of '%s' cannot make names durable", repo) :
		       0;
}

int store_make_folders(const char *repo_path, struct err *err)
{
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		cleanup_free char *path = str_printf("%s/%s", repo_path, folders[i]);

		if (!path)
			return err_nomem(err, "path of a folder");
		r = dir_make(path, 0700, "store.init.folder", err);
		if (r < 0)
			return r;
	}
	r = probe(repo_path, err);
	return r < 0 ? r : sync_probed(repo_path, err);
}

/* A history of many small increments lies in as many packs, so the bound matters for random reads. */
static unsigned fds_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return PACK_FDS_MIN;
	return (unsigned)MAX(MIN(limit.rlim_cur / 2, PACK_FDS_MAX), PACK_FDS_MIN);
}

int store_open(const struct store_spec *spec, struct store **out, struct err *err)
{
	struct store *s = mem_alloc(sizeof(*s));
	int r;

	if (!s)
		return err_nomem(err, "store");
	s->keys = spec->keys;
	memcpy(s->uuid, codec_keys_uuid(spec->keys), UUID_LEN);
	s->fds_max = fds_max();
	s->footer_cache = spec->footer_cache ? spec->footer_cache : 32 * MiB;
	s->path = str_dup(spec->path);
	r = s->path ? backend_dir_open(spec->path, &s->backend, err) : err_nomem(err, "store");
	if (r < 0) {
		free(s->path);
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->loaded, NULL);
	*out = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	store_drop_cache(s);
	pthread_cond_destroy(&s->loaded);
	pthread_mutex_destroy(&s->lock);
	backend_close(s->backend);
	free(s->path);
	free(s);
}

/* --- locks --- */

static char *lock_path(struct store *s, const char *name)
{
	return str_printf("%s/locks/%s", s->path, name);
}

static int lock_make_once(struct store *s, char name[64], int *out, struct err *err)
{
	uint8_t random[16];
	char hex[33];
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	struct stat by_fd, by_path;
	int r;

	random_bytes(random, sizeof(random));
	hex_encode(hex, random, sizeof(random));
	path = lock_path(s, hex);
	if (!path)
		return err_nomem(err, "path of a lock file");
	fd = file_create(path, "store.lock.create", err);
	if (fd < 0)
		return fd;
	r = file_trylock(fd, path, err);
	if (r < 0)
		return r;
	/* The repository may have moved to another file system since it was made. */
	if (r == 1 && stat(path, &by_path) == 0) {
		r = lock_excludes(path, err);
		if (r == ERR_NOT_FOUND)
			return 0;
		if (r <= 0)
			return r < 0 ? r : no_flock(s->path, err);
	}
	if (r == 0 || fstat(fd, &by_fd) < 0 || stat(path, &by_path) < 0 ||
	    by_fd.st_ino != by_path.st_ino)
		return 0;
	str_copy(name, 64, hex);
	*out = steal_fd(&fd);
	return 1;
}

int store_lock_make(struct store *s, char name[64], int *fd, struct err *err)
{
	/* A sweeper may take and remove the file between creation and lock: then another name. */
	for (int i = 0; i < 100; i++) {
		int r = lock_make_once(s, name, fd, err);

		if (r)
			return r < 0 ? r : 0;
	}
	return err_set(err, ERR_IO, "cannot make a lock file in '%s/locks'", s->path);
}

/* Names of locks come out of the catalog too, which nothing protects: one that leads out of locks/ is no file's there. */
static bool lock_name_fits(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

/* 1: *fd has the lock now; 0: somebody holds it; ERR_NOT_FOUND. */
static int lock_take(struct store *s, const char *name, int *fd, struct err *err)
{
	cleanup_free char *path = lock_path(s, name);
	int r;

	if (!lock_name_fits(name))
		return err_set(err, ERR_NOT_FOUND, "'%s' is no name of a lock file", name);
	if (!path)
		return err_nomem(err, "path of a lock file");
	r = file_open(path, O_RDONLY, 0, err);
	if (r < 0)
		return r;
	*fd = r;
	return file_trylock(*fd, path, err);
}

int store_lock_held(struct store *s, const char *name, struct err *err)
{
	cleanup_fd int fd = -1;
	int r = lock_take(s, name, &fd, err);

	if (r == ERR_NOT_FOUND) {
		err_clear(err);
		return 0;
	}
	return r < 0 ? r : !r;
}

int store_lock_remove(struct store *s, const char *name, struct err *err)
{
	cleanup_free char *path = lock_path(s, name);
	int r;

	if (!lock_name_fits(name))
		return 0;
	if (!path)
		return err_nomem(err, "path of a lock file");
	r = file_unlink(path, "store.lock.remove", err);
	return r < 0 ? r : 0;
}

int store_lock_sweep(struct store *s, const char *name, struct err *err)
{
	cleanup_fd int fd = -1;
	int r = lock_take(s, name, &fd, err);

	if (r == ERR_NOT_FOUND) {
		err_clear(err);
		return 0;
	}
	/* Removed under the lock: who has made the file and not locked it yet fails to, or finds it gone afterwards. */
	return r == 1 ? store_lock_remove(s, name, err) : r;
}

int store_locks_each(struct store *s, int (*fn)(void *opaque, const char *name, struct err *err),
		     void *opaque, struct err *err)
{
	cleanup_free char *path = str_printf("%s/locks", s->path);

	if (!path)
		return err_nomem(err, "path of the lock files");
	return dir_each(path, fn, opaque, err);
}

/* --- stages --- */

/* Of the mount that a folder lies on; 0: unknown. */
static uint64_t mount_of(const struct store *s, const char *folder)
{
	cleanup_free char *path = str_printf("%s/%s", s->path, folder);
	struct statx st;

	if (!path || statx(AT_FDCWD, path, 0, STATX_MNT_ID, &st) < 0 ||
	    !(st.stx_mask & STATX_MNT_ID))
		return 0;
	return st.stx_mnt_id;
}

/* A rename does not lead from one mount to another, not even of one file system: better said before a disk was read. */
static int check_mounts(const struct store *s, struct err *err)
{
	static const char *const others[] = { "packs", "index" };
	uint64_t staging = mount_of(s, "staging");

	for (size_t i = 0; i < ARRAY_SIZE(others) && staging; i++) {
		uint64_t mount = mount_of(s, others[i]);

		if (mount && mount != staging)
			return err_set(err, ERR_UNSUPPORTED,
				       "'%s/%s' is not on the same mount as '%s/staging': no file "
				       "can be renamed from there; mount the repository as a whole",
				       s->path, others[i], s->path);
	}
	return 0;
}

int store_stage_begin(struct store *s, uint64_t token, struct store_stage **out, struct err *err)
{
	struct store_stage *st;
	int r = check_mounts(s, err);

	if (r < 0)
		return r;
	st = mem_alloc(sizeof(*st));
	if (!st)
		return err_nomem(err, "stage");
	st->store = s;
	st->token = token;
	r = s->backend->ops->stage_make(s->backend, token, err);
	if (r < 0) {
		free(st);
		return r;
	}
	*out = st;
	return 0;
}

int store_stage_sync(struct store_stage *st, struct err *err)
{
	struct backend *b = st->store->backend;

	for (unsigned low = 0; low < 256; low++) {
		int r;

		if (!(st->folders[low / 64] >> (low % 64) & 1))
			continue;
		r = b->ops->folder_sync(b, BACKEND_PACK, low, err);
		if (r < 0)
			return r;
		st->folders[low / 64] &= ~((uint64_t)1 << (low % 64));
	}
	if (st->index) {
		int r = b->ops->folder_sync(b, BACKEND_SEGMENT, 0, err);

		if (r < 0)
			return r;
		st->index = false;
	}
	return 0;
}

int store_stage_end(struct store_stage *st, struct err *err)
{
	struct store *s = st->store;
	uint64_t token = st->token;

	free(st);
	return store_stage_remove(s, token, err);
}

void store_stage_abandon(struct store_stage *st)
{
	free(st);
}

int store_stage_remove(struct store *s, uint64_t token, struct err *err)
{
	return s->backend->ops->stage_remove(s->backend, token, err);
}

struct stages_each {
	int (*fn)(void *opaque, uint64_t token, struct err *err);
	void *opaque;
};

static int stage_name(void *opaque, const char *name, struct err *err)
{
	struct stages_each *e = opaque;
	uint64_t token;

	/* Harms nobody where it is: no reason to keep backups from running. */
	if (!parse_u64(name, &token)) {
		log_warning("'staging/%s' is no folder of a repository; move it away", name);
		return 0;
	}
	return e->fn(e->opaque, token, err);
}

int store_stages_each(struct store *s, int (*fn)(void *opaque, uint64_t token, struct err *err),
		      void *opaque, struct err *err)
{
	cleanup_free char *path = str_printf("%s/staging", s->path);
	struct stages_each e = { .fn = fn, .opaque = opaque };

	if (!path)
		return err_nomem(err, "path of the staging folder");
	return dir_each(path, stage_name, &e, err);
}

/* --- whole files --- */

int store_pack_remove(struct store *s, uint64_t number, struct err *err)
{
	int r = s->backend->ops->remove(s->backend, BACKEND_PACK, number, err);

	/* Its space comes back only when no descriptor is left. */
	if (r == 1)
		store_pack_forget(s, number);
	return r;
}

int store_pack_folder_sync(struct store *s, uint64_t number, struct err *err)
{
	int r = s->backend->ops->folder_sync(s->backend, BACKEND_PACK, number, err);

	if (r == ERR_NOT_FOUND) {
		err_clear(err);
		return 0;
	}
	return r;
}

int store_segment_remove(struct store *s, uint64_t number, struct err *err)
{
	return s->backend->ops->remove(s->backend, BACKEND_SEGMENT, number, err);
}

int store_segment_folder_sync(struct store *s, struct err *err)
{
	return s->backend->ops->folder_sync(s->backend, BACKEND_SEGMENT, 0, err);
}

struct number_list {
	uint64_t *numbers;
	size_t count, cap;
};

static int number_add(void *opaque, uint64_t number, struct err *err)
{
	struct number_list *l = opaque;

	if (l->count == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		uint64_t *p = mem_realloc_array(l->numbers, cap, sizeof(*p));

		if (!p)
			return err_nomem(err, "list of files");
		l->numbers = p;
		l->cap = cap;
	}
	l->numbers[l->count++] = number;
	return 0;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int list_numbers(struct store *s, enum backend_kind kind, uint64_t **numbers, size_t *count,
			struct err *err)
{
	struct number_list l = { 0 };
	int r = s->backend->ops->each(s->backend, kind, false, number_add, &l, err);

	if (r < 0) {
		free(l.numbers);
		return r;
	}
	if (l.count)
		qsort(l.numbers, l.count, sizeof(*l.numbers), compare_numbers);
	*numbers = l.numbers;
	*count = l.count;
	return 0;
}

int store_packs_list(struct store *s, uint64_t **numbers, size_t *count, struct err *err)
{
	return list_numbers(s, BACKEND_PACK, numbers, count, err);
}

static int number_max(void *opaque, uint64_t number, struct err *err)
{
	uint64_t *newest = opaque;

	(void)err;
	*newest = MAX(*newest, number);
	return 0;
}

int store_packs_newest(struct store *s, uint64_t *number, struct err *err)
{
	uint64_t newest = 0;
	int r = s->backend->ops->each(s->backend, BACKEND_PACK, true, number_max, &newest, err);

	if (r == 0)
		*number = newest;
	return r;
}

int store_segments_list(struct store *s, uint64_t **numbers, size_t *count, struct err *err)
{
	return list_numbers(s, BACKEND_SEGMENT, numbers, count, err);
}
