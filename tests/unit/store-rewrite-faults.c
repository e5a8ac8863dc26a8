/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A kill or an error at each step of a rewrite leaves the old file or the new one, whole; of a quarantine, the file under
 * one of its names.
 *
 * base/fault.c reads the environment once a process, so faults are met by this program started again.
 */
#include <sys/wait.h>

#include "tests/unit/rewrite-help.h"

#include "base/banned.h"

/* Works in the folder and with the key that it is given, and says by its exit status how it went: 0, or the place of the
 * error's code in the table. */
static int act(const char *dir, const char *key_hex, const char *quarantine)
{
	struct fixture f = { 0 };
	struct bits *kept = calloc(1, sizeof(*kept));
	struct rewrite_spec spec = spec_of(kept);
	struct rewrite_result res;
	struct store_stage *st;
	uint8_t key[KEY_LEN];
	cleanup_free char *name = NULL;
	struct err err = ERR_INIT;
	int r;

	str_copy(f.dir, sizeof(f.dir), dir);
	help_random(f.uuid, UUID_LEN, 99);
	if (!hex_decode(key, key_hex, KEY_LEN) ||
	    codec_keys_import(1, f.uuid, key, KEY_LEN, &f.keys, &err) < 0)
		return 250;
	help_store_open(&f, 0);
	kept_slots(kept);
	if (*quarantine) {
		r = store_pack_quarantine(f.store, PACK, &name, &err);
	} else {
		r = store_stage_begin(f.store, TOKEN, &st, &err);
		if (r < 0)
			return 251;
		r = store_pack_rewrite(st, f.reader, &spec, &res, &err);
		if (r == 0) {
			rewrite_result_release(&res);
			r = store_pack_replace(st, PACK, &err);
		}
		if (r == 0)
			r = store_stage_sync(st, &err);
		/* an error leaves nothing behind, even before the stage ends */
		if (r < 0 && staged_files(&f))
			return 254;
		if (store_stage_end(st, &err) < 0)
			return 252;
	}
	if (r < 0)
		dprintf(STDERR_FILENO, "%s\n", err.text);
	help_store_close(&f);
	codec_keys_free(f.keys);
	free(kept);
	return r < 0 ? r - ERR_FIRST_ : 0;
}

static int run_act(const struct fixture *f, const char *fault, bool quarantine)
{
	char self[4096] = "", hex[2 * KEY_LEN + 1];
	uint8_t key[KEYS_RAW_MAX];
	size_t key_len;
	struct err err = ERR_INIT;
	int status;
	pid_t pid;

	assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	ok(codec_keys_export(f->keys, key, &key_len, &err));
	hex_encode(hex, key, KEY_LEN);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("LIVEPOINT_FAULT", fault, 1);
		execl(self, self, f->dir, hex, quarantine ? "quarantine" : "", NULL);
		_exit(253);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return -WTERMSIG(status);
	return WEXITSTATUS(status);
}

/* The old file or the new one, whole, and readable by a store that was opened afterwards; what is in staging goes with the
 * sweep, and then the work can be done again. */
static void old_or_new(struct fixture *f, const struct object *o, const char *fault, bool replaced)
{
	struct bits *kept = calloc(1, sizeof(*kept));
	struct store_pack *p;
	unsigned count, want = kept_slots(kept);
	struct err err = ERR_INIT;

	store_drop_cache(f->store);
	ok(store_pack_get(f->store, PACK, &p, &err));
	assert_non_null(store_pack_entries(p, &count));
	store_pack_put(p);
	if (count != (replaced ? want : N))
		fail_msg("%s: %u slots", fault, count);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(help_read(f, f->reader, &o[i], &err),
				 !replaced || has(kept, i) ? 0 : ERR_DAMAGED);
	ok(store_stage_remove(f->store, TOKEN, &err));
	assert_int_equal(run_act(f, "", false), 0);
	store_drop_cache(f->store);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(help_read(f, f->reader, &o[i], &err),
				 has(kept, i) ? 0 : ERR_DAMAGED);
	assert_int_equal(staged_files(f), 0);
	free(kept);
}

static void test_faults(void **state)
{
	static const struct {
		const char *fault;
		int code; /* 0: killed */
		bool replaced;
	} cases[] = {
		{ "store.stage.create:1:kill", 0, false },
		{ "store.stage.create:1:enospc", ERR_NOSPC, false },
		{ "store.rewrite.write:1:kill", 0, false },
		{ "store.rewrite.write:1:eio", ERR_IO, false },
		{ "store.rewrite.write:1:short", ERR_NOSPC, false },
		{ "store.rewrite.write:2:short", ERR_NOSPC, false },
		{ "store.rewrite.write:2:kill", 0, false },
		{ "store.rewrite.sync:1:kill", 0, false },
		{ "store.rewrite.sync:1:eio", ERR_IO, false },
		{ "store.rewrite.rename:1:kill", 0, false },
		{ "store.rewrite.rename:1:eio", ERR_IO, false },
		{ "store.rewrite.rename:1:eperm", ERR_PERM, false },
		{ "store.folder.sync:1:kill", 0, true },
		{ "store.folder.sync:1:eio", ERR_IO, true },
		{ "store.stage.remove:1:kill", 0, true },
	};
	struct object *o = calloc(N, sizeof(*o));

	(void)state;
#ifndef ENABLE_FAULT_POINTS
	skip();
#endif
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture f;
		int r;

		help_store(&f, 1, 0);
		for (unsigned k = 0; k < N; k++) /* more than one write */
			o[k] = (struct object){ .type = 1 +
							(enum object_type)(k % OBJECT_TYPE_LAST),
						.size = 20000,
						.seed = 2 * k + 1 };
		help_pack(&f, 1, PACK, o, N, 1);
		r = run_act(&f, cases[i].fault, false);
		if (r != (cases[i].code ? cases[i].code - ERR_FIRST_ : -SIGKILL))
			fail_msg("%s: %d", cases[i].fault, r);
		/* an error leaves nothing behind, a kill leaves it for the sweep */
		if (cases[i].code)
			assert_int_equal(staged_files(&f), 0);
		old_or_new(&f, o, cases[i].fault, cases[i].replaced);
		help_store_end(&f);
	}
	free(o);
}

static void test_quarantine_faults(void **state)
{
	static const struct {
		const char *fault;
		bool moved;
	} cases[] = {
		{ "store.quarantine.make:1:", false },
		{ "store.quarantine.parent-sync:1:", false },
		{ "store.quarantine.rename:1:", false },
		{ "store.quarantine.sync:1:", true },
		{ "store.quarantine.from-sync:1:", true },
	};
	struct object o[N];

	(void)state;
#ifndef ENABLE_FAULT_POINTS
	skip();
#endif
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		bool kill = i % 2;
		char fault[64], path[128];
		struct fixture f;

		setup(&f, 1, o);
		help_pack_path(&f, PACK, path);
		snprintf(fault, sizeof(fault), "%s%s", cases[i / 2].fault, kill ? "kill" : "eio");
		assert_int_equal(run_act(&f, fault, true), kill ? -SIGKILL : ERR_IO - ERR_FIRST_);
		assert_int_equal(access(path, F_OK), cases[i / 2].moved ? -1 : 0);
		if (!cases[i / 2].moved) {
			assert_int_equal(help_read(&f, f.reader, &o[3], &f.err), 0);
			assert_int_equal(run_act(&f, "", true), 0);
		}
		help_store_end(&f);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_quarantine_faults),
	};

	if (argc == 4)
		return act(argv[1], argv[2], argv[3]);
	return cmocka_run_group_tests_name("store-rewrite-faults", tests, NULL, NULL);
}
