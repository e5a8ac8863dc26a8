#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Started with descriptors 0, 1 or 2 closed: no file of the repository gets their numbers, for what is meant for people
# would be written into it.  What cannot be said is a failure, and leaves no server behind.
. "$(dirname "$0")/../functions.sh"
export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
make_repo
random_file disk.raw 1M 1
lp -q backup a disk.raw >/dev/null

# while it waits for its stream, 1 and 2 are the null device
mkfifo stream
exec 8<>stream
"$LIVEPOINT_BIN" -q backup b - <stream >&- 2>&- &
pid=$!
for ((i = 0; i < 400; i++)); do
	[ -z "$(ls -A "$LIVEPOINT_REPOSITORY/staging")" ] || break
	sleep 0.025
done
for i in 1 2; do
	[ "$(readlink /proc/$pid/fd/$i)" = /dev/null ] || fail "descriptor $i is $(readlink /proc/$pid/fd/$i)"
done
kill -TERM $pid
expect_exit 143 wait $pid
exec 8>&-

expect_exit 1 lp backup b - <&- 2>err
grep -q 'standard input' err || { cat err >&2; fail "a closed standard input is not named"; }
expect_exit 13 lp list b 2>/dev/null
expect_exit 1 lp list >&- 2>/dev/null
expect_exit 0 lp -q backup a disk.raw 2>&- >/dev/null

expect_exit 1 lp export a >&- 2>/dev/null
expect_exit 1 lp export a >/dev/full 2>/dev/null
[ "$(lp --json exports)" = "[]" ] || fail "an export that nobody was told of runs on"
lp -q verify --data
