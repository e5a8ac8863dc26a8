#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Processes that hold a key make no core dump and can be looked into by root only: the program, the plugin, the supervisor
# of an export.  Without a key they stay as everybody's.  (That the flag is set with the limit: tests/unit/base-proc.c.)
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
# root may raise the hard limit too
ulimit -c unlimited 2>/dev/null || ulimit -S -c "$(ulimit -H -c)"
requires test "$(ulimit -c)" != 0
random_file a.raw 1M 1
echo secret >pw

# core_of PID: soft limit of its core dumps
core_of() { awk '/^Max core file size/ { print $5 }' "/proc/$1/limits"; }
expect_core() { # WHAT PID hidden|open
	local got
	got=$(core_of "$2")
	if [ "$3" = hidden ]; then
		[ "$got" = 0 ] || fail "$1 holds a key and may dump $got bytes of core"
	else
		[ "$got" != 0 ] || fail "$1 holds no key and is hidden: the test sees nothing"
	fi
}

for want in open hidden; do
	options=()
	[ $want = open ] || options=(--encrypt)
	export LIVEPOINT_PASSPHRASE_FILE=$tmp/pw
	make_repo "$tmp/$want" "${options[@]}"
	lp -q backup web1 a.raw >/dev/null

	LIVEPOINT_FAULT=store.stage.create:1:stop "$LIVEPOINT_BIN" -q backup web1 a.raw >/dev/null &
	pid=$!
	stopped_by_fault $pid
	expect_core "a backup" $pid $want
	kill -CONT $pid
	wait $pid

	start_plugin point=web1
	expect_core "the plugin" "$plugin_pid" $want
	stop_plugin

	lp --json export web1 >one.json
	expect_core "the server of an export" "$(jq -r .pid one.json)" $want
	expect_core "a supervisor" "$(jq -r .supervisor one.json)" $want
	lp -q unexport --all
done
