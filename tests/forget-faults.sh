#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# protect, unprotect, forget and unforget killed, or failed, at the first hit of each of their fault points: the change is
# there or it is not, the chain of the log is whole, and the next change leaves nothing behind.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version

random_file a.raw 64K 1
make_repo made
for day in 1 2 3; do lp -q backup web1 a.raw --time "2026-01-0${day}T00:00:00Z" >/dev/null; done
lp -q protect web1@2026-01-02 --reason held
lp -q forget web1@2026-01-03 --grace 1d >/dev/null
export LIVEPOINT_REPOSITORY=$tmp/repo
# What a change can alter, in one line.
view() { { lp --json list; lp --json list --forgotten; } | jq -sc '[.[][] | [.point, .hold, .forgotten != null]]'; }
passed=0
# attempts COMMAND...
attempts() {
	local before after got got_view name action entries
	rm -rf repo "$LIVEPOINT_CACHE_DIR" && cp -a made repo
	before=$(view)
	LIVEPOINT_FAULT_LOG=$tmp/hits lp -q "$@" >/dev/null || fail "$*"
	after=$(view)
	[ "$before" != "$after" ] || fail "$* changes nothing"
	sort -u hits >names
	rm hits
	grep -q '^catalog\.' names || fail "$*: no fault point of the catalog"
	while read -r name; do
		for action in kill eio; do
			rm -rf repo "$LIVEPOINT_CACHE_DIR" && cp -a made repo
			LIVEPOINT_FAULT=$name:1:$action lp -q "$@" >/dev/null 2>error && got=0 || got=$?
			# a killed program is 137; a failed step may be passed over, or is an error
			[ $action = eio ] || [ $got -eq 137 ] || fail "$*: $name: exit $got after kill"
			[ $got -eq 137 ] || [ $got -le 1 ] || fail "$*: $name: exit $got: $(cat error)"
			got_view=$(view)
			[ "$got_view" = "$before" ] || [ "$got_view" = "$after" ] ||
				fail "$*: $name: neither before nor after: $got_view"
			[ $got -ne 0 ] || [ "$got_view" = "$after" ] || fail "$*: $name: success, and nothing was done"
			entries=$(lp --json log | jq length)
			[ "$entries" -eq $((6 + ($([ "$got_view" = "$after" ] && echo 1 || echo 0)))) ] ||
				fail "$*: $name: $entries entries in the log"
			lp -q protect web1@2026-01-02 --reason next || fail "$*: $name: the next change"
			lp -q verify --leftovers >left 2>&1 && [ ! -s left ] || fail "$*: $name: left $(cat left)"
			[ $action = eio ] || lp -q verify >/dev/null || fail "$*: $name: verify"
			lp -q log --verify || fail "$*: $name: log after the next change"
			passed=$((passed + 1))
		done
	done <names
}
attempts protect web1@2026-01-01 --reason why
attempts unprotect web1@2026-01-02
attempts forget --keep-last 1
attempts unforget web1@2026-01-03
echo "forget-faults: $passed passed"
[ "$passed" -ge 60 ] || fail "only $passed places"
