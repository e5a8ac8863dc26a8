// SPDX-License-Identifier: GPL-3.0-or-later
/* What the drivers of the reliability tests share; see tests/reliability.h. */
#include "tests/reliability.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "repo/internal.h"

#include "base/banned.h"

void rel_fail(const struct rel *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "FAIL: seed %" PRIu64 ", %s, %s: ", t->seed,
		t->encrypted ? "encrypted" : "plain", t->what);
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	if (getenv("LIVEPOINT_KEEP"))
		fprintf(stderr, "kept %s\n", t->dir);
	else
		rel_remove_tree(t->dir);
	printf("%u passed, 1 failed\n", t->passed);
	fflush(NULL);
	exit(1);
}

/* xorshift64*, Vigna 2016 */
static uint64_t next_random(uint64_t *x)
{
	*x ^= *x >> 12;
	*x ^= *x << 25;
	*x ^= *x >> 27;
	return *x * 0x2545f4914f6cdd1du;
}

uint64_t rel_random(struct rel *t, uint64_t below)
{
	return (next_random(&t->rng) >> 16) % below;
}

/* Half of the chunks compress, to about half. */
static void fill_chunk(struct rel *t, uint64_t at, size_t n)
{
	bool text = rel_random(t, 2);
	uint64_t x = next_random(&t->rng) | 1;

	for (size_t i = 0; i + 8 <= n; i += 8) {
		uint64_t v = next_random(&x);

		memcpy(t->disk + at + i, &v, 8);
	}
	for (size_t i = 0; text && i < n; i++)
		t->disk[at + i] = (uint8_t) "etaoin shrdlu cm"[t->disk[at + i] & 15];
}

/* The file that is kept with each point: it goes through everything that the point's disk goes through. */
static void write_sum(struct rel *t)
{
	const char *path = t->config + strlen("sum=");
	struct err err = ERR_INIT;
	cleanup_fd int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);
	uint8_t sha[REL_SHA_LEN];

	rel_sha(t, sha);
	if (fd < 0)
		rel_fail(t, "cannot write the file to keep: %s", err.text);
	rel_ok(t, file_pwrite(fd, sha, sizeof(sha), 0, path, NULL, &err));
}

static void write_source(struct rel *t)
{
	struct err err = ERR_INIT;
	cleanup_fd int fd = file_open(t->source, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);
	static const uint8_t zeroes[REL_CHUNK];

	if (fd < 0 || ftruncate(fd, (off_t)t->size) < 0)
		rel_fail(t, "cannot write the source: %s", err.text);
	for (uint64_t at = 0; at < t->size; at += REL_CHUNK) {
		size_t n = MIN(t->size - at, (uint64_t)REL_CHUNK);

		if (memcmp(t->disk + at, zeroes, n) != 0)
			rel_ok(t, file_pwrite(fd, t->disk + at, n, at, t->source, NULL, &err));
	}
	write_sum(t);
}

void rel_change(struct rel *t, unsigned chunks)
{
	for (unsigned i = 0; i < chunks; i++) {
		uint64_t at = rel_random(t, t->size / REL_CHUNK) * REL_CHUNK;

		switch (rel_random(t, 8)) {
		case 0: /* becomes a hole */
			memset(t->disk + at, 0, REL_CHUNK);
			break;
		case 1: /* known from elsewhere */
			memmove(t->disk + at,
				t->disk + rel_random(t, t->size / REL_CHUNK) * REL_CHUNK,
				REL_CHUNK);
			break;
		case 2: /* one byte */
			t->disk[at + rel_random(t, REL_CHUNK)] ^= 1;
			break;
		default:
			fill_chunk(t, at, REL_CHUNK);
		}
	}
	write_source(t);
}

void rel_resize(struct rel *t, uint64_t size)
{
	size = MIN(size, t->room);
	if (size > t->size)
		memset(t->disk + t->size, 0x5a, size - t->size);
	else
		memset(t->disk + size, 0, t->size - size);
	t->size = size;
	write_source(t);
}

void rel_sha(const struct rel *t, uint8_t sha[REL_SHA_LEN])
{
	SHA256(t->disk, round_up_u64(t->size, 512), sha);
}

void rel_begin(struct rel *t, const char *dir, bool encrypted, uint64_t seed, uint64_t size,
	       unsigned share)
{
	memset(t, 0, sizeof(*t));
	t->encrypted = encrypted;
	t->seed = seed;
	t->rng = seed * 0x9e3779b97f4a7c15u + 1 + encrypted;
	str_copy(t->what, sizeof(t->what), "at the beginning");
	if (!str_copy(t->dir, sizeof(t->dir), dir))
		rel_fail(t, "the path is too long");
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		rel_fail(t, "cannot make '%s'", dir);
	snprintf(t->repo, sizeof(t->repo), "%s/repo", dir);
	snprintf(t->source, sizeof(t->source), "%s/disk.raw", dir);
	snprintf(t->config, sizeof(t->config), "sum=%s/disk.sum", dir);
	snprintf(t->out, sizeof(t->out), "%s/out", dir);
	snprintf(t->err, sizeof(t->err), "%s/err", dir);
	t->size = t->room = size;
	t->disk = calloc(1, size);
	if (!t->disk)
		rel_fail(t, "out of memory");
	for (uint64_t at = 0; at < size; at += REL_CHUNK)
		if (rel_random(t, 256) < share)
			fill_chunk(t, at, (size_t)MIN(size - at, (uint64_t)REL_CHUNK));
	write_source(t);
}

void rel_reset(struct rel *t)
{
	rel_remove_tree(t->repo);
	free(t->promises);
	t->promises = NULL;
	t->npromises = 0;
}

void rel_end(struct rel *t)
{
	rel_reset(t);
	free(t->disk);
	rel_remove_tree(t->dir);
}

void rel_init(struct rel *t)
{
	struct err err = ERR_INIT;
	struct repo_init_spec spec = { .suite = t->encrypted,
				       .passphrase = REL_PASS,
				       .passphrase_len = strlen(REL_PASS),
				       .compression = -1,
				       .kdf_n = 1024 };

	rel_ok(t, repo_init(t->repo, &spec, &err));
}

static void run_tool(const char *const *argv)
{
	struct err err = ERR_INIT;
	struct buf out = BUF_INIT;

	if (proc_run(argv, &out, 65536, &err) < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], err.text);
		exit(1);
	}
	buf_release(&out);
}

void rel_remove_tree(const char *path)
{
	run_tool((const char *const[]){ "rm", "-rf", path, NULL });
}

void rel_copy_tree(const char *from, const char *to)
{
	rel_remove_tree(to);
	run_tool((const char *const[]){ "cp", "-r", from, to, NULL });
}

/* --- running the program --- */

static int passphrase_fd(struct rel *t)
{
	int fd = memfd_create("passphrase", MFD_CLOEXEC);
	const size_t n = strlen(REL_PASS);

	if (fd < 0 || write(fd, REL_PASS, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) != 0)
		rel_fail(t, "cannot hand over the passphrase");
	return fd;
}

static int out_file(struct rel *t, const char *path)
{
	struct err err = ERR_INIT;
	int fd = file_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);

	if (fd < 0)
		rel_fail(t, "%s", err.text);
	return fd;
}

pid_t rel_spawn(struct rel *t, const char *const *args, const char *fault, const char *log,
		const char *out, const char *errfile)
{
	const char *bin = getenv("LIVEPOINT_BIN");
	const char *argv[32] = { bin ? bin : "livepoint", "-q", "-r", t->repo };
	const char *env[4] = { NULL };
	cleanup_free char *fault_env = fault ? str_printf("LIVEPOINT_FAULT=%s", fault) : NULL;
	cleanup_free char *log_env = log ? str_printf("LIVEPOINT_FAULT_LOG=%s", log) : NULL;
	cleanup_free char *plant_env = t->plant ? str_printf("LIVEPOINT_PLANT=%s", t->plant) : NULL;
	cleanup_fd int out_fd = out_file(t, out), err_fd = out_file(t, errfile);
	cleanup_fd int pass = t->encrypted ? passphrase_fd(t) : -1;
	struct proc_spec spec = { .argv = argv,
				  .env_add = env,
				  .in_fd = -1,
				  .out_fd = out_fd,
				  .err_fd = err_fd,
				  .die_with_parent = true };
	struct err err = ERR_INIT;
	unsigned n = 4, k = 0;
	pid_t pid;

	if (t->encrypted) {
		argv[n++] = "--passphrase-fd";
		argv[n++] = "3";
		spec.pass_fds = &pass;
		spec.npass = 1;
	}
	while (*args && n < ARRAY_SIZE(argv) - 1)
		argv[n++] = *args++;
	argv[n] = NULL;
	if (fault)
		env[k++] = fault_env;
	if (log)
		env[k++] = log_env;
	if (plant_env)
		env[k] = plant_env;
	rel_ok(t, proc_start(&spec, &pid, &err));
	return pid;
}

struct rel_status rel_wait(struct rel *t, pid_t pid)
{
	struct err err = ERR_INIT;
	int status;

	rel_ok(t, proc_wait(pid, &status, &err));
	if (WIFEXITED(status))
		return (struct rel_status){ true, WEXITSTATUS(status) };
	return (struct rel_status){ false, WTERMSIG(status) };
}

struct rel_status rel_run(struct rel *t, const char *const *args, const char *fault,
			  const char *log)
{
	uint64_t begun = time_mono_ns();
	struct rel_status s = rel_wait(t, rel_spawn(t, args, fault, log, t->out, t->err));

	t->last_ns = time_mono_ns() - begun;
	return s;
}

void rel_whole(const char *file, char *text, size_t size)
{
	struct err err = ERR_INIT;
	cleanup_fd int fd = file_open(file, O_RDONLY, 0, &err);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = 0;
}

void rel_first_line(struct rel *t, const char *file, char *line, size_t size)
{
	(void)t;
	rel_whole(file, line, size);
	line[strcspn(line, "\n")] = 0;
}

/* --- checking --- */

struct repo *rel_open(struct rel *t, enum repo_mode mode)
{
	struct err err = ERR_INIT;
	struct repo *r;

	rel_ok(t, repo_open(t->repo, mode, &r, &err));
	if (repo_is_locked(r))
		rel_ok(t, repo_unlock(r, REL_PASS, strlen(REL_PASS), true, &err));
	rel_ok(t, repo_start(r, 4 * MiB, REPO_SERIAL, &err));
	return r;
}

void rel_promise(struct rel *t, const uint8_t *id, const char *text, const uint8_t *sha)
{
	struct rel_promise *p;

	t->promises = realloc(t->promises, (t->npromises + 1) * sizeof(*p));
	if (!t->promises)
		rel_fail(t, "out of memory");
	p = &t->promises[t->npromises++];
	memcpy(p->id, id, POINT_ID_LEN);
	str_copy(p->text, sizeof(p->text), text);
	memcpy(p->sha, sha, REL_SHA_LEN);
}

static const struct rel_promise *find_promise(const struct rel *t, const uint8_t *id)
{
	for (size_t i = t->npromises; i-- > 0;)
		if (memcmp(t->promises[i].id, id, POINT_ID_LEN) == 0)
			return &t->promises[i];
	return NULL;
}

unsigned rel_check_list(struct rel *t, struct repo *r, unsigned extra, struct rel_promise *more)
{
	struct point_filter all = { 0 };
	struct point_list list = { 0 };
	struct err err = ERR_INIT;
	unsigned found = 0;

	rel_ok(t, repo_points(r, &all, &list, &err));
	for (size_t i = 0; i < list.count; i++) {
		const struct point_row *row = &list.rows[i];

		if (find_promise(t, row->id))
			continue;
		if (found == extra)
			rel_fail(t, "%zu points are listed, %zu were promised", list.count,
				 t->npromises);
		memcpy(more[found].id, row->id, POINT_ID_LEN);
		repo_point_text(row->m, more[found].text);
		found++;
	}
	if (list.count != t->npromises + found)
		rel_fail(t, "%zu points are listed, %zu were promised", list.count, t->npromises);
	point_list_release(&list);
	return found;
}

/* SHA-256 of the bytes that the point restores to; the file kept with it must have the promised one. */
static void point_sha(struct rel *t, struct repo *r, const struct rel_promise *p, uint8_t *sha)
{
	struct err err = ERR_INIT;
	struct repo_point *point;
	struct repo_disk *disk;
	cleanup_free uint8_t *data = NULL;
	cleanup_buf struct buf sum = BUF_INIT;
	uint64_t size;

	rel_ok(t, repo_point_open(r, p->id, &point, &err));
	rel_ok(t, repo_disk_open(point, NULL, &disk, &err));
	size = repo_disk_size(disk);
	data = malloc(size ? size : 1);
	if (!data)
		rel_fail(t, "out of memory");
	for (uint64_t at = 0; at < size; at += MiB) {
		size_t n = (size_t)MIN(size - at, MiB);

		if (repo_disk_read(disk, data + at, n, at, &err) < 0)
			rel_fail(t, "%s cannot be read: %s", p->text, err.text);
	}
	SHA256(data, size, sha);
	repo_disk_close(disk);
	if (repo_config_read(point, "sum", &sum, &err) < 0)
		rel_fail(t, "%s: %s", p->text, err.text);
	if (sum.len != REL_SHA_LEN || memcmp(sum.data, p->sha, REL_SHA_LEN) != 0)
		rel_fail(t, "%s has another file than was kept with it", p->text);
	repo_point_close(point);
}

void rel_check_point(struct rel *t, struct repo *r, const struct rel_promise *p)
{
	uint8_t sha[REL_SHA_LEN];

	point_sha(t, r, p, sha);
	if (memcmp(sha, p->sha, REL_SHA_LEN) != 0)
		rel_fail(t, "%s restores to other bytes", p->text);
}

static void show_leftover(void *opaque, const char *line)
{
	(void)opaque;
	fprintf(stderr, "leftover: %s\n", line);
}

void rel_check_leftovers(struct rel *t, struct repo *r)
{
	struct err err = ERR_INIT;
	int n;

	rel_ok(t, n = repo_leftovers(r, show_leftover, NULL, &err));
	if (n)
		rel_fail(t, "%d leftovers", n);
}

void rel_check_slots(struct rel *t, struct repo *r)
{
	cleanup_free uint64_t *numbers = NULL;
	struct err err = ERR_INIT;
	struct pack_list rows = { 0 };
	struct catalog *c;
	size_t count = 0;

	rel_ok(t, store_packs_list(r->store, &numbers, &count, &err));
	rel_ok(t, repo_catalog_get(r, &c, &err));
	rel_ok(t, catalog_packs(c, 0, &rows, &err));
	repo_catalog_put(r, c);
	if (rows.count != count)
		rel_fail(t, "%zu packs are listed, %zu are there", rows.count, count);
	for (size_t i = 0; i < count; i++) {
		const struct pack_row *row = &rows.rows[i];
		struct store_pack *p;
		unsigned entries, there = 0;

		rel_ok(t, store_pack_get(r->store, row->number, &p, &err));
		(void)store_pack_entries(p, &entries);
		store_pack_put(p);
		for (uint32_t k = 0; k < row->slots; k++)
			there += k / 8 >= row->gone.nbytes || !(row->gone.bits[k / 8] >> k % 8 & 1);
		if (entries != there)
			rel_fail(t, "pack %" PRIu64 " has %u records, %u are in use", row->number,
				 entries, there);
	}
	pack_list_release(&rows);
}

static void show_finding(void *opaque, const struct verify_finding *f)
{
	(void)opaque;
	fprintf(stderr, "verify: %s (point %s)\n", f->what, f->point ? f->point : "-");
}

void rel_check_verify(struct rel *t, struct repo *r, bool data)
{
	struct err err = ERR_INIT;
	struct verify_result result;
	struct verify_spec spec = { .data = data, .finding = show_finding };

	rel_ok(t, repo_verify(r, &spec, &result, &err));
	if (result.points != t->npromises)
		rel_fail(t, "verify looked at %" PRIu64 " points of %zu", result.points,
			 t->npromises);
}

void rel_check_all(struct rel *t)
{
	struct repo *r = rel_open(t, REPO_WRITE);

	rel_check_list(t, r, 0, NULL);
	for (size_t i = 0; i < t->npromises; i++)
		rel_check_point(t, r, &t->promises[i]);
	rel_check_verify(t, r, true);
	rel_check_leftovers(t, r);
	repo_close(r);
}

/* --- what backups said against what is there --- */

static bool said_done(const struct rel_ended *e)
{
	return e->status.exited && e->status.code == 0;
}

void rel_note(struct rel *t, struct rel_status s, struct rel_ended *e)
{
	*e = (struct rel_ended){ .status = s };
	rel_first_line(t, t->out, e->said, sizeof(e->said));
	rel_whole(t->err, e->complained, sizeof(e->complained));
	rel_sha(t, e->sha);
}

/* found: the backup's point is listed. */
static void judge(const struct rel *t, const struct rel_ended *e, bool found)
{
	if (!e->status.exited)
		return;
	if (e->status.code == 0 && !found)
		rel_fail(t, "the backup said 0, but its point '%s' is not listed", e->said);
	if (e->status.code != 0 && found && !strstr(e->complained, "unknown whether"))
		rel_fail(t, "the backup failed, but its point is listed; it said: %s",
			 e->complained);
	if (e->status.code != 0 && !found && !*e->complained)
		rel_fail(t, "the backup ended with %d and said nothing", e->status.code);
}

/* Of which of the backups, from `next` on, is this point?  A backup that ended with 0 has named its own; the others are
 * told by their bytes. */
static size_t backup_of(struct rel *t, const struct rel_ended *ended, size_t next, size_t n,
			const struct rel_promise *found)
{
	for (size_t i = 0; i < n; i++)
		if (said_done(&ended[i]) && strcmp(ended[i].said, found->text) == 0)
			return i;
	for (size_t i = next; i < n; i++)
		if (!said_done(&ended[i]) && memcmp(ended[i].sha, found->sha, REL_SHA_LEN) == 0)
			return i;
	rel_fail(t, "'%s' is listed, but no backup has named it or had its bytes (%zu could have)",
		 found->text, n);
}

unsigned rel_check_ended(struct rel *t, struct repo *r, const struct rel_ended *ended, size_t n)
{
	struct rel_promise more[REL_UNSEEN_MAX + 1];
	bool there[REL_UNSEEN_MAX + 1] = { false };
	unsigned found = rel_check_list(t, r, (unsigned)n, more), count = 0;

	for (size_t i = 0, next = 0; i < found; i++) {
		size_t k;

		point_sha(t, r, &more[i], more[i].sha);
		k = backup_of(t, ended, next, n, &more[i]);
		if (there[k])
			rel_fail(t, "one backup has made two points, '%s' is the second",
				 more[i].text);
		if (memcmp(more[i].sha, ended[k].sha, REL_SHA_LEN) != 0)
			rel_fail(t, "%s restores to other bytes", more[i].text);
		there[k] = true;
		next = k + 1;
		rel_promise(t, more[i].id, more[i].text, more[i].sha);
	}
	for (size_t i = 0; i < n; i++) {
		judge(t, &ended[i], there[i]);
		count += there[i];
	}
	return count;
}

bool rel_check_after(struct rel *t, struct repo *r, struct rel_status s)
{
	struct rel_ended e;

	rel_note(t, s, &e);
	return rel_check_ended(t, r, &e, 1);
}

unsigned rel_backup_unseen(struct rel *t, const char *name, const struct rel_ended *ended, size_t n)
{
	const char *const args[] = { "backup", name, t->source, "--config", t->config, NULL };
	struct rel_status s = rel_run(t, args, NULL, NULL);
	struct rel_ended all[REL_UNSEEN_MAX + 1];
	struct repo *r;
	unsigned there;

	if (n > REL_UNSEEN_MAX)
		rel_fail(t, "%zu backups are too many to tell apart", n);
	if (n)
		memcpy(all, ended, n * sizeof(*ended));
	rel_note(t, s, &all[n]);
	if (!said_done(&all[n]))
		rel_fail(t, "the next backup ended with %s %d: %s", s.exited ? "status" : "signal",
			 s.code, all[n].complained);
	r = rel_open(t, REPO_READ);
	there = rel_check_ended(t, r, all, n + 1);
	rel_check_leftovers(t, r);
	repo_close(r);
	return there - 1;
}

void rel_backup(struct rel *t, const char *name)
{
	rel_backup_unseen(t, name, NULL, 0);
}
