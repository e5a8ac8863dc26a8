/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one table of commands and options, and the parser over it.
 *
 * --help, the completion for bash and the test that compares --help with the manual pages all come
 * out of this table; a new option is one row and one line in its page.
 *
 * Global options stand before or after the command, a command's own after it.  Long names are never
 * abbreviated: scripts would break when a second one with that beginning comes.  "--" ends options,
 * "-" alone is an argument.
 *
 * One thread.
 */
#ifndef LIVEPOINT_CLI_OPTIONS_H
#define LIVEPOINT_CLI_OPTIONS_H

#include "base/base.h"

struct cli;

enum opt_type {
	OPT_FLAG, /* no value */
	OPT_TEXT,
	OPT_FILE,
	OPT_DIR,
	OPT_SIZE, /* bytes, K M G T */
	OPT_NUMBER, /* decimal */
	OPT_DURATION, /* seconds, or numbers with y mo w d h m s: parse_duration() */
	OPT_PERCENT, /* 0 to 100, with fractions */
	OPT_TIME, /* RFC 3339, UTC */
	OPT_UNTIL, /* the same, or a date (its end, UTC), or a duration from now */
	OPT_LABEL, /* K=V, or NAME=FILE, the key not empty */
	OPT_CHOICE, /* one of the words in `arg`, between bars */
	OPT_CHOICE_OR_NONE, /* the same, only after "=", and may be left out */
};

enum opt_id {
	/* global */
	O_REPOSITORY,
	O_JSON,
	O_QUIET,
	O_VERBOSE,
	O_PASSPHRASE_FD,
	O_PASSPHRASE_FILE,
	O_PASSPHRASE_COMMAND,
	O_HELP,
	O_VERSION,
	/* of commands */
	O_ALL,
	O_ACCEPT,
	O_ALLOW_BACKING,
	O_AS,
	O_CACHE,
	O_CATALOG,
	O_CHECK,
	O_CHANGED,
	O_CHUNK_SIZE,
	O_COMPRESSION,
	O_CONFIG,
	O_ABORT,
	O_BANDWIDTH,
	O_BOOT,
	O_CONNECT,
	O_CONSISTENCY,
	O_DATA,
	O_DELTA,
	O_DISKS,
	O_DISK_BUS,
	O_DRY_RUN,
	O_ENCRYPT,
	O_EXEC,
	O_EXPECT,
	O_FENCE,
	O_FORCE,
	O_FORGOTTEN,
	O_FORMAT,
	O_FROM,
	O_FROM_PASSPHRASE_FILE,
	O_FULL,
	O_GRACE,
	O_IO_LIMIT,
	O_KEEP_GOING,
	O_KEEP_IDENTITY,
	O_KEEP_LAST,
	O_KEEP_HOURLY,
	O_KEEP_DAILY,
	O_KEEP_WEEKLY,
	O_KEEP_MONTHLY,
	O_KEEP_YEARLY,
	O_KEEP_WITHIN,
	O_LABEL,
	O_LEFTOVERS,
	O_LISTEN,
	O_LOCAL,
	O_MAC,
	O_MACHINE,
	O_MAX_REWRITE,
	O_MEMORY,
	O_MIN_UNUSED,
	O_NAME,
	O_NETWORK,
	O_NEW_IDENTITY,
	O_NEW_PASSPHRASE_FD,
	O_NEW_PASSPHRASE_FILE,
	O_NEW_PASSPHRASE_COMMAND,
	O_OS_INFO,
	O_OVERLAY,
	O_OVERWRITE,
	O_PARALLEL,
	O_PATH,
	O_PAUSED,
	O_PROMETHEUS,
	O_PRUNE,
	O_READ_DATA,
	O_REASON,
	O_RECONNECT,
	O_RECOVERY_FILE,
	O_RESUME,
	O_SAMPLE,
	O_SCREENSHOT,
	O_SECONDS,
	O_SINCE,
	O_SINCE_VERIFIED,
	O_SOCKET_GROUP,
	O_SOURCE_FROZEN,
	O_TIME,
	O_TIMEOUT,
	O_TO,
	O_TLS_CERTIFICATES,
	O_TLS_PSK,
	O_UNTIL,
	O_VCPUS,
	O_VERIFY,
	O_WAIT,
	O_WRITABLE,
	O_YES_REALLY,
};

struct opt_def {
	enum opt_id id;
	const char *name; /* long, without "--" */
	char letter; /* 0: none */
	enum opt_type type;
	bool many; /* may be given again */
	const char *arg; /* as help shows it; NULL for flags */
	const char *help;
};

struct command_def {
	const char *name; /* one word, or two: "debug dump" */
	const char *alias; /* or NULL */
	const char *args; /* as help shows them, "" if none */
	const char *help;
	unsigned min_args, max_args; /* counts of arguments; UINT_MAX: any */
	const struct opt_def *opts;
	size_t nopts;
	int (*run)(struct cli *cli, struct err *err); /* returns 0 or a code */
};

extern const struct command_def cli_commands[];
extern const size_t cli_command_count;
extern const struct opt_def cli_global_opts[];
extern const size_t cli_global_opt_count;

struct opt_value {
	const struct opt_def *def;
	const char *text; /* borrowed from argv; NULL if there is none */
};
struct options {
	const struct command_def *command; /* NULL: none was named */
	struct opt_value *values; /* owned, in the order given */
	size_t nvalues;
	const char **args; /* owned array; strings borrowed from argv */
	size_t nargs;
};

/* Parses and checks the types of all values; ERR_USAGE with the near matches of what is unknown.
 * With --help or --version the number of arguments is not checked.  Fills *out, which the caller
 * releases, also on failure. */
int options_parse(int argc, char **argv, struct options *out, struct err *err);
void options_release(struct options *o);

/* Of the last value given; NULL, false, or the default when the option was not given. */
bool opt_given(const struct options *o, enum opt_id id);
const char *opt_text(const struct options *o, enum opt_id id);
/* SIZE, NUMBER: the value; DURATION: seconds; TIME, UNTIL: seconds since 1970. */
uint64_t opt_number(const struct options *o, enum opt_id id, uint64_t otherwise);
double opt_percent(const struct options *o, enum opt_id id, double otherwise);
/* The i-th value (from 0) of an option that may be given again; NULL after the last. */
const char *opt_nth(const struct options *o, enum opt_id id, size_t i);
unsigned opt_count(const struct options *o, enum opt_id id);

/* Prints the help of one command, or of the program (NULL), to standard output. */
void options_help(const struct command_def *command);
/* Prints the completion script for bash to standard output. */
void options_bash(void);

#endif
