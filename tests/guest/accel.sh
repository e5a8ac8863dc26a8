#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Which accelerator can QEMU really use here?  Source this file and call lp_accel, or run it.
#
# lp_accel prints "kvm" or "tcg" and returns 0.  A /dev/kvm that opens proves nothing: nested
# virtualisation without hardware help opens it and then runs slower than TCG.  So a 512-byte boot
# sector, which ends QEMU through the isa-debug-exit device, has to run to its end within a second.
#
#  1. The probe is killed after one second: no answer in time means tcg.
#  2. Only the exit status that the boot sector itself chose counts as success.
#  3. Nothing is remembered between runs, and no file stays behind.
#  4. LIVEPOINT_ACCEL=kvm|tcg is the answer without a probe.

# The status QEMU leaves with when a guest writes 0x10 to isa-debug-exit: (0x10 << 1) | 1.
lp_accel_status=33

# lp_accel_sector: the boot sector on stdout, 512 bytes.
lp_accel_sector()
{
	# mov dx,0x501; mov al,0x10; out dx,al; then hlt for ever; padding up to the signature.
	printf '\xba\x01\x05\xb0\x10\xee\xf4\xeb\xfd'
	head -c 501 /dev/zero
	printf '\x55\xaa'
}

# lp_accel_probe ACCEL: 0 when the boot sector ran to its end within one second under ACCEL.
lp_accel_probe()
{
	local dir pid n status=0

	dir=$(mktemp -d "${TMPDIR:-/tmp}/lp-accel.XXXXXX") || return 1
	lp_accel_sector >"$dir/sector"
	# The CPU of boot.sh, as KVM may work with one model and not with another; a QEMU that aborts
	# over that leaves no core file.
	(
		ulimit -c 0
		exec setpriv --pdeathsig KILL qemu-system-x86_64 -accel "$1" -cpu max -machine pc -m 16 \
			-nodefaults -no-user-config -display none -no-reboot -boot order=c,menu=off \
			-drive "file=${dir//,/,,}/sector,format=raw,if=ide" \
			-device isa-debug-exit,iobase=0x501 </dev/null >/dev/null 2>&1
	) &
	pid=$!
	# timeout(1) would leave without waiting for a killed child; here nothing outlives the probe.
	for ((n = 0; n < 20; n++)); do
		kill -0 "$pid" || break
		sleep 0.05
	done
	kill -KILL "$pid" || :
	wait "$pid" || status=$?
	rm -rf "$dir"
	[ "$status" -eq "$lp_accel_status" ]
} 2>/dev/null

lp_accel()
{
	case ${LIVEPOINT_ACCEL:-} in
	kvm | tcg)
		echo "$LIVEPOINT_ACCEL"
		return 0
		;;
	'') ;;
	*)
		echo "LIVEPOINT_ACCEL: \"$LIVEPOINT_ACCEL\" is neither kvm nor tcg" >&2
		return 1
		;;
	esac
	if [ -r /dev/kvm ] && [ -w /dev/kvm ] && lp_accel_probe kvm; then
		echo kvm
	else
		echo tcg
	fi
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	lp_accel
fi
