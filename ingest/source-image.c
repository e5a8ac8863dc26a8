// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Source: an image in a format of QEMU's (qcow2, vmdk, vhdx, vdi, vpc).
 *
 * How it works: the image is looked at first (what else does it name?), then served read-only by qemu-storage-daemon, or
 * qemu-nbd where that is missing, on a UNIX socket in a private folder, and read as NBD.  The helper dies with us; the folder
 * goes as soon as the one connection stands, so that even SIGKILL leaves nothing behind.
 *
 * Invariants:
 *  1. The format is what the user or the file name says, never probed: a guest can write an image's header to its raw disk.
 *  2. An image that names other files (backing file, data file, extents) is refused unless allow_backing: whoever made the
 *     image chose those names, and this program may read what he may not.
 *     qcow2's names are found by our own look at its header, before any program of QEMU opens them.
 *
 * Source: qemu docs/interop/qcow2.txt (header), qemu-img(1) info --output=json, qemu-storage-daemon(1).
 */
#include "ingest/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

#define IMAGE_INFO_MAX (16u << 20)
#define IMAGE_READY_MS 30000u
#define QCOW2_BACKING_AT 8
#define QCOW2_FEATURES_AT 72
#define QCOW2_DATA_FILE ((uint64_t)1 << 2)
#define QCOW2_LOOK 80

/* The server of one image. */
struct image_helper {
	char *dir, *socket, *pid_file, *log; /* owned */
	pid_t pid; /* 0: none */
};

static int refuse_foreign(const char *path, const char *what, const char *name, struct err *err)
{
	err_set(err, ERR_SOURCE, "image '%s' names a %s '%s': not followed without --allow-backing",
		path, what, name);
	return err_object(err, "%s", path);
}

/* Invariant 2, for qcow2. */
static int check_qcow2(const char *path, struct err *err)
{
	cleanup_fd int fd = file_open(path, O_RDONLY, 0, err);
	uint8_t head[QCOW2_LOOK];
	ssize_t got;

	if (fd < 0)
		return err_recode(err, ERR_SOURCE);
	got = file_pread_some(fd, head, sizeof(head), 0, path, err);
	if (got < 0)
		return err_recode(err, ERR_SOURCE);
	if ((size_t)got < sizeof(head) || memcmp(head, "QFI\xfb", 4) != 0) {
		err_set(err, ERR_SOURCE, "'%s' is no qcow2 image", path);
		return err_object(err, "%s", path);
	}
	if (get_be64(head + QCOW2_BACKING_AT))
		return refuse_foreign(path, "backing file", "(in its header)", err);
	if (get_be32(head + 4) >= 3 && (get_be64(head + QCOW2_FEATURES_AT) & QCOW2_DATA_FILE))
		return refuse_foreign(path, "data file", "(in its header)", err);
	return 0;
}

/* Invariant 2, by what qemu-img says. */
static int check_info(const char *path, const struct jval *info, struct err *err)
{
	const struct jval *data = jval_get(jval_get(info, "format-specific"), "data");
	const struct jval *extents = jval_get(data, "extents");
	const char *name = jval_as_str(jval_get(info, "backing-filename"));
	size_t i;

	if (name)
		return refuse_foreign(path, "backing file", name, err);
	name = jval_as_str(jval_get(data, "data-file"));
	if (name)
		return refuse_foreign(path, "data file", name, err);
	for (i = 0; i < jval_count(extents); i++) {
		char resolved[PATH_MAX];

		name = jval_as_str(jval_get(jval_at(extents, i), "filename"));
		if (!name || (realpath(name, resolved) && strcmp(resolved, path) == 0))
			continue;
		return refuse_foreign(path, "file", name, err);
	}
	return 0;
}

static int image_check(const char *path, const char *format, bool allow_backing, struct err *err)
{
	const char *argv[] = { "qemu-img", "info", "-U", "--output=json", "-f", format, path, NULL };
	cleanup_buf struct buf out = BUF_INIT;
	cleanup_ptr(jval) info = NULL;
	struct jval *parsed;
	int r;

	if (!allow_backing && strcmp(format, "qcow2") == 0) {
		r = check_qcow2(path, err);
		if (r < 0)
			return r;
	}
	r = proc_run(argv, &out, IMAGE_INFO_MAX, err);
	if (r < 0) {
		err_prefix(err, "image '%s' (%s)", path, format);
		return err_recode(err, ERR_SOURCE);
	}
	r = jval_parse((const char *)out.data, out.len, &parsed, err);
	if (r < 0)
		return err_prefix(err, "qemu-img info");
	info = parsed;
	return allow_backing ? 0 : check_info(path, info, err);
}

/* --- the helper --- */

static void helper_folder_remove(struct image_helper *h)
{
	struct err err = ERR_INIT;

	if (h->dir && dir_remove_flat(h->dir, NULL, &err) < 0)
		log_warning("%s", err.text);
	free(h->dir);
	h->dir = NULL;
}

static void helper_drop(void *opaque)
{
	struct image_helper *h = opaque;
	int status;

	if (!h)
		return;
	if (h->pid) {
		/* It has nothing to write: no need to ask politely. */
		kill(h->pid, SIGKILL);
		proc_wait(h->pid, &status, NULL);
	}
	helper_folder_remove(h);
	free(h->socket);
	free(h->pid_file);
	free(h->log);
	free(h);
}
static inline void base_cleanup_helper(struct image_helper **h)
{
	helper_drop(*h);
}

static struct image_helper *helper_new(struct err *err)
{
	__attribute__((cleanup(base_cleanup_helper))) struct image_helper *h =
		mem_alloc(sizeof(*h));
	const char *base = getenv("TMPDIR");
	cleanup_free char *dir = NULL;

	if (!base || base[0] != '/' || strlen(base) > 64) /* a socket's path has 107 bytes */
		base = "/tmp";
	dir = str_printf("%s/livepoint-image.XXXXXX", base);
	if (!h || !dir) {
		err_nomem(err, "an image's server");
		return NULL;
	}
	if (!mkdtemp(dir)) {
		err_set_errno(err, ERR_SOURCE, errno, "cannot make a private folder in '%s'", base);
		return NULL;
	}
	h->dir = steal_ptr(dir);
	h->socket = str_printf("%s/s", h->dir);
	h->pid_file = str_printf("%s/pid", h->dir);
	h->log = str_printf("%s/log", h->dir);
	if (!h->socket || !h->pid_file || !h->log) {
		err_nomem(err, "an image's server");
		return NULL;
	}
	return steal_ptr(h);
}

/* A block device of the daemon's as JSON, so that no comma in a file name means anything. */
static char *blockdev(const char *driver, const char *node, const char *key, const char *value)
{
	cleanup_ptr(jval) v = jval_object();
	cleanup_buf struct buf text = BUF_INIT;
	struct err err = ERR_INIT;

	jval_set(v, "driver", jval_str(driver));
	jval_set(v, "node-name", jval_str(node));
	jval_set(v, "read-only", jval_bool(true));
	jval_set(v, key, jval_str(value));
	if (jval_print(v, false, &text, &err) < 0)
		return NULL;
	return str_dup(buf_str(&text));
}

static int helper_spawn(struct image_helper *h, const char *const *argv, struct err *err)
{
	cleanup_fd int log = file_create(h->log, NULL, err);
	struct proc_spec spec = { .argv = argv, .in_fd = -1, .out_fd = -1, .die_with_parent = true };

	if (log < 0)
		return log;
	spec.err_fd = log;
	return proc_start(&spec, &h->pid, err);
}

static int helper_start(struct image_helper *h, const char *path, const char *format,
			struct err *err)
{
	cleanup_free char *file = blockdev("file", "f", "filename", path);
	cleanup_free char *image = blockdev(format, "i", "file", "f");
	cleanup_free char *server = str_printf("addr.type=unix,addr.path=%s", h->socket);
	const char *daemon[] = { "qemu-storage-daemon",
				 "--blockdev",
				 file,
				 "--blockdev",
				 image,
				 "--nbd-server",
				 server,
				 "--export",
				 "type=nbd,id=e,node-name=i,name=image",
				 "--pidfile",
				 h->pid_file,
				 NULL };
	const char *nbd[] = { "qemu-nbd",  "-r",    "-t", "-f",	     format,
			      "-x",	   "image", "-k", h->socket, "--pid-file",
			      h->pid_file, path,    NULL };

	if (!file || !image || !server)
		return err_nomem(err, "an image's server");
	return helper_spawn(h, proc_exists(daemon[0]) ? daemon : nbd, err);
}

/* The helper's last words. */
static int helper_failed(struct image_helper *h, const char *path, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT;
	char *line;

	(void)file_read_all(h->log, IMAGE_INFO_MAX, &text, NULL);
	while (text.len && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r'))
		text.len--;
	line = strrchr(buf_str(&text), '\n');
	err_set(err, ERR_SOURCE, "image '%s' cannot be opened: %s", path,
		line ? line + 1 : buf_str(&text));
	return err_object(err, "%s", path);
}

/* Both helpers write their pid file when their socket answers. */
static int helper_ready(struct image_helper *h, const char *path, const volatile int *stop,
			struct err *err)
{
	unsigned waited;
	struct stat st;

	for (waited = 0; waited < IMAGE_READY_MS; waited += 10) {
		siginfo_t info = { .si_pid = 0 };
		int r = ingest_stopped(stop, err);

		if (r < 0)
			return r;
		if (stat(h->pid_file, &st) == 0 && st.st_size > 0)
			return 0;
		if (waitid(P_PID, (id_t)h->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		    info.si_pid)
			return helper_failed(h, path, err);
		time_sleep_ms(10);
	}
	err_set(err, ERR_SOURCE, "image '%s': its server was not ready within 30 s", path);
	return err_object(err, "%s", path);
}

int source_image_open(const char *path, const char *format, bool allow_backing,
		      const volatile int *stop, struct source **out, struct err *err)
{
	__attribute__((cleanup(base_cleanup_helper))) struct image_helper *h = NULL;
	struct source_helper helper = { .drop = helper_drop };
	cleanup_free char *uri = NULL;
	char resolved[PATH_MAX]; /* absolute: "a:b" is a file here and a protocol to QEMU */
	int r;

	if (!realpath(path, resolved))
		return err_set_errno(err, ERR_SOURCE, errno, "cannot open image '%s'", path);
	r = image_check(resolved, format, allow_backing, err);
	if (r < 0)
		return r;
	h = helper_new(err);
	if (!h)
		return err && err->code ? err->code : ERR_SOURCE;
	r = helper_start(h, resolved, format, err);
	if (r == 0)
		r = helper_ready(h, path, stop, err);
	if (r < 0)
		return r;
	uri = str_printf("nbd+unix:///image?socket=%s", h->socket);
	if (!uri)
		return err_nomem(err, "an image's server");
	helper.opaque = h;
	r = source_nbd_open(uri, path, &helper, stop, out, err);
	if (r < 0)
		return r;
	helper_folder_remove(steal_ptr(h));
	if (strcmp(format, "vpc") == 0)
		(*out)->note = str_printf(
			"the format vpc knows sizes in cylinders: %llu bytes may be more than the disk "
			"had (zeroes at its end)",
			(unsigned long long)(*out)->size);
	return 0;
}
