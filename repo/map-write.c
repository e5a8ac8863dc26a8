/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Building the block map of a disk, chunk by chunk in ascending order.
 *
 * 1. A leaf, page or root whose content id equals the parent's at the same place is not stored again: its reference is
 *    taken over.  Whole unchanged leaves are taken over without being read.
 * 2. What is all holes is an empty reference.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "repo/session-internal.h"

#include "base/banned.h"

int map_begin(struct repo_session *s, struct err *err)
{
	struct map_writer *m = &s->disk.map;

	memset(m, 0, sizeof(*m));
	m->leaves = mem_alloc_array(PAGE_LEAVES, sizeof(*m->leaves));
	m->pages = mem_alloc_array(ROOT_PAGES_MAX, sizeof(*m->pages));
	if (!m->leaves || !m->pages) {
		map_release(m);
		return err_nomem(err, "block map");
	}
	return 0;
}

void map_release(struct map_writer *m)
{
	free(m->leaves);
	free(m->pages);
	m->leaves = m->pages = NULL;
}

static bool none(const struct object_ref *refs, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (refs[i].locator != LOCATOR_NONE)
			return false;
	return true;
}

int session_share(struct repo_session *s, enum object_type type, const void *p, size_t n,
		  const struct object_ref *parent, struct object_ref *ref, struct err *err)
{
	uint8_t id[ID_LEN];
	int r = codec_id(store_reader_codec(s->reader), p, n, id, err);

	if (r < 0)
		return r;
	if (parent && parent->locator != LOCATOR_NONE && memcmp(parent->id, id, ID_LEN) == 0 &&
	    !usable_damaged(&s->usable, parent->locator)) {
		*ref = *parent;
		return 0;
	}
	return session_object(s, type, p, n, ref, err);
}

static int page_done(struct repo_session *s, unsigned count, struct err *err)
{
	struct map_writer *m = &s->disk.map;
	struct repo_disk *parent = s->disk.parent;
	cleanup_buf struct buf b = BUF_INIT;
	struct object_ref *ref;
	int r;

	if (m->npages == ROOT_PAGES_MAX)
		return err_set(err, ERR_TOO_BIG, "disk '%s' is too big for this chunk size",
			       s->disk.name);
	ref = &m->pages[m->npages];
	if (none(m->leaves, count)) {
		*ref = (struct object_ref){ 0 };
	} else {
		r = page_encode(m->leaves, count, &b, err);
		if (r == 0)
			r = session_share(s, OBJECT_PAGE, b.data, b.len,
					  parent && m->npages < parent->root->count ?
						  &parent->root->pages[m->npages] :
						  NULL,
					  ref, err);
		if (r < 0)
			return r;
	}
	m->npages++;
	memset(m->leaves, 0, PAGE_LEAVES * sizeof(*m->leaves));
	return 0;
}

static int leaf_put_ref(struct repo_session *s, const struct object_ref *ref, struct err *err)
{
	struct map_writer *m = &s->disk.map;

	m->leaves[m->leaf % PAGE_LEAVES] = *ref;
	m->leaf++;
	m->at = 0;
	return m->leaf % PAGE_LEAVES ? 0 : page_done(s, PAGE_LEAVES, err);
}

/* The parent's leaf at this place, if it has one with that many chunks. */
static int parent_ref(struct repo_session *s, unsigned chunks, struct object_ref *ref,
		      struct err *err)
{
	struct repo_disk *parent = s->disk.parent;
	uint64_t leaf = s->disk.map.leaf;

	*ref = (struct object_ref){ 0 };
	if (!parent || leaf * LEAF_CHUNKS >= parent->chunks ||
	    disk_leaf_chunks(parent, leaf) != chunks)
		return 0;
	return disk_leaf_ref(parent, leaf, ref, err);
}

static int leaf_done(struct repo_session *s, struct err *err)
{
	struct map_writer *m = &s->disk.map;
	struct object_ref parent, ref = { 0 };
	cleanup_buf struct buf b = BUF_INIT;
	uint8_t digest[ID_LEN];
	bool holes = true;
	int r;

	for (unsigned i = 0; i < m->at && holes; i++)
		holes = m->locators[i] == LOCATOR_NONE;
	if (holes)
		return leaf_put_ref(s, &ref, err);
	r = codec_id(store_reader_codec(s->reader), m->ids, (size_t)m->at * ID_LEN, digest, err);
	if (r == 0)
		r = leaf_encode(m->locators, m->at, digest, &b, err);
	if (r == 0)
		r = parent_ref(s, m->at, &parent, err);
	if (r == 0)
		r = session_share(s, OBJECT_LEAF, b.data, b.len, &parent, &ref, err);
	return r < 0 ? r : leaf_put_ref(s, &ref, err);
}

int map_put(struct repo_session *s, uint64_t locator, const uint8_t *id, struct err *err)
{
	struct map_writer *m = &s->disk.map;

	m->locators[m->at] = locator;
	if (locator == LOCATOR_NONE)
		memset(m->ids[m->at], 0, ID_LEN);
	else if (locator == LOCATOR_UNREADABLE)
		memset(m->ids[m->at], 0xff, ID_LEN);
	else
		memcpy(m->ids[m->at], id, ID_LEN);
	m->at++;
	return m->at == LEAF_CHUNKS ? leaf_done(s, err) : 0;
}

/* n chunks within the current leaf, as in the parent. */
static int fill_unchanged(struct repo_session *s, unsigned n, struct err *err)
{
	struct map_writer *m = &s->disk.map;
	uint64_t first = m->leaf * LEAF_CHUNKS + m->at;
	int r;

	if (!s->disk.parent || first + n > s->disk.parent->chunks)
		return err_set(err, ERR_INTERNAL,
			       "chunk %" PRIu64
			       " cannot be as in the parent, which has no such chunk",
			       first);
	r = disk_locators(s->disk.parent, first, n, m->locators + m->at, err);
	if (r == 0)
		r = leaf_ids(s->repo, m->locators + m->at, n, m->ids + m->at, err);
	if (r < 0)
		return err_prefix(err, "the parent's map of disk '%s' (run the backup with --full)",
				  s->disk.name);
	for (unsigned i = 0; i < n; i++)
		s->disk.unreadable += m->locators[m->at + i] == LOCATOR_UNREADABLE;
	m->at += n;
	return m->at == LEAF_CHUNKS ? leaf_done(s, err) : 0;
}

/* A whole leaf at once; returns 1 if that was possible. */
static int fill_leaf(struct repo_session *s, enum job_kind kind, struct err *err)
{
	struct object_ref ref = { 0 };
	int r;

	if (kind == JOB_UNREADABLE)
		return 0;
	if (kind == JOB_UNCHANGED) {
		if (!s->disk.parent ||
		    (s->disk.map.leaf + 1) * LEAF_CHUNKS > s->disk.parent->chunks)
			return 0;
		/* Unreadable ranges are counted chunk by chunk; only then does the leaf's inside matter. */
		if (s->disk.parent->info->unreadable_bytes)
			return 0;
		r = parent_ref(s, LEAF_CHUNKS, &ref, err);
		if (r < 0)
			return r;
	}
	r = leaf_put_ref(s, &ref, err);
	return r < 0 ? r : 1;
}

int map_fill(struct repo_session *s, enum job_kind kind, uint64_t count, struct err *err)
{
	struct map_writer *m = &s->disk.map;

	while (count) {
		unsigned n = (unsigned)MIN(count, LEAF_CHUNKS - m->at);
		int r = n == LEAF_CHUNKS ? fill_leaf(s, kind, err) : 0;

		if (r == 0 && kind == JOB_UNCHANGED)
			r = fill_unchanged(s, n, err);
		else if (r == 0)
			for (unsigned i = 0; i < n && r == 0; i++)
				r = map_put(s, kind == JOB_HOLE ? LOCATOR_NONE : LOCATOR_UNREADABLE,
					    NULL, err);
		if (r < 0)
			return r;
		if (kind == JOB_UNREADABLE)
			s->disk.unreadable += n;
		count -= n;
	}
	return 0;
}

int map_end(struct repo_session *s, uint64_t size, struct object_ref *ref, struct err *err)
{
	struct map_writer *m = &s->disk.map;
	struct repo_disk *parent = s->disk.parent;
	cleanup_free struct root *root = NULL;
	cleanup_buf struct buf b = BUF_INIT;
	int r = m->at ? leaf_done(s, err) : 0;

	if (r == 0 && m->leaf % PAGE_LEAVES)
		r = page_done(s, (unsigned)(m->leaf % PAGE_LEAVES), err);
	if (r < 0)
		return r;
	root = mem_alloc(sizeof(*root) + m->npages * sizeof(root->pages[0]));
	if (!root)
		return err_nomem(err, "root of a block map");
	root->size = size;
	root->chunk_size = s->repo->conf.chunk_size;
	root->leaf_chunks = LEAF_CHUNKS;
	root->count = (uint16_t)m->npages;
	if (m->npages)
		memcpy(root->pages, m->pages, m->npages * sizeof(root->pages[0]));
	r = root_encode(root, &b, err);
	if (r == 0)
		r = session_share(s, OBJECT_ROOT, b.data, b.len,
				  parent ? &parent->info->root : NULL, ref, err);
	return r;
}

/* --- what must not be taken over --- */

typedef int damaged_fn(void *opaque, uint64_t start, uint64_t length, struct err *err);

static int damaged_chunks(struct repo_session *s, uint64_t leaf, damaged_fn *fn, void *opaque,
			  struct err *err)
{
	struct repo_disk *parent = s->disk.parent;
	const uint64_t cs = parent->chunk_size, first = leaf * LEAF_CHUNKS;
	unsigned n = disk_leaf_chunks(parent, leaf);
	uint64_t locators[LEAF_CHUNKS];
	int r = 0;

	if (disk_locators(parent, first, n, locators, NULL) < 0)
		return fn(opaque, first * cs, n * cs, err);
	for (unsigned i = 0; i < n && r == 0; i++)
		if (locators[i] != LOCATOR_NONE && locators[i] != LOCATOR_UNREADABLE &&
		    usable_damaged(&s->usable, locators[i]))
			r = fn(opaque, (first + i) * cs, cs, err);
	return r;
}

int session_disk_damaged(struct repo_session *s, damaged_fn *fn, void *opaque, struct err *err)
{
	struct repo_disk *parent = s->disk.parent;
	uint64_t leaves = parent ? div_round_up(parent->chunks, LEAF_CHUNKS) : 0;
	int r = 0;

	for (uint64_t leaf = 0; leaf < leaves && s->usable.any_damaged && r == 0; leaf++) {
		struct object_ref ref;
		uint64_t start = leaf * LEAF_CHUNKS * parent->chunk_size;
		uint64_t length = (uint64_t)disk_leaf_chunks(parent, leaf) * parent->chunk_size;

		/* A page that cannot be read, or a leaf known to be bad, takes all below it along. */
		if (disk_leaf_ref(parent, leaf, &ref, NULL) < 0 ||
		    (ref.locator != LOCATOR_NONE && usable_damaged(&s->usable, ref.locator)))
			r = fn(opaque, start, length, err);
		else if (ref.locator != LOCATOR_NONE)
			r = damaged_chunks(s, leaf, fn, opaque, err);
	}
	return r < 0 ? r : 0;
}
