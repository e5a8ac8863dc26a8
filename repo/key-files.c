/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The files in keys/: reading them, opening a repository with them, replacing them.
 *
 * The key ring exists twice.  A change writes ring-a.key, then ring-b.key, each by temporary file, sync, rename and sync of
 * the folder, so that at any instant one of them is whole; of two, the one with the higher serial counts.
 *
 * Invariants:
 *  1. Who can write into keys/ without a key of the repository can keep others from opening it, and nothing else: a ring that
 *     a passphrase opens is used only if somebody with the keys has made it (codec/ring.c).
 *  2. An older ring is used only where a newer one is damaged or forged, never because a passphrase opens no slot of the newer
 *     one: a slot that was removed stays so when a crash or a hand has left an older file.
 *  3. Beside a ring with several epochs a key file of version 1 is not used: no such file was left when they were made.
 *  4. Nothing is written here but by one who holds keys_lock(), into whole files.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "repo/keys-internal.h"

#include "base/banned.h"

#define FILES_MAX 64 /* in keys/; those beyond are not looked at */
#define TMP_MARK ".key.tmp-" /* of file_write_all() */

/* --- reading --- */

static void found_release(struct key_found *f)
{
	free(f->ring);
	free(f->file);
	buf_release(&f->bytes);
}

void key_folder_release(struct key_folder *f)
{
	for (size_t i = 0; i < f->count; i++)
		found_release(&f->found[i]);
	free(f->found);
	*f = (struct key_folder){ 0 };
}

struct load {
	const struct repo *repo;
	struct key_folder *folder;
	bool warn;
};

static int decode(const struct repo *r, struct key_found *f, struct err *err)
{
	const uint8_t *uuid;
	int ret;

	if (key_ring_is(f->bytes.data, f->bytes.len)) {
		f->ring = mem_alloc(sizeof(*f->ring));
		if (!f->ring)
			return err_nomem(err, "key ring");
		ret = key_ring_decode(f->bytes.data, f->bytes.len, f->ring, err);
		uuid = f->ring->uuid;
	} else {
		f->file = mem_alloc(sizeof(*f->file));
		if (!f->file)
			return err_nomem(err, "key file");
		ret = key_file_decode(f->bytes.data, f->bytes.len, f->file, err);
		uuid = f->file->uuid;
	}
	if (ret == 0 && memcmp(uuid, r->conf.uuid, UUID_LEN) != 0)
		ret = err_set(err, ERR_DAMAGED, "is of another repository");
	return ret;
}

static int load_file(void *opaque, const char *name, struct err *err)
{
	struct load *l = opaque;
	struct key_folder *d = l->folder;
	cleanup_free char *path = str_printf("%s/keys/%s", l->repo->path, name);
	struct key_found f = { .bytes = BUF_INIT };
	struct err local = ERR_INIT;
	int r;

	if (!path)
		return err_nomem(err, "path of a key");
	d->unfinished |= strstr(name, TMP_MARK) != NULL;
	if (!str_ends(name, ".key") || strlen(name) >= sizeof(f.name) || d->count == FILES_MAX)
		return 0;
	str_copy(f.name, sizeof(f.name), name);
	r = file_read_all(path, KEY_RING_MAX, &f.bytes, &local);
	if (r == 0)
		r = decode(l->repo, &f, &local);
	if (r == ERR_NOT_FOUND) { /* removed since the folder was read */
		found_release(&f);
		return 0;
	}
	if (r < 0) {
		/* One bad file must not lock out the others. */
		if (l->warn)
			log_warning("key file '%s' cannot be used: %s", path, local.text);
		found_release(&f);
		f.ring = NULL;
		f.file = NULL;
		f.bytes = (struct buf)BUF_INIT;
	}
	d->found[d->count++] = f;
	return 0;
}

static int rings_first(const void *a, const void *b)
{
	const struct key_found *x = a, *y = b;

	if (!x->ring != !y->ring)
		return x->ring ? -1 : 1;
	if (x->ring && x->ring->serial != y->ring->serial)
		return x->ring->serial > y->ring->serial ? -1 : 1;
	return strcmp(x->name, y->name);
}

int key_folder_load(const struct repo *r, bool warn, struct key_folder *out, struct err *err)
{
	struct load l = { .repo = r, .folder = out, .warn = warn };
	cleanup_free char *keys = str_printf("%s/keys", r->path);
	int ret;

	*out = (struct key_folder){ .found = mem_alloc_array(FILES_MAX, sizeof(*out->found)) };
	if (!keys || !out->found)
		return err_nomem(err, "files of keys");
	ret = dir_each(keys, load_file, &l, err);
	if (ret < 0)
		return ret;
	qsort(out->found, out->count, sizeof(*out->found), rings_first);
	while (out->nrings < out->count && out->found[out->nrings].ring)
		out->nrings++;
	return 0;
}

const struct key_ring_slot *key_ring_salt(const struct key_ring *ring, const uint8_t *salt)
{
	for (unsigned i = 0; i < ring->nslots; i++)
		if (memcmp(ring->slots[i].salt, salt, SALT_LEN) == 0)
			return &ring->slots[i];
	return NULL;
}

/* --- unlocking --- */

struct unlock {
	struct codec_passphrase passphrase;
	bool in_process;
	enum recovery_text recovery;
	struct codec_keys *keys;
};

/* 1: open; 0: no slot fits; ERR_DAMAGED: one does, and the ring is forged. */
static int try_ring(struct unlock *u, const struct key_ring *ring, struct err *err)
{
	int r = codec_ring_open(ring, &u->passphrase, u->in_process, &u->keys, err);

	if (r == ERR_KEY)
		err_clear(err);
	return r == ERR_KEY ? 0 : r < 0 ? r : 1;
}

/* Invariant 2.  The same results; 0 also if there is no ring. */
static int try_rings(struct unlock *u, const struct key_folder *f, struct err *err)
{
	for (size_t i = 0; i < f->nrings; i++) {
		int r = try_ring(u, f->found[i].ring, err);

		if (r != ERR_DAMAGED)
			return r;
		log_warning("'keys/%s' cannot be used: %s", f->found[i].name, err->text);
		err_clear(err);
	}
	return 0;
}

static int try_files(struct unlock *u, const struct key_folder *f, struct err *err)
{
	const struct key_ring *ring = f->nrings ? f->found[0].ring : NULL;

	if (ring && ring->epochs > 1) /* invariant 3 */
		return 0;
	for (size_t i = f->nrings; i < f->count; i++) {
		const struct key_file *file = f->found[i].file;
		int r;

		if (!file || (ring && key_ring_salt(ring, file->salt)))
			continue;
		r = codec_key_unwrap(file, u->passphrase.text, u->passphrase.n, u->in_process,
				     &u->keys, err);
		if (r == 0)
			return 1;
		if (r != ERR_KEY)
			return r;
		err_clear(err);
	}
	return 0;
}

static bool usable(const struct key_folder *f)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->found[i].ring || f->found[i].file)
			return true;
	return false;
}

static int unlock_failed(struct repo *r, const struct unlock *u, const struct key_folder *f,
			 struct err *err)
{
	if (!usable(f))
		err_set(err, ERR_KEY, "repository '%s' has no usable file in keys/", r->path);
	else if (u->recovery == RECOVERY_WRONG)
		err_set(err, ERR_KEY,
			"wrong passphrase for repository '%s'; if it was meant as a recovery key, it "
			"has a typing error",
			r->path);
	else
		err_set(err, ERR_KEY, "wrong passphrase for repository '%s'", r->path);
	return err_object(err, "%s", r->path);
}

/* What a crash has left, or a missing copy: best effort, since the repository is usable as it is. */
static void mend(struct repo *r, struct key_folder *f)
{
	const struct key_found *a = NULL, *b = NULL, *ours = NULL;
	cleanup_key_folder struct key_folder now = { 0 };
	cleanup_fd int lock = -1;
	struct err err = ERR_INIT;
	size_t i;
	int ret;

	for (i = 0; i < f->nrings; i++) {
		a = strcmp(f->found[i].name, KEY_RING_A) == 0 ? &f->found[i] : a;
		b = strcmp(f->found[i].name, KEY_RING_B) == 0 ? &f->found[i] : b;
	}
	if (f->nrings == 0 ||
	    (a && b && f->count == 2 && !f->unfinished && a->ring->serial == b->ring->serial))
		return;
	ret = keys_lock(r, &lock, &err);
	if (ret == 0)
		ret = key_folder_load(r, false, &now, &err);
	if (ret == 0)
		ret = keys_ring_ours(r, &now, &ours, &err);
	if (ret == 0 && ours && (!a || !b || a->ring->serial != b->ring->serial))
		ret = keys_write(r, &ours->bytes, &err);
	if (ret == 0 && ours)
		ret = keys_tidy(r, &now, ours->ring, &err);
	if (ret < 0 && ret != ERR_LOCKED)
		log_warning("the copies of the key ring could not be made equal: %s", err.text);
}

int repo_unlock(struct repo *r, const void *passphrase, size_t n, bool in_process, struct err *err)
{
	struct err local = ERR_INIT;
	struct unlock u = { .passphrase = { .text = passphrase, .n = n },
			    .in_process = in_process };
	char letters[RECOVERY_LETTERS];
	cleanup_key_folder struct key_folder f = { 0 };
	int ret;

	if (!err)
		err = &local;
	if (!r->locked)
		return 0;
	ret = key_folder_load(r, true, &f, err);
	if (ret < 0)
		return ret;
	u.recovery = recovery_decode(passphrase, n, letters);
	if (u.recovery == RECOVERY_RIGHT)
		u.passphrase.letters = letters;
	ret = try_rings(&u, &f, err);
	if (ret == 0)
		ret = try_files(&u, &f, err);
	mem_wipe(letters, sizeof(letters));
	if (ret == 0)
		return unlock_failed(r, &u, &f, err);
	if (ret > 0)
		ret = repo_use_keys(r, u.keys, err);
	if (ret == 0 && r->mode == REPO_WRITE)
		mend(r, &f);
	return ret;
}

int repo_unlock_raw(struct repo *r, const uint8_t *raw, size_t n, struct err *err)
{
	struct codec_keys *keys;
	int ret;

	if (!r->locked)
		return 0;
	ret = codec_keys_import(r->conf.suite, r->conf.uuid, raw, n, &keys, err);
	return ret < 0 ? ret : repo_use_keys(r, keys, err);
}

int repo_export_key(const struct repo *r, uint8_t out[REPO_KEYS_MAX], size_t *n, struct err *err)
{
	int ret = repo_need_key(r, err);

	return ret < 0 ? ret : codec_keys_export(r->keys, out, n, err);
}

/* --- writing --- */

int keys_lock(const struct repo *r, int *fd, struct err *err)
{
	cleanup_free char *path = str_printf("%s/livepoint.conf", r->path);
	cleanup_fd int lock = -1;
	int got;

	if (!path)
		return err_nomem(err, "path of livepoint.conf");
	lock = file_open(path, O_RDWR, 0, err);
	if (lock < 0)
		return lock;
	got = file_trylock(lock, path, err);
	if (got == 0)
		return err_set(err, ERR_LOCKED, "somebody else changes the keys of '%s' now",
			       r->path);
	if (got > 0)
		*fd = steal_fd(&lock);
	return got < 0 ? got : 0;
}

int keys_ring_ours(const struct repo *r, const struct key_folder *f, const struct key_found **out,
		   struct err *err)
{
	*out = NULL;
	for (size_t i = 0; i < f->nrings; i++) {
		const struct key_ring *ring = f->found[i].ring;
		int ret = codec_ring_check(r->keys, ring, err);

		if (ret == 0) {
			*out = &f->found[i];
			return 0;
		}
		if (ret != ERR_DAMAGED)
			return ret;
		if (ring->epochs > codec_keys_epoch(r->keys))
			return err_set(err, ERR_KEY,
				       "'keys/%s' has a newer key epoch than this process: start "
				       "it again",
				       f->found[i].name);
		err_clear(err);
	}
	return 0;
}

/* The blocks of a file that has no name any more. */
static void overwrite(int fd, const char *path)
{
	static const uint8_t zeroes[KEY_RING_MAX];
	struct err err = ERR_INIT;
	struct stat st;

	/* another name (a copy by hard links) is somebody's backup */
	if (fstat(fd, &st) < 0 || st.st_nlink != 0 || st.st_size > (off_t)sizeof(zeroes))
		return;
	if (file_pwrite(fd, zeroes, (size_t)st.st_size, 0, path, "repo.key.wipe", &err) < 0 ||
	    file_datasync(fd, path, "repo.key.wipe-sync", &err) < 0)
		log_warning("a file of keys was removed, but not overwritten: %s", err.text);
}

static int replace(const struct repo *r, const char *name, const struct buf *bytes,
		   const char *point, struct err *err)
{
	cleanup_free char *path = str_printf("%s/keys/%s", r->path, name);
	cleanup_fd int old = -1;
	int ret;

	if (!path)
		return err_nomem(err, "path of a key");
	old = file_open(path, O_RDWR, 0, NULL); /* there need not be one */
	ret = file_write_all(path, bytes->data, bytes->len, 0600, true, point, err);
	if (ret == 0 && old >= 0)
		overwrite(old, path);
	return ret;
}

int keys_write(const struct repo *r, const struct buf *bytes, struct err *err)
{
	int ret = replace(r, KEY_RING_A, bytes, "repo.key.a", err);

	return ret < 0 ? ret : replace(r, KEY_RING_B, bytes, "repo.key.b", err);
}

int keys_remove(const struct repo *r, const char *name, struct err *err)
{
	cleanup_free char *path = str_printf("%s/keys/%s", r->path, name);
	cleanup_fd int old = -1;
	int ret;

	if (!path)
		return err_nomem(err, "path of a key");
	old = file_open(path, O_RDWR, 0, NULL);
	ret = file_unlink(path, "repo.key.remove", err);
	if (ret >= 0 && old >= 0)
		overwrite(old, path);
	return MIN(ret, 0);
}

int keys_sync(const struct repo *r, struct err *err)
{
	cleanup_free char *keys = str_printf("%s/keys", r->path);

	return keys ? dir_sync(keys, "repo.key.dirsync", err) : err_nomem(err, "path of the keys");
}

static int remove_unfinished(void *opaque, const char *name, struct err *err)
{
	return strstr(name, TMP_MARK) ? keys_remove(opaque, name, err) : 0;
}

int keys_tidy(const struct repo *r, const struct key_folder *f, const struct key_ring *ring,
	      struct err *err)
{
	cleanup_free char *keys = str_printf("%s/keys", r->path);
	bool removed = f->unfinished;
	int ret = 0;

	if (!keys)
		return err_nomem(err, "path of the keys");
	if (f->unfinished)
		ret = dir_each(keys, remove_unfinished, (void *)r, err);
	for (size_t i = f->nrings; ret == 0 && i < f->count; i++) {
		const struct key_file *file = f->found[i].file;

		if (!file || !key_ring_salt(ring, file->salt))
			continue;
		removed = true; /* it has moved into the ring */
		ret = keys_remove(r, f->found[i].name, err);
	}
	return ret == 0 && removed ? keys_sync(r, err) : ret;
}

/* --- leftovers --- */

static const char *found_leftover(const struct key_folder *f, size_t i)
{
	const struct key_ring *newest = f->nrings ? f->found[0].ring : NULL;
	const struct key_found *x = &f->found[i];

	if (x->ring && strcmp(x->name, KEY_RING_A) != 0 && strcmp(x->name, KEY_RING_B) != 0)
		return "a key ring under a name that nobody writes";
	if (x->ring && x->ring->serial != newest->serial)
		return "an older key ring: the next write session makes its copies equal";
	if (x->file && newest && key_ring_salt(newest, x->file->salt))
		return "a key file whose slot is in the key ring";
	if (x->file && newest && newest->epochs > 1)
		return "a key file of version 1, which does not open the newer key epochs: it is not "
		       "used";
	return NULL;
}

int repo_key_leftovers(const struct repo *r, void (*fn)(void *opaque, const char *line),
		       void *opaque, struct err *err)
{
	cleanup_key_folder struct key_folder f = { 0 };
	char line[256];
	int ret = r->conf.suite ? key_folder_load(r, false, &f, err) : 0;

	if (ret < 0)
		return ret;
	for (size_t i = 0; i < f.count; i++) {
		const char *what = found_leftover(&f, i);

		if (!what)
			continue;
		snprintf(line, sizeof(line), "keys/%s: %s", f.found[i].name, what);
		fn(opaque, line);
	}
	if (f.unfinished)
		fn(opaque, "keys: an unfinished file; the next write session removes it");
	return 0;
}
