#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Prune meets a damaged record in use (exit 3, the rest is freed), an immutable pack, a catalog that lost points, a dry run,
# a limit, signals, and a suspended backup that is fenced.
. "$(dirname "$0")/functions.sh"

requires jq --version
requires sqlite3 --version

sql() { sqlite3 "$LIVEPOINT_REPOSITORY/catalog.sqlite" "PRAGMA foreign_keys = ON; $1"; }
size() { find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }
clean() { [ -z "$(lp -q verify --leftovers)" ] || fail "leftovers: $(lp -q verify --leftovers)"; }
forget() { lp -q forget "$@" >/dev/null; }
biggest() { find "$LIVEPOINT_REPOSITORY/packs" -name '*.pack' -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2; }

# --- damage, and what is immutable ---
make_repo "$tmp/damage"
random_file a.raw 8M 1
{ random_bytes 4M 2; tail -c 4M a.raw; } >b.raw
random_file c.raw 8M 3
a=$(lp -q backup web vda=a.raw)
pack=$(biggest)
b=$(lp -q backup web vda=b.raw)
c=$(lp -q backup third vda=c.raw)
cp "$pack" good.pack
# the second half of a.raw, which b.raw has too, stands in the second half of its pack
printf 'XXXX' | dd of="$pack" bs=1 seek=$(($(stat -c %s "$pack") * 3 / 4)) conv=notrunc status=none
forget "$a" "$c"
before=$(size)
expect_exit 3 lp --json prune >prune.json 2>prune.err
jq -e '.packs_damaged == 1 and .bytes_left > 0 and .bytes_freed > 8000000' prune.json >/dev/null || fail "$(cat prune.json)"
grep -q 'repair' prune.err || fail "no next step: $(cat prune.err)"
[ "$(size)" -lt $((before - 8000000)) ] || fail "the rest was not freed"
cmp <(head -c 4M "$pack") <(head -c 4M good.pack) || fail "the damaged pack was changed"
lp -q backup web vda=b.raw >/dev/null # heals
forget "$b"
lp -q prune
lp -q verify --data
clean

if [ "$(id -u)" = 0 ] && chattr +i a.raw 2>/dev/null; then
	chattr -i a.raw
	make_repo "$tmp/immutable"
	a=$(lp -q backup web vda=a.raw)
	pack=$(biggest)
	lp -q backup web vda=b.raw >/dev/null
	forget "$a"
	chattr +i "$pack"
	cleanup_fn chattr -i "$pack"
	lp --json prune >prune.json 2>prune.err || fail "prune beside an immutable pack: $(cat prune.err)"
	jq -e '.packs_left == 1 and .bytes_left > 4000000' prune.json >/dev/null || fail "$(cat prune.json)"
	grep -q 'immutable' prune.err || fail "not said: $(cat prune.err)"
	clean
	chattr -i "$pack"
	lp --json prune >prune.json
	jq -e '.packs_left == 0 and .bytes_freed > 4000000' prune.json >/dev/null || fail "$(cat prune.json)"
	lp -q verify --data
else
	echo "no immutable files here"
fi

# --- a catalog that lost points ---
make_repo "$tmp/lost"
random_file big.raw 80M 4
lp -q backup big vda=big.raw >/dev/null
lp -q backup web vda=a.raw >/dev/null
cp -a "$LIVEPOINT_REPOSITORY/catalog.sqlite" whole.sqlite
sql "DELETE FROM point WHERE name = 'big'"
before=$(size)
expect_exit 1 lp prune --dry-run 2>/dev/null
expect_exit 1 lp prune 2>prune.err
grep -q 'no forgotten point explains' prune.err || fail "$(cat prune.err)"
[ "$(size)" -ge "$before" ] || fail "something went"
[ "$(sql 'SELECT condemn_gen FROM meta')" = 0 ] || fail "something was condemned"
clean
lp --json prune --yes-really >prune.json 2>/dev/null
jq -e '.bytes_freed > 80000000' prune.json >/dev/null || fail "$(cat prune.json)"
clean

# --- a dry run, a limit, the percentage ---
make_repo "$tmp/limits"
a=$(lp -q backup web vda=a.raw)
lp -q backup web vda=b.raw >/dev/null
lp -q prune
forget "$a"
before=$(find "$LIVEPOINT_REPOSITORY" -type f ! -name 'catalog*' -exec sha256sum {} + | sort)
lp --json prune --dry-run >dry.json
[ "$(find "$LIVEPOINT_REPOSITORY" -type f ! -name 'catalog*' -exec sha256sum {} + | sort)" = "$before" ] || fail "a dry run changed files"
lp --json prune --max-rewrite 0 >prune.json
jq -e '.packs_left == 1 and .bytes_left > 4000000' prune.json >/dev/null || fail "$(cat prune.json)"
lp --json prune --min-unused 90 >prune.json
jq -e '.packs_left == 1' prune.json >/dev/null || fail "$(cat prune.json)"
lp --json prune --io-limit 200M >prune.json
jq -e '.packs_left == 0 and .bytes_freed > 4000000' prune.json >/dev/null || fail "$(cat prune.json)"
[ "$(jq .points dry.json)" = 1 ] && [ "$(jq .bytes_freed dry.json)" -gt 4000000 ] || fail "$(cat dry.json)"
expect_exit 2 lp prune --dry-run --fence 3 2>/dev/null
expect_exit 13 lp prune --fence 99999 2>/dev/null

# --- a signal ends it within two seconds, and the next one goes on ---
b=$(lp -q list web --json | jq -r '.[-1].point')
lp -q backup third vda=c.raw >/dev/null
forget "$b"
code=0
"$LIVEPOINT_BIN" -q prune --io-limit 1K & # would take hours
pid=$!
sleep 1
begun=$(date +%s%N)
kill -TERM $pid
wait $pid || code=$?
[ $code = 143 ] || fail "exit $code, not 143"
[ $((($(date +%s%N) - begun) / 1000000)) -lt 10000 ] || fail "it took 10 s to end"
clean
lp -q prune
lp -q verify --data
clean

# --- a suspended backup is fenced, and wakes up ---
grep -q '^#define ENABLE_FAULT_POINTS' "$abs_top_builddir/config.h" || exit 0
forget third@latest
random_file d.raw 8M 9
LIVEPOINT_FAULT=store.pack.rename:1:stop "$LIVEPOINT_BIN" -q backup hang vda=d.raw >/dev/null 2>hang.err &
pid=$!
for ((i = 0; i < 400; i++)); do
	[ "$(cut -d' ' -f3 "/proc/$pid/stat")" != T ] || break
	sleep 0.05
done
lp --json prune >prune.json 2>prune.err
jq -e '.waiting' prune.json >/dev/null || fail "it was not waited for: $(cat prune.json)"
token=$(grep -o 'lease [0-9]*' prune.err | head -n 1 | cut -d' ' -f2)
lp --json prune --fence "$token" >prune.json
jq -e '.waiting == false and .points == 1 and .bytes_freed > 8000000' prune.json >/dev/null || fail "$(cat prune.json)"
kill -CONT $pid
code=0
wait $pid || code=$?
[ $code = 1 ] && grep -q 'ended' hang.err || fail "the fenced backup: exit $code, $(cat hang.err)"
expect_exit 13 lp -q list hang 2>/dev/null # it published nothing
lp -q prune
clean
lp log --json | jq -s 'flatten | map(.command) | contains(["fence", "prune"])' | grep -q true || fail "not in the log"
