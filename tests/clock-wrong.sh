#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A clock that is set 20 years ahead ends neither times of grace nor dated holds: prune gives nothing up for good, rules are
# refused, --yes-really goes on; also when the backups of such a night came first; and a host whose clock is two days apart from
# the file system's.  The clocks are played by a library that is loaded before libc.
. "$(dirname "$0")/functions.sh"
requires cc --version
requires jq --version

cat >shim.c <<'END'
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long by(const char *name)
{
	const char *s = getenv(name);

	return s ? atol(s) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	if (r == 0 && clock == CLOCK_REALTIME)
		ts->tv_sec += by("HOST_AHEAD");
	return r;
}

int fstat(int fd, struct stat *st)
{
	int r = fstatat(fd, "", st, AT_EMPTY_PATH);

	if (r == 0)
		st->st_mtim.tv_sec += by("FILES_AHEAD");
	return r;
}
END
sed -i 's/#include <stdlib.h>/#include <fcntl.h>\n&/' shim.c
cc -shared -fPIC -o shim.so shim.c
day=86400
years=$((20 * 365 * day))
# at HOST FILES ARGS...: livepoint with its clock and that of the file system so many seconds ahead.
at() {
	local host=$1 files=$2
	shift 2
	HOST_AHEAD=$host FILES_AHEAD=$files LD_PRELOAD=$tmp/shim.so "$LIVEPOINT_BIN" "$@"
}
forgotten() {
	lp --json -q list --forgotten | jq length
}

make_repo
random_file disk 1M 1
for i in 1 2 3; do
	lp -q backup a disk >out
done
lp -q forget --grace 1d "$(lp --json list a | jq -r '.[0].point')" >out
held=$(lp --json list a | jq -r '.[0].point')
lp -q protect "$held" --until 10d
cp -a repo saved
[ "$(forgotten)" = 1 ] || fail "one forgotten point"

# 31 days later all is as it was told.
at $((31 * day)) $((31 * day)) prune 2>err >out || fail "31 days later: $(cat err)"
[ "$(forgotten)" = 0 ] || fail "a time of grace that was over"
at $((31 * day)) $((31 * day)) -q forget "$held" >out || fail "a hold that was over"
# 300 days are no reason for doubt either.
rm -rf repo cache && cp -a saved repo
at $((300 * day)) $((300 * day)) prune 2>err >out || fail "300 days later: $(cat err)"
[ "$(forgotten)" = 0 ] || fail "a time of grace that was over"

# doubtful HOST FILES WORDS: nothing ends, and it is said.
doubtful() {
	expect_exit 3 at "$1" "$2" prune >out 2>err
	grep -q "$3" err || fail "prune: not the reason: $(cat err)"
	grep -q "1 forgotten point could still come back" err || fail "prune: $(cat err)"
	expect_exit 3 at "$1" "$2" prune --dry-run >out 2>err
	expect_exit 3 at "$1" "$2" --json prune >out 2>err
	[ "$(jq -s '.[-1].clock_doubtful' out)" = true ] || fail "JSON: $(cat out)"
	[ "$(forgotten)" = 1 ] || fail "$3: a point is gone"
	expect_exit 1 at "$1" "$2" forget a --keep-last 1 >out 2>err
	grep -q "$3" err || fail "forget: not the reason: $(cat err)"
	# a dry run writes no file whose time would be the file system's
	[ "$2" = 0 ] || expect_exit 1 at "$1" "$2" forget --dry-run a --keep-last 1 >out 2>err
	[ "$(lp --json list a | jq length)" -ge 2 ] || fail "$3: rules were applied"
	lp verify --leftovers 2>&1 | grep -qx "0 leftovers" || fail "leftovers"
}
rm -rf repo cache && cp -a saved repo
doubtful $years $years "last changed at\|jumps ahead"
expect_exit 1 at $years $years forget "$held" >out 2>err
grep -q "is held until" err || fail "a dated hold: $(cat err)"
doubtful $((2 * day)) 0 "file system with the repository"

# a backup and a single forget by the wrong clock come first
rm -rf repo cache && cp -a saved repo
at $years $years -q backup a disk >out 2>err
at $years $years -q protect a@latest
doubtful $years $years "last changed at\|jumps ahead"
expect_exit 1 at $years $years forget "$held" >out 2>err
grep -q "is held until" err || fail "a dated hold: $(cat err)"

# The clock is put right: no more doubt.
[ "$(forgotten)" = 1 ] || fail "a forgotten point"
lp -q forget --dry-run a --keep-last 1 >out || fail "rules after the clock was put right"
lp prune >out 2>err || fail "prune after the clock was put right"
expect_exit 1 at $years $years forget a --keep-last 1 >out 2>err

# Somebody who knows better: rules once; prune for good.
at $years $years -q forget --yes-really a --keep-last 1 >out
expect_exit 1 at $years $years forget a --keep-last 1 >out 2>err
at $years $years prune --yes-really >out 2>err || fail "--yes-really: $(cat err)"
[ "$(at $years $years --json -q list --forgotten | jq length)" = 0 ] || fail "points that --yes-really gives up"
lp --json log | jq -e 'any(.[]; .command == "clock")' >out || fail "the log has no entry"
lp log --verify >out 2>&1 || fail "the log's chain: $(cat out)"
at $years $years -q forget a --keep-last 1 >out || fail "rules after the clock was accepted"
at $years $years -q prune || fail "prune after the clock was accepted"
