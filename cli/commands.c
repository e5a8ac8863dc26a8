// SPDX-License-Identifier: GPL-3.0-or-later
/*
 * The table of commands and options: what exists, under which name, with which help.
 *
 * Invariants:
 *  1. A command stands here only when it works: names of later ones are unknown, with near matches.
 *  2. The test cli-help-man compares every row with the manual pages, both ways.
 */
#include "cli/internal.h"

#include <limits.h>

#include "base/banned.h"

#define COMPRESSIONS "none|fast|default|better|best"

const struct opt_def cli_global_opts[] = {
	{ O_REPOSITORY, "repository", 'r', OPT_DIR, false, "REPO",
	  "folder of the repository (else LIVEPOINT_REPOSITORY)" },
	{ O_JSON, "json", 0, OPT_FLAG, false, NULL, "print JSON; errors as an object on stderr" },
	{ O_QUIET, "quiet", 'q', OPT_FLAG, false, NULL, "no progress, no summary" },
	{ O_VERBOSE, "verbose", 'v', OPT_FLAG, true, NULL, "say more; twice: for debugging" },
	{ O_PASSPHRASE_FD, "passphrase-fd", 0, OPT_NUMBER, false, "N",
	  "read the passphrase from descriptor N" },
	{ O_PASSPHRASE_FILE, "passphrase-file", 0, OPT_FILE, false, "FILE",
	  "read the passphrase from FILE" },
	{ O_PASSPHRASE_COMMAND, "passphrase-command", 0, OPT_TEXT, false, "COMMAND",
	  "read the passphrase from what COMMAND prints" },
	{ O_HELP, "help", 'h', OPT_FLAG, false, NULL, "print this help and end" },
	{ O_VERSION, "version", 'V', OPT_FLAG, false, NULL, "print the version and end" },
};
const size_t cli_global_opt_count = ARRAY_SIZE(cli_global_opts);

static const struct opt_def init_opts[] = {
	{ O_ENCRYPT, "encrypt", 0, OPT_CHOICE_OR_NONE, false, "aes-256-gcm",
	  "encrypt the repository under a passphrase" },
	{ O_CHUNK_SIZE, "chunk-size", 0, OPT_SIZE, false, "SIZE",
	  "chunk size of disks, a power of two from 4K to 1M (default 64K)" },
	{ O_COMPRESSION, "compression", 0, OPT_CHOICE, false, COMPRESSIONS,
	  "compression of new data (default: default)" },
	{ O_GRACE, "grace", 0, OPT_DURATION, false, "DURATION",
	  "time in which forgotten points can come back (default 0)" },
};

static const struct opt_def backup_opts[] = {
	{ O_FORMAT, "format", 0, OPT_CHOICE, false, "raw|qcow2|vmdk|vhdx|vdi|vpc",
	  "format of the image files (default: by file name ending, else raw)" },
	{ O_ALLOW_BACKING, "allow-backing", 0, OPT_FLAG, false, NULL,
	  "accept images that name other files" },
	{ O_FULL, "full", 0, OPT_FLAG, false, NULL,
	  "use no parent: read and compare with nothing" },
	{ O_SINCE, "since", 0, OPT_TEXT, false, "POINT",
	  "compare with POINT instead of the latest of NAME" },
	{ O_CHANGED, "changed", 0, OPT_TEXT, true, "[DISK=]FILE",
	  "read only the ranges that FILE lists as changed" },
	{ O_SAMPLE, "sample", 0, OPT_PERCENT, false, "PERCENT",
	  "share of the unchanged chunks read again to check --changed (default 1)" },
	{ O_KEEP_GOING, "keep-going", 0, OPT_FLAG, false, NULL,
	  "publish with unreadable ranges named, instead of failing" },
	{ O_RECONNECT, "reconnect", 0, OPT_DURATION, false, "DURATION",
	  "try a broken network source again for so long (default 30m)" },
	{ O_SOURCE_FROZEN, "source-frozen", 0, OPT_FLAG, false, NULL,
	  "the source does not change: go on where it broke off" },
	{ O_COMPRESSION, "compression", 0, OPT_CHOICE, false, COMPRESSIONS,
	  "compression of this backup (default: the repository's)" },
	{ O_CONSISTENCY, "consistency", 0, OPT_CHOICE, false, "crash|filesystem|application",
	  "how consistent the source is, for the record (default crash)" },
	{ O_CONFIG, "config", 0, OPT_LABEL, true, "NAME=FILE",
	  "keep FILE with the point, as config/NAME (domain.xml=..., nvram=...)" },
	{ O_LABEL, "label", 0, OPT_LABEL, true, "K=V", "label of the point" },
	{ O_TIME, "time", 0, OPT_TIME, false, "TIME",
	  "time of the point, for imports (2026-11-20T14:03:07Z)" },
	{ O_WAIT, "wait", 0, OPT_DURATION, false, "SECONDS",
	  "wait for another backup of NAME (default: do not)" },
	{ O_DRY_RUN, "dry-run", 0, OPT_FLAG, false, NULL, "read and compare, keep nothing" },
};

static const struct opt_def list_opts[] = {
	{ O_LABEL, "label", 0, OPT_LABEL, false, "K=V", "only points with this label" },
	{ O_FORGOTTEN, "forgotten", 0, OPT_FLAG, false, NULL,
	  "only forgotten points, which can come back" },
};

static const struct opt_def forget_opts[] = {
	{ O_KEEP_LAST, "keep-last", 0, OPT_NUMBER, false, "N", "keep the newest N points" },
	{ O_KEEP_HOURLY, "keep-hourly", 0, OPT_NUMBER, false, "N",
	  "keep the newest point of each of the newest N hours that have one" },
	{ O_KEEP_DAILY, "keep-daily", 0, OPT_NUMBER, false, "N", "the same for days" },
	{ O_KEEP_WEEKLY, "keep-weekly", 0, OPT_NUMBER, false, "N", "the same for weeks" },
	{ O_KEEP_MONTHLY, "keep-monthly", 0, OPT_NUMBER, false, "N", "the same for months" },
	{ O_KEEP_YEARLY, "keep-yearly", 0, OPT_NUMBER, false, "N", "the same for years" },
	{ O_KEEP_WITHIN, "keep-within", 0, OPT_DURATION, false, "DURATION",
	  "keep what is not older than that before the newest point" },
	{ O_LOCAL, "local", 0, OPT_FLAG, false, NULL, "periods of local time, not of UTC" },
	{ O_DRY_RUN, "dry-run", 0, OPT_FLAG, false, NULL, "print what would stay and why" },
	{ O_GRACE, "grace", 0, OPT_DURATION, false, "DURATION",
	  "time in which the points can come back (default: the repository's)" },
	{ O_PRUNE, "prune", 0, OPT_FLAG, false, NULL,
	  "then free what no point uses, as prune does" },
	{ O_YES_REALLY, "yes-really", 0, OPT_FLAG, false, NULL,
	  "although the clock cannot be right by what the repository has seen" },
};

static const struct opt_def protect_opts[] = {
	{ O_REASON, "reason", 0, OPT_TEXT, false, "TEXT", "why, for those who wonder later" },
	{ O_UNTIL, "until", 0, OPT_UNTIL, false, "TIME|DURATION",
	  "when the hold ends by itself (default: never)" },
};

static const struct opt_def log_opts[] = {
	{ O_FROM, "from", 0, OPT_NUMBER, false, "N", "begin with entry N" },
	{ O_VERIFY, "verify", 0, OPT_FLAG, false, NULL, "check the chain instead of printing it" },
};

static const struct opt_def restore_opts[] = {
	{ O_OVERWRITE, "overwrite", 0, OPT_FLAG, false, NULL, "replace an existing file" },
	{ O_DELTA, "delta", 0, OPT_FLAG, false, NULL, "write only the blocks that differ" },
	{ O_FROM, "from", 0, OPT_TEXT, false, "POINT",
	  "with --delta: the target holds POINT, do not read it" },
	{ O_VERIFY, "verify", 0, OPT_FLAG, false, NULL, "read the target back and compare" },
	{ O_KEEP_GOING, "keep-going", 0, OPT_FLAG, false, NULL,
	  "leave damaged ranges of the target untouched and list them" },
};

static const struct opt_def export_opts[] = {
	{ O_WRITABLE, "writable", 0, OPT_FLAG, false, NULL,
	  "serve an overlay of the point, which takes writes" },
	{ O_OVERLAY, "overlay", 0, OPT_TEXT, false, "NAME|ID",
	  "with --writable: attach that overlay, or make one of that name" },
	{ O_CACHE, "cache", 0, OPT_SIZE, false, "SIZE",
	  "memory for decoded chunks (default 256M)" },
	{ O_SOCKET_GROUP, "socket-group", 0, OPT_TEXT, false, "GROUP",
	  "group that may use the socket (root's default: libvirt-qemu)" },
	{ O_LISTEN, "listen", 0, OPT_TEXT, false, "HOST:PORT",
	  "listen on TCP, with TLS, instead of a UNIX socket" },
	{ O_TLS_CERTIFICATES, "tls-certificates", 0, OPT_DIR, false, "DIR",
	  "X.509 certificates for --listen" },
	{ O_TLS_PSK, "tls-psk", 0, OPT_FILE, false, "FILE", "pre-shared keys for --listen" },
};

static const struct opt_def unexport_opts[] = {
	{ O_ALL, "all", 0, OPT_FLAG, false, NULL, "end all exports of this user" },
	{ O_FORCE, "force", 0, OPT_FLAG, false, NULL, "also with clients connected" },
};

static const struct opt_def overlays_opts[] = {
	{ O_CHECK, "check", 0, OPT_TEXT, false, "ID",
	  "read all of one that is not attached, and end its error state if that goes well" },
};

static const struct opt_def seal_opts[] = {
	{ O_NAME, "name", 0, OPT_TEXT, false, "NAME",
	  "name of the new point (default: that of the overlay's point)" },
	{ O_LABEL, "label", 0, OPT_LABEL, true, "K=V", "label of the new point" },
	{ O_WAIT, "wait", 0, OPT_DURATION, false, "SECONDS",
	  "wait for another seal, or a backup of that name (default: do not)" },
};

static const struct opt_def recover_opts[] = {
	{ O_RESUME, "resume", 0, OPT_TEXT, false, "ID",
	  "go on with a recovery: boot again, let a paused guest go on" },
	{ O_AS, "as", 0, OPT_TEXT, false, "NAME", "name of the guest" },
	{ O_CONNECT, "connect", 0, OPT_TEXT, false, "URI",
	  "libvirt's (root: qemu:///system, others: qemu:///session)" },
	{ O_OVERLAY, "overlay", 0, OPT_TEXT, false, "server|local[:DIR]",
	  "where the guest's writes go (default: server)" },
	{ O_NETWORK, "network", 0, OPT_TEXT, true, "OLD=NEW|isolated|none",
	  "networks of the guest's cards (default: as captured)" },
	{ O_DISKS, "disks", 0, OPT_TEXT, false, "A,B", "only these disks of the point" },
	{ O_DISK_BUS, "disk-bus", 0, OPT_CHOICE, false, "virtio|sata|scsi|ide",
	  "all disks on this bus" },
	{ O_MAC, "mac", 0, OPT_TEXT, true, "keep|new|NIC=MAC", "MAC addresses of the cards" },
	{ O_MEMORY, "memory", 0, OPT_SIZE, false, "SIZE", "memory of the guest" },
	{ O_VCPUS, "vcpus", 0, OPT_NUMBER, false, "N", "its CPUs" },
	{ O_MACHINE, "machine", 0, OPT_TEXT, false, "TYPE", "its machine type" },
	{ O_OS_INFO, "os-info", 0, OPT_TEXT, false, "ID",
	  "what runs on a bare disk (debian12, win10)" },
	{ O_PAUSED, "paused", 0, OPT_FLAG, false, NULL, "leave it paused before it boots" },
	{ O_KEEP_IDENTITY, "keep-identity", 0, OPT_FLAG, false, NULL,
	  "name, uuid and MACs as captured, or fail" },
	{ O_NEW_IDENTITY, "new-identity", 0, OPT_FLAG, false, NULL, "new ones in any case" },
	{ O_CACHE, "cache", 0, OPT_SIZE, false, "SIZE",
	  "memory for decoded chunks, if the server is started now" },
	{ O_DRY_RUN, "dry-run", 0, OPT_FLAG, false, NULL,
	  "print what would be done and the XML, change nothing" },
};

static const struct opt_def migrate_opts[] = {
	{ O_TO, "to", 0, OPT_TEXT, false, "FILE|DIR|pool:NAME|nbd:URI",
	  "where its disks go; not needed to go on with a migration" },
	{ O_FORMAT, "format", 0, OPT_CHOICE, false, "raw|qcow2",
	  "format of what is made (default: by the name, else qcow2)" },
	{ O_BANDWIDTH, "bandwidth", 0, OPT_SIZE, false, "RATE",
	  "copy at most RATE bytes a second and disk" },
	{ O_ABORT, "abort", 0, OPT_FLAG, false, NULL,
	  "end a migration: the guest stays on the repository" },
};

static const struct opt_def verify_opts[] = {
	{ O_DATA, "data", 0, OPT_FLAG, false, NULL, "read and decode all data too" },
	{ O_SAMPLE, "sample", 0, OPT_PERCENT, false, "PERCENT",
	  "with --data: only this share of the packs, chosen by random" },
	{ O_SINCE_VERIFIED, "since-verified", 0, OPT_DURATION, false, "AGE",
	  "with --data: pass over packs that were read and good within AGE" },
	{ O_IO_LIMIT, "io-limit", 0, OPT_SIZE, false, "RATE",
	  "with --data: read at most RATE bytes a second" },
	{ O_LEFTOVERS, "leftovers", 0, OPT_FLAG, false, NULL,
	  "only list files, leases and rows that nobody owns" },
	{ O_BOOT, "boot", 0, OPT_FLAG, false, NULL,
	  "boot the points, isolated, and keep what was seen" },
	{ O_WAIT, "wait", 0, OPT_TEXT, false, "MARKER|agent|SECONDS",
	  "with --boot: what shows that it runs (default: agent or login:)" },
	{ O_EXEC, "exec", 0, OPT_TEXT, false, "COMMAND",
	  "with --boot: run COMMAND in the guest, through its agent" },
	{ O_EXPECT, "expect", 0, OPT_TEXT, false, "TEXT",
	  "with --exec: its output must have TEXT" },
	{ O_TIMEOUT, "timeout", 0, OPT_DURATION, false, "SECONDS",
	  "with --boot: time limit for each point (default 300)" },
	{ O_PARALLEL, "parallel", 0, OPT_NUMBER, false, "COUNT",
	  "with --boot: so many guests at a time (default 1, at most 32)" },
	{ O_MEMORY, "memory", 0, OPT_SIZE, false, "SIZE",
	  "with --boot: memory of each guest (default: as captured, else 2G)" },
	{ O_CONNECT, "connect", 0, OPT_TEXT, false, "URI",
	  "with --boot: libvirt's (root: qemu:///system, others: qemu:///session)" },
};

static const struct opt_def show_opts[] = {
	{ O_SCREENSHOT, "screenshot", 0, OPT_FILE, false, "FILE",
	  "write the last screen of the proof by booting, a PNG, to FILE" },
};

static const struct opt_def prune_opts[] = {
	{ O_DRY_RUN, "dry-run", 0, OPT_FLAG, false, NULL,
	  "only count what would be freed; change nothing" },
	{ O_MAX_REWRITE, "max-rewrite", 0, OPT_SIZE, false, "SIZE",
	  "copy at most SIZE of data that is in use (default: no limit)" },
	{ O_MIN_UNUSED, "min-unused", 0, OPT_PERCENT, false, "PERCENT",
	  "rewrite a pack only if so much of it is unused (default 20)" },
	{ O_IO_LIMIT, "io-limit", 0, OPT_SIZE, false, "RATE",
	  "read and write at most RATE bytes a second" },
	{ O_WAIT, "wait", 0, OPT_DURATION, false, "SECONDS",
	  "wait for backups that began before, and for another prune (default: do not)" },
	{ O_YES_REALLY, "yes-really", 0, OPT_FLAG, false, NULL,
	  "although more would go than forgotten points explain, or the clock seems wrong" },
	{ O_FENCE, "fence", 0, OPT_NUMBER, false, "TOKEN",
	  "first end the backup or prune that has the lease TOKEN" },
};

static const struct opt_def repair_opts[] = {
	{ O_DRY_RUN, "dry-run", 0, OPT_FLAG, false, NULL,
	  "say what would be done, change nothing" },
	{ O_CATALOG, "catalog", 0, OPT_FLAG, false, NULL,
	  "build the catalog again although it can be opened" },
	{ O_ACCEPT, "accept", 0, OPT_FLAG, false, NULL,
	  "only: accept a catalog that was built again" },
	{ O_READ_DATA, "read-data", 0, OPT_FLAG, false, NULL,
	  "read all data to find what is bad (else what verify has marked)" },
	{ O_FROM, "from", 0, OPT_DIR, false, "REPO2", "take missing content from REPO2 too" },
	{ O_FROM_PASSPHRASE_FILE, "from-passphrase-file", 0, OPT_FILE, false, "FILE",
	  "read the passphrase of REPO2 from FILE" },
	{ O_IO_LIMIT, "io-limit", 0, OPT_SIZE, false, "RATE", "read at most RATE bytes a second" },
};

static const struct opt_def benchmark_opts[] = {
	{ O_PATH, "path", 0, OPT_DIR, false, "DIR",
	  "measure the disk in DIR (default: the repository, else the current folder)" },
	{ O_SECONDS, "seconds", 0, OPT_NUMBER, false, "N",
	  "time for each measurement (default 1)" },
};

static const struct opt_def stats_opts[] = {
	{ O_PROMETHEUS, "prometheus", 0, OPT_FLAG, false, NULL,
	  "print in Prometheus' text format, with ages per name" },
};

#define NEW_PASSPHRASE                                                                             \
	{ O_NEW_PASSPHRASE_FD,                                                                     \
	  "new-passphrase-fd",                                                                     \
	  0,                                                                                       \
	  OPT_NUMBER,                                                                              \
	  false,                                                                                   \
	  "N",                                                                                     \
	  "read the new passphrase from descriptor N" },                                           \
		{ O_NEW_PASSPHRASE_FILE,                                                           \
		  "new-passphrase-file",                                                           \
		  0,                                                                               \
		  OPT_FILE,                                                                        \
		  false,                                                                           \
		  "FILE",                                                                          \
		  "read the new passphrase from FILE" },                                           \
	{                                                                                          \
		O_NEW_PASSPHRASE_COMMAND, "new-passphrase-command", 0, OPT_TEXT, false, "COMMAND", \
			"read the new passphrase from what COMMAND prints"                         \
	}

static const struct opt_def key_add_opts[] = {
	{ O_LABEL, "label", 0, OPT_TEXT, false, "LABEL", "name of the new key (needed)" },
	NEW_PASSPHRASE,
};

static const struct opt_def key_remove_opts[] = {
	{ O_LABEL, "label", 0, OPT_TEXT, false, "LABEL", "key to remove (needed)" },
};

static const struct opt_def key_change_opts[] = {
	{ O_LABEL, "label", 0, OPT_TEXT, false, "LABEL",
	  "key to change (default: the one that was used)" },
	NEW_PASSPHRASE,
};

static const struct opt_def key_export_opts[] = {
	{ O_LABEL, "label", 0, OPT_TEXT, false, "LABEL",
	  "name of the recovery key (default: recovery)" },
};

static const struct opt_def key_import_opts[] = {
	{ O_LABEL, "label", 0, OPT_TEXT, false, "LABEL", "name of the new key (needed)" },
	{ O_RECOVERY_FILE, "recovery-file", 0, OPT_FILE, false, "FILE",
	  "read the recovery key from FILE (default: standard input)" },
	NEW_PASSPHRASE,
};

#define OPTS(a) a, ARRAY_SIZE(a)
#define NO_OPTS NULL, 0

const struct command_def cli_commands[] = {
	{ "init", NULL, "", "make a repository", 0, 0, OPTS(init_opts), cmd_init },
	{ "backup", NULL, "NAME [DISK=]SOURCE...", "make a restore point", 2, UINT_MAX,
	  OPTS(backup_opts), cmd_backup },
	{ "list", NULL, "[NAME]", "list the restore points", 0, 1, OPTS(list_opts), cmd_list },
	{ "show", NULL, "POINT", "show one restore point", 1, 1, OPTS(show_opts), cmd_show },
	{ "dump", NULL, "POINT config/NAME", "print a file kept with a restore point", 2, 2,
	  NO_OPTS, cmd_dump },
	{ "forget", NULL, "POINT...|[NAME...] --keep-...",
	  "forget restore points, one by one or by rule", 0, UINT_MAX, OPTS(forget_opts),
	  cmd_forget },
	{ "unforget", NULL, "POINT", "take a forgotten point back", 1, 1, NO_OPTS, cmd_unforget },
	{ "protect", NULL, "POINT", "hold a restore point against being forgotten", 1, 1,
	  OPTS(protect_opts), cmd_protect },
	{ "unprotect", NULL, "POINT", "end a hold", 1, 1, NO_OPTS, cmd_unprotect },
	{ "log", NULL, "", "list what changed the repository", 0, 0, OPTS(log_opts), cmd_log },
	{ "restore", NULL, "POINT[/DISK] TARGET",
	  "write a restore point to a file, device or NBD server", 2, 2, OPTS(restore_opts),
	  cmd_restore },
	{ "export", NULL, "POINT[/DISK]", "serve a restore point over NBD", 1, 1, OPTS(export_opts),
	  cmd_export },
	{ "exports", NULL, "", "list what is served", 0, 0, NO_OPTS, cmd_exports },
	{ "unexport", NULL, "ID|--all", "end an export", 0, 1, OPTS(unexport_opts), cmd_unexport },
	{ "overlays", NULL, "", "list the writable views", 0, 0, OPTS(overlays_opts),
	  cmd_overlays },
	{ "seal", NULL, "ID", "make a restore point of a writable view", 1, 1, OPTS(seal_opts),
	  cmd_seal },
	{ "discard", NULL, "ID", "throw a writable view or a recovery away", 1, 1, NO_OPTS,
	  cmd_discard },
	{ "recover", NULL, "POINT|--resume ID", "run a guest on a restore point", 0, 1,
	  OPTS(recover_opts), cmd_recover },
	{ "migrate", NULL, "GUEST|ID", "move a recovered guest's disks, running, to storage", 1, 1,
	  OPTS(migrate_opts), cmd_migrate },
	{ "recoveries", NULL, "", "list the guests that run on restore points", 0, 0, NO_OPTS,
	  cmd_recoveries },
	{ "watch-guests", NULL, "URI", "look after recovered guests (started by recover)", 1, 1,
	  NO_OPTS, cmd_watch_guests },
	{ "diff", NULL, "POINT[/DISK] POINT[/DISK]", "list what differs between two points", 2, 2,
	  NO_OPTS, cmd_diff },
	{ "verify", "check", "[POINT...]", "check the repository or one point, or boot points", 0,
	  UINT_MAX, OPTS(verify_opts), cmd_verify },
	{ "prune", NULL, "", "free the space of forgotten points", 0, 0, OPTS(prune_opts),
	  cmd_prune },
	{ "repair", NULL, "", "make a damaged repository whole again", 0, 0, OPTS(repair_opts),
	  cmd_repair },
	{ "key list", NULL, "", "list the keys of the repository", 0, 0, NO_OPTS, cmd_key_list },
	{ "key add", NULL, "", "add a passphrase", 0, 0, OPTS(key_add_opts), cmd_key_add },
	{ "key remove", NULL, "", "remove a passphrase or recovery key", 0, 0,
	  OPTS(key_remove_opts), cmd_key_remove },
	{ "key change", NULL, "", "replace a passphrase", 0, 0, OPTS(key_change_opts),
	  cmd_key_change },
	{ "key export-recovery", NULL, "", "make a recovery key and print it", 0, 0,
	  OPTS(key_export_opts), cmd_key_export_recovery },
	{ "key import-recovery", NULL, "", "add a passphrase by means of a recovery key", 0, 0,
	  OPTS(key_import_opts), cmd_key_import_recovery },
	{ "key rotate", NULL, "", "seal new data with a new key", 0, 0, NO_OPTS, cmd_key_rotate },
	{ "stats", NULL, "", "sizes and ratios of the repository", 0, 0, OPTS(stats_opts),
	  cmd_stats },
	{ "benchmark", NULL, "", "measure this machine", 0, 0, OPTS(benchmark_opts),
	  cmd_benchmark },
	{ "version", NULL, "", "print versions", 0, 0, NO_OPTS, cmd_version },
	{ "debug dump", NULL, "FILE", "print a file of a repository as text", 1, 1, NO_OPTS,
	  cmd_debug_dump },
	{ "debug accel", NULL, "", "print which accelerator QEMU can use here: kvm or tcg", 0, 0,
	  NO_OPTS, cmd_debug_accel },
	{ "completion", NULL, "bash", "print the completion script", 1, 1, NO_OPTS,
	  cmd_completion },
};
const size_t cli_command_count = ARRAY_SIZE(cli_commands);
