#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# debug accel: an answer within little more than a second whatever QEMU does, and only the boot sector's own status is a yes.
. "$(dirname "$0")/functions.sh"

# answers TEXT [VARIABLE=VALUE...]
answers() {
	local want=$1 got
	shift
	got=$(env -u LIVEPOINT_ACCEL "$@" "$LIVEPOINT_BIN" debug accel) || fail "debug accel"
	[ "$got" = "$want" ] || fail "$got, not $want ($*)"
}

answers kvm LIVEPOINT_ACCEL=kvm
answers tcg LIVEPOINT_ACCEL=tcg
expect_exit 2 env LIVEPOINT_ACCEL=xen "$LIVEPOINT_BIN" debug accel 2>/dev/null
[ "$(LIVEPOINT_ACCEL=kvm lp --json debug accel | jq -r .accel)" = kvm ] || fail "JSON"
plain=$(env -u LIVEPOINT_ACCEL "$LIVEPOINT_BIN" debug accel)
case $plain in kvm | tcg) ;; *) fail "'$plain'" ;; esac

# Without a QEMU there is nothing to try.
mkdir none
answers tcg PATH="$tmp/none"

if [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
	echo "no /dev/kvm: nothing is tried, and the answer above was the right one"
	[ "$plain" = tcg ] || fail "kvm without /dev/kvm"
	exit 0
fi
requires command -v qemu-system-x86_64
# fake BODY: what runs as QEMU
fake() {
	mkdir -p fake
	printf '#!/bin/bash\n%s\n' "$1" >fake/qemu-system-x86_64
	chmod +x fake/qemu-system-x86_64
}
qemu=$(command -v qemu-system-x86_64)
# The real boot sector, by emulation: what says yes is the sector itself.
fake "exec $qemu -accel tcg \"\${@:3}\""
for ((n = 0; n < 20; n++)); do # a busy machine may need more than a second now and then
	got=$(PATH=$tmp/fake:$PATH env -u LIVEPOINT_ACCEL "$LIVEPOINT_BIN" debug accel)
	[ "$got" != kvm ] || break
done
[ "$got" = kvm ] || fail "the boot sector never ended QEMU within a second"
for body in 'exit 0' 'exit 1' 'kill -9 $$' 'exit 32'; do
	fake "$body"
	answers tcg PATH="$tmp/fake:$PATH"
done
# One that hangs is killed.
fake "echo \$\$ >$tmp/pid; exec sleep 600"
start=$SECONDS
answers tcg PATH="$tmp/fake:$PATH"
[ $((SECONDS - start)) -lt 30 ] || fail "it waited"
! kill -0 "$(<"$tmp/pid")" 2>/dev/null || fail "the trial outlives its question"
