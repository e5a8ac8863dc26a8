#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The commands of a repository's life under valgrind: no invalid access, no use of what was never set, no definite leak;
# plain and encrypted, good and bad input.  scrypt takes seconds under valgrind, so that the encrypted one does less.
. "$(dirname "$0")/../functions.sh"

requires valgrind --version

# With a system libtool the program in the build tree may be a script.
program=$LIVEPOINT_BIN
[ "$(head -c 2 "$program")" != '#!' ] || program=$(dirname "$program")/.libs/$(basename "$program")
passed=0 failed=0

# vg WANTED-STATUS ARGS...: livepoint under valgrind.
vg() {
	local want=$1 got=0
	shift
	valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
		--child-silent-after-fork=yes --log-file="$tmp/vg.log" "$program" "$@" >vg.out 2>vg.err </dev/null || got=$?
	# "--PID--" lines are valgrind's own affairs (mlock2 is a system call that it does not know)
	if [ $got -eq "$want" ] && ! grep -qv '^--' vg.log; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED (status $got, not $want): livepoint $*"
		tail -n 5 vg.err
		head -n 60 vg.log
	fi
}

random_file disk.raw 3M 1
truncate -s 6M disk.raw
random_bytes 1000 2 | base64 >text
for ((i = 0; i < 700; i++)); do cat text; done | dd of=disk.raw bs=64K seek=60 conv=notrunc status=none
head -c 500000 disk.raw >second.raw

life() {
	vg 0 "$@" init "${encrypt[@]}"
	vg 1 "$@" init
	vg 0 "$@" backup web1 vda=disk.raw data=second.raw
	printf changed | dd of=disk.raw bs=1 seek=200000 conv=notrunc status=none
	vg 0 "$@" --json backup web1 vda=disk.raw data=second.raw --label k=v
	echo '[{"start":0,"length":65536}]' >changed.json
	vg 0 "$@" backup web1 --changed vda=changed.json vda=disk.raw data=second.raw
	if [ $kind = plain ]; then
		vg 0 "$@" backup --dry-run web1 disk.raw
		vg 0 "$@" list
		vg 0 "$@" --json list web1
		vg 0 "$@" show web1
		vg 0 "$@" --json stats
		vg 13 "$@" show nothing
		vg 2 "$@" backup 'a/b' disk.raw
		vg 1 "$@" backup web1 vda=/nonexistent
		vg 13 "$@" restore web1/vdz out.raw
		vg 0 "$@" verify
		vg 0 "$@" verify --leftovers
	fi
	first=$("$program" "$@" --json list web1 | sed -nE 's/.*"point": ?"(web1@[^"]*)".*/\1/p' | head -n 1)
	vg 0 "$@" --json diff "$first" web1
	rm -rf out && mkdir out
	vg 0 "$@" restore web1 out
	cmp out/vda.raw disk.raw || fail "vda restored differs"
	vg 0 "$@" restore --delta "$first/vda" out/vda.raw
	vg 0 "$@" restore --verify --overwrite web1/vda out/vda.raw
	cmp out/vda.raw disk.raw || fail "vda restored again differs"
	vg 0 "$@" verify --data "$first"
	pack=$(find "$tmp/$kind/packs" -name '*.pack' | sort | head -n 1)
	vg 0 debug dump "$pack"
	vg 0 debug dump "$tmp/$kind/livepoint.conf"
	# and damage
	printf '\377\376\375' | dd of="$pack" bs=1 seek=30000 conv=notrunc status=none
	vg 4 "$@" verify --data
	vg 4 "$@" restore --overwrite "$first/vda" out/vda.raw
	truncate -s 1000 "$pack"
	vg 4 "$@" verify
}

kind=plain encrypt=()
life -r "$tmp/plain"
kind=encrypted encrypt=(--encrypt)
echo 'correct horse' >pass
life -r "$tmp/encrypted" --passphrase-file "$tmp/pass"
echo 'wrong' >pass
vg 12 -r "$tmp/encrypted" --passphrase-file "$tmp/pass" verify
vg 10 -r "$tmp/none" list
vg 0 --help
vg 0 version
slow_done valgrind $passed $failed 40
