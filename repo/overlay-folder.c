// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The folder of an overlay: lock, header, who has it attached, error, and its removal.
 *
 * 1. The lock is flock on the file `lock`, which is never replaced.  Who has it looks whether the path still leads to the file that
 *    he locked: who removes the folder removes it under the lock.
 * 2. The header is replaced as a whole, durably.
 * 3. Of a folder that goes the header goes first: nothing takes what is left for an overlay.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "repo/overlay-life-internal.h"

#include "base/banned.h"

#define HEADER_PURPOSE "overlay header"
#define ATTACHED_MAX 512u
#define LOCK_TRIES 10u /* others hold it for a moment, to see whether somebody does */
#define LOCK_WAIT_MS 30u

char *overlay_path(const struct repo *r, const char *id, const char *file)
{
	return str_printf("%s/overlays%s%s%s%s", r->path, id ? "/" : "", id ? id : "",
			  file ? "/" : "", file ? file : "");
}

/* --- the file system --- */

/* Those that take writes into a cache of their own and may find only at a sync, or at close, that there is no room.  Numbers of
 * statfs(2). */
static const struct {
	uint32_t magic;
	const char *name;
} unsafe_fs[] = {
	{ 0x6969, "nfs" },	  { 0x517b, "smb" },	 { 0xff534d42, "cifs" },
	{ 0xfe534d42, "smb2" },	  { 0x01021997, "9p" },	 { 0x65735546, "fuse" },
	{ 0x00c36400, "ceph" },	  { 0x5346414f, "afs" }, { 0x73757245, "coda" },
	{ 0x0bd00bd0, "lustre" },
};

int overlay_fs_check(const struct repo *r, struct err *err)
{
	cleanup_free char *path = overlay_path(r, NULL, NULL);
	struct statfs st;
	uint32_t type;

	if (!path)
		return err_nomem(err, "path of the overlays");
	if (statfs(path, &st) < 0)
		return err_set_errno(err, ERR_IO, errno, "statfs '%s'", path);
	type = (uint32_t)fault_number("repo.overlay.fs", (uint32_t)st.f_type);
	for (size_t i = 0; i < ARRAY_SIZE(unsafe_fs); i++) {
		if (type != unsafe_fs[i].magic)
			continue;
		err_set(err, ERR_UNSUPPORTED,
			"'%s' is on a file system (%s) that may take a write and have no room for "
			"it later: writable views need a local one",
			path, unsafe_fs[i].name);
		return err_object(err, "%s", path);
	}
	return 0;
}

/* --- the lock --- */

static int locked(const struct repo *r, const char *id, struct err *err)
{
	int64_t pid = 0;

	(void)overlay_attached(r, id, &pid);
	if (pid)
		err_set(err, ERR_LOCKED,
			"overlay '%s' is attached by process %" PRId64
			"; end that first ('livepoint exports', 'livepoint unexport')",
			id, pid);
	else
		err_set(err, ERR_LOCKED, "overlay '%s' is in use by another command; try again",
			id);
	return err_object(err, "%s", id);
}

static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int overlay_lock(struct repo *r, const char *id, int *fd, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, "lock");

	if (!path)
		return err_nomem(err, "path of an overlay");
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		cleanup_fd int f = file_open(path, O_RDWR | O_CREAT, 0600, err);
		int got = f < 0 ? f : file_trylock(f, path, err);

		if (got < 0)
			return err_object(err, "%s", id);
		if (got == 1 && same_file(f, path)) {
			*fd = steal_fd(&f);
			return 0;
		}
		time_sleep_ms(LOCK_WAIT_MS);
	}
	return locked(r, id, err);
}

int overlay_lock_make(struct repo *r, const char *folder, int *fd, struct err *err)
{
	cleanup_free char *path = overlay_path(r, folder, "lock");
	cleanup_fd int f = path ? file_create(path, "overlay.lock.create", err) :
				  err_nomem(err, "path of an overlay");
	int got = f < 0 ? f : file_trylock(f, path, err);

	if (got < 0)
		return got;
	if (got == 0)
		return err_set(err, ERR_LOCKED, "somebody holds the new '%s'", path);
	*fd = steal_fd(&f);
	return 0;
}

int overlay_lock_held(struct repo *r, const char *id, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, "lock");
	cleanup_fd int fd = path ? file_open(path, O_RDONLY, 0, err) :
				   err_nomem(err, "path of an overlay");
	int got;

	if (fd == ERR_NOT_FOUND) {
		err_clear(err);
		return 0;
	}
	got = fd < 0 ? fd : file_trylock(fd, path, err);
	return got < 0 ? got : !got;
}

/* --- attached --- */

bool overlay_attached(const struct repo *r, const char *id, int64_t *pid)
{
	cleanup_free char *path = overlay_path(r, id, "attached");
	cleanup_buf struct buf text = BUF_INIT;
	const char *at;

	if (!path || file_read_all(path, ATTACHED_MAX, &text, NULL) < 0)
		return path && access(path, F_OK) == 0;
	at = strstr(buf_str(&text), " pid ");
	if (pid)
		*pid = at ? strtoll(at + 5, NULL, 10) : 0;
	return true;
}

int overlay_attached_write(const struct repo *r, const char *id, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, "attached");
	cleanup_fd int fd = -1;
	char text[ATTACHED_MAX], since[TIME_TEXT_MAX];
	struct utsname u;

	if (!path)
		return err_nomem(err, "path of an overlay");
	if (uname(&u) < 0)
		u.nodename[0] = '\0';
	time_format(since, time_now());
	snprintf(text, sizeof(text), "%.200s pid %ld since %s\n", u.nodename, (long)getpid(),
		 since);
	/* Not synced: it tells of a holder that died, and after a power cut nothing is in the page cache anyway. */
	fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, err);
	return fd < 0 ? fd :
			file_pwrite(fd, text, strlen(text), 0, path, "overlay.attached.write", err);
}

int overlay_attached_remove(const struct repo *r, const char *id, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, "attached");
	int ret = path ? file_unlink(path, "overlay.attached.remove", err) :
			 err_nomem(err, "path of an overlay");

	return MIN(ret, 0);
}

/* --- error --- */

bool overlay_error_is(const struct repo *r, const char *id)
{
	cleanup_free char *path = overlay_path(r, id, "error");

	return !path || access(path, F_OK) == 0 || errno != ENOENT;
}

void overlay_error_set(const struct repo *r, const char *id, const char *why)
{
	cleanup_free char *path = overlay_path(r, id, "error");
	struct err err = ERR_INIT;

	log_error("overlay '%s' is in error from now on: %s", id, why);
	if (!path || file_write_all(path, why, strlen(why), 0600, true, "overlay.error", &err) < 0)
		log_error("%s: a restart will not know of it", path ? err.text : "out of memory");
}

int overlay_error_clear(const struct repo *r, const char *id, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, "error");
	cleanup_free char *folder = overlay_path(r, id, NULL);
	int ret = path && folder ? file_unlink(path, "overlay.error.remove", err) :
				   err_nomem(err, "path of an overlay");

	return ret <= 0 ? ret : dir_sync(folder, "overlay.error.dirsync", err);
}

int overlay_in_error(const char *id, struct err *err)
{
	err_set(err, ERR_IO,
		"overlay '%s' is in error: writes to its files have failed; 'livepoint overlays "
		"--check %s' tells what can be read, 'livepoint discard %s' throws it away",
		id, id, id);
	return err_object(err, "%s", id);
}

/* --- the header --- */

static int header_check(const struct repo *r, const char *id, const uint8_t *p, size_t n,
			const struct overlay_header *h, struct err *err)
{
	uint8_t mac[ID_LEN];
	int ret;

	if (memcmp(h->uuid, r->conf.uuid, UUID_LEN) != 0)
		return err_set(err, ERR_DAMAGED, "it belongs to another repository");
	if (strcmp(h->id, id) != 0)
		return err_set(err, ERR_DAMAGED, "it is the header of overlay '%s'", h->id);
	if (h->suite != r->conf.suite)
		return err_set(err, ERR_DAMAGED, "its cipher suite is %u, the repository's %u",
			       h->suite, r->conf.suite);
	if (!h->suite)
		return 0;
	ret = repo_need_key(r, err);
	if (ret == 0)
		ret = codec_mac(r->keys, HEADER_PURPOSE, p, n - OVERLAY_HEADER_TAIL, mac, err);
	if (ret == 0 && memcmp(mac, h->mac, ID_LEN) != 0)
		ret = err_set(err, ERR_DAMAGED, "its MAC is wrong: it was changed");
	return ret;
}

int overlay_header_load(const struct repo *r, const char *id, struct overlay_header *out,
			struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, "header");
	cleanup_buf struct buf bytes = BUF_INIT;
	struct overlay_header h = { 0 };
	int ret = path ? file_read_all(path, OVERLAY_HEADER_MAX, &bytes, err) :
			 err_nomem(err, "path of an overlay");

	if (ret == ERR_TOO_BIG)
		ret = err_recode(err, ERR_DAMAGED);
	if (ret < 0)
		return ret;
	ret = overlay_header_decode(bytes.data, bytes.len, &h, err);
	if (ret == 0)
		ret = header_check(r, id, bytes.data, bytes.len, &h, err);
	if (ret < 0) {
		overlay_header_release(&h);
		err_prefix(err, "'%s'", path);
		return err_object(err, "%s", id);
	}
	*out = h;
	return 0;
}

int overlay_header_store(const struct repo *r, const char *folder, const struct overlay_header *h,
			 struct err *err)
{
	cleanup_free char *path = overlay_path(r, folder, "header");
	cleanup_buf struct buf bytes = BUF_INIT;
	uint8_t mac[ID_LEN];
	int ret = path ? overlay_header_encode(h, &bytes, err) :
			 err_nomem(err, "path of an overlay");

	if (ret == 0 && h->suite)
		ret = codec_mac(r->keys, HEADER_PURPOSE, bytes.data, bytes.len, mac, err);
	if (ret < 0)
		return ret;
	overlay_header_seal(&bytes, h->suite ? mac : NULL);
	if (bytes.failed)
		return err_nomem(err, "header of an overlay");
	return file_write_all(path, bytes.data, bytes.len, 0600, true, "overlay.header", err);
}

/* --- strays --- */

/* Number of the layer that a file belongs to; 0: it is none of a layer. */
static uint64_t layer_of(const char *name)
{
	static const char *const endings[] = { ".data", ".log", ".log.tmp", ".live" };
	char stem[DISK_NAME_MAX_LEN + 16];
	uint64_t n = 0;
	char *dot;

	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		size_t len = strlen(name), end = strlen(endings[i]);

		if (!str_ends(name, endings[i]) || len - end >= sizeof(stem))
			continue;
		memcpy(stem, name, len - end);
		stem[len - end] = '\0';
		dot = strrchr(stem, '.');
		return dot && parse_u64(dot + 1, &n) ? n : 0;
	}
	return 0;
}

struct strays {
	const struct repo *repo;
	const struct overlay_header *header;
};

static int stray_remove(void *opaque, const char *name, struct err *err)
{
	const struct strays *s = opaque;
	uint64_t layer = layer_of(name);
	cleanup_free char *path = NULL;
	int ret;

	if (!str_starts(name, "header.tmp-") && !str_starts(name, "error.tmp-") &&
	    (!layer || (layer >= s->header->first && layer <= s->header->last)))
		return 0;
	path = overlay_path(s->repo, s->header->id, name);
	ret = path ? file_unlink(path, "overlay.stray.remove", err) :
		     err_nomem(err, "path of an overlay");
	return MIN(ret, 0);
}

int overlay_strays_remove(const struct repo *r, const struct overlay_header *h, struct err *err)
{
	cleanup_free char *path = overlay_path(r, h->id, NULL);
	struct strays s = { r, h };

	return path ? dir_each(path, stray_remove, &s, err) : err_nomem(err, "path of an overlay");
}

int overlay_reconcile(const struct repo *r, const struct overlay_row *row, struct overlay_header *h,
		      struct err *err)
{
	struct err local = ERR_INIT;
	int ret = 0;

	if (row->layer < h->first || row->layer > h->last ||
	    (row->layer == h->first && memcmp(row->point, h->point, POINT_ID_LEN) != 0)) {
		err_set(err, ERR_DAMAGED,
			"overlay '%s': the catalog says layer %u, the header layers %u to %u%s",
			row->id, row->layer, h->first, h->last,
			row->layer == h->first ? " of another restore point" : "");
		return err_object(err, "%s", row->id);
	}
	if (row->layer > h->first) {
		uint32_t first = h->first;
		uint8_t point[POINT_ID_LEN];

		memcpy(point, h->point, POINT_ID_LEN);
		h->first = row->layer;
		memcpy(h->point, row->point, POINT_ID_LEN);
		ret = overlay_header_store(r, h->id, h, err);
		if (ret < 0) {
			h->first = first;
			memcpy(h->point, point, POINT_ID_LEN);
			return ret;
		}
	}
	if (overlay_strays_remove(r, h, &local) < 0)
		log_warning("%s; it is tried again when the overlay is attached", local.text);
	return 0;
}

/* --- the whole --- */

int overlay_folder_remove(const struct repo *r, const char *folder, struct err *err)
{
	cleanup_free char *path = overlay_path(r, folder, NULL);
	cleanup_free char *header = overlay_path(r, folder, "header");
	cleanup_free char *all = overlay_path(r, NULL, NULL);
	int ret;

	if (!path || !header || !all)
		return err_nomem(err, "path of an overlay");
	if (access(path, F_OK) == 0) {
		ret = file_unlink(header, "overlay.remove.header", err);
		if (ret > 0)
			ret = dir_sync(path, "overlay.remove.header-sync", err);
		if (ret >= 0)
			ret = dir_remove_flat(path, "overlay.remove.folder", err);
		if (ret < 0)
			return ret;
	}
	/* Also when it was gone: who removed it may not have come to his sync. */
	return dir_sync(all, "overlay.remove.sync", err);
}

int overlay_folder_bytes(const struct repo *r, const char *id, uint64_t *bytes, struct err *err)
{
	cleanup_free char *path = overlay_path(r, id, NULL);
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *e;
	struct stat st;
	uint64_t sum = 0;

	if (!path)
		return err_nomem(err, "path of an overlay");
	if (!dir && errno != ENOENT)
		return err_set_errno(err, ERR_IO, errno, "open folder '%s'", path);
	while (dir && (e = readdir(dir)))
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_blocks * 512;
	if (dir)
		closedir(dir);
	*bytes = sum;
	return 0;
}

int overlay_folders_each(const struct repo *r,
			 int (*fn)(void *opaque, const char *name, struct err *err), void *opaque,
			 struct err *err)
{
	cleanup_free char *path = overlay_path(r, NULL, NULL);

	if (!path)
		return err_nomem(err, "path of the overlays");
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return 0;
	return dir_each(path, fn, opaque, err);
}
