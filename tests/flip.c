// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * flip DIR plain|encrypted FLIPS SEED: damage in a small repository, one bit at a time; then files cut short, emptied and
 * lost.
 *
 * The repository has three points; a fourth was forgotten and pruned, so that a pack is rewritten, and one is held, so that there
 * is a state object.
 * Kinds, in turn: of data packs and map packs each the header, a record's header, its payload, the footer, the trailer;
 * the state object; any byte of a rewritten pack; an index segment; livepoint.conf; the key file; the catalog's file; a value in a row of the catalog, by SQL.
 * Expected each time:
 *
 *	read	every point is read in full: the right bytes, or an error; never other bytes, never zeroes.  An error about a
 *		chunk names pack, slot, offset and id.
 *	verify	of all data finds what is wrong in a pack; for a chunk's payload the finding has the locator, a point, its disk
 *		and a range that holds the chunk.  (Bits of plain zstd frames that change nothing are let through, few.)
 *	backup	with a damaged or lost segment it works as ever; with other damage (every 8th) it may fail, but what it
 *		publishes reads right or not at all.
 */
#include "tests/reliability.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#include "base/banned.h"

#define DISK (2 * MiB)
#define POINTS 3
#define FILES_MAX 64

enum kind {
	DATA_HEADER,
	DATA_RECORD,
	DATA_PAYLOAD,
	DATA_FOOTER,
	DATA_TRAILER,
	MAP_HEADER,
	MAP_RECORD,
	MAP_PAYLOAD,
	MAP_FOOTER,
	MAP_TRAILER,
	STATE_PAYLOAD,
	REWRITTEN,
	SEGMENT,
	CONF,
	KEY,
	CATALOG_FILE,
	CATALOG_ROW,
	KINDS
};
static const char *const kind_names[KINDS] = {
	"data pack header",  "data record header", "data payload",	"data pack footer",
	"data pack trailer", "map pack header",	   "map record header", "map payload",
	"map pack footer",   "map pack trailer",   "state object",	"rewritten pack",
	"index segment",     "livepoint.conf",	   "key file",		"catalog file",
	"catalog row",
};

struct file {
	char path[300];
	enum kind kind; /* DATA_HEADER, MAP_HEADER, SEGMENT, CONF, KEY or CATALOG_FILE */
	uint64_t size, number; /* bytes; of the pack */
	struct footer_entry *entries;
	unsigned nentries;
	uint64_t footer_offset;
	const struct footer_entry *state; /* the newest state object's, if it is in this pack */
	bool rewritten; /* has fewer records than slots */
};

struct flips {
	struct rel t;
	char template[256];
	struct file files[FILES_MAX];
	unsigned nfiles;
	char log[1024]; /* last error line */
	unsigned errors[KINDS], good[KINDS], found[KINDS], done[KINDS], ignored[KINDS]; /* counts */
	/* of the verify under way */
	uint64_t locator; /* that must be named; LOCATOR_NONE: none */
	bool named, placed;
};

static void log_line(void *opaque, enum log_level level, const char *line)
{
	struct flips *f = opaque;

	if (level == LOG_LEVEL_ERROR)
		str_copy(f->log, sizeof(f->log), line);
}

/* --- what is there --- */

static void read_pack(struct flips *f, struct file *x)
{
	struct err err = ERR_INIT;
	struct buf all = BUF_INIT;
	struct pack_header h;
	struct pack_trailer tr;
	struct rel *t = &f->t;

	rel_ok(t, file_read_all(x->path, PACK_BYTES_MAX, &all, &err));
	rel_ok(t, pack_header_decode(all.data, &h, &err));
	rel_ok(t, pack_trailer_decode(all.data + all.len - PACK_TRAILER_LEN, all.len, &tr, &err));
	rel_ok(t,
	       footer_decode(all.data + tr.footer_offset, tr.footer_len, &tr, &x->entries, &err));
	x->kind = h.kind == PACK_DATA ? DATA_HEADER : MAP_HEADER;
	x->number = h.number;
	x->nentries = tr.count;
	x->footer_offset = tr.footer_offset;
	x->rewritten = tr.slots > tr.count;
	for (unsigned i = 0; i < tr.count; i++)
		if (x->entries[i].type == OBJECT_STATE)
			x->state = &x->entries[i];
	buf_release(&all);
}

struct folder {
	struct flips *f;
	const char *path;
};

static int add_entry(void *opaque, const char *name, struct err *err)
{
	struct folder *in = opaque;
	struct flips *f = in->f;
	cleanup_free char *path = str_printf("%s/%s", in->path, name);
	struct file *x = &f->files[f->nfiles];
	struct folder below = { f, path };
	struct stat st;

	if (lstat(path, &st) < 0 || str_ends(name, "-shm") || str_ends(name, "-wal"))
		return 0;
	if (S_ISDIR(st.st_mode))
		return dir_each(path, add_entry, &below, err);
	if (f->nfiles == FILES_MAX)
		rel_fail(&f->t, "too many files");
	*x = (struct file){ .size = (uint64_t)st.st_size };
	str_copy(x->path, sizeof(x->path), path);
	if (str_ends(name, ".pack"))
		read_pack(f, x);
	else if (str_ends(name, ".seg"))
		x->kind = SEGMENT;
	else if (str_ends(name, ".key"))
		x->kind = KEY;
	else if (strcmp(name, "livepoint.conf") == 0)
		x->kind = CONF;
	else if (strcmp(name, "catalog.sqlite") == 0)
		x->kind = CATALOG_FILE;
	else
		rel_fail(&f->t, "what is '%s'?", path);
	f->nfiles++;
	return 0;
}

static struct file *pick(struct flips *f, enum kind kind)
{
	struct file *of[FILES_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < f->nfiles; i++)
		if (f->files[i].kind == kind || (kind == REWRITTEN && f->files[i].rewritten) ||
		    (kind == STATE_PAYLOAD && f->files[i].state))
			of[n++] = &f->files[i];
	return n ? of[rel_random(&f->t, n)] : NULL;
}

/* Another process' or an earlier check's leases must not pile up: the template again. */
static void fresh(struct flips *f)
{
	rel_copy_tree(f->template, f->t.repo);
}

/* --- damage --- */

static uint64_t pick_offset(struct flips *f, const struct file *x, enum kind kind,
			    uint64_t *locator)
{
	struct rel *t = &f->t;
	const struct footer_entry *e = NULL;

	*locator = LOCATOR_NONE;
	if (x->nentries)
		e = &x->entries[rel_random(t, x->nentries)];
	switch (kind) {
	case DATA_HEADER:
	case MAP_HEADER:
		return rel_random(t, PACK_HEADER_LEN);
	case DATA_RECORD:
	case MAP_RECORD:
		return e->offset + rel_random(t, RECORD_HEADER_LEN);
	case DATA_PAYLOAD:
	case MAP_PAYLOAD:
		*locator = locator_make(x->number, e->slot);
		return e->offset + RECORD_HEADER_LEN + rel_random(t, e->stored_len);
	case STATE_PAYLOAD:
		e = x->state;
		*locator = locator_make(x->number, e->slot);
		return e->offset + RECORD_HEADER_LEN + rel_random(t, e->stored_len);
	case DATA_FOOTER:
	case MAP_FOOTER:
		return x->footer_offset +
		       rel_random(t, x->size - PACK_TRAILER_LEN - x->footer_offset);
	case DATA_TRAILER:
	case MAP_TRAILER:
		return x->size - PACK_TRAILER_LEN + rel_random(t, PACK_TRAILER_LEN);
	default:
		return rel_random(t, x->size);
	}
}

static void flip_bit(struct flips *f, const char *path, uint64_t offset, unsigned bit)
{
	struct err err = ERR_INIT;
	cleanup_fd int fd = file_open(path, O_RDWR, 0, &err);
	uint8_t byte;

	rel_ok(&f->t, fd);
	rel_ok(&f->t, file_pread(fd, &byte, 1, offset, path, &err));
	byte ^= (uint8_t)(1u << bit);
	rel_ok(&f->t, file_pwrite(fd, &byte, 1, offset, path, NULL, &err));
}

static void sql(struct flips *f, sqlite3 *db, const char *text)
{
	if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
		rel_fail(&f->t, "%s: %s", text, sqlite3_errmsg(db));
}

/* One bit of one value of one row. False: the schema's own checks refuse it. */
static bool flip_row(struct flips *f)
{
	static const char *const columns[][2] = {
		{ "point", "id" },	    { "point", "manifest_locator" },
		{ "point", "manifest_id" }, { "point", "name" },
		{ "point", "time" },	    { "point", "sequence" },
		{ "point", "generation" },  { "point", "kind" },
		{ "point", "parent" },	    { "point", "state" },
		{ "disk", "name" },	    { "disk", "size" },
		{ "disk", "source_size" },  { "disk", "chunk_size" },
		{ "disk", "root_locator" }, { "disk", "root_id" },
		{ "pack", "state" },	    { "pack", "slots" },
		{ "pack", "bytes" },	    { "pack", "kind" },
		{ "segment", "records" },   { "meta", "uuid" },
		{ "meta", "generation" },   { "meta", "next_pack" },
	};
	struct rel *t = &f->t;
	unsigned which = (unsigned)rel_random(t, ARRAY_SIZE(columns));
	const char *table = columns[which][0], *column = columns[which][1];
	cleanup_free char *path = str_printf("%s/catalog.sqlite", t->repo);
	cleanup_free char *get =
		str_printf("SELECT rowid, %s FROM %s ORDER BY random() LIMIT 1", column, table);
	cleanup_free char *set = str_printf("UPDATE %s SET %s = ? WHERE rowid = ?", table, column);
	sqlite3_stmt *s, *u;
	sqlite3 *db;
	uint8_t bytes[256];
	int n, rc;

	snprintf(t->what + strlen(t->what), sizeof(t->what) - strlen(t->what), " %s.%s", table,
		 column);
	if (sqlite3_open(path, &db) != SQLITE_OK)
		rel_fail(t, "cannot open the catalog");
	sql(f, db, "PRAGMA foreign_keys = OFF");
	if (strcmp(table, "disk") == 0) { /* has no rowid */
		free(get);
		get = str_printf("SELECT point, %s FROM disk ORDER BY random() LIMIT 1", column);
		free(set);
		set = str_printf("UPDATE disk SET %s = ? WHERE point = ?", column);
	}
	if (sqlite3_prepare_v2(db, get, -1, &s, NULL) != SQLITE_OK ||
	    sqlite3_step(s) != SQLITE_ROW || sqlite3_prepare_v2(db, set, -1, &u, NULL) != SQLITE_OK)
		rel_fail(t, "%s: %s", get, sqlite3_errmsg(db));
	n = MIN(sqlite3_column_bytes(s, 1), (int)sizeof(bytes));
	switch (sqlite3_column_type(s, 1)) {
	case SQLITE_INTEGER:
		sqlite3_bind_int64(u, 1, sqlite3_column_int64(s, 1) ^ 1ll << rel_random(t, 40));
		break;
	case SQLITE_NULL:
		sqlite3_bind_zeroblob(u, 1, POINT_ID_LEN);
		break;
	default:
		memcpy(bytes, sqlite3_column_blob(s, 1), (size_t)n);
		bytes[rel_random(t, (uint64_t)n)] ^= (uint8_t)(1u << rel_random(t, 5));
		if (sqlite3_column_type(s, 1) == SQLITE_TEXT)
			sqlite3_bind_text(u, 1, (const char *)bytes, n, SQLITE_TRANSIENT);
		else
			sqlite3_bind_blob(u, 1, bytes, n, SQLITE_TRANSIENT);
	}
	sqlite3_bind_int64(u, 2, sqlite3_column_int64(s, 0));
	sqlite3_reset(s);
	rc = sqlite3_step(u);
	if (rc != SQLITE_DONE && sqlite3_errcode(db) != SQLITE_CONSTRAINT)
		rel_fail(t, "%s: %s", set, sqlite3_errmsg(db));
	sqlite3_finalize(s);
	sqlite3_finalize(u);
	sqlite3_close(db);
	return rc == SQLITE_DONE;
}

/* --- expectations --- */

static int open_damaged(struct flips *f, enum repo_mode mode, struct repo **out, struct err *err)
{
	struct repo *r;
	int ret = repo_open(f->t.repo, mode, &r, err);

	if (ret == 0 && repo_is_locked(r)) {
		ret = repo_unlock(r, REL_PASS, strlen(REL_PASS), true, err);
		if (ret < 0)
			repo_close(r);
	}
	if (ret < 0)
		return ret;
	ret = repo_start(r, 4 * MiB, REPO_SERIAL, err);
	if (ret < 0)
		rel_fail(&f->t, "%s", err->text);
	*out = r;
	return 0;
}

/* Any code but one that says a bug of ours. */
static void check_error(struct flips *f, const struct err *err)
{
	if (!*err->text)
		rel_fail(&f->t, "an error without a text");
	if (err->code == ERR_INTERNAL || err->code == ERR_NOMEM)
		rel_fail(&f->t, "error '%s': %s", err_code_name(err->code), err->text);
}

/* 1: right, 0: an error. */
static int read_point(struct flips *f, struct repo *r, const struct rel_promise *p, bool chunk)
{
	struct err err = ERR_INIT;
	cleanup_ptr(repo_point) point = NULL;
	cleanup_ptr(repo_disk) disk = NULL;
	cleanup_free uint8_t *data = malloc(DISK);
	bool opened = false;
	int ret = repo_point_open(r, p->id, &point, &err);

	if (ret == 0)
		ret = repo_disk_open(point, NULL, &disk, &err);
	if (ret == 0) {
		opened = true;
		if (repo_disk_size(disk) != DISK)
			rel_fail(&f->t, "%s has %" PRIu64 " bytes", p->text, repo_disk_size(disk));
		ret = repo_disk_read(disk, data, DISK, 0, &err);
	}
	if (ret < 0) {
		check_error(f, &err);
		if (opened && chunk &&
		    (!strstr(err.text, "pack ") || !strstr(err.text, "slot ") ||
		     !strstr(err.text, "offset ") || !strstr(err.text, "id ")))
			rel_fail(&f->t, "the error does not name the place: %s", err.text);
		if (opened && chunk && ret == ERR_DAMAGED && !strstr(f->log, "pack "))
			rel_fail(&f->t, "the log does not name the place: '%s'", f->log);
		return 0;
	}
	{
		struct rel copy = { .disk = data, .size = DISK };
		uint8_t sha[REL_SHA_LEN];

		rel_sha(&copy, sha);
		if (memcmp(sha, p->sha, REL_SHA_LEN) != 0)
			rel_fail(&f->t, "%s was read with wrong bytes", p->text);
	}
	return 1;
}

static void on_finding(void *opaque, const struct verify_finding *v)
{
	struct flips *f = opaque;

	if (f->locator == LOCATOR_NONE || v->locator != f->locator)
		return;
	f->named = true;
	if (v->point && v->disk && v->length)
		f->placed = true;
}

/* Whether verify found something. */
static bool verify(struct flips *f, struct repo *r, uint64_t locator)
{
	struct err err = ERR_INIT;
	struct verify_result result;
	struct verify_spec spec = { .data = true, .finding = on_finding, .opaque = f };
	int ret;

	f->locator = locator;
	f->named = f->placed = false;
	ret = repo_verify(r, &spec, &result, &err);
	if (ret < 0)
		check_error(f, &err);
	return ret < 0;
}

static void backup(struct flips *f, struct repo *r, bool must)
{
	struct rel *t = &f->t;
	struct err err = ERR_INIT;
	struct session_spec spec = { .name = "web1", .compression = -1 };
	struct disk_spec disk = { .name = "vda", .size = DISK, .method = METHOD_HASH };
	struct publish_spec publish = { 0 };
	struct session_result result;
	struct repo_session *s = NULL;
	struct rel_promise p = { .text = "the new point" };
	uint8_t *buffer;
	int ret = repo_session_begin(r, &spec, &s, &err);

	if (ret == 0)
		ret = session_disk_begin(s, &disk, &err);
	for (uint64_t at = 0; at < DISK && ret == 0; at += SESSION_BUFFER) {
		ret = session_buffer(s, &buffer, &err);
		if (ret == 0) {
			memcpy(buffer, t->disk + at, SESSION_BUFFER);
			ret = session_disk_write(s, buffer, at, SESSION_BUFFER, &err);
		}
	}
	if (ret == 0)
		ret = session_disk_end(s, DISK, DISK, &err);
	if (ret == 0)
		ret = repo_session_publish(steal_ptr(s), &publish, &result, &err);
	else
		repo_session_abort(s);
	if (ret < 0) {
		check_error(f, &err);
		if (must)
			rel_fail(t, "a backup failed: %s", err.text);
		return;
	}
	memcpy(p.id, result.id, POINT_ID_LEN);
	rel_sha(t, p.sha);
	if (!read_point(f, r, &p, false) && must)
		rel_fail(t, "the new point cannot be read");
}

/* Some bits of a zstd frame are read by nobody (reserved ones, padding of bit streams: 25 of the 6320 of one that was tried).
 * With the tag of an encrypted record they are noticed; in a plain one the same plaintext comes out, with its right id, and
 * nothing is wrong with it. */
static bool may_be_ignored(const struct flips *f, enum kind kind)
{
	return !f->t.encrypted && (kind == DATA_PAYLOAD || kind == MAP_PAYLOAD ||
				   kind == STATE_PAYLOAD || kind == REWRITTEN);
}

/* All expectations of one damage. */
static void look(struct flips *f, enum kind kind, uint64_t locator, bool with_backup)
{
	struct rel *t = &f->t;
	struct err err = ERR_INIT;
	struct repo *r;
	bool in_pack = kind < SEGMENT, bad = false;
	unsigned right = 0;

	f->log[0] = 0;
	if (open_damaged(f, REPO_READ, &r, &err) < 0) {
		check_error(f, &err);
		if (in_pack || kind == SEGMENT)
			rel_fail(t, "the repository cannot be opened: %s", err.text);
		f->errors[kind]++;
		return;
	}
	for (unsigned i = 0; i < POINTS; i++)
		right += (unsigned)read_point(f, r, &t->promises[i], kind <= DATA_TRAILER);
	f->good[kind] += right == POINTS;
	f->errors[kind] += right < POINTS;
	if (kind == SEGMENT && right < POINTS)
		rel_fail(t, "a point cannot be read without the index");
	if (kind == STATE_PAYLOAD && right < POINTS)
		rel_fail(t, "a point cannot be read without the state object");
	if (in_pack || rel_random(t, 4) == 0)
		bad = verify(f, r, locator);
	f->found[kind] += bad;
	if (in_pack && !bad && right == POINTS && may_be_ignored(f, kind)) {
		f->ignored[kind]++;
		locator = LOCATOR_NONE;
	} else if (in_pack && !bad) {
		rel_fail(t, "verify has found nothing");
	}
	if (locator != LOCATOR_NONE && !f->named)
		rel_fail(t, "verify does not name pack and slot");
	if (locator != LOCATOR_NONE && kind == DATA_PAYLOAD && !f->placed)
		rel_fail(t, "verify does not name point, disk and range");
	repo_close(r);
	if (!with_backup)
		return;
	if (open_damaged(f, REPO_WRITE, &r, &err) < 0) {
		check_error(f, &err);
		return;
	}
	backup(f, r, kind == SEGMENT);
	repo_close(r);
}

static void one_flip(struct flips *f, unsigned number)
{
	struct rel *t = &f->t;
	enum kind kind = number % KINDS;
	enum kind of = kind <= DATA_TRAILER ? DATA_HEADER : kind <= MAP_TRAILER ? MAP_HEADER : kind;
	struct file *x = kind == CATALOG_ROW ? NULL : pick(f, of);
	uint64_t offset = 0, locator = LOCATOR_NONE;
	unsigned bit = (unsigned)rel_random(t, 8);
	bool with_backup = kind == SEGMENT || rel_random(t, 8) == 0;

	if (!x && kind != CATALOG_ROW)
		return; /* a plain repository has no key */
	snprintf(t->what, sizeof(t->what), "flip %u, %s", number, kind_names[kind]);
	if (kind == CATALOG_ROW) {
		if (!flip_row(f)) {
			fresh(f);
			return;
		}
	} else {
		offset = pick_offset(f, x, kind, &locator);
		snprintf(t->what, sizeof(t->what), "flip %u, %s, '%s' offset %" PRIu64 " bit %u",
			 number, kind_names[kind], x->path, offset, bit);
		flip_bit(f, x->path, offset, bit);
	}
	look(f, kind, locator, with_backup);
	f->done[kind]++;
	t->passed++;
	if (kind >= CATALOG_FILE || with_backup || number % 16 == 0)
		fresh(f);
	else
		flip_bit(f, x->path, offset, bit);
}

/* Packs and segments cut short, emptied, lost. */
static void whole_files(struct flips *f)
{
	struct rel *t = &f->t;

	for (unsigned i = 0; i < f->nfiles; i++) {
		const struct file *x = &f->files[i];
		const uint64_t sizes[] = { 0, 1, PACK_HEADER_LEN, x->size / 2, x->size - 1 };

		if (x->kind != DATA_HEADER && x->kind != MAP_HEADER && x->kind != SEGMENT)
			continue;
		for (unsigned k = 0; k <= ARRAY_SIZE(sizes); k++) {
			if (k < ARRAY_SIZE(sizes)) {
				snprintf(t->what, sizeof(t->what), "'%s' cut to %" PRIu64 " bytes",
					 x->path, sizes[k]);
				if (truncate(x->path, (off_t)sizes[k]) < 0)
					rel_fail(t, "cannot cut it");
			} else {
				snprintf(t->what, sizeof(t->what), "'%s' lost", x->path);
				if (unlink(x->path) < 0)
					rel_fail(t, "cannot remove it");
			}
			look(f, x->kind, LOCATOR_NONE, true);
			t->passed++;
			fresh(f);
		}
	}
}

static void must_run(struct rel *t, const char *const *args)
{
	struct rel_status s = rel_run(t, args, NULL, NULL);

	if (!s.exited || s.code)
		rel_fail(t, "%s ended with %d", args[0], s.code);
}

/* Of what the second point has stored the third uses a part. */
static void retention(struct rel *t)
{
	const struct rel_promise *p = t->promises;

	must_run(t, (const char *const[]){ "forget", "--grace", "0", p[1].text, NULL });
	must_run(t, (const char *const[]){ "protect", p[0].text, "--reason", "kept", NULL });
	must_run(t, (const char *const[]){ "prune", "--min-unused", "0", NULL });
	memmove(&t->promises[1], &t->promises[2], (--t->npromises - 1) * sizeof(*p));
}

static void prepare(struct flips *f)
{
	struct rel *t = &f->t;
	struct err err = ERR_INIT;
	struct folder in = { f, t->repo };

	rel_init(t);
	for (unsigned i = 0; i <= POINTS; i++) {
		rel_change(t, i ? 16 : 0);
		rel_backup(t, "web1");
	}
	retention(t);
	rel_copy_tree(t->repo, f->template);
	rel_ok(t, dir_each(t->repo, add_entry, &in, &err));
	if (!pick(f, REWRITTEN) || !pick(f, STATE_PAYLOAD))
		rel_fail(t, "no pack was rewritten, or there is no state object");
	rel_change(t, 6); /* for backups of damaged repositories */
	log_set_sink(log_line, f, LOG_LEVEL_ERROR);
}

int main(int argc, char **argv)
{
	static struct flips f;
	uint64_t flips, seed;

	if (argc != 5 || !parse_u64(argv[3], &flips) || !parse_u64(argv[4], &seed)) {
		fprintf(stderr, "usage: flip DIR plain|encrypted FLIPS SEED\n");
		return 2;
	}
	rel_begin(&f.t, argv[1], strcmp(argv[2], "encrypted") == 0, seed, DISK, 200);
	snprintf(f.template, sizeof(f.template), "%s/template", argv[1]);
	prepare(&f);
	whole_files(&f);
	for (unsigned i = 0; i < flips; i++)
		one_flip(&f, i);
	for (unsigned k = 0; k < KINDS; k++) {
		printf("%-20s %4u flips: %4u an error when read, %4u right bytes, %4u found by verify, %u change nothing\n",
		       kind_names[k], f.done[k], f.errors[k], f.good[k], f.found[k], f.ignored[k]);
		if (f.ignored[k] > 2 + f.done[k] / 50)
			rel_fail(&f.t, "too many flips that change nothing");
	}
	printf("%u passed, 0 failed\n", f.t.passed);
	for (unsigned i = 0; i < f.nfiles; i++)
		free(f.files[i].entries);
	rel_end(&f.t);
	return 0;
}
