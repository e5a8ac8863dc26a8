#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# protect said 0 and "the change is there" when the commit of its lease, long before the hold, had reported an error: it took
# "no state object" for the one it was to write.  Found by tests/fault-loop protect.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version

random_file a.raw 64K 1
make_repo
point=$(lp -q backup web a.raw)
held() { lp --json list | jq -r '.[0].hold.reason'; }
for n in 1 2 3 4 5 6; do
	[ "$(held)" = null ] || lp -q unprotect "$point"
	status=0
	LIVEPOINT_FAULT=catalog.commit.after:$n:eio lp -q protect "$point" --reason kept 2>error || status=$?
	[ $status -ne 0 ] || [ "$(held)" = kept ] || fail "commit $n: protect ended with 0, and there is no hold: $(cat error)"
	[ $status -eq 0 ] || [ -s error ] || fail "commit $n: protect ended with $status and said nothing"
	lp -q protect "$point" --reason kept || fail "commit $n: the next protect"
	[ "$(held)" = kept ] || fail "commit $n: the next hold is not there"
	[ -z "$(lp -q verify --leftovers)" ] || fail "commit $n: left $(lp -q verify --leftovers)"
done
