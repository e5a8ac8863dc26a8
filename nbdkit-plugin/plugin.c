// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * nbdkit plugin: the disks of every restore point as read-only NBD exports, those of overlays as writable ones;
 * nbdkit-livepoint-plugin(1).
 *
 * Life: .config and .config_complete check everything that can be wrong (config.c), nbdkit forks, .after_fork opens
 * the repository and, for a server of one point or overlay, that.  A connection is a point, a disk and a stream for
 * read-ahead, or an overlay and a view of a disk; the cache of decoded chunks is the repository's and shared by all.
 * Requests are in requests.c.
 *
 * Invariants:
 *  1. Before .after_fork there is no thread and no SQLite handle; after it `server` does not change until .cleanup, so
 *     that callbacks need no lock of ours (PARALLEL).
 *  2. A server of one point keeps that point pinned from .after_fork to .cleanup, one of an overlay keeps that attached; a
 *     server of the whole repository has an overlay attached while a connection to it is open.
 *  3. nbdkit that was told to end does not call .close any more: .cleanup closes what is open then, after all threads of
 *     connections have ended.  Without that an overlay would not be flushed at the end of its server.
 *  4. Multi-conn is advertised only when the export's name can never mean another point.
 */
#include "nbdkit-plugin/internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "base/log.h"

#include "base/banned.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct {
	struct repo *repo;
	struct repo_point *pinned; /* SCOPE_POINT */
	struct repo_overlay *attached; /* SCOPE_OVERLAY */
	pthread_mutex_t lock; /* of the list */
	struct connection *open;
} server = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void log_line(void *opaque, enum log_level level, const char *line)
{
	(void)opaque;
	if (level == LOG_LEVEL_ERROR)
		nbdkit_error("%s", line);
	else if (level == LOG_LEVEL_WARNING)
		nbdkit_error("warning: %s", line);
	else
		nbdkit_debug("%s", line);
}

/* --- the server --- */

static void plugin_load(void)
{
	log_set_sink(log_line, NULL, LOG_LEVEL_DEBUG);
}

static void plugin_unload(void)
{
	config_release();
}

static int plugin_config_complete(void)
{
	struct err err = ERR_INIT;

	return config_check(&err) < 0 ? request_failed(&err) : 0;
}

static int plugin_get_ready(void)
{
	const struct serving *s = &plugin_config.serving;

	nbdkit_debug("repository '%s', %s%s%s", plugin_config.repo,
		     s->scope == SCOPE_ALL ? "all points and overlays" : s->text,
		     s->disk[0] ? "/" : "", s->disk);
	return 0;
}

/* A server of `livepoint export` dies with its supervisor, which alone could find it.  nbdkit, which takes a handed-over
 * socket for a sign of that (--exit-with-parent), has asked for SIGTERM, and would then wait for clients. */
static void bind_to_supervisor(void)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		nbdkit_error("warning: the server may outlive its supervisor: %m");
}

static int plugin_after_fork(void)
{
	const struct serving *s = &plugin_config.serving;
	struct err err = ERR_INIT;

	if (plugin_config.lock_fd >= 0)
		bind_to_supervisor();
	if (config_open(&server.repo, &err) < 0)
		return request_failed(&err);
	if (s->scope == SCOPE_POINT &&
	    repo_point_open(server.repo, s->id, &server.pinned, &err) < 0)
		return request_failed(&err);
	if (s->scope == SCOPE_OVERLAY &&
	    repo_overlay_attach(server.repo, s->overlay, &server.attached, &err) < 0)
		return request_failed(&err);
	return 0;
}

static void connection_free(struct connection *c);

static void plugin_cleanup(void)
{
	while (server.open)
		connection_free(server.open);
	if (server.pinned)
		repo_point_close(server.pinned);
	if (server.attached)
		repo_overlay_detach(server.attached);
	if (server.repo)
		repo_close(server.repo);
	server.pinned = NULL;
	server.attached = NULL;
	server.repo = NULL;
}

static void plugin_dump(void)
{
	printf("livepoint_version=%s\n", PACKAGE_VERSION);
	printf("livepoint_format=%d\n", FORMAT_VERSION);
	printf("livepoint_features_incompatible=%#llx\n",
	       (unsigned long long)FEATURES_INCOMPATIBLE);
	printf("livepoint_ciphers=none aes-256-gcm\n");
	printf("livepoint_exports=disks\n");
	printf("livepoint_writable=yes\n");
}

/* --- exports --- */

static int plugin_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
	struct err err = ERR_INIT;

	(void)readonly;
	(void)is_tls;
	return export_list(server.repo, &plugin_config.serving, exports, &err) < 0 ?
		       request_failed(&err) :
		       0;
}

/* Where there is no only disk the name stays empty, and .open says why it is refused. */
static const char *plugin_default_export(int readonly, int is_tls)
{
	struct err err = ERR_INIT;
	char name[EXPORT_NAME_MAX];

	(void)readonly;
	(void)is_tls;
	/* Without point= the name stays empty too, so that the connection is not taken for a lasting one. */
	if (plugin_config.serving.scope == SCOPE_ALL ||
	    export_default(server.repo, &plugin_config.serving, name, &err) < 0)
		return "";
	return nbdkit_strdup_intern(name);
}

static const char *plugin_export_description(void *handle)
{
	return ((struct connection *)handle)->description;
}

/* --- a connection --- */

static void connection_enter(struct connection *c)
{
	pthread_mutex_lock(&server.lock);
	c->after = server.open;
	if (c->after)
		c->after->before = c;
	server.open = c;
	pthread_mutex_unlock(&server.lock);
}

static void connection_leave(struct connection *c)
{
	pthread_mutex_lock(&server.lock);
	if (c->before)
		c->before->after = c->after;
	else if (server.open == c)
		server.open = c->after;
	if (c->after)
		c->after->before = c->before;
	pthread_mutex_unlock(&server.lock);
}

static void connection_free(struct connection *c)
{
	connection_leave(c);
	if (c->stream)
		repo_stream_free(c->stream);
	if (c->disk)
		repo_disk_close(c->disk);
	if (c->point)
		repo_point_close(c->point);
	if (c->view)
		repo_view_close(c->view);
	if (c->overlay)
		repo_overlay_detach(c->overlay);
	free(c);
}
DEFINE_CLEANUP(connection, connection_free)

static int open_overlay(const struct export_target *t, struct connection *c, struct err *err)
{
	int code = repo_overlay_attach(server.repo, t->overlay, &c->overlay, err);

	if (code == 0)
		code = repo_view_open(c->overlay, t->disk, &c->view, err);
	str_copy(c->description, sizeof(c->description), t->overlay_text);
	return code;
}

static int connection_open(const char *name, struct connection *c, struct err *err)
{
	struct export_target t;
	int code = export_find(server.repo, &plugin_config.serving, name, &t, err);

	if (code < 0)
		return code;
	c->fixed = t.fixed;
	if (t.overlay[0])
		return open_overlay(&t, c, err);
	code = repo_point_open(server.repo, t.id, &c->point, err);
	if (code == 0)
		code = repo_disk_open(c->point, t.disk[0] ? t.disk : NULL, &c->disk, err);
	if (code == 0)
		code = repo_stream_new(c->disk, &c->stream, err);
	if (code < 0)
		return code;
	export_describe(repo_point_manifest(c->point), repo_disk_info(c->disk), c->description);
	return 0;
}

static void *plugin_open(int readonly)
{
	cleanup_ptr(connection) c = mem_alloc(sizeof(*c));
	const char *name = nbdkit_export_name();
	struct err err = ERR_INIT;

	(void)readonly;
	if (!name)
		return NULL;
	if (!c) {
		err_nomem(&err, "connection");
		request_failed(&err);
		return NULL;
	}
	if (connection_open(name, c, &err) < 0) {
		request_failed(&err);
		return NULL;
	}
	connection_enter(c);
	return steal_ptr(c);
}

static void plugin_close(void *handle)
{
	connection_free(handle);
}

static int64_t plugin_get_size(void *handle)
{
	struct connection *c = handle;

	return (int64_t)(c->view ? repo_view_size(c->view) : repo_disk_size(c->disk));
}

static int plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
			     uint32_t *maximum)
{
	struct connection *c = handle;

	*minimum = 1;
	*preferred = c->view ? OVERLAY_BLOCK : repo_disk_chunk_size(c->disk);
	*maximum =
		UINT32_MAX; /* the largest that nbdkit takes; it has a bound of its own for one request */
	return 0;
}

/* Also of flush, trim, zero and fast zero: all that an overlay's disk has and a point's has not. */
static int plugin_can_write(void *handle)
{
	return ((struct connection *)handle)->view != NULL;
}

static int plugin_can_fua(void *handle)
{
	return plugin_can_write(handle) ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

static int plugin_can_multi_conn(void *handle)
{
	return ((struct connection *)handle)->fixed;
}

static int plugin_can_extents(void *handle)
{
	(void)handle;
	return 1;
}

static int plugin_can_cache(void *handle)
{
	(void)handle;
	return NBDKIT_CACHE_NATIVE;
}

static int plugin_is_rotational(void *handle)
{
	(void)handle;
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "livepoint",
	.longname = "Livepoint restore points",
	.version = PACKAGE_VERSION,
	.description =
		"Serves the disks of the restore points in a Livepoint repository, read-only, as NAME@TIME/DISK or\n"
		"NAME@latest/DISK, and its overlays, writable, as OVERLAY/DISK.",
	.magic_config_key = "repo",
	.config_help =
		"[repo=]DIR           (required) Folder of the repository.\n"
		"point=POINT[/DISK]   Serve only this point, or this disk of it.\n"
		"overlay=ID[/DISK]    Serve only this overlay (id or name), or this disk of it, writable.\n"
		"cache=SIZE           Memory for decoded chunks (default: 256M).\n"
		"passphrase-file=FILE File with the passphrase of an encrypted repository.\n"
		"passphrase-fd=N      Read the passphrase from this descriptor.\n"
		"key-fd=N             Read the repository's keys (32 bytes each) from this descriptor.\n"
		"lock-fd=N            Keep this descriptor open (for livepoint export).",
	.load = plugin_load,
	.unload = plugin_unload,
	.dump_plugin = plugin_dump,
	.config = config_parameter,
	.config_complete = plugin_config_complete,
	.get_ready = plugin_get_ready,
	.after_fork = plugin_after_fork,
	.cleanup = plugin_cleanup,
	.list_exports = plugin_list_exports,
	.default_export = plugin_default_export,
	.export_description = plugin_export_description,
	.open = plugin_open,
	.close = plugin_close,
	.get_size = plugin_get_size,
	.block_size = plugin_block_size,
	.can_write = plugin_can_write,
	.can_flush = plugin_can_write,
	.can_trim = plugin_can_write,
	.can_zero = plugin_can_write,
	.can_fast_zero = plugin_can_write,
	.can_fua = plugin_can_fua,
	.can_multi_conn = plugin_can_multi_conn,
	.can_extents = plugin_can_extents,
	.can_cache = plugin_can_cache,
	.is_rotational = plugin_is_rotational,
	.pread = request_pread,
	.pwrite = request_pwrite,
	.zero = request_zero,
	.trim = request_trim,
	.flush = request_flush,
	.cache = request_cache,
	.extents = request_extents,
	.errno_is_preserved = 0, /* errors are set by request_failed() */
};

NBDKIT_REGISTER_PLUGIN(plugin)
