/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A write session from its lease to its publication.  The steps I1 to I11 of the protocol are named where they happen.
 *
 * 1. Nothing is listed before it is durable: packs are synced, read back, renamed and their folders synced before the
 *    transaction that makes them live.
 * 2. After ERR_UNKNOWN from that transaction the session looks for its point and removes nothing.
 * 3. However a session ends, the repository is left so that the next one needs no help: either it cleans up here, or
 *    the sweep does.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "catalog/overlay.h"
#include "repo/audit.h"
#include "repo/session-internal.h"

#include "base/banned.h"

#define PROGRAM "livepoint " PACKAGE_VERSION
#define INDEX_TRIES 3 /* a segment that is listed and missing may have been merged just now */
#define SUITE_TRIES 8 /* packs that may be unreadable before nobody can tell */

static void session_free(struct repo_session *s)
{
	disk_discard(s);
	if (s->finishing) {
		/* Each one that failed ends a round. */
		while (session_collect(s, true, NULL) < 0)
			;
		queue_free(s->finishing);
	}
	session_jobs_free(s);
	while (s->finished) {
		struct finish_job *f = s->finished;

		s->finished = f->next;
		store_writer_free(f->writer);
		free(f);
	}
	session_done_clear(s);
	store_writer_free(s->data);
	store_writer_free(s->map);
	map_release(&s->disk.map);
	repo_disk_close(s->disk.parent);
	free(s->disk.source);
	for (size_t i = 0; i < s->ndisks; i++)
		free(s->disks[i].source);
	free(s->disks);
	session_configs_free(s);
	id_table_release(&s->ids);
	slot_set_release(&s->reused);
	pack_list_release(&s->usable.packs);
	pthread_rwlock_destroy(&s->usable.lock);
	free(s->usable.own);
	free(s->segments);
	store_index_free(s->index);
	repo_point_close(s->parent);
	if (s->reader)
		repo_reader_put(s->repo, s->reader);
	if (s->catalog)
		repo_catalog_put(s->repo, s->catalog);
	base_cleanup_fd(&s->lease_fd);
	free(s);
}

/* --- beginning --- */

static int lease_try(struct repo_session *s, const struct session_spec *spec, const uint8_t *since,
		     struct point_row *parent, struct err *err)
{
	struct lease holder = { 0 };
	int r = sweep_with(s->repo, s->catalog, err);

	if (r < 0)
		return r;
	repo_lease_describe(&s->lease, LEASE_INGEST, spec->name);
	r = store_lock_make(s->repo->store, s->lease.lock_name, &s->lease_fd, err); /* I1 */
	if (r < 0)
		return r;
	r = catalog_session_begin(s->catalog, &s->lease, since, &s->usable.packs, &s->has_parent,
				  parent, &holder, err); /* I2 */
	if (r < 0) {
		(void)store_lock_remove(s->repo->store, s->lease.lock_name, NULL);
		base_cleanup_fd(&s->lease_fd);
		s->lease_fd = -1;
		s->lease.token = 0;
	}
	return r;
}

static int lease_take(struct repo_session *s, const struct session_spec *spec, const uint8_t *since,
		      struct point_row *parent, struct err *err)
{
	uint64_t until = time_mono_ns() + (uint64_t)spec->wait_seconds * 1000000000u;
	int r = sweep_check(s->repo, s->catalog, err);

	while (r == 0) {
		r = lease_try(s, spec, since, parent, err);
		if (r != ERR_LOCKED || time_mono_ns() >= until)
			return r;
		r = session_stopped(s, err);
		if (r < 0)
			return r;
		time_sleep_ms(200);
		err_clear(err);
	}
	return r;
}

/* 1: a file is missing, which a merge of somebody else may have taken since the list was read. */
static int open_listed(struct repo_session *s, bool again, struct err *err)
{
	struct err local = ERR_INIT;
	int r = store_index_new(s->repo->store, &s->index, err);

	if (r == 0)
		r = catalog_segments(s->catalog, &s->segments, &s->nsegments, err);
	for (size_t i = 0; i < s->nsegments && r == 0; i++) {
		int added = store_index_add(s->index, s->segments[i].number, &local);

		if (added == 0)
			continue;
		if (added == ERR_NOT_FOUND && again)
			return 1;
		/* Derived data: what it knew is stored again, if it comes again. */
		log_warning("%s; its chunks may be stored twice", local.text);
		err_clear(&local);
	}
	return r;
}

static int open_index(struct repo_session *s, struct err *err)
{
	for (unsigned tries = 0;; tries++) {
		int r = open_listed(s, tries < INDEX_TRIES, err);

		if (r <= 0)
			return r;
		store_index_free(s->index);
		s->index = NULL;
		free(s->segments);
		s->segments = NULL;
		s->nsegments = 0;
	}
}

/* The header is not sealed.  With another suite than the packs have, by accident or by somebody's hand, what follows would
 * be stored under no key, or under another one.  One readable pack tells; the newest are those that are likeliest whole. */
static int check_suite(struct repo_session *s, struct err *err)
{
	const struct pack_list *packs = &s->usable.packs;
	unsigned suite = s->repo->conf.suite, tries = 0, found;

	for (size_t i = packs->count; i > 0 && tries < SUITE_TRIES; i--) {
		struct store_pack *p;

		if (packs->rows[i - 1].state != PACK_LIVE)
			continue;
		tries++;
		if (store_pack_get(s->repo->store, packs->rows[i - 1].number, &p, NULL) < 0)
			continue; /* verify has words for it */
		found = store_pack_suite(p);
		store_pack_put(p);
		if (found == suite)
			return 0;
		err_set(err, ERR_DAMAGED,
			"'%s/livepoint.conf' says cipher suite %u, but pack %" PRIx64
			" has %u: the file was changed, and nothing is written%s",
			s->repo->path, suite, packs->rows[i - 1].number, found,
			suite ? "" : " that anyone could read");
		return err_object(err, "livepoint.conf");
	}
	return 0;
}

static int begin_parts(struct repo_session *s, const struct session_spec *spec, struct err *err)
{
	struct point_row parent = { 0 };
	struct repo_spec since = { 0 };
	int r = 0;

	if (spec->since && !spec->full) {
		r = repo_resolve(s->repo, spec->since, &since, err);
		s->differential = true;
	}
	if (r == 0)
		r = lease_take(s, spec, s->differential ? since.row.id : spec->since_id, &parent,
			       err);
	repo_spec_release(&since);
	if (r == 0)
		r = check_suite(s, err);
	if (r < 0) {
		point_row_release(&parent);
		return r;
	}
	if (spec->full)
		s->has_parent = false;
	if (s->has_parent)
		memcpy(s->parent_id, parent.id, POINT_ID_LEN);
	point_row_release(&parent);
	for (size_t i = 0; i < s->usable.packs.count; i++)
		s->usable.any_damaged |= s->usable.packs.rows[i].damaged.nbytes != 0;
	r = store_stage_begin(s->repo->store, s->lease.token, &s->stage, err); /* I3 */
	if (r == 0)
		r = open_index(s, err);
	if (r == 0)
		r = id_table_init(&s->ids, err);
	if (r == 0)
		r = session_jobs_make(s, err);
	if (r == 0)
		r = queue_new(s->repo->pool, FINISH_DEPTH, &s->finishing, err);
	if (r == 0 && s->has_parent)
		r = repo_point_open(s->repo, s->parent_id, &s->parent, err);
	return r;
}

static int check_begin(struct repo *r, const struct session_spec *spec, struct err *err)
{
	int ret = repo_need_key(r, err);

	if (ret < 0)
		return ret;
	if (!name_valid(spec->name)) {
		err_set(err, ERR_INVALID,
			"'%.140s' is no NAME (1 to 128 of A-Z a-z 0-9 . _ -, not starting with . or -)",
			spec->name);
		return err_object(err, "%.140s", spec->name);
	}
	if (r->mode != REPO_WRITE || !r->started)
		return err_set(err, ERR_INTERNAL, "the repository is not open for writing");
	return 0;
}

int repo_session_begin(struct repo *r, const struct session_spec *spec, struct repo_session **out,
		       struct err *err)
{
	struct err local = ERR_INIT;
	struct repo_session *s;
	int ret;

	if (!err)
		err = &local;
	ret = check_begin(r, spec, err);
	if (ret < 0)
		return ret;
	s = mem_alloc(sizeof(*s));
	if (!s)
		return err_nomem(err, "session");
	s->repo = r;
	s->lease_fd = -1;
	s->stop = spec->stop;
	s->level = compression_level(spec->compression < 0 ? r->conf.compression :
							     (enum compression)spec->compression);
	s->checkpoint_ns = time_mono_ns();
	pthread_rwlock_init(&s->usable.lock, NULL);
	ret = repo_catalog_get(r, &s->catalog, err);
	if (ret == 0)
		ret = repo_reader_get(r, &s->reader, err);
	if (ret == 0)
		ret = begin_parts(s, spec, err);
	if (ret < 0) {
		s->failed = true;
		repo_session_abort(s);
		return ret;
	}
	*out = s;
	return 0;
}

struct repo_point *repo_session_parent(struct repo_session *s)
{
	return s->parent;
}

void repo_session_counters(const struct repo_session *s, struct session_result *result)
{
	*result = s->counters;
	if (s->data)
		result->stored += session_pack_bytes(s->data);
	if (s->map)
		result->stored += session_pack_bytes(s->map);
}

/* --- ending --- */

/* After the lease is gone: folder and lock file (I11). */
static void end_files(struct repo_session *s)
{
	struct err err = ERR_INIT;

	if (s->stage && store_stage_end(s->stage, &err) < 0)
		log_warning("%s; the next session removes it", err.text);
	s->stage = NULL;
	if (s->lease_fd >= 0)
		(void)store_lock_remove(s->repo->store, s->lease.lock_name, NULL);
}

void repo_session_abort(struct repo_session *s)
{
	struct err err = ERR_INIT;

	if (!s)
		return;
	disk_discard(s);
	/* Finished packs are kept for the next session, if nothing was wrong with this one. */
	if (!s->failed && s->finishing && session_collect(s, true, &err) == 0 && s->nfinished_data)
		(void)session_checkpoint(s, &err);
	else if (s->finishing)
		(void)session_collect(s, true, &err);
	/* Rows `writing` and renamed files go the sweep's way: lease first. */
	if (s->lease.token && catalog_lease_end(s->catalog, s->lease.token, &err) == 0) {
		end_files(s);
		(void)sweep_with(s->repo, s->catalog, &err);
	} else if (s->stage) {
		store_stage_abandon(s->stage);
	}
	session_free(s);
}

static int manifest_fill(struct repo_session *s, const struct publish_spec *spec,
			 struct manifest *m, struct err *err)
{
	struct session_result now;
	int r;

	memset(m, 0, sizeof(*m));
	memcpy(m->uuid, s->repo->conf.uuid, UUID_LEN);
	str_copy(m->name, sizeof(m->name), s->lease.name);
	m->time = spec->time ? spec->time : time_now();
	m->kind = !s->has_parent  ? POINT_FULL :
		  s->differential ? POINT_DIFFERENTIAL :
				    POINT_INCREMENTAL;
	m->has_parent = s->has_parent;
	if (s->has_parent)
		memcpy(m->parent, s->parent_id, POINT_ID_LEN);
	m->consistency = spec->consistency ? spec->consistency : CONSISTENCY_CRASH;
	repo_session_counters(s, &now);
	m->stored = now.stored;
	m->program = (char *)PROGRAM;
	m->disks = s->disks;
	m->ndisks = s->ndisks;
	m->configs = s->configs;
	m->nconfigs = s->nconfigs;
	m->labels = (struct manifest_label *)spec->labels;
	m->nlabels = spec->nlabels;
	r = catalog_reserve(s->catalog, s->lease.token, m->name, &m->time, &m->sequence,
			    &m->generation, err);
	return r;
}

/* What the audit log says of a backup, or of a seal. */
static int backup_detail(const struct repo_session *s, const struct manifest *m,
			 const struct object_ref *ref, struct buf *out, struct err *err)
{
	char id[2 * POINT_ID_LEN + 1];

	hex_encode(id, ref->id, POINT_ID_LEN);
	buf_printf(out, "{\"id\":\"%s\",\"kind\":\"%s\",\"stored\":%" PRIu64, id,
		   point_kind_name(m->kind), m->stored);
	if (s->sealed)
		buf_printf(out, ",\"overlay\":\"%s\"", s->sealed->id);
	buf_printf(out, "}");
	return out->failed ? err_nomem(err, "entry of the audit log") : 0;
}

/* Everything durable; then the one transaction (I5 to I10). */
static int commit(struct repo_session *s, const struct manifest *m, const struct object_ref *ref,
		  struct err *err)
{
	cleanup_free struct pack_done *packs = NULL;
	cleanup_buf struct buf detail = BUF_INIT;
	char point[POINT_TEXT_MAX];
	struct session_done done;
	struct repo_audit audit;
	int r = backup_detail(s, m, ref, &detail, err);

	repo_point_text(m, point);
	repo_audit_fill(s->repo, &audit, s->sealed ? "seal" : "backup", point, buf_str(&detail));
	if (r == 0)
		r = session_rotate(s, PACK_DATA, err);
	if (r == 0)
		r = session_rotate(s, PACK_MAP, err);
	if (r == 0)
		r = session_collect(s, true, err);
	/* Asked here for the last time: what is finished can still be kept by a checkpoint. */
	if (r == 0)
		r = session_stopped(s, err);
	if (r == 0)
		r = session_rename(s, true, err); /* I6, I7 */
	if (r == 0)
		r = session_done_fill(s, &done, &packs, err); /* I8 */
	if (r == 0)
		done.overlay = s->sealed;
	if (r == 0)
		r = catalog_publish(s->catalog, s->lease.token, &done, s->reused.packs,
				    slot_set_compact(&s->reused), ref->id, ref, m, &audit.audit,
				    err); /* I10 */
	return r;
}

/* COMMIT returned an error: a new connection tells what happened. */
static int look_again(struct repo_session *s, const uint8_t *id, struct err *err)
{
	struct point_row row = { 0 };
	struct catalog *c;
	cleanup_free char *path = str_printf("%s/catalog.sqlite", s->repo->path);
	struct err second = ERR_INIT;
	int r;

	if (!path)
		return ERR_UNKNOWN;
	catalog_close(s->catalog);
	s->catalog = NULL;
	r = catalog_open(path, CATALOG_READ_WRITE, s->repo->conf.uuid, &c, &second);
	if (r < 0)
		return ERR_UNKNOWN;
	r = catalog_point_by_id(c, id, &row, &second);
	if (r == 0) {
		point_row_release(&row);
		log_warning("the commit reported an error (%s), but the restore point is there",
			    err ? err->text : "");
		err_clear(err);
	} else {
		r = r == ERR_NOT_FOUND ? err_recode(err, ERR_IO) : ERR_UNKNOWN;
	}
	s->catalog = c;
	return r;
}

int repo_session_publish(struct repo_session *s, const struct publish_spec *spec,
			 struct session_result *result, struct err *err)
{
	struct err local = ERR_INIT;
	cleanup_buf struct buf bytes = BUF_INIT;
	struct object_ref ref = { 0 };
	struct manifest m;
	int r = 0;

	if (!err)
		err = &local;
	if (s->failed || s->disk.open)
		r = err_set(err, ERR_INTERNAL,
			    "the session has failed before or a disk is not ended");
	if (r == 0)
		r = session_merge_index(s, err);
	if (r == 0)
		r = manifest_fill(s, spec, &m, err);
	if (r == 0)
		r = manifest_encode(&m, &bytes, err);
	if (r == 0)
		r = session_object(s, OBJECT_MANIFEST, bytes.data, bytes.len, &ref, err);
	if (r == 0)
		r = commit(s, &m, &ref, err);
	if (r == ERR_UNKNOWN)
		r = look_again(s, ref.id, err);
	if (r == ERR_UNKNOWN) {
		/* Nothing is removed: only a sweep, from the committed state, may. */
		if (s->stage)
			store_stage_abandon(s->stage);
		s->stage = NULL;
		s->lease.token = 0;
		session_free(s);
		return r;
	}
	if (r < 0) {
		s->failed = r != ERR_INTERRUPTED && r != ERR_TERMINATED;
		repo_session_abort(s);
		return r;
	}
	repo_session_counters(s, result);
	result->stored = m.stored;
	memcpy(result->id, ref.id, POINT_ID_LEN);
	repo_point_text(&m, result->point);
	end_files(s);
	session_free(s);
	return 0;
}
