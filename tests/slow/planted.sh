#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Negative controls: bugs of the garbage collection protocol that the program can be asked to have (LIVEPOINT_PLANT,
# base/fault.h).  Each scenario passes without its bug and must fail with it, by what the bug does; so the scenarios and
# the model test are shown to see something.  Bugs that a power cut is needed for: tests/slow/powerloss.sh.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version

random_file a.raw 1M 1
random_file b.raw 1M 2
random_file c.raw 1M 3
cat a.raw b.raw >ab.raw
fast_dir planted

# Each scenario runs in a shell of its own with a new repository and says in one line why it has failed.
bad() {
	echo "$*"
	exit 1
}

# stopped POINT ARGS...: livepoint, stopped at the first hit of a fault point.  Sets pid.
stopped() {
	local point=$1
	shift
	LIVEPOINT_FAULT=$point:1:stop "$LIVEPOINT_BIN" -q "$@" >stopped.out 2>stopped.err &
	pid=$!
	stopped_by_fault $pid
}

# goes_on: the stopped process goes on; its status in $status.
goes_on() {
	status=0
	kill -CONT $pid
	wait $pid || status=$?
}

# holds NAME FILE: NAME's newest point has the bytes of FILE.
holds() {
	lp -q restore "$1" back.raw --overwrite >restore.out 2>&1 || bad "$1 cannot be read: $(tail -n 1 restore.out)"
	cmp -s back.raw "$2" || bad "$1 restores to other bytes"
}

whole() {
	lp -q verify --data >verify.out 2>&1 || bad "verify: $(grep -m 1 . verify.out)"
	lp -q verify --leftovers >left.out 2>&1 || bad "leftovers: $(cat left.out)"
	[ ! -s left.out ] || bad "leftovers: $(cat left.out)"
}

newest() { lp --json list "$1" | jq -r '.[-1].point'; }

forget() { lp -q forget "$(newest "$1")" --grace 0 >/dev/null; }

# A session that was ended from outside before it had its folder: only its token tells it.
scenario_token() {
	local token
	lp -q backup web a.raw >/dev/null
	stopped catalog.session.after backup db b.raw
	lp backup db c.raw >busy.out 2>&1 && bad "two backups of one name"
	token=$(grep -oE 'lease [0-9]+' busy.out | head -n 1 | cut -d ' ' -f 2)
	lp -q prune --fence "$token" >/dev/null 2>fence.err || bad "fence: $(cat fence.err)"
	goes_on
	[ "$(lp --json list | jq '[.[] | select(.name == "db")] | length')" = 0 ] || bad "a fenced session has published"
	[ $status -ne 0 ] || bad "a fenced session says that it has published"
	lp -q backup db c.raw >/dev/null
	holds db c.raw
	whole
}

# A backup that has found chunks in the index, which only a forgotten point uses; then prune.
scenario_wait() {
	lp -q backup keep c.raw >/dev/null
	lp -q backup old a.raw >/dev/null
	forget old
	stopped catalog.reserve.after backup new a.raw
	lp -q prune --min-unused 0 >/dev/null 2>prune.err || bad "prune: $(cat prune.err)"
	goes_on
	[ $status -eq 0 ] || bad "a backup was refused: $(tail -n 1 stopped.err)"
	lp -q prune --min-unused 0 >/dev/null 2>&1
	holds new a.raw
	whole
}

# The same, and prune waits: the point is published between its two looks.
scenario_again() {
	local pruning i
	lp -q backup keep c.raw >/dev/null
	lp -q backup old a.raw >/dev/null
	forget old
	stopped catalog.reserve.after backup new a.raw
	LIVEPOINT_FAULT_LOG=$PWD/hits "$LIVEPOINT_BIN" -q prune --min-unused 0 --wait 120 >/dev/null 2>prune.err &
	pruning=$!
	for ((i = 0; i < 1200; i++)); do
		! grep -qs '^catalog.condemn.after' hits || break
		sleep 0.05
	done
	goes_on
	wait $pruning || bad "prune: $(cat prune.err)"
	[ $status -eq 0 ] || bad "a backup was refused: $(tail -n 1 stopped.err)"
	holds new a.raw
	whole
}

# The index still names slots that are given up and still lie in their pack.
scenario_gone() {
	lp -q backup old ab.raw >/dev/null
	lp -q backup keep b.raw >/dev/null
	forget old
	lp -q prune --max-rewrite 0 >/dev/null
	lp -q backup new a.raw >/dev/null 2>new.err || bad "a backup was refused: $(tail -n 1 new.err)"
	lp -q prune --min-unused 0 >/dev/null
	holds new a.raw
	holds keep b.raw
	whole
}

# Somebody who sweeps a dead session stops before he unlinks its pack; others finish that, and a later pack must not have
# its number when he goes on.
scenario_number() {
	lp -q backup one a.raw >/dev/null
	LIVEPOINT_FAULT=catalog.publish.before:1:kill lp -q backup dead b.raw >/dev/null 2>&1
	stopped store.pack.remove backup late c.raw
	lp -q backup two b.raw >/dev/null
	goes_on
	[ $status -eq 0 ] || bad "a backup was refused: $(tail -n 1 stopped.err)"
	holds two b.raw
	holds late c.raw
	whole
}

# A reader that stays over compactions and opens packs again: the model test has them.
scenario_footer() {
	local s
	for s in 1 2 3; do
		rm -rf model
		"$abs_top_builddir/tests/model-gc" model plain 250 $s >model.out 2>&1 || bad "$(grep -m 1 FAILED model.out)"
	done
}

passed=0 failed=0
# run SCENARIO [PLANT]: in a folder of its own.
run() {
	rm -rf "$fast/run"
	mkdir "$fast/run"
	(
		set +e
		cd "$fast/run" || exit 1
		for f in a b c ab; do ln -s "$tmp/$f.raw" $f.raw; done
		[ -z "${2:-}" ] || export LIVEPOINT_PLANT=$2
		make_repo "$PWD/repo"
		"scenario_$1"
		exit 0
	) >run.out 2>&1
}

# control SCENARIO PLANT EXPECTED: passes without the bug; fails with it, and by what it does.
control() {
	if ! run "$1"; then
		echo "scenario $1 fails by itself: $(tail -n 1 run.out)"
		failed=$((failed + 1))
	elif run "$1" "$2"; then
		echo "planted: nobody has noticed $2 (scenario $1)"
		failed=$((failed + 1))
	elif ! grep -qE "$3" run.out; then
		echo "planted: $2 was noticed by something else: $(tail -n 1 run.out)"
		failed=$((failed + 1))
	else
		echo "planted: $2: caught by scenario $1: $(grep -m 1 -E "$3" run.out)"
		passed=$((passed + 1))
	fi
}
control token session.token 'a fenced session has published'
control wait gc.wait 'a backup was refused'
control again gc.second-mark 'cannot be read'
control gone session.gone 'a backup was refused'
control number catalog.number 'cannot be read|other bytes'
control footer store.footer 'FAILED: seed'
slow_done "planted bugs of garbage collection" $passed $failed 6
