#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# SIGTERM and SIGINT end a backup within 2 s while an NBD server does not answer: a read that takes a minute, a server that
# is stopped in the middle, one that never greets.  Nothing is published, and the next backup needs no help.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version
requires nbdkit --version

make_repo
random_file disk.raw 24M 5

# now_ms
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
# ended WHAT CODE SIGNAL: the backup $pid, which is blocked
ended() {
	local begun status=0 i took
	sleep 0.3
	kill -0 "$pid" 2>/dev/null || { cat err >&2; fail "$1: it is not blocked"; }
	begun=$(now_ms)
	kill "-$3" "$pid"
	for ((i = 0; i < 400; i++)); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.01
	done
	took=$(($(now_ms) - begun))
	[ $i -lt 400 ] || { kill -KILL "$pid"; fail "$1: SIG$3 does not end it"; }
	wait "$pid" || status=$?
	[ $status -eq "$2" ] || { cat err >&2; fail "$1: exit $status, not $2"; }
	[ $took -le 2200 ] || fail "$1: it took $took ms after SIG$3"
	echo "$1: $took ms"
	[ "$(lp --json list)" = "[]" ] || fail "$1: something was published"
}
# start URI: a backup in the background that takes signals
start() {
	set -m # background jobs ignore SIGINT else
	"$LIVEPOINT_BIN" -q backup web "$1" </dev/null >out 2>err &
	pid=$!
	set +m
}
# reading LOG: until the server has got so many read requests
reading() {
	local i
	for ((i = 0; i < 1000; i++)); do
		[ "$(grep -c ' Read id=' "$1" 2>/dev/null || true)" -lt "$2" ] || return 0
		sleep 0.01
	done
	fail "no read came"
}

for signal in TERM INT; do
	code=143
	[ $signal = TERM ] || code=130

	start_nbdkit slow --filter=log --filter=delay file disk.raw rdelay=60 logfile="$tmp/slow.requests"
	start "$nbd_uri"
	reading slow.requests 1
	ended "a read of a minute" $code $signal
	kill_plugin slow
	rm slow.requests

	# some reads are answered, then none
	start_nbdkit halting --filter=log --filter=delay file disk.raw rdelay=100ms logfile="$tmp/halting.requests"
	start "$nbd_uri"
	reading halting.requests 12
	kill -STOP "$nbd_pid"
	ended "a stopped server" $code $signal
	kill_plugin halting
	rm halting.requests

	start_nbdkit silent file disk.raw
	kill -STOP "$nbd_pid"
	start "$nbd_uri"
	ended "a server that does not greet" $code $signal
	kill_plugin silent
done

start_nbdkit good file disk.raw
lp -q backup web "$nbd_uri" >/dev/null || fail "the next backup does not work"
leftovers=$(lp -q verify --leftovers)
[ -z "$leftovers" ] || fail "leftovers: $leftovers"
lp -q restore web back.raw
cmp disk.raw back.raw
