// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Where a migration leads: --to and --format made into one target a disk, which the record keeps; the files and volumes made,
 * and removed when the migration is taken back.
 *
 * --to FILE (one disk), DIR (DIR/GUEST-DISK.FORMAT), pool:NAME (volume GUEST-DISK.FORMAT), nbd:URI (one disk), or a block device
 * (one disk, raw).
 *
 * Invariants:
 *  1. What stood at a target before is never written over: it is looked for before the record says that the target is ours.
 *  2. A target that the record names, and says was to be made, is ours: made again after a kill, removed when taken back.
 */
#include "recover/internal.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"

#include "base/banned.h"

#define POOL "pool:"
#define NBD "nbd:"

/* --- NBD URIs: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md --- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The first n bytes with %XX decoded; owned by the caller; NULL: a wrong %XX, or no memory. */
static char *uri_decode(const char *s, size_t n)
{
	char *out = mem_alloc(n + 1);
	size_t i, k = 0;

	for (i = 0; out && i < n; i++, k++) {
		int high = -1, low = -1;

		if (s[i] != '%') {
			out[k] = s[i];
			continue;
		}
		if (i + 2 < n) {
			high = hex_digit(s[i + 1]);
			low = hex_digit(s[i + 2]);
		}
		if (high < 0 || low < 0 || (high == 0 && low == 0)) {
			free(out);
			return NULL;
		}
		out[k] = (char)(high << 4 | low);
		i += 2;
	}
	return out;
}

static bool parse_host(const char *s, size_t n, struct target *t)
{
	const char *colon = n ? memrchr(s, ':', n) : NULL;
	uint64_t port = 10809;
	char text[8] = "";

	if (colon && memchr(colon, ']', n - (size_t)(colon - s)))
		colon = NULL; /* of an IPv6 address */
	if (colon) {
		size_t digits = n - (size_t)(colon + 1 - s);

		if (digits < 1 || digits >= sizeof(text))
			return false;
		memcpy(text, colon + 1, digits);
		if (!parse_u64(text, &port) || port < 1 || port > 65535)
			return false;
		n = (size_t)(colon - s);
	}
	if (n > 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	}
	t->port = (unsigned)port;
	t->host = n ? uri_decode(s, n) : NULL;
	return t->host != NULL;
}

int target_uri(const char *uri, struct target *t, struct err *err)
{
	static const char tcp[] = "nbd://", local[] = "nbd+unix:///", key[] = "socket=";
	const char *at = uri, *end;

	if (str_starts(at, tcp)) {
		at += strlen(tcp);
		end = at + strcspn(at, "/?");
		if (!parse_host(at, (size_t)(end - at), t))
			at = NULL;
		else
			at = *end == '/' ? end + 1 : end;
	} else if (str_starts(at, local)) {
		at += strlen(local);
	} else {
		at = NULL;
	}
	if (at) {
		end = at + strcspn(at, "?");
		t->export_name = uri_decode(at, (size_t)(end - at));
		if (!t->host && *end == '?' && str_starts(end + 1, key)) {
			end += 1 + strlen(key);
			t->socket = uri_decode(end, strcspn(end, "&"));
		}
	}
	if (!at || !t->export_name || (!t->host && (!t->socket || !*t->socket)))
		return err_set(err, ERR_USAGE,
			       "'%s' should look like nbd://HOST[:PORT]/EXPORT or "
			       "nbd+unix:///EXPORT?socket=PATH",
			       uri);
	t->kind = VIRT_TARGET_NBD;
	return 0;
}

/* --- from the record to a target --- */

void target_release(struct target *t)
{
	free(t->host);
	free(t->socket);
	free(t->export_name);
	memset(t, 0, sizeof(*t));
}

int target_of(const struct record *rec, const struct record_disk *d, struct target *t,
	      struct err *err)
{
	memset(t, 0, sizeof(*t));
	t->path = d->moved_to;
	t->format = rec->format ? rec->format : "raw";
	t->kind = d->moved_block ? VIRT_TARGET_BLOCK : VIRT_TARGET_FILE;
	if (d->moved_to && str_starts(d->moved_to, NBD) && rec->to && str_starts(rec->to, NBD))
		return target_uri(d->moved_to + strlen(NBD), t, err);
	return d->moved_to ? 0 : err_set(err, ERR_INTERNAL, "disk '%s' has no target", d->name);
}

/* --- choosing --- */

static bool is_image_name(const char *path, const char *format)
{
	return strcmp(format, "raw") == 0 ? str_ends(path, ".raw") || str_ends(path, ".img") :
					    str_ends(path, ".qcow2");
}

/* raw for what is called so, else qcow2. */
static const char *format_of(const char *to, const char *asked)
{
	if (asked)
		return asked;
	return is_image_name(to, "raw") || str_starts(to, NBD) ? "raw" : "qcow2";
}

static int choose_path(const struct record *rec, const struct stat *st, bool there,
		       struct record_disk *d, struct err *err)
{
	cleanup_free char *path = NULL;
	const char *base;
	int fd;

	if (there && S_ISBLK(st->st_mode)) {
		d->moved_block = true;
		return text_copy(&d->moved_to, rec->to) ? 0 : err_nomem(err, "target");
	}
	path = there && S_ISDIR(st->st_mode) ?
		       str_printf("%s/%s-%s.%s", rec->to, rec->domain, d->name, rec->format) :
		       str_dup(rec->to);
	if (!path)
		return err_nomem(err, "target");
	base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	if (str_starts(base, rec->id)) /* what is called so goes with the recovery */
		return err_set(err, ERR_INVALID,
			       "'%s' begins with the recovery's id: name it otherwise", path);
	/* Empty, and ours from now on: two migrations cannot have one target. */
	fd = file_create(path, "recover.target.create", err);
	if (fd == ERR_EXISTS)
		return err_set(err, ERR_EXISTS,
			       "'%s' is there already: remove it, or name another target", path);
	if (fd < 0)
		return fd;
	close(fd);
	free(d->moved_to);
	d->moved_to = steal_ptr(path);
	return 0;
}

static int check_target(const struct record *rec, const struct stat *st, bool there,
			struct err *err)
{
	bool many = str_starts(rec->to, POOL) || (there && S_ISDIR(st->st_mode));

	if (strcmp(rec->format, "raw") != 0 && strcmp(rec->format, "qcow2") != 0)
		return err_set(err, ERR_USAGE, "format '%s' is neither raw nor qcow2", rec->format);
	if (!many && rec->ndisks > 1)
		return err_set(err, ERR_USAGE,
			       "guest '%s' has %zu disks: name a folder, or pool:NAME, not '%s'",
			       rec->domain, rec->ndisks, rec->to);
	if ((str_starts(rec->to, NBD) || (there && S_ISBLK(st->st_mode))) &&
	    strcmp(rec->format, "raw") != 0)
		return err_set(err, ERR_USAGE, "'%s' takes format raw", rec->to);
	if (there && !S_ISDIR(st->st_mode) && !S_ISBLK(st->st_mode))
		return err_set(err, ERR_EXISTS,
			       "'%s' is there already: remove it, or name another target", rec->to);
	return 0;
}

static int choose_one(const struct record *rec, const struct stat *st, bool there,
		      struct record_disk *d, struct err *err)
{
	struct target t;
	int code;

	if (str_starts(rec->to, POOL)) {
		free(d->moved_to);
		d->moved_to = str_printf("%s-%s.%s", rec->domain, d->name, rec->format);
		return d->moved_to ? 0 : err_nomem(err, "target");
	}
	if (!str_starts(rec->to, NBD))
		return choose_path(rec, st, there, d, err);
	if (!text_copy(&d->moved_to, rec->to))
		return err_nomem(err, "target");
	code = target_of(rec, d, &t, err);
	target_release(&t);
	return code;
}

int targets_choose(struct record *rec, const char *to, const char *format, struct err *err)
{
	const char *chosen;
	struct stat st = { 0 };
	char *full = NULL;
	bool there, other;
	size_t i;
	int code;

	other = str_starts(to, POOL) || str_starts(to, NBD);
	there = !other && stat(to, &st) == 0;
	chosen = there && S_ISBLK(st.st_mode) && !format ? "raw" : format_of(to, format);
	if (!other && to[0] != '/') { /* libvirt has another working folder */
		cleanup_free char *here = getcwd(NULL, 0);

		full = here ? str_printf("%s/%s", here, to) : NULL;
		if (!full)
			return err_nomem(err, "target");
	}
	if (!text_copy(&rec->to, full ? full : to) || !text_copy(&rec->format, chosen)) {
		free(full);
		return err_nomem(err, "target");
	}
	free(full);
	code = check_target(rec, &st, there, err);
	for (i = 0; code == 0 && i < rec->ndisks; i++)
		code = choose_one(rec, &st, there, &rec->disks[i], err);
	return code;
}

/* --- making --- */

static int make_file(const struct record *rec, const struct record_disk *d, struct err *err)
{
	cleanup_free char *size = str_printf("%llu", (unsigned long long)d->size);
	const char *const argv[] = { "qemu-img",  "create",    "-q", "-f",
				     rec->format, d->moved_to, size, NULL };
	cleanup_buf struct buf out = BUF_INIT;
	struct stat st;

	if (!size)
		return err_nomem(err, "target");
	/* an empty one is what targets_choose() made */
	if (stat(d->moved_to, &st) == 0 && st.st_size > 0)
		return 0;
	return proc_run(argv, &out, 4096, err);
}

static int make_volume(const struct record *rec, struct record_disk *d, struct virt *v,
		       struct err *err)
{
	const char *pool = rec->to + strlen(POOL);
	cleanup_free char *name = str_dup(d->moved_to), *path = NULL;
	bool block = false;
	int code;

	if (!name)
		return err_nomem(err, "target");
	if (strchr(name, '/')) /* made by an earlier try: the record has its path */
		return 0;
	code = virt_volume_create(v, pool, name, rec->format, d->size, &path, &block, err);
	if (code < 0)
		return code;
	free(d->moved_to);
	d->moved_to = steal_ptr(path);
	d->moved_block = block;
	return 0;
}

int targets_make(struct recovery *r, struct virt *v, struct err *err)
{
	struct record *rec = &r->rec;
	size_t i;
	int code = 0;

	for (i = 0; code == 0 && i < rec->ndisks; i++) {
		struct record_disk *d = &rec->disks[i];

		if (str_starts(rec->to, POOL)) {
			code = make_volume(rec, d, v, err);
			if (code == 0) /* its path is in no other place */
				code = recovery_save(r, err);
		} else if (!str_starts(rec->to, NBD) && !d->moved_block) {
			code = make_file(rec, d, err);
		}
	}
	return code < 0 ? err_prefix(err, "target of disk '%s'", rec->disks[i ? i - 1 : 0].name) :
			  0;
}

static int remove_volume(const struct record *rec, const struct record_disk *d, struct virt *v,
			 struct err *err)
{
	const char *slash = strrchr(d->moved_to, '/');
	const char *pool = rec->to + strlen(POOL);
	int code;

	if (!slash)
		return 0;
	code = virt_pool_refresh(v, pool, err);
	if (code == 0)
		code = virt_volume_remove(v, pool, slash + 1, err);
	return code < 0 ? code : 0;
}

int targets_remove(struct record *rec, struct virt *v, struct err *err)
{
	size_t i;
	int code = 0;

	for (i = 0; code == 0 && rec->to && i < rec->ndisks; i++) {
		struct record_disk *d = &rec->disks[i];

		if (!d->moved_to)
			continue;
		if (str_starts(rec->to, POOL))
			code = remove_volume(rec, d, v, err);
		else if (!str_starts(rec->to, NBD) && !d->moved_block)
			code = file_unlink(d->moved_to, "recover.target.unlink", err);
		code = MIN(code, 0);
		if (code == 0) {
			free(d->moved_to);
			d->moved_to = NULL;
			d->moved_block = false;
		}
	}
	if (code == 0) {
		text_set(&rec->to, NULL);
		text_set(&rec->format, NULL);
	}
	return code;
}

void targets_refresh(const struct record *rec, struct virt *v)
{
	if (rec->to && str_starts(rec->to, POOL))
		(void)virt_pool_refresh(v, rec->to + strlen(POOL), NULL);
}
