/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing the state object: what a rebuild of the catalog could not know from manifests (holds, forgotten and expired
 * points, counters, the end of the audit log), in a map pack of its own.
 *
 * A change of a hold is a small session (steps I1 to I11 of docs/PROTOCOL.md) under an ingest lease of name "", so that
 * changes of holds come one after the other; prune writes one under its own lease.
 *
 * 1. The object is durable before the transaction that names it and makes the change.
 * 2. What is written is read from the catalog after the pack's number was handed out: next_pack is above it.
 * 3. Prune does not exclude changes of holds: the transaction refuses an object that was read before another one was
 *    published, and it is written again.
 * 4. After ERR_UNKNOWN the catalog is asked again, and nothing is removed.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "repo/internal.h"

#include "base/banned.h"

#define WAIT_NS (30 * UINT64_C(1000000000)) /* for another change of a hold */
#define WAIT_STEP_MS 100

/* --- the object --- */

int state_load(struct repo *r, const struct object_ref *ref, struct state *out, struct err *err)
{
	cleanup_free uint8_t *bytes = NULL;
	size_t len;
	int ret = object_read(r, OBJECT_STATE, ref, STATE_MAX, &bytes, &len, err);

	return ret < 0 ? ret : state_decode(bytes, len, out, err);
}

/* The state as it will be after the change; read before it. */
static int apply_hold(struct state *s, const struct hold_change *change, struct err *err)
{
	struct hold *holds;
	size_t at = 0;

	while (at < s->nholds && memcmp(s->holds[at].point, change->point, POINT_ID_LEN) < 0)
		at++;
	if (at < s->nholds && !memcmp(s->holds[at].point, change->point, POINT_ID_LEN)) {
		free(s->holds[at].reason);
		memmove(&s->holds[at], &s->holds[at + 1], (s->nholds - at - 1) * sizeof(*s->holds));
		s->nholds--;
	}
	if (!change->set)
		return 0;
	holds = mem_realloc_array(s->holds, s->nholds + 1, sizeof(*holds));
	if (!holds)
		return err_nomem(err, "state object");
	s->holds = holds;
	memmove(&holds[at + 1], &holds[at], (s->nholds - at) * sizeof(*holds));
	s->nholds++;
	memcpy(holds[at].point, change->point, POINT_ID_LEN);
	holds[at].since = change->since;
	holds[at].until = change->until;
	holds[at].reason = str_dup(change->reason ? change->reason : "");
	return holds[at].reason ? 0 : err_nomem(err, "state object");
}

/* Expired points' manifests are the first that a prune takes: they are what can be left out. */
static void drop_expired(struct state *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->npoints; i++)
		if (!s->points[i].expired)
			s->points[n++] = s->points[i];
	log_warning("the state object is too big for %zu points that were forgotten for good: a "
		    "rebuild of the catalog before the next prune would bring them back",
		    s->npoints - n);
	s->npoints = n;
}

static int encode(struct state *s, struct buf *out, struct err *err)
{
	struct err local = ERR_INIT;
	int r = state_encode(s, out, &local);

	if (r == ERR_TOO_BIG) {
		drop_expired(s);
		buf_reset(out);
		return state_encode(s, out, err);
	}
	if (r < 0 && err)
		*err = local;
	return r;
}

static int append(struct repo *r, struct store_reader *reader, struct store_writer *w,
		  const struct buf *bytes, struct object_ref *ref, struct err *err)
{
	struct codec_ctx *codec = store_reader_codec(reader);
	int level = compression_level(r->conf.compression), ret;
	cleanup_free uint8_t *packed = mem_realloc_array(NULL, bytes->len, 1);
	struct store_append a = { .type = OBJECT_STATE,
				  .id = ref->id,
				  .plain_len = (uint32_t)bytes->len,
				  .level = level,
				  .payload = bytes->data,
				  .n = bytes->len };

	if (!packed)
		return err_nomem(err, "state object");
	ret = codec_id(codec, bytes->data, bytes->len, ref->id, err);
	if (ret == 0)
		ret = codec_compress(codec, level, bytes->data, bytes->len, packed, bytes->len,
				     &a.codec, &a.n, err);
	if (ret < 0)
		return ret;
	if (a.codec == CODEC_RAW)
		a.n = bytes->len;
	else
		a.payload = packed;
	if (!codec_keys_suite(r->keys)->keyed)
		a.xxh3 = check_xxh3(bytes->data, bytes->len);
	return store_writer_append(w, codec, &a, &ref->locator, err);
}

/* One pack with one record, from the staging folder to its name (I5 to I7). */
static int write_pack(struct repo *r, struct store_stage *stage, uint64_t number,
		      const struct buf *bytes, struct object_ref *ref, struct pack_done *done,
		      struct err *err)
{
	cleanup_ptr(store_writer) w = NULL;
	struct store_reader *reader;
	int ret = repo_reader_get(r, &reader, err);

	if (ret < 0)
		return ret;
	ret = store_writer_new(stage, number, PACK_MAP, &w, err);
	if (ret == 0)
		ret = append(r, reader, w, bytes, ref, err);
	if (ret == 0)
		ret = store_writer_finish(w, reader, err);
	if (ret == 0)
		ret = store_writer_publish(w, err);
	if (ret == 0)
		ret = store_stage_sync(stage, err);
	if (ret == 0)
		*done = (struct pack_done){ .number = number,
					    .slots = store_writer_slots(w),
					    .bytes = store_writer_bytes(w) };
	repo_reader_put(r, reader);
	return ret;
}

/* I4 to I10 under a lease of the caller's.  ERR_LOCKED: somebody published another object since ours was read. */
static int store_once(struct repo *r, struct catalog *c, uint64_t token, struct store_stage *stage,
		      const struct hold_change *hold, struct audit *audit, struct object_ref *ref,
		      struct err *err)
{
	struct state written = { 0 };
	cleanup_buf struct buf bytes = BUF_INIT;
	struct pack_done pack;
	struct session_done done = { .packs = &pack, .npacks = 1 };
	uint64_t number;
	int ret = catalog_pack_begin(c, token, PACK_MAP, &number, err);

	if (ret == 0)
		ret = catalog_state_read(c, &written, err);
	if (ret == 0 && hold)
		ret = apply_hold(&written, hold, err);
	if (ret == 0)
		ret = encode(&written, &bytes, err);
	state_release(&written);
	if (ret == 0)
		ret = write_pack(r, stage, number, &bytes, ref, &pack, err);
	if (ret == 0)
		ret = catalog_state_publish(c, token, &done, ref, hold, audit, err);
	return ret;
}

/* Invariant 3.  What was written for nothing is removed before the next attempt, as a sweep would do later. */
static int store_tries(struct repo *r, struct catalog *c, uint64_t token, struct store_stage *stage,
		       const struct hold_change *hold, struct audit *audit, struct object_ref *ref,
		       struct err *err)
{
	uint64_t until = time_mono_ns() + WAIT_NS;
	int64_t time = audit ? audit->entry.time : 0;
	int ret;

	for (;;) {
		if (audit)
			audit->entry.time = time;
		ret = store_once(r, c, token, stage, hold, audit, ref, err);
		if (ret != ERR_LOCKED || time_mono_ns() >= until)
			return ret;
		err_clear(err);
		ret = sweep_rows(r, c, token, err);
		if (ret < 0)
			return ret;
	}
}

int state_store(struct repo *r, struct catalog *c, uint64_t token, struct store_stage *stage,
		const struct hold_change *hold, struct audit *audit, struct err *err)
{
	struct err local = ERR_INIT;
	struct object_ref ref = { 0 };
	int ret;

	if (!err)
		err = &local;
	ret = repo_need_key(r, err);
	return ret < 0 ? ret : store_tries(r, c, token, stage, hold, audit, &ref, err);
}

/* --- a session of its own --- */

struct state_session {
	struct repo *repo;
	struct catalog *catalog;
	struct lease lease;
	int lease_fd;
	struct store_stage *stage;
};

static int lease_try(struct state_session *s, struct err *err)
{
	struct lease holder = { 0 };
	int r = sweep_with(s->repo, s->catalog, err);

	if (r < 0)
		return r;
	repo_lease_describe(&s->lease, LEASE_INGEST, "");
	r = store_lock_make(s->repo->store, s->lease.lock_name, &s->lease_fd, err); /* I1 */
	if (r < 0)
		return r;
	r = catalog_state_begin(s->catalog, &s->lease, &holder, err); /* I2 */
	if (r < 0) {
		(void)store_lock_remove(s->repo->store, s->lease.lock_name, NULL);
		base_cleanup_fd(&s->lease_fd);
		s->lease_fd = -1;
		s->lease.token = 0;
	}
	return r;
}

static int lease_take(struct state_session *s, struct err *err)
{
	uint64_t until = time_mono_ns() + WAIT_NS;
	int r = sweep_check(s->repo, s->catalog, err);

	while (r == 0) {
		r = lease_try(s, err);
		if (r != ERR_LOCKED || time_mono_ns() >= until)
			return r;
		time_sleep_ms(WAIT_STEP_MS);
		err_clear(err);
		r = 0;
	}
	return r;
}

/* COMMIT returned an error: a new connection tells what happened.  ref: what was to be the state object; without it the commit
 * was one before, of the lease say, and nothing was published. */
static int look_again(struct state_session *s, const struct object_ref *ref, struct err *err)
{
	cleanup_free char *path = str_printf("%s/catalog.sqlite", s->repo->path);
	struct object_ref now;
	struct err second = ERR_INIT;
	struct catalog *c;

	if (!path)
		return ERR_UNKNOWN;
	catalog_close(s->catalog);
	s->catalog = NULL;
	if (catalog_open(path, CATALOG_READ_WRITE, s->repo->conf.uuid, &c, &second) < 0)
		return ERR_UNKNOWN;
	s->catalog = c;
	if (catalog_state_ref(c, &now, &second) < 0)
		return ERR_UNKNOWN;
	if (ref->locator == LOCATOR_NONE || now.locator != ref->locator)
		return err_recode(err, ERR_IO);
	log_warning("the commit reported an error (%s), but the change is there",
		    err ? err->text : "");
	err_clear(err);
	return 0;
}

/* I11, and the way out of a failure: lease, then what the sweep does. */
static void session_end(struct state_session *s, int result)
{
	struct err err = ERR_INIT;

	if (result == ERR_UNKNOWN) { /* nothing is removed */
		if (s->stage)
			store_stage_abandon(s->stage);
	} else if (s->lease.token &&
		   (result == 0 || catalog_lease_end(s->catalog, s->lease.token, &err) == 0)) {
		if (s->stage && store_stage_end(s->stage, &err) < 0)
			log_warning("%s; the next session removes it", err.text);
		(void)store_lock_remove(s->repo->store, s->lease.lock_name, NULL);
		if (result < 0)
			(void)sweep_with(s->repo, s->catalog, &err);
	} else if (s->stage) {
		store_stage_abandon(s->stage);
	}
	base_cleanup_fd(&s->lease_fd);
	if (s->catalog)
		repo_catalog_put(s->repo, s->catalog);
}

int state_publish(struct repo *r, const struct hold_change *hold, struct audit *audit,
		  struct err *err)
{
	struct state_session s = { .repo = r, .lease_fd = -1 };
	struct err local = ERR_INIT;
	struct object_ref ref = { .locator = LOCATOR_NONE };
	int ret;

	if (!err)
		err = &local;
	ret = repo_need_key(r, err);
	if (ret == 0 && r->mode != REPO_WRITE)
		ret = err_set(err, ERR_INTERNAL, "the repository is not open for writing");
	if (ret == 0)
		ret = repo_catalog_get(r, &s.catalog, err);
	if (ret < 0)
		return ret;
	ret = lease_take(&s, err);
	if (ret == 0)
		ret = store_stage_begin(r->store, s.lease.token, &s.stage, err); /* I3 */
	if (ret == 0)
		ret = store_tries(r, s.catalog, s.lease.token, s.stage, hold, audit, &ref, err);
	if (ret == ERR_UNKNOWN)
		ret = look_again(&s, &ref, err);
	session_end(&s, ret);
	return ret;
}
