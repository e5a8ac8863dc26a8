#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# An export whose nbdkit is killed comes back on the same socket, with the same bytes and the same key;
# unexport ends both processes; a killed supervisor leaves no server behind; what dies again and again
# is given up with a reason.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
random_file a.raw 3M 1

alive() { readlink "/proc/$1/exe" >/dev/null 2>&1; }
gone() { # gone PID...: within 5 s
	local i pid
	for pid; do
		for ((i = 0; i < 250; i++)); do
			alive "$pid" || continue 2
			sleep 0.02
		done
		fail "process $pid is left"
	done
}
field() { lp --json exports | jq -r ".[0].$1"; }
nothing_left() {
	[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "$1: left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"
}
# new_server OLD: the pid of the server that came after it
new_server() {
	local i pid
	for ((i = 0; i < 500; i++)); do
		pid=$(field pid)
		[ "$pid" = "$1" ] || { echo "$pid"; return 0; }
		sleep 0.02
	done
	fail "server $1 is not replaced"
}

# --- plain and encrypted: killed with a client connected, twice ---
echo "correct horse battery staple" >pw
for kind in plain sealed; do
	options=()
	[ $kind = plain ] || options=(--encrypt)
	export LIVEPOINT_PASSPHRASE_FILE=$tmp/pw
	make_repo "$tmp/$kind" "${options[@]}"
	lp -q backup web1 vda=a.raw >/dev/null
	lp --json export web1 >one.json
	unset LIVEPOINT_PASSPHRASE_FILE # what comes back has the key from its supervisor
	uri=$(jq -r .uri one.json) id=$(jq -r .id one.json) pid=$(jq -r .pid one.json) keeper=$(jq -r .supervisor one.json)
	[ "$pid" != "$keeper" ] || fail "$kind: server and supervisor are one process"
	[ "$(readlink "/proc/$keeper/cwd")" = / ] || fail "$kind: the supervisor keeps a folder busy"
	tr '\0' '\n' <"/proc/$keeper/environ" | grep -q battery && fail "$kind: a passphrase in the environment"
	mkfifo "hold.$kind"
	nbdcopy "$uri" - >"hold.$kind" 2>/dev/null &
	client=$!
	exec 7<"hold.$kind"
	head -c 65536 <&7 >/dev/null
	for round in 1 2; do
		kill -KILL "$pid"
		gone "$pid"
		nbdcopy "$uri" copy.raw || fail "$kind: no answer on the same socket after kill -9 ($round)"
		cmp a.raw copy.raw || fail "$kind: other bytes after kill -9"
		pid=$(new_server "$pid")
		alive "$pid" || fail "$kind: exports names a process that does not run"
		[ "$(readlink "/proc/$pid/cwd")" = / ] || fail "$kind: the new server keeps a folder busy"
	done
	exec 7<&-
	wait "$client" && fail "$kind: a client of the killed server has noticed nothing: it was no test"
	[ "$(field id)" = "$id" ] && [ "$(field uri)" = "$uri" ] && [ "$(field supervisor)" = "$keeper" ] ||
		fail "$kind: exports shows another export"
	grep -q "^livepoint: 20.*process.*killed by signal 9.*started again" "$LIVEPOINT_RUN_DIR/$id.log" ||
		{ cat "$LIVEPOINT_RUN_DIR/$id.log"; fail "$kind: not said in the log"; }
	tr '\0' '\n' <"/proc/$pid/environ" | grep -q battery && fail "$kind: a passphrase in the environment"
	lp -q unexport "$id" || fail "$kind: unexport"
	gone "$pid" "$keeper"
	nothing_left "$kind"
	[ -z "$(ls -A "$LIVEPOINT_REPOSITORY/locks")" ] || {
		lp -q list >/dev/null
		# the pins of the killed are swept by the next session
		LIVEPOINT_PASSPHRASE_FILE=$tmp/pw lp -q backup web2 a.raw >/dev/null
		[ -z "$(ls -A "$LIVEPOINT_REPOSITORY/locks")" ] || fail "$kind: locks are left"
	}
done
export LIVEPOINT_REPOSITORY=$tmp/plain

# --- SIGTERM: to the server or to the supervisor, both end and nothing is left ---
for whom in pid supervisor; do
	lp --json export web1 >one.json
	kill -TERM "$(jq -r .$whom one.json)"
	gone "$(jq -r .pid one.json)" "$(jq -r .supervisor one.json)"
	nothing_left "SIGTERM to $whom"
done

# --- kill -9 of the supervisor: the server dies with it, idle client or not, and the files are seen as stale ---
lp --json export web1 >one.json
mkfifo hold
nbdcopy "$(jq -r .uri one.json)" - >hold 2>/dev/null &
client=$!
exec 7<hold
head -c 65536 <&7 >/dev/null
kill -KILL "$(jq -r .supervisor one.json)"
gone "$(jq -r .supervisor one.json)" "$(jq -r .pid one.json)"
exec 7<&-
wait "$client" || true
[ "$(lp --json exports)" = "[]" ] || fail "an export without supervisor is listed"
nothing_left "a killed supervisor"

# --- SIGSTOPped, it is ended by force all the same ---
lp --json export web1 >one.json
kill -STOP "$(jq -r .supervisor one.json)"
kill -STOP "$(jq -r .pid one.json)"
lp -q unexport --all --force || fail "a stopped export is not ended"
gone "$(jq -r .supervisor one.json)" "$(jq -r .pid one.json)"
nothing_left "a stopped export"

# --- the starter is killed before the server answers: nothing stays ---
mkdir bin
printf '#!/bin/sh\nexec sleep 60\n' >bin/nbdkit
chmod +x bin/nbdkit
PATH=$PWD/bin:$PATH LIVEPOINT_NBDKIT_PLUGIN=livepoint "$LIVEPOINT_BIN" export web1 2>/dev/null &
starter=$!
for ((i = 0; i < 250; i++)); do
	server=$(tr -d ' ' 2>/dev/null <"$(echo "$LIVEPOINT_RUN_DIR"/x*.pid)" || true)
	[ -z "$server" ] || break
	sleep 0.02
done
alive "${server:=0}" || fail "no server was started"
kill -KILL $starter
wait $starter 2>/dev/null || true
gone "$server"
for ((i = 0; i < 250; i++)); do
	[ -n "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || break
	sleep 0.02
done
nothing_left "a killed starter"

# --- dies at each start: later and later, then given up, and the next listing says why ---
cp "$LIVEPOINT_PLUGIN" ./nbdkit-livepoint-plugin.so
LIVEPOINT_NBDKIT_PLUGIN=./nbdkit-livepoint-plugin.so lp --json export web1 >one.json
nbdcopy "$(jq -r .uri one.json)" copy.raw && cmp a.raw copy.raw || fail "a plugin named by a relative path"
rm nbdkit-livepoint-plugin.so
kill -KILL "$(jq -r .pid one.json)"
for ((i = 0; i < 1500; i++)); do
	alive "$(jq -r .supervisor one.json)" || break
	sleep 0.02
done
alive "$(jq -r .supervisor one.json)" && fail "it is never given up"
log=$LIVEPOINT_RUN_DIR/$(jq -r .id one.json).log
[ "$(grep -c 'is started again' "$log")" -eq 10 ] || { cat "$log"; fail "not ten more starts"; }
grep -q '11 times in a row.*given up' "$log" || { cat "$log"; fail "no reason in the log"; }
[ "$(lp --json exports 2>words)" = "[]" ] || fail "what was given up is listed"
grep -q "$(jq -r .id one.json).*given up" words || { cat words; fail "the listing does not say why"; }
nothing_left "given up"
