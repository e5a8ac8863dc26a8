// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * Side files: reading and writing of boot traces and proofs, sealed like a record under a subkey of their own (that of a
 * pack numbered 0, which no pack is).
 *
 * Invariants:
 *  1. A side file is replaced as a whole, and what does not hold in every check is not used.
 *  2. What is in it names what it belongs to: the caller compares, since a renamed file is right in itself.
 */
#include "base/file.h"
#include "format/sidefile.h"
#include "repo/internal.h"

#include "base/banned.h"

static int seal(struct repo *r, struct codec_ctx *codec, enum sidefile_kind kind,
		const struct buf *payload, struct buf *out, struct err *err)
{
	struct sidefile_header h = { .kind = kind,
				     .suite = codec_keys_suite(r->keys)->number,
				     .epoch = codec_keys_epoch(r->keys) };
	struct record_header record = { .type = OBJECT_BLOB,
					.codec = CODEC_RAW,
					.plain_len = (uint32_t)payload->len };
	cleanup_ptr(codec_pack_key) key = NULL;
	int code;

	memcpy(h.uuid, codec_keys_uuid(r->keys), UUID_LEN);
	if (h.suite)
		random_bytes(h.salt, SALT_LEN);
	record.xxh3 = h.suite ? 0 : check_xxh3(payload->data, payload->len);
	code = codec_id(codec, payload->data, payload->len, record.id, err);
	if (code == 0)
		code = codec_pack_key_new(r->keys, h.salt, h.epoch, 0, &key, err);
	if (code < 0)
		return code;
	buf_put_zero(out, SIDEFILE_HEADER_LEN + RECORD_HEADER_LEN + payload->len +
				  codec_overhead(r->keys));
	if (out->failed)
		return err_nomem(err, "side file");
	sidefile_header_encode(&h, out->data);
	code = codec_seal_record(codec, key, &record, payload->data, payload->len,
				 out->data + SIDEFILE_HEADER_LEN + RECORD_HEADER_LEN, err);
	if (code == 0)
		record_header_encode(&record, out->data + SIDEFILE_HEADER_LEN);
	return code;
}

static int unseal(struct repo *r, struct codec_ctx *codec, enum sidefile_kind kind,
		  const struct buf *in, struct buf *payload, struct err *err)
{
	const uint8_t *at = in->data + SIDEFILE_HEADER_LEN;
	cleanup_ptr(codec_pack_key) key = NULL;
	struct record_header record;
	struct sidefile_header h;
	uint8_t id[ID_LEN];
	int code;

	if (in->len < SIDEFILE_HEADER_LEN + RECORD_HEADER_LEN)
		return err_set(err, ERR_DAMAGED, "it is cut off");
	code = sidefile_header_decode(in->data, &h, err);
	if (code == 0)
		code = record_header_decode(at, &record, err);
	if (code < 0)
		return code;
	if (h.kind != kind || h.suite != codec_keys_suite(r->keys)->number ||
	    memcmp(h.uuid, codec_keys_uuid(r->keys), UUID_LEN) != 0 ||
	    in->len != SIDEFILE_HEADER_LEN + RECORD_HEADER_LEN + (size_t)record.stored_len)
		return err_set(err, ERR_DAMAGED, "of another repository or kind, or cut off");
	code = codec_pack_key_new(r->keys, h.salt, h.epoch, 0, &key, err);
	if (code < 0)
		return code;
	if (!buf_reserve(payload, record.plain_len))
		return err_nomem(err, "side file");
	code = codec_open_record(codec, key, &record, at + RECORD_HEADER_LEN, payload->data, err);
	if (code == 0)
		code = codec_id(codec, payload->data, record.plain_len, id, err);
	if (code < 0)
		return code;
	payload->len = record.plain_len;
	return memcmp(id, record.id, ID_LEN) == 0 ?
		       0 :
		       err_set(err, ERR_DAMAGED, "its content is not what its id says");
}

int sidefile_read(struct repo *r, enum sidefile_kind kind, const char *path, struct buf *payload,
		  struct err *err)
{
	cleanup_buf struct buf file = BUF_INIT;
	struct store_reader *reader = NULL;
	int code = file_read_all(path, SIDEFILE_MAX, &file, err);

	if (code == 0)
		code = repo_reader_get(r, &reader, err);
	if (code < 0)
		return code;
	code = unseal(r, store_reader_codec(reader), kind, &file, payload, err);
	repo_reader_put(r, reader);
	return code < 0 ? err_prefix(err, "'%s'", path) : 0;
}

int sidefile_write(struct repo *r, enum sidefile_kind kind, const char *folder, const char *path,
		   const struct buf *payload, struct err *err)
{
	cleanup_buf struct buf file = BUF_INIT;
	struct store_reader *reader = NULL;
	int code = dir_make(folder, 0700, "repo.sidefile.folder", err);

	if (code == 1)
		code = dir_sync(r->path, "repo.sidefile.folder-sync", err);
	if (code >= 0)
		code = repo_reader_get(r, &reader, err);
	if (code < 0)
		return code;
	code = seal(r, store_reader_codec(reader), kind, payload, &file, err);
	repo_reader_put(r, reader);
	return code < 0 ?
		       code :
		       file_write_all(path, file.data, file.len, 0600, true, "repo.sidefile", err);
}

/* --- what nobody needs any more --- */

struct sweep {
	struct repo *repo;
	struct catalog *catalog;
	const char *folder;
};

static int drop(const struct sweep *s, const char *file, struct err *err)
{
	cleanup_free char *path = str_printf("%s/%s", s->folder, file);
	int code;

	if (!path)
		return err_nomem(err, "path of a side file");
	code = file_unlink(path, "repo.sidefile.unlink", err);
	return code < 0 ? code : 0;
}

/* A trace whose name has no point left; ~ stands in no name. */
static int look_trace(void *opaque, const char *file, struct err *err)
{
	__attribute__((cleanup(point_list_release))) struct point_list points = { 0 };
	const struct sweep *s = opaque;
	cleanup_free char *name = str_dup(file);
	struct point_filter filter = { .name = name, .forgotten = true, .limit = 1 };
	char *end = name ? strchr(name, '~') : NULL;
	int code;

	if (!name)
		return err_nomem(err, "name of a trace");
	if (!end || !str_ends(file, ".trace"))
		return 0;
	*end = 0;
	code = catalog_points(s->catalog, &filter, &points, err);
	return code < 0 || points.count ? code : drop(s, file, err);
}

static int look_proof(void *opaque, const char *file, struct err *err)
{
	const struct sweep *s = opaque;
	uint8_t id[POINT_ID_LEN];
	bool known = false;
	int code;

	if (strlen(file) != 2 * POINT_ID_LEN + strlen(".proof") || !str_ends(file, ".proof") ||
	    !hex_decode(id, file, POINT_ID_LEN))
		return 0;
	code = catalog_point_known(s->catalog, id, &known, err);
	return code < 0 || known ? code : drop(s, file, err);
}

static int sweep_folder(struct sweep *s, const char *name,
			int (*look)(void *opaque, const char *file, struct err *err),
			struct err *err)
{
	cleanup_free char *folder = str_printf("%s/%s", s->repo->path, name);
	int code;

	if (!folder)
		return err_nomem(err, "path of the side files");
	s->folder = folder;
	code = dir_each(folder, look, s, err);
	if (code != ERR_NOT_FOUND)
		return code;
	err_clear(err);
	return 0;
}

int sidefile_sweep(struct repo *r, struct catalog *c, struct err *err)
{
	struct sweep s = { .repo = r, .catalog = c };
	int code = sweep_folder(&s, "traces", look_trace, err);

	return code < 0 ? code : sweep_folder(&s, "proofs", look_proof, err);
}
