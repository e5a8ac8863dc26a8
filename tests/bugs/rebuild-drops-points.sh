#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A statement that failed once while a catalog was built again (no memory, a read error) was run a second time, and the points
# after it were left out: repair said that all was done, and the list was empty.  Each statement fails once; a repair that ends with
# 0 has all points, after one that fails the next has them.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
library=$abs_top_builddir/tests/.libs/failing-calls.so
requires jq --version
requires test -f "$library"
fast_dir rebuild

random_file a.raw 64K 1
make_repo "$fast/made"
for day in 1 2 3; do lp -q backup web a.raw --time "2026-01-0${day}T00:00:00Z" >/dev/null; done
points() { lp --json list | jq -c 'map(.id)'; }
want=$(points)
export LIVEPOINT_REPOSITORY=$fast/repo
runs=0
while :; do
	rm -rf repo said "$fast/repo"
	cp -a "$fast/made" "$fast/repo"
	rm "$fast"/repo/catalog.sqlite*
	got=0
	LD_PRELOAD=$library LIVEPOINT_FAIL_SEEN=$tmp/seen LIVEPOINT_FAIL_SAID=$tmp/said LIVEPOINT_FAIL_CLASSES=sql \
		lp -q repair >out 2>&1 || got=$?
	[ -s said ] || break
	runs=$((runs + 1))
	[ $got -eq 0 ] || lp -q repair >out 2>&1 || fail "the next repair: $(cat out)"
	[ "$(points)" = "$want" ] || fail "after exit $got, $(cut -d' ' -f1 said): $(lp list): $(cat out)"
done
[ $got -eq 0 ] || fail "untouched: $(cat out)"
[ $runs -ge 30 ] || fail "only $runs runs"
