#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Two backups of one name at once: the second exits 11 at once and says who is at it; --wait waits for it; other names
# never wait.  The first one is held by a fault point, so that nothing here depends on speed.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults

make_repo
random_file disk.raw 4M 1
lp -q backup web1 vda=disk.raw >/dev/null

LIVEPOINT_FAULT=store.stage.create:1:stop "$LIVEPOINT_BIN" -q backup web1 vda=disk.raw >first.out 2>first.err &
first=$!
end_first() { kill -KILL "$first" 2>/dev/null || true; }
cleanup_fn end_first
stopped_by_fault "$first"

begun=$SECONDS
expect_exit 11 lp -q backup web1 vda=disk.raw 2>second.err
[ $((SECONDS - begun)) -le 5 ] || fail "exit 11 took $((SECONDS - begun)) s"
grep -q "process $first" second.err || { cat second.err; fail "it does not say who holds the name"; }
grep -q -- --wait second.err || { cat second.err; fail "it does not say what to do"; }
lp -q --json backup web1 vda=disk.raw >/dev/null 2>second.err || true
[ "$(tail -n 1 second.err | jq -r .code)" = locked ] || { cat second.err; fail "not the code 'locked'"; }

pids=()
# other names go on, several of them at once
for name in db1 mail1 dns1; do
	"$LIVEPOINT_BIN" -q backup $name vda=disk.raw >$name.out 2>$name.err &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "another name had to wait: $(cat ./*.err)"; done

expect_exit 11 lp -q backup --wait 1 web1 vda=disk.raw 2>second.err

"$LIVEPOINT_BIN" -q backup --wait 60 web1 vda=disk.raw >wait.out 2>wait.err &
waiting=$!
sleep 0.5
kill -0 $waiting 2>/dev/null || { cat wait.err; fail "--wait did not wait"; }
kill -CONT $first
wait $first || { cat first.err; fail "the first backup failed"; }
wait $waiting || { cat wait.err; fail "the one that waited failed"; }
[ "$(lp list --json web1 | jq length)" -eq 3 ] || fail "not three points of web1"
[ "$(lp list --json | jq length)" -eq 6 ] || fail "not six points"

# a dead owner is no owner
LIVEPOINT_FAULT=store.stage.create:1:kill "$LIVEPOINT_BIN" -q backup web1 vda=disk.raw >/dev/null 2>&1 && fail "not killed"
lp -q backup web1 vda=disk.raw >/dev/null || fail "a killed backup locks its name"
leftovers=$(lp -q verify --leftovers)
[ -z "$leftovers" ] || fail "leftovers: $leftovers"
