/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening a repository: livepoint.conf, keys, catalog connections, readers, the pool.
 *
 * 1. Nothing here makes a thread before repo_start().
 * 2. Catalog connections and readers are kept in small free lists: one thread at a time uses one.
 * 3. An encrypted repository without its key has a store that can look at footers, and `locked` is true.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/proc.h"
#include "repo/internal.h"

#include "base/banned.h"

static int read_conf(const char *path, struct conf *conf, struct err *err)
{
	cleanup_free char *file = str_printf("%s/livepoint.conf", path);
	cleanup_buf struct buf text = BUF_INIT;
	struct stat st;
	int r;

	if (!file)
		return err_nomem(err, "path of livepoint.conf");
	if (stat(path, &st) < 0)
		return err_set(err, ERR_NO_REPO, "no repository at '%s': %s", path,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_NO_REPO, "'%s' is not a repository: not a folder", path);
	r = file_read_all(file, CONF_MAX, &text, err);
	if (r == ERR_NOT_FOUND)
		return err_set(
			err, ERR_NO_REPO,
			"'%s' is not a repository: it has no livepoint.conf; make one with 'livepoint init'",
			path);
	if (r == 0)
		r = conf_decode(text.data, text.len, conf, err);
	return r < 0 ? err_prefix(err, "'%s'", file) : 0;
}

static int open_store(struct repo *r, struct err *err)
{
	struct store_spec spec = {
		.path = r->path,
		.keys = r->keys,
		.footer_cache = r->mode == REPO_WRITE ? FOOTER_CACHE_WRITE : FOOTER_CACHE_READ,
	};

	store_close(r->store);
	r->store = NULL;
	return store_open(&spec, &r->store, err);
}

bool repo_goes_unpinned(struct repo *r, int code, struct err *err)
{
	if (r->mode == REPO_WRITE ||
	    (code != ERR_IO && code != ERR_NOSPC && code != ERR_READONLY && code != ERR_UNKNOWN))
		return false;
	if (!atomic_exchange(&r->said_unpinned, true))
		log_warning("%s: restore points are read without a lease, and a prune could take "
			    "them away",
			    err ? err->text : "the catalog cannot be written");
	err_clear(err);
	return true;
}

/* Can a lease be taken here?  (bare: once there is a catalog)  That a catalog is missing, opening it says. */
static int may_write(const struct repo *r, bool bare, bool *may, struct err *err)
{
	cleanup_free char *catalog = str_printf("%s/catalog.sqlite", r->path);
	cleanup_free char *locks = str_printf("%s/locks", r->path);

	if (!catalog || !locks)
		return err_nomem(err, "path of the catalog");
	*may = (bare || access(catalog, W_OK) == 0 || errno == ENOENT) &&
	       access(locks, W_OK) == 0 && access(r->path, W_OK) == 0 &&
	       !path_is_readonly_fs(r->path);
	return 0;
}

static int refuse_key(void *opaque, const char *name, struct err *err)
{
	const struct repo *r = opaque;

	if (!str_ends(name, ".key"))
		return 0;
	return err_set(
		err, ERR_DAMAGED,
		"'%s/livepoint.conf' says that the repository is not encrypted, but there is "
		"'keys/%s': the file was changed, and backups would be readable by anyone",
		r->path, name);
}

/* The header is not sealed: who can write it could have backups stored as plaintext from then on. */
static int check_downgrade(struct repo *r, struct err *err)
{
	cleanup_free char *keys = str_printf("%s/keys", r->path);
	int ret;

	if (!keys)
		return err_nomem(err, "path of the keys");
	ret = r->conf.suite ? 0 : dir_each(keys, refuse_key, r, err);
	if (ret != ERR_NOT_FOUND)
		return ret;
	err_clear(err); /* a copy without empty folders */
	return 0;
}

static int open_parts(struct repo *r, bool bare, struct err *err)
{
	struct catalog *c;
	int ret = read_conf(r->path, &r->conf, err);

	if (ret == 0)
		ret = check_downgrade(r, err);
	if (ret < 0)
		return err_object(err, "%s", r->path);
	r->locked = r->conf.suite != 0;
	ret = codec_keys_plain(r->conf.uuid, &r->keys, err);
	if (ret == 0)
		ret = open_store(r, err);
	if (ret == 0)
		ret = may_write(r, bare, &r->pinnable, err);
	if (ret < 0)
		return ret;
	if (r->mode == REPO_WRITE && !r->pinnable)
		return err_set(err, ERR_READONLY,
			       "repository '%s' cannot be written (read-only, or no permission)",
			       r->path);
	if (bare)
		return 0;
	/* Proves that the catalog can be opened, and keeps the connection. */
	ret = repo_catalog_get(r, &c, err);
	if (ret < 0)
		return ret;
	repo_catalog_put(r, c);
	return 0;
}

static int open_any(const char *path, enum repo_mode mode, bool bare, struct repo **out,
		    struct err *err)
{
	struct repo *r = mem_alloc(sizeof(*r));
	int ret;

	if (!r)
		return err_nomem(err, "repository");
	r->mode = mode;
	r->lease_fd = -1;
	pthread_mutex_init(&r->lock, NULL);
	pthread_mutex_init(&r->lease_lock, NULL);
	pthread_mutex_init(&r->overlay_lock, NULL);
	pthread_cond_init(&r->overlay_changed, NULL);
	r->path = realpath(path, NULL);
	if (!r->path)
		ret = err_set(err, ERR_NO_REPO, "no repository at '%s': %s", path, strerror(errno));
	else
		ret = open_parts(r, bare, err);
	if (ret < 0) {
		repo_close(r);
		return ret;
	}
	*out = r;
	return 0;
}

int repo_open(const char *path, enum repo_mode mode, struct repo **out, struct err *err)
{
	return open_any(path, mode, false, out, err);
}

int repo_open_bare(const char *path, enum repo_mode mode, struct repo **out, struct err *err)
{
	int r = open_any(path, mode, true, out, err);

	if (r == 0 && mode == REPO_READ)
		(*out)->pinnable = false;
	return r;
}

static void end_lease(struct repo *r)
{
	struct catalog *c;

	if (!r->lease_token)
		return;
	if (repo_catalog_get(r, &c, NULL) == 0) {
		/* If it fails the lease is dead anyway, and the next sweep removes it. */
		(void)catalog_lease_end(c, r->lease_token, NULL);
		repo_catalog_put(r, c);
		(void)store_lock_remove(r->store, r->lease_name, NULL);
	}
	base_cleanup_fd(&r->lease_fd);
}

void repo_close(struct repo *r)
{
	if (!r)
		return;
	pool_free(r->pool);
	end_lease(r);
	while (r->nreaders)
		store_reader_free(r->readers[--r->nreaders]);
	while (r->ncatalogs)
		catalog_close(r->catalogs[--r->ncatalogs]);
	cache_free(r->chunks);
	cache_free(r->map);
	store_close(r->store);
	codec_keys_free(r->keys);
	pthread_mutex_destroy(&r->lock);
	pthread_mutex_destroy(&r->lease_lock);
	pthread_mutex_destroy(&r->overlay_lock);
	pthread_cond_destroy(&r->overlay_changed);
	free(r->path);
	free(r);
}

const struct conf *repo_conf(const struct repo *r)
{
	return &r->conf;
}

const char *repo_path(const struct repo *r)
{
	return r->path;
}

bool repo_is_locked(const struct repo *r)
{
	return r->locked;
}

int repo_need_key(const struct repo *r, struct err *err)
{
	if (!r->locked)
		return 0;
	err_set(err, ERR_KEY,
		"repository '%s' is encrypted and no passphrase was given (LIVEPOINT_PASSPHRASE_FILE, --passphrase-file)",
		r->path);
	err_object(err, "%s", r->path);
	return ERR_KEY;
}

/* --- keys --- */

int repo_use_keys(struct repo *r, struct codec_keys *keys, struct err *err)
{
	struct codec_keys *old = r->keys;
	int ret;

	if (codec_keys_suite(keys)->number != r->conf.suite) {
		codec_keys_free(keys);
		return err_set(err, ERR_DAMAGED,
			       "key and repository '%s' have different cipher suites", r->path);
	}
	while (r->nreaders)
		store_reader_free(r->readers[--r->nreaders]);
	store_close(r->store);
	r->store = NULL;
	r->keys = keys;
	codec_keys_free(old);
	ret = open_store(r, err);
	if (ret == 0)
		r->locked = false;
	return ret;
}

/* --- starting --- */

void *repo_worker_make(void *opaque)
{
	struct repo *r = opaque;
	struct repo_worker *w = mem_alloc(sizeof(*w));

	if (!w)
		return NULL;
	if (store_reader_new(r->store, &w->reader, NULL) < 0) {
		free(w);
		return NULL;
	}
	return w;
}

void repo_worker_drop(void *ctx)
{
	struct repo_worker *w = ctx;

	if (!w)
		return;
	store_reader_free(w->reader);
	free(w);
}

int repo_start(struct repo *r, uint64_t cache, uint32_t threads, struct err *err)
{
	struct pool_ctx_ops ops = { .make = repo_worker_make,
				    .drop = repo_worker_drop,
				    .opaque = r };
	int ret;

	if (r->started)
		return 0;
	ret = cache_new(cache ? cache : CHUNK_CACHE_DEFAULT, r->conf.chunk_size, &r->chunks, err);
	if (ret == 0)
		ret = cache_new(MAP_CACHE, 0, &r->map, err);
	if (ret < 0)
		return ret;
	if (threads == 0)
		threads = pool_default_threads();
	else if (threads == REPO_SERIAL)
		threads = 0;
	ret = pool_new(threads, &ops, &r->pool, err);
	r->started = ret == 0;
	return ret;
}

/* --- free lists --- */

int repo_catalog_get(struct repo *r, struct catalog **out, struct err *err)
{
	cleanup_free char *path = NULL;
	struct catalog *c = NULL;
	int ret;

	pthread_mutex_lock(&r->lock);
	if (r->ncatalogs)
		c = r->catalogs[--r->ncatalogs];
	pthread_mutex_unlock(&r->lock);
	if (c) {
		*out = c;
		return 0;
	}
	path = str_printf("%s/catalog.sqlite", r->path);
	if (!path)
		return err_nomem(err, "path of the catalog");
	ret = catalog_open(path, r->pinnable ? CATALOG_READ_WRITE : CATALOG_READ_ONLY, r->conf.uuid,
			   out, err);
	if (ret < 0 && r->pinnable && repo_goes_unpinned(r, ret, err))
		ret = catalog_open(path, CATALOG_READ_ONLY, r->conf.uuid, out, err);
	return ret;
}

void repo_catalog_put(struct repo *r, struct catalog *c)
{
	pthread_mutex_lock(&r->lock);
	/* Not one whose commit failed, nor one that was opened read-only in need: it may be a copy, which ages. */
	if (r->ncatalogs < ARRAY_SIZE(r->catalogs) && (catalog_can_write(c) || !r->pinnable)) {
		r->catalogs[r->ncatalogs++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	catalog_close(c);
}

int repo_reader_get(struct repo *r, struct store_reader **out, struct err *err)
{
	struct store_reader *reader = NULL;

	pthread_mutex_lock(&r->lock);
	if (r->nreaders)
		reader = r->readers[--r->nreaders];
	pthread_mutex_unlock(&r->lock);
	if (reader) {
		*out = reader;
		return 0;
	}
	return store_reader_new(r->store, out, err);
}

void repo_reader_put(struct repo *r, struct store_reader *reader)
{
	pthread_mutex_lock(&r->lock);
	if (r->nreaders < ARRAY_SIZE(r->readers)) {
		r->readers[r->nreaders++] = reader;
		reader = NULL;
	}
	pthread_mutex_unlock(&r->lock);
	store_reader_free(reader);
}

void repo_lease_describe(struct lease *l, enum lease_kind kind, const char *name)
{
	cleanup_buf struct buf boot = BUF_INIT;
	struct utsname u;

	l->kind = kind;
	str_copy(l->name, sizeof(l->name), name);
	if (uname(&u) == 0)
		str_copy(l->host, sizeof(l->host), u.nodename);
	l->pid = getpid();
	l->start_ticks = proc_start_ticks(getpid());
	l->since = time_now();
	if (file_read_all("/proc/sys/kernel/random/boot_id", 256, &boot, NULL) == 0 &&
	    boot.len >= 36) {
		buf_str(&boot)[0] ? str_copy(l->boot_id, 37, buf_str(&boot)) : false;
	}
}
