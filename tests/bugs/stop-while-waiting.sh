#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SIGINT and SIGTERM within 2 s also where no work is done yet: a passphrase that does not come, a pipe in a file's
# place, a server that does not answer.  Nothing is left behind.
. "$(dirname "$0")/../functions.sh"
requires pgrep --version
export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force

random_file disk.raw 1M 1
mkfifo pipe
echo secret >pw
make_repo "$tmp/sealed" --encrypt --passphrase-file pw
make_repo "$tmp/plain"
lp -q backup a disk.raw >/dev/null

# ended CODE SIGNAL ARGS...: the command waits for ever; the signal ends it
ended() {
	local want=$1 signal=$2 pid i children
	shift 2
	set -m # background jobs ignore SIGINT else
	"$LIVEPOINT_BIN" "$@" </dev/null >out 2>err &
	pid=$!
	set +m
	sleep 0.5
	kill -0 $pid 2>/dev/null || { cat err >&2; fail "it does not wait: $*"; }
	children=$(pgrep -P $pid || true)
	kill "-$signal" $pid
	for ((i = 0; i < 120; i++)); do
		kill -0 $pid 2>/dev/null || break # bash has reaped it; wait tells its status all the same
		sleep 0.025
	done
	[ $i -lt 120 ] || { kill -9 $pid; fail "SIG$signal did not end: $*"; }
	expect_exit "$want" wait $pid
	sleep 0.1
	for i in $children; do
		if readlink /proc/$i/exe >/dev/null 2>&1; then fail "process $i is left: $*"; fi
	done
}
ended 130 INT -r sealed --passphrase-command 'exec sleep 60' backup a disk.raw
ended 143 TERM -r sealed --passphrase-file pipe backup a disk.raw
ended 143 TERM --json backup a disk.raw --changed pipe
grep -q '^{"type":"error","code":"terminated",.*"object":null}$' err || { cat err >&2; fail "no error object"; }

# an export whose server does not come up
mkdir bin
printf '#!/bin/sh\nexec sleep 60\n' >bin/nbdkit
chmod +x bin/nbdkit
old_path=$PATH
PATH=$PWD/bin:$PATH
export LIVEPOINT_NBDKIT_PLUGIN=livepoint # by name: it would be preloaded into the shell else
ended 130 INT export a
grep -q 'stopped' err || { cat err >&2; fail "export: not said"; }
PATH=$old_path
unset LIVEPOINT_NBDKIT_PLUGIN
[ -z "$(ls -A run)" ] || fail "left in the run folder: $(ls -A run)"
if pgrep -f "$PWD/bin/nbdkit" >/dev/null; then fail "the server is left"; fi

# no image format makes a pipe a source
expect_exit 1 timeout -k 1 20 "$LIVEPOINT_BIN" backup a pipe --format qcow2 2>err
grep -q 'neither a file' err || { cat err >&2; fail "a pipe as image is not refused"; }
