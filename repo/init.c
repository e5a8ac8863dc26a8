/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Making a repository.
 *
 * 1. livepoint.conf is written last: a folder with it is a whole repository, one without it is none.
 * 2. A failure half way removes what was made here, and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "repo/audit.h"
#include "repo/keys-internal.h"

#include "base/banned.h"

static int refuse_entry(void *opaque, const char *name, struct err *err)
{
	const char *path = opaque;

	return err_set(err, ERR_EXISTS,
		       "'%s' is not empty (it has '%s'); give a missing or empty folder", path,
		       name);
}

/* 1 if the folder was made here, 0 if it was there and empty. */
static int make_folder(const char *path, struct err *err)
{
	cleanup_free char *conf = NULL;
	int made = dir_make(path, 0700, "repo.init.folder", err);
	int r;

	if (made < 0)
		return made;
	if (made)
		return 1;
	conf = str_printf("%s/livepoint.conf", path);
	if (!conf)
		return err_nomem(err, "path of the header");
	if (access(conf, F_OK) == 0)
		return err_set(err, ERR_EXISTS, "'%s' is a repository already", path);
	r = dir_each(path, refuse_entry, (void *)path, err);
	if (r < 0)
		return r;
	if (chmod(path, 0700) < 0)
		return err_set_errno(err, ERR_IO, errno, "cannot set the mode of '%s'", path);
	return 0;
}

/* The key ring, both copies, with one slot. */
static int make_key(const char *path, const struct repo_init_spec *spec, const struct conf *conf,
		    const struct codec_keys *keys, struct err *err)
{
	cleanup_free char *a = str_printf("%s/keys/" KEY_RING_A, path);
	cleanup_free char *b = str_printf("%s/keys/" KEY_RING_B, path);
	cleanup_free struct key_ring *ring = mem_alloc(sizeof(*ring));
	const struct codec_slot_spec slot = {
		.passphrase = spec->passphrase,
		.n = spec->passphrase_len,
		.label = "first",
		.kind = KEY_PASSPHRASE,
		.kdf_n = conf->kdf_n,
		.kdf_r = conf->kdf_r,
		.kdf_p = conf->kdf_p,
	};
	cleanup_buf struct buf bytes = BUF_INIT;
	int r;

	if (!a || !b || !ring)
		return err_nomem(err, "key ring");
	ring->serial = 1;
	ring->nslots = 1;
	r = codec_slot_make(keys, &slot, &ring->slots[0], err);
	if (r == 0)
		r = codec_ring_seal(keys, ring, err);
	if (r == 0)
		r = key_ring_encode(ring, &bytes, err);
	if (r == 0)
		r = file_write_all(a, bytes.data, bytes.len, 0600, false, "repo.init.key", err);
	return r < 0 ? r :
		       file_write_all(b, bytes.data, bytes.len, 0600, false, "repo.init.key-copy",
				      err);
}

/* The catalog, and the first entry of its audit log. */
static int make_catalog(const char *path, const struct conf *conf, const struct codec_keys *keys,
			struct err *err)
{
	cleanup_ptr(catalog) c = NULL;
	struct repo_audit audit;
	int r = catalog_create(path, conf->uuid, err);

	if (r == 0)
		r = catalog_open(path, CATALOG_READ_WRITE, conf->uuid, &c, err);
	if (r < 0)
		return r;
	repo_audit_fill_keys(keys, &audit, "init", "", NULL);
	return catalog_audit_append(c, &audit.audit, err);
}

static int make_parts(const char *path, const struct repo_init_spec *spec, struct conf *conf,
		      struct err *err)
{
	cleanup_free char *catalog = str_printf("%s/catalog.sqlite", path);
	cleanup_free char *file = str_printf("%s/livepoint.conf", path);
	cleanup_ptr(codec_keys) keys = NULL;
	cleanup_buf struct buf text = BUF_INIT;
	int r;

	if (!catalog || !file)
		return err_nomem(err, "path of the catalog");
	r = store_make_folders(path, err);
	if (r == 0 && conf->suite)
		r = codec_keys_generate(conf->suite, conf->uuid, &keys, err);
	else if (r == 0)
		r = codec_keys_plain(conf->uuid, &keys, err);
	if (r == 0 && conf->suite)
		r = make_key(path, spec, conf, keys, err);
	if (r == 0)
		r = make_catalog(catalog, conf, keys, err);
	if (r == 0)
		r = dir_sync(path, "repo.init.dirsync", err);
	if (r == 0)
		r = conf_encode(conf, &text, err);
	if (r == 0)
		r = file_write_all(file, text.data, text.len, 0600, false, "repo.init.conf", err);
	return r;
}

static int remove_name(void *opaque, const char *name, struct err *err)
{
	cleanup_free char *path = str_printf("%s/%s", (const char *)opaque, name);
	struct stat st;

	if (!path)
		return err_nomem(err, "path");
	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
		(void)dir_remove_flat(path, NULL, NULL);
	else
		(void)file_unlink(path, NULL, NULL);
	return 0;
}

/* The folder was missing or empty, so everything in it is ours. */
static void undo(const char *path, bool made)
{
	(void)dir_each(path, remove_name, (void *)path, NULL);
	if (made)
		(void)dir_remove_flat(path, NULL, NULL);
}

static int sync_parent(const char *path, struct err *err)
{
	cleanup_free char *copy = str_dup(path);

	if (!copy)
		return err_nomem(err, "path");
	return dir_sync(dirname(copy), "repo.init.parent-sync", err);
}

static int check_spec(const struct repo_init_spec *spec, struct conf *conf, struct err *err)
{
	const struct codec_suite *suite = codec_suite_find(spec->suite);

	if (!suite)
		return err_set(err, ERR_INVALID, "cipher suite %u is unknown", spec->suite);
	if (suite->keyed && !spec->passphrase_len)
		return err_set(err, ERR_KEY, "an encrypted repository needs a passphrase");
	random_bytes(conf->uuid, UUID_LEN);
	conf->suite = suite->number;
	conf->chunk_size = spec->chunk_size ? spec->chunk_size : CHUNK_SIZE_DEFAULT;
	conf->leaf_chunks = LEAF_CHUNKS;
	conf->compression = spec->compression < 0 ? COMPRESSION_DEFAULT :
						    (enum compression)spec->compression;
	conf->created = time_now();
	conf->grace = spec->grace;
	if (suite->keyed) {
		conf->kdf_n = spec->kdf_n ? spec->kdf_n : 65536;
		conf->kdf_r = 8;
		conf->kdf_p = 1;
	}
	if (conf->chunk_size < CHUNK_SIZE_MIN || conf->chunk_size > CHUNK_SIZE_MAX ||
	    (conf->chunk_size & (conf->chunk_size - 1)))
		return err_set(err, ERR_INVALID, "chunk size %u is no power of two from 4K to 1M",
			       conf->chunk_size);
	return 0;
}

int repo_init(const char *path, const struct repo_init_spec *spec, struct err *err)
{
	struct conf conf = { 0 };
	int made, r = check_spec(spec, &conf, err);

	if (r < 0)
		return r;
	made = make_folder(path, err);
	if (made < 0)
		return err_object(err, "%s", path);
	r = make_parts(path, spec, &conf, err);
	if (r == 0)
		r = sync_parent(path, err);
	if (r < 0) {
		undo(path, made);
		err_object(err, "%s", path);
		return err_prefix(err, "cannot make a repository in '%s'", path);
	}
	if (spec->made)
		*spec->made = conf;
	return 0;
}
