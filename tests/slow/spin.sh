#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The model of leases, publication and garbage collection (tests/model/gc-protocol.pml), searched exhaustively by spin for
# the sizes below, and with each of its planted bugs, which must be found.  --soak: the large sizes too.
. "$(dirname "$0")/../functions.sh"

requires spin -V

model=$abs_top_srcdir/tests/model/gc-protocol.pml
passed=0 failed=0

# search OPTIONS...: exit status of the verifier aside, prints "ERRORS STATES", nothing if it did not finish.
search() {
	rm -rf run
	mkdir run
	cp "$model" run/model.pml
	(cd run && spin -a "$@" model.pml >spin.out 2>&1 &&
		gcc -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=7000 -o pan pan.c 2>cc.out &&
		./pan -m100000 >pan.out 2>&1) || true
	grep -qE 'max search depth too small|out of memory|Search not completed' run/pan.out 2>/dev/null && [ "${bug:-}" = "" ] && return
	sed -nE 's/.*errors: ([0-9]+).*/\1/p' run/pan.out
	sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' run/pan.out
}

# proves TEXT OPTIONS...: no error in any state.
proves() {
	local text=$1 result
	shift
	result=$(bug='' search "$@" | tr '\n' ' ')
	if [[ $result =~ ^0\ ([0-9.e+]+) ]]; then
		passed=$((passed + 1))
		echo "no error: $text, ${BASH_REMATCH[1]} states"
	else
		failed=$((failed + 1))
		echo "FAILED: $text: '$result'"
		tail -n 20 run/pan.out run/spin.out run/cc.out 2>/dev/null || true
	fi
}

# finds BUG OPTIONS...: the planted bug ends with an error.
finds() {
	local name=$1 result
	shift
	result=$(bug=1 search -D"$name" "$@" | tr '\n' ' ')
	if [[ $result =~ ^1\  ]]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: planted $name was not found: '$result'"
	fi
}

quiet=(-DMAXKILL=0 -DMAXPOWER=0 -DMAXFORCE=0)
forced=(-DMAXKILL=0 -DMAXPOWER=0 -DMAXFORCE=1)
power=(-DMAXKILL=0 -DMAXPOWER=1 -DMAXFORCE=0)

for b in BUG_NOGONE BUG_NOWAIT BUG_NOREMARK BUG_SNAPEARLY; do finds $b -DONE -DNOREADER "${quiet[@]}"; done
for b in BUG_NOFENCE BUG_NOSTAGESWEEP BUG_LATEMKDIR; do finds $b -DONE -DNOREADER "${forced[@]}"; done
for b in BUG_NODIRSYNC BUG_NOFSYNC BUG_COMMITFIRST; do finds $b -DONE -DNOREADER "${power[@]}"; done
for b in BUG_FOOTER BUG_NOPIN BUG_WAITREADERS; do finds $b -DONE "${quiet[@]}"; done
finds BUG_REUSE -DNOREADER -DNUNFORGET=0 "${quiet[@]}"

proves "1 session, 1 prune, 2 forgets, 1 unforget, 1 kill, 1 fencing" \
	-DRESUME -DONE -DNOREADER -DMAXKILL=1 -DMAXPOWER=0 -DMAXFORCE=1
proves "1 session, 1 prune, a reader, 2 forgets, 1 unforget" -DRESUME -DONE "${quiet[@]}"
proves "1 prune, a reader, 2 forgets, 1 unforget, 1 kill, 1 power loss" \
	-DRESUME -DZERO -DMAXKILL=1 -DMAXPOWER=1 -DMAXFORCE=0
if [ -n "${LIVEPOINT_SOAK:-}" ]; then
	proves "2 sessions, 1 prune, 2 forgets" -DRESUME -DNOREADER -DNUNFORGET=0 "${quiet[@]}"
	proves "2 sessions, 1 prune, 1 forget, 1 fencing" -DRESUME -DNOREADER -DNFORGET=1 -DNUNFORGET=0 "${forced[@]}"
	proves "1 session, 2 prunes, 2 forgets, 1 fencing" -DRESUME -DONE -DTWOGC -DNOREADER -DNUNFORGET=0 "${forced[@]}"
	proves "1 session, 1 prune, 2 forgets, 1 unforget, 1 power loss, 1 fencing" \
		-DRESUME -DONE -DNOREADER -DMAXKILL=0 -DMAXPOWER=1 -DMAXFORCE=1
	proves "1 session, 1 prune, 1 forget, 1 kill, 1 power loss" \
		-DRESUME -DONE -DNOREADER -DNFORGET=1 -DNUNFORGET=0 -DMAXKILL=1 -DMAXPOWER=1 -DMAXFORCE=0
fi
slow_done "gc model by spin" "$passed" "$failed" 17
