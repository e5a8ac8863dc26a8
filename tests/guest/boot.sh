#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Boots a disk in QEMU, waits for a line on the serial console and for the power off, and says how long
# it took.
#
#   boot.sh [OPTION...] DISK
#
# DISK is a raw file or an NBD URI (nbd+unix:///EXPORT?socket=PATH); a read-only export will do.
#   --marker TEXT       succeed when a line of the console ends in TEXT (LIVEPOINT-BOOT-OK)
#   --timeout SECONDS   from the start of QEMU to its end (300)
#   --log FILE          the serial console goes here
#   --mem MIB           memory of the guest (512)
#   --kernel FILE       boot this kernel itself, not what the MBR has
#   --initrd FILE       its initrd
#   --append TEXT       its command line; else the file "cmdline" beside the kernel, if there is one
#   --no-poweroff       stop the guest at the marker, as a power cut would, do not wait for its power off
#   --data DISK2        a second disk
#   --uefi              OVMF as firmware, with variables that are thrown away, and the machine q35
#   --agent             with --no-poweroff: wait for an answer of the guest agent, too
#   --write             the guest's writes go into the disks themselves
#
# Stdout gets one line, "seconds_first=1.23 seconds_boot=20.45 seconds_off=23.00 accel=tcg": from the
# start of QEMU to the first byte on the console, to the marker and to the end of QEMU ("-" if it did
# not come); with --agent also " seconds_agent=25.20".  Exit status: 0 the marker came (and the guest powered off), 1 it did not, 2 wrong usage,
# 3 the marker came and the power off did not.
#
#  1. Without --write the guest's writes go to temporary overlays; the disks are opened read-only.
#  2. QEMU never outlives this script, even if that is killed; every file but the log is in one
#     temporary folder, removed at exit.
#  3. Only whole lines count: "v1" is not found in a half-written "v10".

set -euo pipefail
export LC_ALL=C

# The program that was built knows which accelerator works.
top=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../..
: "${LIVEPOINT_BIN:=$top/build/cli/livepoint}"
[ -x "$LIVEPOINT_BIN" ] || LIVEPOINT_BIN=livepoint

disk='' marker=LIVEPOINT-BOOT-OK timeout=300 log='' mem=512 kernel='' initrd='' append='' poweroff=yes
data='' uefi=no agent=no write=no
qemu='' dir='' accel='' start=0 first=- boot=- off=- answered=-

usage()
{
	[ $# = 0 ] || echo "boot.sh: $*" >&2
	echo "usage: boot.sh [--marker TEXT] [--timeout SECONDS] [--log FILE] [--mem MIB]" \
		"[--kernel FILE [--initrd FILE] [--append TEXT]] [--no-poweroff [--agent]] [--data DISK2]" \
		"[--uefi] [--write] DISK" >&2
	exit 2
}

parse_options()
{
	while [ $# -gt 0 ]; do
		case $1 in
		--no-poweroff) poweroff=no ;;
		--uefi) uefi=yes ;;
		--agent) agent=yes ;;
		--write) write=yes ;;
		--marker | --timeout | --log | --mem | --kernel | --initrd | --append | --data)
			[ $# -ge 2 ] || usage "$1 needs a value"
			printf -v "${1#--}" %s "$2"
			shift
			;;
		-*) usage "unknown option \"$1\"" ;;
		*)
			[ -z "$disk" ] || usage "more than one disk"
			disk=$1
			;;
		esac
		shift
	done
	[ -n "$disk" ] || usage "no disk"
	[ -n "$marker" ] || usage "an empty marker is in every line"
	[[ $timeout =~ ^[1-9][0-9]*$ && $mem =~ ^[1-9][0-9]*$ ]] ||
		usage "--timeout and --mem are whole numbers"
	[ -n "$kernel" ] || [ -z "$initrd$append" ] || usage "--initrd and --append need --kernel"
	[ "$agent$poweroff" != yesyes ] || usage "--agent goes with --no-poweroff"
	check_disk "$disk"
	[ -z "$data" ] || check_disk "$data"
}

check_disk()
{
	case $1 in
	nbd:* | nbd+*:*) ;;
	*) [ -r "$1" ] || usage "no disk \"$1\"" ;;
	esac
}

# add_disk DISK: to `args`.
add_disk()
{
	local snapshot=on

	[ "$write" = no ] || snapshot=off
	args+=(-drive "file=${1//,/,,},format=raw,if=virtio,snapshot=$snapshot")
}

# add_uefi: to `args`; the firmware wants to write its variables.
add_uefi()
{
	local code=/usr/share/OVMF/OVMF_CODE_4M.fd

	cp "${code/CODE/VARS}" "$dir/vars.fd"
	args+=(-machine q35 -drive "if=pflash,format=raw,readonly=on,file=$code"
		-drive "if=pflash,format=raw,file=${dir//,/,,}/vars.fd")
}

# add_agent: to `args`; what goes to it is written to descriptor 4, what it says is read from 5.
add_agent()
{
	local pipes="pipe,id=agent,path=${dir//,/,,}/agent"

	mkfifo "$dir/agent.in" "$dir/agent.out"
	exec 4<>"$dir/agent.in" 5<>"$dir/agent.out"
	args+=(-device virtio-serial-pci -chardev "$pipes"
		-device "virtserialport,chardev=agent,name=org.qemu.guest_agent.0")
}

# now: hundredths of a second on a clock that nobody sets, in the variable `clock`.
now()
{
	local up

	read -r up _ </proc/uptime
	clock=${up/./}
}

# since_start: the time from `start` until now as seconds with two digits, in the variable `elapsed`.
since_start()
{
	local clock

	now
	printf -v elapsed '%d.%02d' $(((clock - start) / 100)) $(((clock - start) % 100))
}

leave()
{
	if [ -n "$qemu" ]; then
		{
			kill -KILL "$qemu"
			wait "$qemu"
		} 2>/dev/null || :
	fi
	[ -z "$dir" ] || rm -rf "$dir"
}

# start_qemu: in the background, its console readable from descriptor 3.
start_qemu()
{
	local clock args=()

	mkfifo "$dir/console"
	# Open for both, so that neither side waits for the other to open it.
	exec 3<>"$dir/console"
	args=(-accel "$accel" -cpu max -smp 2 -m "$mem" -nodefaults -no-user-config -no-reboot
		-display none -rtc base=utc -device virtio-rng-pci
		-chardev "file,id=console,path=${dir//,/,,}/console,logfile=${log//,/,,},logappend=off"
		-serial chardev:console)
	if [ "$uefi" = yes ]; then
		add_uefi
	else
		args+=(-machine pc)
	fi
	add_disk "$disk"
	[ -z "$data" ] || add_disk "$data"
	[ "$agent" = no ] || add_agent
	if [ -n "$kernel" ]; then
		if [ -z "$append" ] && [ -r "$(dirname "$kernel")/cmdline" ]; then
			append=$(<"$(dirname "$kernel")/cmdline")
		fi
		args+=(-kernel "$kernel" -append "$append")
		[ -z "$initrd" ] || args+=(-initrd "$initrd")
	fi
	now
	start=$clock
	TMPDIR=$dir setpriv --pdeathsig KILL qemu-system-x86_64 "${args[@]}" \
		</dev/null >&2 3>&- 4>&- 5>&- &
	qemu=$!
}

# take_line LINE: notes the time if it is the marker.
take_line()
{
	local line=$1 elapsed

	line=${line%"${line##*[![:space:]]}"}
	if [ "$boot" = - ] && [[ $line == *"$marker" ]]; then
		since_start
		boot=$elapsed
	fi
}

# watch: reads the console until QEMU ends, the time is over, or (--no-poweroff) the marker is there.
watch()
{
	local line='' part elapsed alive whole

	while :; do
		# Asked before the read: what the guest wrote last is still in the pipe when QEMU is gone.
		alive=yes
		kill -0 "$qemu" 2>/dev/null || alive=no
		whole=yes
		# When the time of a read is over, `part` has the bytes that came.
		IFS= read -r -t 0.1 -u 3 part || whole=no
		since_start
		[ "$first" != - ] || [ "$whole$part" = no ] || first=$elapsed
		line+=$part
		if [ "$whole" = yes ]; then
			take_line "$line"
			line=''
		elif [ "$alive" = no ]; then
			off=$elapsed
			return
		fi
		[ "$boot" = - ] || [ "$poweroff" = yes ] || return 0
		[ "${elapsed%.*}" -lt "$timeout" ] || return 0
	done
}

# ask_agent: pings it until it answers; false when the time is over.  What QEMU holds back for a guest that does not listen
# yet arrives all at once, so one answer is enough.
ask_agent()
{
	local elapsed line

	while :; do
		echo '{"execute":"guest-ping"}' >&4
		if IFS= read -r -t 1 -u 5 line && [[ $line == *'"return"'* ]]; then
			since_start
			answered=$elapsed
			return 0
		fi
		since_start
		[ "${elapsed%.*}" -lt "$timeout" ] && kill -0 "$qemu" 2>/dev/null || return 1
	done
}

main()
{
	parse_options "$@"
	accel=$("$LIVEPOINT_BIN" debug accel) || exit 1
	trap leave EXIT
	trap 'exit 1' HUP INT TERM
	dir=$(mktemp -d "${TMPDIR:-/tmp}/lp-boot.XXXXXX")
	[ -n "$log" ] || log=$dir/log
	start_qemu
	watch
	[ "$agent" = no ] || [ "$boot" = - ] || ask_agent || :
	[ "$agent" = no ] || agent=" seconds_agent=$answered"
	echo "seconds_first=$first seconds_boot=$boot seconds_off=$off accel=$accel${agent#no}"
	if [ "$boot" = - ]; then
		echo "boot.sh: no line ending in \"$marker\" on the console; its last lines:" >&2
		tail -n 5 "$log" | tr -d '\r' >&2 || :
		return 1
	fi
	if [ "$agent" != no ] && [ "$answered" = - ]; then
		echo "boot.sh: the guest agent did not answer" >&2
		return 1
	fi
	[ "$poweroff" = no ] || [ "$off" != - ] || return 3
}

main "$@"
