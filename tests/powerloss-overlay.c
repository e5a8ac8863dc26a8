// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * powerloss-overlay DIR plain|encrypted STATES SEED [FAULT]: what a power cut may leave of a layer of an overlay that two threads
 * write to while one of them flushes.
 *
 * The work is done by this program as a child under tests/powerloss-record.c, with small limits, so that the log is given room,
 * compacted and flushed for want of memory again and again.  FAULT (LIVEPOINT_FAULT) plants a bug in it.  Operations are a
 * function of seed, thread and number, so that the checker makes them again: each sector belongs to one thread; the first
 * blocks are shared, sector by sector in turn, the others a thread's own, where it writes, zeroes and trims.
 *
 * On each state (tests/powerloss-model.h): the layer opens; a sector is what its thread had made of it in one of its operations
 * from the last one that a finished flush covers ("flushed" marks) to the last one that was begun; and it can be written,
 * flushed and opened again.  Sectors of the data file are old or new, never garbage: that is what disks promise, and what the
 * overlay promises in turn; the log may have garbage in it.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "repo/overlay-internal.h"
#include "tests/powerloss-model.h"

#include "base/banned.h"

#define SECTOR 512u
#define SHARED 16u /* blocks */
#define OWN 48u /* blocks of each thread */
#define SIZE ((SHARED + 2 * OWN) * OVERLAY_BLOCK - 3 * SECTOR) /* the last block is short */
#define OPERATIONS 400u /* of each thread */
#define FLUSH_EVERY 12u
#define LIMITS "overlay.log.compact:4096,overlay.log.step:1024,overlay.pending:24"

/* --- the work --- */

enum kind { WRITE_SHARED, WRITE_OWN, ZERO, TRIM };
struct operation {
	enum kind kind;
	uint64_t offset, n;
};

static uint64_t mixed(uint64_t seed, unsigned thread, unsigned number, unsigned what)
{
	/* splitmix64 (Steele, Lea, Flood 2014) */
	uint64_t z =
		seed + (((uint64_t)number << 8 | thread << 4 | what) + 1) * 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static struct operation operation_of(uint64_t seed, unsigned thread, unsigned number)
{
	uint64_t start = (SHARED + thread * OWN) * (uint64_t)OVERLAY_BLOCK;
	uint64_t end = MIN(start + OWN * (uint64_t)OVERLAY_BLOCK, SIZE);
	unsigned draw = (unsigned)(mixed(seed, thread, number, 0) % 10);
	struct operation o = { .kind = draw < 4 ? WRITE_SHARED :
				       draw < 7 ? WRITE_OWN :
				       draw < 9 ? ZERO :
						  TRIM,
			       .n = SECTOR };

	if (o.kind == WRITE_SHARED) {
		uint64_t pairs = SHARED * OVERLAY_BLOCK / SECTOR / 2;
		o.offset = (mixed(seed, thread, number, 1) % pairs * 2 + thread) * SECTOR;
		return o;
	}
	o.offset = start + mixed(seed, thread, number, 1) % ((end - start) / SECTOR) * SECTOR;
	o.n = MIN((1 + mixed(seed, thread, number, 2) % 40) * SECTOR, end - o.offset);
	return o;
}

static void fill(uint8_t *p, const struct operation *o, unsigned thread, unsigned number)
{
	for (uint64_t i = 0; i < o->n; i += 8)
		put_le64(p + i, (o->offset + i) << 24 | number << 4 | thread << 1 | 1);
}

static uint8_t base_byte(uint64_t offset)
{
	return (uint8_t)(offset * 13 + offset / SECTOR);
}

static int base_read(void *opaque, void *dst, size_t n, uint64_t offset, struct err *err)
{
	(void)opaque, (void)err;
	for (size_t i = 0; i < n; i++)
		((uint8_t *)dst)[i] = base_byte(offset + i);
	return 0;
}
static const struct overlay_below base = { .read = base_read };

struct layer_of {
	struct codec_keys *keys;
	struct overlay_header_disk disk;
	struct overlay_header header;
	struct overlay_layer_spec spec;
};

static void layer_of(struct rel *t, struct layer_of *l, const char *folder, bool encrypted)
{
	static const uint8_t uuid[UUID_LEN] = "uuid of a layer", key[KEY_LEN] = "key";
	struct err err = ERR_INIT;

	if (encrypted)
		rel_ok(t, codec_keys_import(1, uuid, key, KEY_LEN, &l->keys, &err));
	else
		rel_ok(t, codec_keys_plain(uuid, &l->keys, &err));
	l->header = (struct overlay_header){ .id = "o0123abcd",
					     .block_size = OVERLAY_BLOCK,
					     .suite = encrypted,
					     .epoch = encrypted,
					     .first = 1,
					     .last = 1 };
	memcpy(l->header.uuid, uuid, UUID_LEN);
	l->header.salt[0] = encrypted;
	l->spec = (struct overlay_layer_spec){ .folder = folder,
					       .disk = "vda",
					       .size = SIZE,
					       .number = 1,
					       .keys = l->keys,
					       .header = &l->header };
}

struct work {
	struct rel t;
	uint64_t seed;
	int marks;
	struct overlay_layer *l;
	_Atomic unsigned done[2]; /* operations answered */
};
struct worker {
	struct work *w;
	unsigned thread;
};

static void mark(const struct work *w, const char *word, unsigned a, unsigned b)
{
	char text[64];
	struct err err = ERR_INIT;

	snprintf(text, sizeof(text), "%s %u %u\n", word, a, b);
	rel_ok(&w->t, file_write(w->marks, text, strlen(text), "marks", &err));
}

static int operate(struct work *w, unsigned thread, unsigned number, struct err *err)
{
	struct operation o = operation_of(w->seed, thread, number);
	uint8_t data[40 * SECTOR];

	switch (o.kind) {
	case WRITE_SHARED:
	case WRITE_OWN:
		fill(data, &o, thread, number);
		return overlay_layer_write(w->l, &base, data, o.n, o.offset, err);
	case ZERO:
		return overlay_layer_zero(w->l, &base, o.n, o.offset, err);
	case TRIM:
		return overlay_layer_trim(w->l, o.n, o.offset, err);
	}
	return ERR_INTERNAL;
}

static void *work(void *opaque)
{
	const struct worker *me = opaque;
	struct work *w = me->w;
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < OPERATIONS; i++) {
		mark(w, me->thread ? "begin-b" : "begin-a", i + 1, 0);
		rel_ok(&w->t, operate(w, me->thread, i, &err));
		atomic_store(&w->done[me->thread], i + 1);
		if (me->thread == 0 && i % FLUSH_EVERY == FLUSH_EVERY - 1) {
			unsigned other = atomic_load(&w->done[1]);

			rel_ok(&w->t, overlay_layer_flush(w->l, &err));
			mark(w, "flushed", i + 1, other);
		}
	}
	return NULL;
}

/* The child. */
static int work_all(const char *folder, bool encrypted, uint64_t seed, const char *marks)
{
	struct work w = { .seed = seed };
	struct worker both[2] = { { &w, 0 }, { &w, 1 } };
	struct layer_of l = { 0 };
	struct err err = ERR_INIT;
	pthread_t other;

	rel_ok(&w.t, dir_make(folder, 0700, NULL, &err));
	w.marks = file_open(marks, O_WRONLY | O_APPEND | O_CREAT, 0600, &err);
	rel_ok(&w.t, w.marks);
	layer_of(&w.t, &l, folder, encrypted);
	rel_ok(&w.t, overlay_layer_create(&l.spec, &err));
	rel_ok(&w.t, dir_sync(folder, "overlay.folder.sync", &err));
	mark(&w, "created", 0, 0);
	rel_ok(&w.t, overlay_layer_open(&l.spec, false, false, &w.l, &err));
	if (pthread_create(&other, NULL, work, &both[1]) != 0)
		rel_fail(&w.t, "no thread");
	work(&both[0]);
	pthread_join(other, NULL);
	rel_ok(&w.t, overlay_layer_flush(w.l, &err));
	mark(&w, "flushed", OPERATIONS, OPERATIONS);
	overlay_layer_close(w.l);
	codec_keys_free(l.keys);
	close(w.marks);
	return 0;
}

/* --- the checker --- */

struct check {
	struct rel t;
	struct pl_model m;
	char marks_path[256], state[256];
	bool encrypted;
	uint64_t seed;
	uint8_t *disk; /* the disk after some operations */
	bool *right; /* a sector was found as it may be */
	unsigned cut_before; /* states cut before the layer was made */
};

/* What an operation makes of the disk. */
static void apply(struct check *c, unsigned thread, unsigned number)
{
	struct operation o = operation_of(c->seed, thread, number);

	if (o.kind == TRIM) {
		uint64_t end = o.offset + o.n;

		o.offset = round_up_u64(o.offset, OVERLAY_BLOCK);
		if (end < SIZE)
			end = end / OVERLAY_BLOCK * OVERLAY_BLOCK;
		o.n = end > o.offset ? end - o.offset : 0;
	}
	if (o.kind == WRITE_SHARED || o.kind == WRITE_OWN)
		fill(c->disk + o.offset, &o, thread, number);
	else
		memset(c->disk + o.offset, 0, o.n);
}

static unsigned owner(uint64_t sector)
{
	uint64_t block = sector * SECTOR / OVERLAY_BLOCK;

	return (unsigned)(block < SHARED ? sector % 2 : block >= SHARED + OWN);
}

/* Notes which of a thread's sectors are as on the disk of now. */
static void compare(struct check *c, unsigned thread, const uint8_t *got)
{
	for (uint64_t s = 0; s < SIZE / SECTOR; s++)
		if (owner(s) == thread && !c->right[s])
			c->right[s] = memcmp(got + s * SECTOR, c->disk + s * SECTOR, SECTOR) == 0;
}

static unsigned begun(const struct check *c, size_t cut, unsigned thread)
{
	char text[64];
	const char *word = thread ? "begin-b " : "begin-a ";

	if (!pl_find_mark(&c->m, cut, word, text, sizeof(text)))
		return 0;
	return (unsigned)strtoul(text + strlen(word), NULL, 10);
}

static void check_content(struct check *c, size_t cut, const uint8_t *got)
{
	unsigned flushed[2] = { 0 };
	char text[64], *next = text;

	if (pl_find_mark(&c->m, cut, "flushed ", text, sizeof(text))) {
		flushed[0] = (unsigned)strtoul(text + strlen("flushed "), &next, 10);
		flushed[1] = (unsigned)strtoul(next, NULL, 10);
	}
	memset(c->right, 0, SIZE / SECTOR * sizeof(*c->right));
	base_read(NULL, c->disk, SIZE, 0, NULL);
	for (unsigned thread = 0; thread < 2; thread++) {
		unsigned last = begun(c, cut, thread);

		for (unsigned i = 0; i < flushed[thread]; i++)
			apply(c, thread, i);
		compare(c, thread, got);
		for (unsigned i = flushed[thread]; i < last; i++) {
			apply(c, thread, i);
			compare(c, thread, got);
		}
	}
	for (uint64_t s = 0; s < SIZE / SECTOR; s++)
		if (!c->right[s])
			rel_fail(&c->t,
				 "sector %" PRIu64 " is neither as flushed nor as written since",
				 s);
}

/* It goes on: written, flushed, opened again. */
static void check_going_on(struct check *c, const struct overlay_layer_spec *spec,
			   struct overlay_layer *l, uint8_t *got, uint8_t *again)
{
	struct err err = ERR_INIT;
	uint64_t at = rel_random(&c->t, SIZE - 3000);

	memset(got + at, 0xab, 3000);
	rel_ok(&c->t, overlay_layer_write(l, &base, got + at, 3000, at, &err));
	rel_ok(&c->t, overlay_layer_flush(l, &err));
	overlay_layer_close(l);
	rel_ok(&c->t, overlay_layer_open(spec, false, true, &l, &err));
	rel_ok(&c->t, overlay_layer_read(l, &base, again, SIZE, 0, &err));
	overlay_layer_close(l);
	if (memcmp(got, again, SIZE) != 0)
		rel_fail(&c->t, "after the repair of its tail the log lost something");
}

static void check_state(struct check *c, size_t cut)
{
	cleanup_free uint8_t *got = mem_alloc(SIZE), *again = mem_alloc(SIZE);
	struct layer_of of = { 0 };
	struct overlay_layer *l = NULL;
	struct err err = ERR_INIT;

	layer_of(&c->t, &of, c->state, c->encrypted);
	rel_ok(&c->t, overlay_layer_open(&of.spec, false, true, &l, &err));
	rel_ok(&c->t, overlay_layer_read(l, &base, got, SIZE, 0, &err));
	check_content(c, cut, got);
	check_going_on(c, &of.spec, l, got, again);
	codec_keys_free(of.keys);
}

static void one_state(struct check *c, unsigned number)
{
	size_t cut = rel_random(&c->t, c->m.nrecords + 1);
	enum pl_luck luck = (enum pl_luck)MIN(rel_random(&c->t, 8), (uint64_t)PL_LUCK_ANY);
	char last[64];

	pl_last_mark(&c->m, cut, last, sizeof(last));
	snprintf(c->t.what, sizeof(c->t.what), "state %u, cut after call %zu of %zu (after %s)",
		 number, cut, c->m.nrecords, last);
	c->t.passed++;
	if (!pl_marks(&c->m, cut, "created 0 0\n")) {
		c->cut_before++;
		return;
	}
	c->m.state = number + 1;
	pl_build(&c->m, cut);
	rel_remove_tree(c->state);
	pl_put_state(&c->m, c->m.root, c->state, luck);
	check_state(c, cut);
}

static void record(struct check *c, const char *self, const char *kind, const char *fault)
{
	char seed[32];
	const char *const argv[] = { self, "work", c->t.repo, kind, seed, c->marks_path, NULL };
	cleanup_buf struct buf out = BUF_INIT;
	struct err err = ERR_INIT;

	snprintf(seed, sizeof(seed), "%" PRIu64, c->seed);
	setenv("LD_PRELOAD", pl_preload(), 1);
	setenv("LIVEPOINT_RECORD_DIR", c->t.repo, 1);
	setenv("LIVEPOINT_RECORD_TRACE", c->m.trace_path, 1);
	setenv("LIVEPOINT_RECORD_MARKS", c->marks_path, 1);
	setenv("LIVEPOINT_FAULT_NUMBER", LIMITS, 1);
	if (fault)
		setenv("LIVEPOINT_FAULT", fault, 1);
	rel_ok(&c->t, proc_run(argv, &out, 4096, &err));
	unsetenv("LD_PRELOAD");
	unsetenv("LIVEPOINT_FAULT_NUMBER");
	unsetenv("LIVEPOINT_FAULT");
}

int main(int argc, char **argv)
{
	struct check c = { .cut_before = 0 };
	uint64_t states, seed;
	unsigned compactions = 0;

	if (argc == 6 && strcmp(argv[1], "work") == 0 && parse_u64(argv[4], &seed))
		return work_all(argv[2], strcmp(argv[3], "encrypted") == 0, seed, argv[5]);
	if ((argc != 5 && argc != 6) || !parse_u64(argv[3], &states) ||
	    !parse_u64(argv[4], &seed)) {
		fprintf(stderr,
			"usage: powerloss-overlay DIR plain|encrypted STATES SEED [FAULT]\n");
		return 2;
	}
	c.encrypted = strcmp(argv[2], "encrypted") == 0;
	c.seed = seed;
	rel_begin(&c.t, argv[1], c.encrypted, seed, SECTOR, 0);
	c.m.t = &c.t;
	c.m.whole_sectors = ".data";
	snprintf(c.m.trace_path, sizeof(c.m.trace_path), "%s/trace", argv[1]);
	snprintf(c.marks_path, sizeof(c.marks_path), "%s/marks", argv[1]);
	snprintf(c.state, sizeof(c.state), "%s/state", argv[1]);
	c.disk = mem_alloc(SIZE);
	c.right = mem_alloc_array(SIZE / SECTOR, sizeof(*c.right));
	record(&c, argv[0], argv[2], argc == 6 ? argv[5] : NULL);
	pl_read_trace(&c.m);
	pl_build(&c.m, c.m.nrecords);
	pl_compare(&c.m, c.m.root, c.t.repo);
	for (size_t i = 0; i < c.m.nrecords; i++) {
		struct pl_record r;

		memcpy(&r, c.m.trace.data + c.m.starts[i], sizeof(r));
		compactions += r.op == PL_RENAME;
	}
	if (compactions < 2)
		rel_fail(&c.t, "the trace has %u compactions", compactions);
	for (unsigned i = 0; i < states; i++)
		one_state(&c, i);
	printf("%s: %zu calls recorded, %u compactions among them; %u states, %u of them from before the "
	       "layer was made\n",
	       argv[2], c.m.nrecords, compactions, c.t.passed, c.cut_before);
	printf("%u passed, 0 failed\n", c.t.passed);
	free(c.disk);
	free(c.right);
	rel_end(&c.t);
	return 0;
}
