/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of the program share: state of one run, output, progress, passphrase, commands.
 *
 * Invariants:
 *  1. Standard output has results only: text for people and pipes, or JSON.  Everything else
 *     (errors, warnings, progress for people) goes to standard error.
 *  2. What stands in a repository (names, labels, error texts with paths) is printed to terminals
 *     with control characters replaced.
 *  3. A secret is never an argument, is never printed, and is wiped after use.
 *
 * One thread, but cli_log_sink(), which any thread may call.
 */
#ifndef LIVEPOINT_CLI_INTERNAL_H
#define LIVEPOINT_CLI_INTERNAL_H

#include <signal.h>

#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/options.h"
#include "repo/repo.h"

struct cli {
	struct options opt;
	bool json, quiet;
	bool attention; /* finished, but a person must read the warnings: exit 3 */
};

/* --- signals (cli/main.c): ERR_INTERRUPTED or ERR_TERMINATED after the first SIGINT or SIGTERM --- */
extern volatile int cli_stop;
/* Set by a command that has to take things back when it is stopped: it is not ended 2 s after the signal. */
extern volatile sig_atomic_t cli_stop_patiently;
extern volatile sig_atomic_t cli_progress_wanted; /* SIGUSR1 came */

/* --- output.c --- */
#define SIZE_TEXT_MAX 32
/* "1.5 GiB"; exact below 1 KiB. */
void out_size(char dst[SIZE_TEXT_MAX], uint64_t bytes);
/* "2026-11-20 15:03:07", local time. */
void out_local_time(char dst[TIME_TEXT_MAX], int64_t t);
/* "0.4 s", "1 min 05 s", "2 h 03 min". */
void out_duration(char dst[TIME_TEXT_MAX], double seconds);
/* Replaces control characters by '?' (in place); returns s. */
char *out_clean(char *s);
/* "livepoint: warning: ..." or an object, to standard error, unless it is a result's. */
void out_warning(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line for people on standard error; nothing with -q or --json. */
void out_note(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The one line, or object, of an error. */
void out_error(bool json, const struct err *err);
/* One document, or one line of a stream of objects; takes v. */
int out_json(struct jval *v, struct err *err);
int out_json_line(struct jval *v, struct err *err);
/* An array whose elements are printed as they come. */
struct out_array {
	bool begun;
};
int out_array_item(struct out_array *a, struct jval *v, struct err *err); /* takes v */
int out_array_end(struct out_array *a, struct err *err);
/* A failed write to standard output so far, or now; ERR_IO. */
int out_check(struct err *err);
int out_flush(struct err *err);
bool out_broken_pipe(void); /* it failed because the reader has gone */

struct jval *json_id(const uint8_t *id, size_t n); /* hexadecimal; NULL: null */
struct jval *json_time(int64_t t); /* RFC 3339 */
/* {"reason","until"} of livepoint-json(5); until 0: null. */
struct jval *json_hold(const char *reason, int64_t until);

/* A table for people: heads are upper case, one that starts with '>' is aligned to the right. */
struct table;
int table_new(const char *const *heads, unsigned columns, struct table **out, struct err *err);
void table_free(struct table *t);
DEFINE_CLEANUP(table, table_free)
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int table_print(struct table *t, struct err *err);

/* --- progress.c --- */
struct progress_view {
	const struct cli *cli;
	bool terminal;
	uint64_t begun_ns, phase_ns, shown_ns; /* monotonic */
	uint64_t rate_ns, rate_done; /* last sample for the rate */
	double rate; /* bytes a second, smoothed */
	char phase[80];
};
void progress_begin(struct progress_view *v, const struct cli *cli);
/* A progress_fn; opaque is the view. */
void progress_show(void *opaque, const struct progress *p);
void progress_end(struct progress_view *v);
/* Wipes the refreshing line, if one stands there, before something else is printed. */
void progress_clear(void);

/* --- passphrase.c --- */
#define PASSPHRASE_MAX 4096 /* bytes */
struct passphrase {
	char text[PASSPHRASE_MAX + 2];
	size_t len; /* bytes */
};
void passphrase_wipe(struct passphrase *p);
#define cleanup_passphrase __attribute__((cleanup(passphrase_wipe)))
enum passphrase_how {
	PASSPHRASE_GIVEN, /* options and environment only */
	PASSPHRASE_ASK, /* then a prompt */
	PASSPHRASE_ASK_TWICE, /* for a new one */
};
/* The one that a file holds; 1 or ERR_KEY. */
int passphrase_file(const char *path, struct passphrase *out, struct err *err);
/* First found wins, in the order of DESIGN.  Returns 1 if there is one, 0 if not (PASSPHRASE_GIVEN), ERR_KEY
 * if there is none or it is empty. */
int passphrase_get(const struct cli *cli, enum passphrase_how how, struct passphrase *out,
		   struct err *err);

/* The new one of `key add` and its like: --new-passphrase-fd, -file, -command, else asked for twice. */
int passphrase_new(const struct cli *cli, struct passphrase *out, struct err *err);
/* A recovery key: --recovery-file, else asked for on a terminal or read from standard input. */
int passphrase_recovery(const struct cli *cli, struct passphrase *out, struct err *err);

/* --- open.c --- */
enum key_use {
	KEY_NOT_USED,
	KEY_IF_GIVEN, /* more can be said with it, but nobody is asked for it */
	KEY_NEEDED,
};
/* -r or the environment; ERR_NO_REPO. */
int cli_repo_path(const struct cli *cli, const char **out, struct err *err);
/* Opens, unlocks and, if `start`, starts. */
int cli_repo_open(const struct cli *cli, enum repo_mode mode, enum key_use key, bool start,
		  struct repo **out, struct err *err);
/* seen.c: remembers the repository's generation in LIVEPOINT_CACHE_DIR, and warns if it has fallen: an older copy was put
 * back.  Done by cli_repo_open(); by commands that publish, again when they are done.  Best effort, never an error. */
void cli_repo_seen(const struct cli *cli, struct repo *repo);
/* A person has accepted a catalog that was built again: what it says counts as seen from now on. */
void cli_repo_seen_accept(const char *repository);
const char *cli_suite_name(unsigned suite); /* "none", "aes-256-gcm" */

/* Those of --label K=V (cmd-backup.c), each key once, else ERR_USAGE; freed with labels_free(). */
struct manifest_label;
int labels_read(const struct options *o, struct manifest_label **out, size_t *count,
		struct err *err);
void labels_free(struct manifest_label *labels, size_t count);

/* --- commands: each returns 0 or a code --- */
int cmd_init(struct cli *cli, struct err *err);
int cmd_backup(struct cli *cli, struct err *err);
int cmd_list(struct cli *cli, struct err *err);
int cmd_show(struct cli *cli, struct err *err);
int cmd_forget(struct cli *cli, struct err *err);
int cmd_unforget(struct cli *cli, struct err *err);
int cmd_protect(struct cli *cli, struct err *err);
int cmd_unprotect(struct cli *cli, struct err *err);
int cmd_log(struct cli *cli, struct err *err);
int cmd_restore(struct cli *cli, struct err *err);
int cmd_export(struct cli *cli, struct err *err);
int cmd_exports(struct cli *cli, struct err *err);
int cmd_unexport(struct cli *cli, struct err *err);
int cmd_overlays(struct cli *cli, struct err *err);
int cmd_seal(struct cli *cli, struct err *err);
int cmd_discard(struct cli *cli, struct err *err);
int cmd_diff(struct cli *cli, struct err *err);
int cmd_dump(struct cli *cli, struct err *err);
int cmd_verify(struct cli *cli, struct err *err);
int cmd_prune(struct cli *cli, struct err *err);
/* Prunes an open repository and says what came of it: for prune and for forget --prune.  Fills callbacks and stop of spec. */
struct prune_spec;
int prune_run(struct cli *cli, struct repo *repo, struct prune_spec *spec, struct err *err);
int cmd_repair(struct cli *cli, struct err *err);
int cmd_key_list(struct cli *cli, struct err *err);
int cmd_key_add(struct cli *cli, struct err *err);
int cmd_key_remove(struct cli *cli, struct err *err);
int cmd_key_change(struct cli *cli, struct err *err);
int cmd_key_export_recovery(struct cli *cli, struct err *err);
int cmd_key_import_recovery(struct cli *cli, struct err *err);
int cmd_key_rotate(struct cli *cli, struct err *err);
int cmd_stats(struct cli *cli, struct err *err);
struct repo_stats;
int stats_prometheus(struct repo *repo, const struct repo_stats *s, struct err *err);
int cmd_recover(struct cli *cli, struct err *err);
int cmd_verify_boot(struct cli *cli, struct err *err); /* verify --boot */
int cmd_migrate(struct cli *cli, struct err *err);
int cmd_recoveries(struct cli *cli, struct err *err);
int cmd_watch_guests(struct cli *cli, struct err *err);
int cmd_benchmark(struct cli *cli, struct err *err);
int cmd_version(struct cli *cli, struct err *err);
int cmd_debug_dump(struct cli *cli, struct err *err);
int cmd_debug_accel(struct cli *cli, struct err *err);
int cmd_completion(struct cli *cli, struct err *err);

#endif
