// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Parameters of the plugin, and the way to the repository's key.
 *
 * nbdkit forks between .get_ready and .after_fork.  The repository is therefore opened twice: before, to say clearly
 * and early what is wrong (no repository, wrong passphrase, unknown point), and closed again; and after the fork, for
 * good.  What crosses the fork is plain memory: the key of 32 bytes and what point= was resolved to.
 *
 * Invariants:
 *  1. No SQLite handle, thread or child of ours exists when config_check() returns.
 *  2. Passphrases are wiped before config_check() returns, the key when config_open() has handed it on.
 *     Before they come, the process is closed to core dumps and debuggers.
 *  3. A secret comes by descriptor, file, command or environment, never as a parameter: argv is for all to read.
 */
#include "nbdkit-plugin/internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define PASSPHRASE_MAX (64 * KiB)

struct plugin_config plugin_config = {
	.cache = 256 * MiB,
	.key_fd = -1,
	.passphrase_fd = -1,
	.lock_fd = -1,
};

static int set_fd(const char *key, const char *value, int *fd)
{
	int n;

	if (nbdkit_parse_int(key, value, &n) == -1)
		return -1;
	if (n < 0 || fcntl(n, F_GETFD) < 0) {
		nbdkit_error("%s=%s: no such descriptor is open", key, value);
		return -1;
	}
	if (n <= STDERR_FILENO && !nbdkit_stdio_safe()) {
		nbdkit_error("%s=%s: standard input and output are the connection's", key, value);
		return -1;
	}
	/* The command of --run and other children have no business with it. */
	if (n > STDERR_FILENO)
		fcntl(n, F_SETFD, FD_CLOEXEC);
	*fd = n;
	return 0;
}

static int set_path(const char *value, char **path)
{
	char *full =
		nbdkit_absolute_path(value); /* nbdkit leaves the current folder when it forks */

	if (!full)
		return -1;
	free(*path);
	*path = full;
	return 0;
}

static int set_cache(const char *value)
{
	int64_t n = nbdkit_parse_size(value);

	if (n == -1)
		return -1;
	if (n < (int64_t)MiB) {
		nbdkit_error("cache=%s: at least 1M is needed", value);
		return -1;
	}
	plugin_config.cache = (uint64_t)n;
	return 0;
}

int config_parameter(const char *key, const char *value)
{
	struct plugin_config *c = &plugin_config;

	if (strcmp(key, "repo") == 0)
		return set_path(value, &c->repo);
	if (strcmp(key, "passphrase-file") == 0)
		return set_path(value, &c->passphrase_file);
	if (strcmp(key, "key-fd") == 0)
		return set_fd(key, value, &c->key_fd);
	if (strcmp(key, "passphrase-fd") == 0)
		return set_fd(key, value, &c->passphrase_fd);
	if (strcmp(key, "lock-fd") == 0)
		return set_fd(key, value, &c->lock_fd);
	if (strcmp(key, "cache") == 0)
		return set_cache(value);
	if (strcmp(key, "point") == 0) {
		c->point = *value ? value : NULL;
		return 0;
	}
	if (strcmp(key, "overlay") == 0) {
		c->overlay = *value ? value : NULL;
		return 0;
	}
	nbdkit_error("unknown parameter '%s'; 'nbdkit livepoint --help' lists them", key);
	return -1;
}

/* --- secrets --- */

static void secret_release(struct buf *b)
{
	mem_wipe(b->data, b->cap);
	buf_release(b);
}
#define cleanup_secret __attribute__((cleanup(secret_release)))

/* Reads to the end, at most max bytes.  All room is taken at once, so that growing leaves no copies behind. */
static int read_secret(int fd, const char *what, size_t max, struct buf *out, struct err *err)
{
	if (!buf_reserve(out, max + 1))
		return err_nomem(err, what);
	while (out->len <= max) {
		ssize_t got =
			file_read_some(fd, out->data + out->len, max + 1 - out->len, what, err);

		if (got < 0)
			return (int)got;
		if (got == 0)
			return 0;
		out->len += (size_t)got;
	}
	return err_set(err, ERR_KEY, "%s: more than %zu bytes", what, max);
}

static int read_key(struct err *err)
{
	struct plugin_config *c = &plugin_config;
	cleanup_secret struct buf b = BUF_INIT;
	int r = read_secret(c->key_fd, "key-fd", sizeof(c->key), &b, err);

	if (c->key_fd > STDERR_FILENO)
		close(steal_fd(&c->key_fd));
	if (r < 0)
		return r;
	if (b.len == 0 || b.len % KEY_LEN != 0)
		return err_set(err, ERR_KEY, "key-fd: %zu bytes came, a repository key has %d",
			       b.len, KEY_LEN);
	memcpy(c->key, b.data, b.len);
	c->key_len = b.len;
	return 0;
}

static int passphrase_from_fd(int fd, const char *what, struct buf *out, struct err *err)
{
	int r = read_secret(fd, what, PASSPHRASE_MAX, out, err);

	if (fd > STDERR_FILENO)
		close(fd);
	return r;
}

static int passphrase_from_file(const char *path, struct buf *out, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDONLY, 0, err);

	if (fd < 0)
		return err_prefix(err, "passphrase file");
	return read_secret(fd, path, PASSPHRASE_MAX, out, err);
}

static int passphrase_from_command(const char *command, struct buf *out, struct err *err)
{
	const char *const argv[] = { "/bin/sh", "-c", command, NULL };

	if (!buf_reserve(out, PASSPHRASE_MAX + 1))
		return err_nomem(err, "passphrase");
	return proc_run(argv, out, PASSPHRASE_MAX, err) < 0 ?
		       err_prefix(err, "passphrase command") :
		       0;
}

/* An empty variable is an unset one. */
static const char *environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static int passphrase_from_environment(struct buf *out, struct err *err)
{
	const char *value = environment("LIVEPOINT_PASSPHRASE_FD");
	uint64_t fd;

	if (value) {
		if (!parse_u64(value, &fd) || fd > INT32_MAX)
			return err_set(err, ERR_KEY,
				       "LIVEPOINT_PASSPHRASE_FD: '%s' is not a descriptor", value);
		return passphrase_from_fd((int)fd, "LIVEPOINT_PASSPHRASE_FD", out, err);
	}
	value = environment("LIVEPOINT_PASSPHRASE_FILE");
	if (value)
		return passphrase_from_file(value, out, err);
	value = environment("LIVEPOINT_PASSPHRASE_COMMAND");
	if (value)
		return passphrase_from_command(value, out, err);
	value = environment("LIVEPOINT_PASSPHRASE");
	if (!value)
		return err_set(
			err, ERR_KEY,
			"the repository is encrypted and no passphrase was given: use passphrase-file=, "
			"passphrase-fd= or the environment (nbdkit-livepoint-plugin(1))");
	if (!buf_reserve(out, strlen(value) + 1))
		return err_nomem(err, "passphrase");
	buf_put(out, value, strlen(value));
	return 0;
}

/* First found wins; one trailing newline is dropped. */
static int read_passphrase(struct buf *out, struct err *err)
{
	struct plugin_config *c = &plugin_config;
	int r;

	if (c->passphrase_fd >= 0)
		r = passphrase_from_fd(steal_fd(&c->passphrase_fd), "passphrase-fd", out, err);
	else if (c->passphrase_file)
		r = passphrase_from_file(c->passphrase_file, out, err);
	else
		r = passphrase_from_environment(out, err);
	if (r < 0)
		return r;
	if (out->len && out->data[out->len - 1] == '\n')
		out->len--;
	return 0;
}

static int unlock(struct repo *r, struct err *err)
{
	struct plugin_config *c = &plugin_config;
	cleanup_secret struct buf passphrase = BUF_INIT;
	int code;

	if (!repo_is_locked(r)) /* what was given for nothing is not read */
		return 0;
	proc_hide_memory();
	(void)!mlock(c->key,
		     sizeof(c->key)); /* there may be no room for it: then it can be swapped */
	if (c->key_fd >= 0) {
		code = read_key(err);
		if (code == 0)
			code = repo_unlock_raw(r, c->key, c->key_len, err);
	} else {
		code = read_passphrase(&passphrase, err);
		if (code == 0)
			code = repo_unlock(r, passphrase.data, passphrase.len, false, err);
		if (code == 0)
			code = repo_export_key(r, c->key, &c->key_len, err);
	}
	if (code < 0)
		mem_wipe(c->key, sizeof(c->key));
	c->has_key = code == 0;
	return code;
}

/* --- point= and overlay= --- */

static bool has_disk(const struct manifest *m, const char *disk)
{
	size_t i;

	for (i = 0; i < m->ndisks; i++)
		if (strcmp(m->disks[i].name, disk) == 0)
			return true;
	return false;
}

static int resolve_point(struct repo *r, const char *point, struct serving *s, struct err *err)
{
	__attribute__((cleanup(repo_spec_release))) struct repo_spec spec = { 0 };
	int code = repo_resolve(r, point, &spec, err);

	if (code < 0)
		return err_prefix(err, "point=%s", point);
	if (spec.disk[0] && !has_disk(spec.row.m, spec.disk))
		return err_set(err, ERR_NOT_FOUND, "point=%s: the point has no disk '%s'", point,
			       spec.disk);
	s->scope = spec.latest ? SCOPE_LATEST : SCOPE_POINT;
	memcpy(s->id, spec.row.id, sizeof(s->id));
	str_copy(s->name, sizeof(s->name), spec.row.m->name);
	str_copy(s->disk, sizeof(s->disk), spec.disk);
	if (spec.latest)
		snprintf(s->text, sizeof(s->text), "%s@latest", s->name);
	else
		repo_point_text(spec.row.m, s->text);
	return 0;
}

/* The overlay is attached after the fork only: its lock must be the server's. */
static int resolve_overlay(struct repo *r, const char *text, struct serving *s, struct err *err)
{
	struct overlay_info *info = NULL;
	char what[NAME_MAX_LEN + 1];
	const char *disk;
	bool has = false;
	size_t i;
	int code;

	if (!overlay_name_split(text, what, sizeof(what), &disk))
		return err_set(err, ERR_NOT_FOUND, "overlay=%s: no overlay has such a name", text);
	code = repo_overlay_find(r, what, &info, err);
	if (code < 0)
		return err_prefix(err, "overlay=%s", text);
	for (i = 0; i < info->ndisks; i++)
		has = has || strcmp(info->disks[i].name, disk) == 0;
	s->scope = SCOPE_OVERLAY;
	str_copy(s->overlay, sizeof(s->overlay), info->id);
	str_copy(s->text, sizeof(s->text), info->id);
	str_copy(s->disk, sizeof(s->disk), disk);
	overlay_infos_free(info, 1);
	if (*disk && !has)
		return err_set(err, ERR_NOT_FOUND, "overlay=%s: the overlay has no disk '%s'", text,
			       disk);
	return 0;
}

int config_check(struct err *err)
{
	struct plugin_config *c = &plugin_config;
	cleanup_ptr(repo) r = NULL;
	int code;

	if (!c->repo)
		return err_set(err, ERR_USAGE, "repo=DIR is needed: the folder of the repository");
	if (c->point && c->overlay)
		return err_set(err, ERR_USAGE, "point= and overlay= exclude each other");
	code = repo_open(c->repo, REPO_READ, &r, err);
	if (code == 0)
		code = unlock(r, err);
	if (code < 0)
		return err_prefix(err, "repository '%s'", c->repo);
	if (c->overlay)
		return resolve_overlay(r, c->overlay, &c->serving, err);
	return c->point ? resolve_point(r, c->point, &c->serving, err) : 0;
}

int config_open(struct repo **out, struct err *err)
{
	struct plugin_config *c = &plugin_config;
	cleanup_ptr(repo) r = NULL;
	int code = repo_open(c->repo, REPO_READ, &r, err);

	if (code == 0 && c->has_key)
		code = repo_unlock_raw(r, c->key, c->key_len, err);
	mem_wipe(c->key, sizeof(c->key));
	c->has_key = false;
	if (code == 0)
		code = repo_start(r, c->cache, 0, err);
	if (code < 0)
		return err_prefix(err, "repository '%s'", c->repo);
	*out = steal_ptr(r);
	return 0;
}

void config_release(void)
{
	struct plugin_config *c = &plugin_config;

	mem_wipe(c->key, sizeof(c->key));
	free(c->repo);
	free(c->passphrase_file);
	c->repo = c->passphrase_file = NULL;
}
