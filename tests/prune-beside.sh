#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Prune beside an export: a point that is forgotten while it is served stays readable through ten prunes, to 32 readers at
# once, and goes when its server has ended.  Prune beside a backup that reads a pipe: it is not refused and its point is right.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires jq --version

prune() { lp --json prune "$@" >prune.json 2>prune.err || fail "prune: $(cat prune.err)"; }
figure() { jq -r ".$1" prune.json; }
clean() { [ -z "$(lp -q verify --leftovers)" ] || fail "leftovers: $(lp -q verify --leftovers)"; }

make_repo "$tmp/repo"
random_file old.raw 24M 1
{ random_bytes 12M 2; tail -c 12M old.raw; } >new.raw
old=$(lp -q backup web vda=old.raw)
new=$(lp -q backup web vda=new.raw)

# --- an export ---
start_plugin cache=1M "point=$old"
lp -q forget "$old" >/dev/null
for i in 1 2 3; do
	prune
	[ "$(figure points)" = 0 ] || fail "a point that is served expired"
done
pids=()
for ((i = 0; i < 32; i++)); do
	nbdcopy "nbd+unix:///$old/vda?socket=$plugin_sock" - 2>"$i.err" | sha256sum >"$i.sha" &
	pids+=($!)
done
for i in 4 5 6 7 8 9 10; do
	# other points come and go meanwhile: packs are rewritten under the readers
	random_bytes 4M $((100 + i)) | cat - <(tail -c 4M new.raw) >other.raw
	other=$(lp -q backup other vda=other.raw)
	lp -q forget "$other" >/dev/null
	prune --min-unused 0
done
for ((i = 0; i < 32; i++)); do
	wait "${pids[i]}" || { cat "$i.err"; fail "reader $i failed"; }
	[ "$(cut -d' ' -f1 "$i.sha")" = "$(sha old.raw)" ] || fail "reader $i got other bytes"
done
nbdcopy "nbd+unix:///$old/vda?socket=$plugin_sock" again.raw
cmp again.raw old.raw || fail "after ten prunes the point reads differently"
stop_plugin || exit 1
prune
[ "$(figure points)" = 1 ] && [ "$(figure bytes_freed)" -gt $((10 << 20)) ] || fail "it did not go: $(cat prune.json)"
clean
lp -q restore "$new" new.back
cmp new.back new.raw || fail "the other point changed"

# --- a backup that reads a pipe, of bytes that are forgotten and pruned meanwhile ---
random_file gone.raw 24M 7
gone=$(lp -q backup gone vda=gone.raw)
mkfifo pipe
exec 3<>pipe
"$LIVEPOINT_BIN" -q backup stream vda=- <pipe >stream.out 2>stream.err 3>&- &
pid=$!
head -c 8M gone.raw >pipe
for ((i = 0; i < 200; i++)); do
	# it has its lease
	[ -n "$(ls "$LIVEPOINT_REPOSITORY/staging")" ] && break
	sleep 0.05
done
lp -q forget "$gone" >/dev/null
prune
[ "$(figure waiting)" = true ] && [ "$(figure condemned)" -gt 300 ] && [ "$(figure doomed)" = 0 ] ||
	fail "the backup was not waited for: $(cat prune.json)"
grep -q "'stream'" prune.err || fail "the backup is not named: $(cat prune.err)"
tail -c +$((8 * 1024 * 1024 + 1)) gone.raw >pipe
exec 3>&-
wait $pid || fail "the backup: $(cat stream.err)"
prune --wait 10
[ "$(figure waiting)" = false ] || fail "still waiting: $(cat prune.json)"
lp -q restore "$(cat stream.out)" stream.back
cmp stream.back gone.raw || fail "the point of the pipe differs"
prune
lp -q verify --data
clean
