// SPDX-License-Identifier: GPL-3.0-or-later
/* What the children of model-gc do: one opens the repository, does one thing, tells what came of it, and ends; unless it is
 * killed or stopped in between. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "catalog/gc.h"
#include "repo/gc.h"
#include "repo/internal.h"
#include "repo/retention.h"
#include "repo/verify.h"
#include "tests/model-gc.h"

#include "base/banned.h"

/* Every third compresses. */
static void content(uint8_t *p, unsigned number)
{
	uint64_t x = number * 0x9e3779b97f4a7c15u + 1;

	memset(p, 0, CHUNK);
	if (!number)
		return;
	for (unsigned i = 0; i < CHUNK; i += 8) {
		x ^= x >> 12;
		x ^= x << 25;
		x ^= x >> 27;
		put_le64(p + i, number % 3 ? x * 0x2545f4914f6cdd1du : x % 5 + number);
	}
}

int report_fd;

static void __attribute__((noreturn)) tell(const struct report *r)
{
	if (write(report_fd, r, sizeof(*r)) != sizeof(*r))
		_exit(3);
	_exit(0);
}

static void __attribute__((noreturn)) tell_code(int code, const struct err *err)
{
	struct report r = { .code = code };

	if (code < 0)
		str_copy(r.text, sizeof(r.text), err->text);
	tell(&r);
}

static struct repo *child_open(unsigned threads)
{
	struct err err = ERR_INIT;
	struct repo *r;
	int ret = repo_open(w.repo, REPO_WRITE, &r, &err);

	if (ret == 0 && repo_is_locked(r))
		ret = repo_unlock(r, PASS, strlen(PASS), true, &err);
	if (ret == 0)
		ret = repo_start(r, 4 * MiB, threads ? threads : REPO_SERIAL, &err);
	if (ret < 0)
		tell_code(ret, &err);
	return r;
}

static int write_disk(struct repo_session *s, const uint16_t *chunks, unsigned pause_at,
		      struct err *err)
{
	struct disk_spec spec = { .name = "vda",
				  .size = (uint64_t)CHUNKS * CHUNK,
				  .method = METHOD_FULL };
	int r = session_disk_begin(s, &spec, err);

	for (unsigned at = 0; at < CHUNKS && r == 0; at += BUFFER_CHUNKS) {
		unsigned n = MIN(CHUNKS - at, BUFFER_CHUNKS);
		uint8_t *buffer;

		if (pause_at && pause_at == at / BUFFER_CHUNKS)
			kill(getpid(), SIGSTOP);
		r = session_buffer(s, &buffer, err);
		if (r < 0)
			break;
		for (unsigned i = 0; i < n; i++)
			content(buffer + i * CHUNK, chunks[at + i]);
		r = session_disk_write(s, buffer, (uint64_t)at * CHUNK, n * CHUNK, err);
	}
	return r == 0 ? session_disk_end(s, 0, 0, err) : r;
}

void child_backup(const struct plan *plan, const struct point *p, unsigned number)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(plan->threads);
	char name[16], label[16];
	struct manifest_label l = { .key = (char[]){ "n" }, .value = label };
	struct session_spec spec = { .name = name, .full = plan->full, .compression = -1 };
	struct publish_spec publish = { .labels = &l, .nlabels = 1 };
	struct session_result res;
	struct repo_session *s;
	int ret;

	snprintf(name, sizeof(name), "n%u", p->name);
	snprintf(label, sizeof(label), "%u", number);
	ret = repo_session_begin(r, &spec, &s, &err);
	if (ret == 0)
		ret = repo_session_config(s, "chunks", p->chunks, sizeof(p->chunks), &err);
	if (ret == 0)
		ret = write_disk(s, p->chunks, plan->pause, &err);
	if (ret < 0)
		tell_code(ret, &err);
	if (plan->abandon)
		_exit(0); /* as it is: a death without a signal */
	if (plan->pause == 6)
		kill(getpid(), SIGSTOP);
	ret = repo_session_publish(s, &publish, &res, &err);
	if (ret < 0)
		tell_code(ret, &err);
	repo_close(r);
	tell_code(0, &err);
}

static uint64_t count_entries(struct repo *r)
{
	cleanup_free uint64_t *numbers = NULL;
	size_t count = 0;
	uint64_t n = 0;
	struct err err = ERR_INIT;

	if (store_packs_list(r->store, &numbers, &count, &err) < 0)
		tell_code(ERR_FAILED, &err);
	for (size_t i = 0; i < count; i++) {
		struct store_pack *p;
		unsigned entries;

		if (store_pack_get(r->store, numbers[i], &p, &err) < 0)
			tell_code(ERR_FAILED, &err);
		(void)store_pack_entries(p, &entries);
		n += entries;
		store_pack_put(p);
	}
	return n;
}

void child_prune(const struct plan *plan, uint64_t fence, bool last)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(plan->threads);
	struct prune_spec spec = { .fence = fence,
				   .min_doomed = last ? 0 : (unsigned)rnd(60),
				   .max_rewrite = last || !once_in(4) ? 0 : 200 * KiB };
	struct prune_result res;
	struct report rep = { .code = repo_prune(r, &spec, &res, &err) };

	if (rep.code < 0)
		tell_code(rep.code, &err);
	if (res.packs_damaged)
		tell_code(ERR_DAMAGED, &err);
	rep.marked = res.marked;
	rep.left = res.bytes_left;
	rep.waiting = res.waiting;
	if (last)
		rep.entries = count_entries(r);
	repo_close(r);
	tell(&rep);
}

static void compare(struct repo_disk *d, const struct point *p, unsigned first, unsigned count)
{
	uint8_t wanted[CHUNK];
	cleanup_free uint8_t *got = malloc((size_t)count * CHUNK);
	struct err err = ERR_INIT;
	int r = repo_disk_read(d, got, (size_t)count * CHUNK, (uint64_t)first * CHUNK, &err);

	if (r < 0)
		tell_code(r, &err);
	for (unsigned i = 0; i < count; i++) {
		content(wanted, p->chunks[first + i]);
		if (memcmp(wanted, got + i * CHUNK, CHUNK) == 0)
			continue;
		err_set(&err, ERR_DAMAGED, "chunk %u has other bytes", first + i);
		tell_code(ERR_DAMAGED, &err);
	}
}

/* The file that is kept with each point: the list of its chunks. */
static void compare_config(struct repo_point *open, const struct point *p)
{
	cleanup_buf struct buf got = BUF_INIT;
	struct err err = ERR_INIT;
	int r = repo_config_read(open, "chunks", &got, &err);

	if (r == 0 && (got.len != sizeof(p->chunks) || memcmp(got.data, p->chunks, got.len) != 0))
		r = err_set(&err, ERR_DAMAGED, "the file kept with it has other bytes");
	if (r < 0)
		tell_code(r, &err);
}

void child_check(const unsigned *points, unsigned count)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);

	for (unsigned i = 0; i < count; i++) {
		const struct point *p = &w.points[points[i]];
		struct repo_point *open;
		struct repo_disk *d;
		int ret = repo_point_open(r, p->id, &open, &err);

		if (ret == 0)
			ret = repo_disk_open(open, NULL, &d, &err);
		if (ret < 0)
			tell_code(ret, &err);
		compare(d, p, 0, CHUNKS);
		compare_config(open, p);
		repo_disk_close(d);
		repo_point_close(open);
	}
	repo_close(r);
	tell_code(0, &err);
}

/* Stays; each time it is woken it reads a piece, and tells only when something is wrong. */
void child_reader(const struct point *p)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	struct repo_point *open;
	struct repo_disk *d;
	int ret = repo_point_open(r, p->id, &open, &err);

	if (ret == 0)
		ret = repo_disk_open(open, NULL, &d, &err);
	if (ret < 0)
		tell_code(ret, &err);
	for (;;) {
		unsigned first = (unsigned)rnd(CHUNKS), n = (unsigned)MIN(CHUNKS - first, 200u);

		kill(getpid(), SIGSTOP);
		if (once_in(2))
			store_drop_cache(r->store);
		compare(d, p, first, n);
	}
}

void child_forget(const unsigned *points, unsigned count, int64_t grace)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	char hex[8][2 * POINT_ID_LEN + 1];
	const char *text[8];
	struct forget_plan plan;

	for (unsigned i = 0; i < count; i++) {
		hex_encode(hex[i], w.points[points[i]].id, POINT_ID_LEN);
		text[i] = hex[i];
	}
	tell_code(repo_forget_points(r, text, count, grace, false, &plan, &err), &err);
}

void child_unforget(const struct point *p)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	char hex[2 * POINT_ID_LEN + 1], text[POINT_TEXT_MAX];

	hex_encode(hex, p->id, POINT_ID_LEN);
	tell_code(repo_unforget(r, hex, text, &err), &err);
}

void child_hold(const struct point *p, bool set)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	char hex[2 * POINT_ID_LEN + 1];

	hex_encode(hex, p->id, POINT_ID_LEN);
	tell_code(set ? repo_protect(r, hex, "because", 0, &err) : repo_unprotect(r, hex, &err),
		  &err);
}

static void leftover(void *opaque, const char *line)
{
	struct report *rep = opaque;

	str_copy(rep->text, sizeof(rep->text), line);
}

/* Traces; condemned slots; what verify of all data says. */
void child_clean(void)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	struct verify_spec spec = { .data = true };
	struct verify_result res;
	struct catalog_totals t;
	struct catalog *c;
	struct report rep = { .code = repo_leftovers(r, leftover, &rep, &err) };

	if (rep.code > 0)
		rep.code = ERR_FAILED;
	if (rep.code < 0)
		tell(&rep);
	rep.code = repo_catalog_get(r, &c, &err);
	if (rep.code == 0)
		rep.code = catalog_totals(c, &t, &err);
	if (rep.code == 0 && t.condemn_gen)
		rep.code = err_set(&err, ERR_FAILED, "slots are condemned");
	if (rep.code < 0)
		tell_code(rep.code, &err);
	repo_catalog_put(r, c);
	rep.code = repo_verify(r, &spec, &res, &err);
	if (rep.code < 0)
		tell_code(rep.code, &err);
	repo_close(r);
	tell(&rep);
}

static bool has_id(const struct hold *holds, size_t n, const uint8_t *id)
{
	for (size_t i = 0; i < n; i++)
		if (!memcmp(holds[i].point, id, POINT_ID_LEN))
			return true;
	return false;
}

/* Points, and the lease of a process if there is one. */
void child_list(pid_t pid)
{
	struct err err = ERR_INIT;
	struct repo *r = child_open(0);
	const struct point_filter f = { .forgotten = true };
	struct point_list points = { 0 };
	struct report rep = { 0 };
	struct lease *leases = NULL;
	struct hold *holds = NULL;
	struct catalog *c;
	size_t n = 0, nholds = 0;
	int ret = repo_catalog_get(r, &c, &err);

	if (ret == 0)
		ret = catalog_points(c, &f, &points, &err);
	if (ret == 0)
		ret = catalog_leases(c, &leases, &n, &err);
	if (ret == 0)
		ret = catalog_holds(c, &holds, &nholds, &err);
	if (ret < 0)
		tell_code(ret, &err);
	for (size_t i = 0; i < n; i++)
		if (leases[i].pid == pid && leases[i].kind != LEASE_READER)
			rep.token = leases[i].token;
	rep.leases = (uint32_t)n;
	for (size_t i = 0; i < points.count && i < LISTED_MOST; i++) {
		const struct point_row *row = &points.rows[i];
		struct listed *l = &w.list[rep.count++];
		uint64_t label = UINT32_MAX;

		memcpy(l->id, row->id, POINT_ID_LEN);
		if (row->m->nlabels != 1 || !parse_u64(row->m->labels[0].value, &label))
			label = UINT32_MAX;
		l->label = (uint32_t)label;
		l->complete = row->state == POINT_COMPLETE;
		l->held = has_id(holds, nholds, row->id);
	}
	repo_catalog_put(r, c);
	if (write(report_fd, &rep, sizeof(rep)) != sizeof(rep))
		_exit(3);
	for (size_t at = 0; at < rep.count * sizeof(*w.list);) {
		ssize_t k = write(report_fd, (char *)w.list + at, rep.count * sizeof(*w.list) - at);

		if (k <= 0)
			_exit(3);
		at += (size_t)k;
	}
	_exit(0);
}

void child_init(void)
{
	struct err err = ERR_INIT;
	struct repo_init_spec spec = { .suite = w.encrypted,
				       .passphrase = PASS,
				       .passphrase_len = strlen(PASS),
				       .compression = -1,
				       .chunk_size = CHUNK,
				       .kdf_n = 1024 };

	tell_code(repo_init(w.repo, &spec, &err), &err);
}
