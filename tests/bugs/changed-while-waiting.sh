#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What happens to a source while its backup waits for another one of the same name is no change while it was read: the
# point has the content of after the wait, whole, without a warning.  Raw files that grow, and images.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version
requires qemu-img --version
requires qemu-nbd --version

make_repo
random_file other.raw 1M 9
lp -q backup web1 vda=other.raw >/dev/null

first=
go_on() { [ -z "$first" ] || kill -CONT "$first" 2>/dev/null || true; }
cleanup_fn go_on

# waits DISK NEW: a backup of DISK waits; meanwhile DISK becomes NEW
waits() {
	local second status=0
	LIVEPOINT_FAULT=store.stage.create:1:stop "$LIVEPOINT_BIN" -q backup web1 vda=other.raw >/dev/null 2>first.err &
	first=$!
	stopped_by_fault "$first"
	"$LIVEPOINT_BIN" --json backup --wait 60 web1 "vda=$1" >out 2>err &
	second=$!
	sleep 0.7
	kill -0 $second || { cat err >&2; fail "it does not wait"; }
	cat "$2" >"$1"
	kill -CONT "$first"
	wait "$first" || { cat first.err >&2; fail "the first backup failed"; }
	wait "$second" || status=$?
	[ $status -eq 0 ] || { cat err >&2; fail "exit $status for $1"; }
	jq -se '.[-1].warnings == []' out >/dev/null || { cat out; fail "warnings for $1"; }
	rm -f got.raw
	lp -q restore web1/vda got.raw
}

random_file a.raw 2M 1
random_file b.raw 3M 2
waits a.raw b.raw
cmp b.raw got.raw || fail "a raw file is not what it was after the wait"
random_file a.raw 2M 3
waits b.raw a.raw # smaller again
cmp a.raw got.raw || fail "a raw file that shrank is not what it was after the wait"

random_file c.raw 2M 4
random_file d.raw 2M 5
qemu-img convert -f raw -O qcow2 c.raw c.qcow2
{ head -c 1M /dev/zero; cat d.raw; } >e.raw # other tables
qemu-img convert -f raw -O qcow2 e.raw d.qcow2
waits c.qcow2 d.qcow2
cmp e.raw got.raw || fail "an image is not what it was after the wait"
