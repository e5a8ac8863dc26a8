#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Judges a disk that a records guest has written to (build.sh records): which records are there, and are the file systems
# whole?  The guest must be off, or cut off.
#
#   records.sh [--format raw|qcow2] [--data DISK2] [--least N] DISK
#
# DISK is a file or an NBD URI.  Stdout gets a line a disk, the second disk's last:
#
#   root highest=123 gaps=0 torn=0 tail=0
#   data highest=124 gaps=0 torn=0 tail=0
#
# highest: the number of the last whole record, or -; gaps and torn: records before it that are missing or are neither
# missing nor whole; tail: records behind it that are not whole, which nobody was told of.
#
# Exit status: 0 all is as it must be: no gap, nothing torn, clean file systems, and record N (the last one that the
# guest's console told of) and all before it on every disk; 1 it is not; 2 wrong usage, or the disk cannot be read.
#
#  1. DISK is only read: its journal is replayed, as the next boot would, in a copy, which goes at the end.
#  2. With two disks a record of the first one is on the second one too: it was written there before.

set -euo pipefail
export LC_ALL=C

disk='' data='' format=raw least='' dir='' checker='' highest=-

die()
{
	echo "records.sh: $*" >&2
	exit 2
}

usage()
{
	die "${1:+$1; }usage: records.sh [--format raw|qcow2] [--data DISK2] [--least N] DISK"
}

parse_options()
{
	while [ $# -gt 0 ]; do
		case $1 in
		--format | --data | --least)
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
	[[ $least =~ ^[0-9]*$ ]] || usage "--least is a number"
	[ "$format" = raw ] || [ "$format" = qcow2 ] || usage "a disk is raw or qcow2"
}

# root_offset FILE: where its ext4 begins, in bytes: a whole disk, the partition of a BIOS disk, that of a UEFI disk.
root_offset()
{
	local offset

	for offset in 0 1048576 34603008; do
		if [ "$(od -An -tx1 -j$((offset + 1080)) -N2 "$1" | tr -d ' ')" = 53ef ]; then
			echo $offset
			return
		fi
	done
	die "\"$1\" has no ext4 where build.sh makes one"
}

# judge WHAT DISK: its line; sets `highest`.  False if something is wrong.
judge()
{
	local fs=$dir/fs offset status=0 line

	highest=-
	qemu-img convert -f "$format" -O raw "$2" "$fs" >&2 || die "\"$2\" cannot be read"
	offset=$(root_offset "$fs") || exit
	if [ "$offset" -gt 0 ]; then
		# e2fsck takes an offset, and forgets it when it has replayed the journal.
		dd if="$fs" of="$fs.part" bs=1M iflag=skip_bytes skip="$offset" conv=sparse status=none ||
			die "no room for a copy of \"$2\""
		mv "$fs.part" "$fs" || die "no copy of \"$2\""
	fi
	# Replays the journal and ends what was going on with files that were deleted: 0 or 1.  Then there is nothing left.
	e2fsck -fp "$fs" >"$dir/log" 2>&1 || status=$?
	if [ "$status" -gt 1 ] || ! e2fsck -fn "$fs" >>"$dir/log" 2>&1; then
		cat "$dir/log" >&2
		echo "records.sh: $1: the file system is damaged" >&2
		return 1
	fi
	debugfs -R "dump /records $dir/records" "$fs" >"$dir/log" 2>&1 || :
	if [ ! -e "$dir/records" ]; then
		cat "$dir/log" >&2
		line="highest=- gaps=0 torn=0 tail=0"
	else
		line=$("$checker" check "$dir/records") || status=2
	fi
	rm -f "$fs" "$dir/records"
	echo "$1 $line"
	highest=${line%% *}
	highest=${highest#highest=}
	[ "$status" -le 1 ]
}

# enough WHAT: its highest record is not below --least.
enough()
{
	[ -n "$least" ] || return 0
	[ "$highest" = - ] || [ "$highest" -lt "$least" ] || return 0
	echo "records.sh: $1: record $least was said to be there, the highest is $highest" >&2
	return 1
}

main()
{
	local bad=0 first here

	parse_options "$@"
	dir=$(mktemp -d "${TMPDIR:-/tmp}/lp-records.XXXXXX")
	trap 'rm -rf "$dir"' EXIT
	# compiled here: a disk can be judged where no records guest was made
	here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
	checker=$dir/checker
	cc -O2 -I "$here/../.." -o "$checker" "$here/records.c" || die "records.c does not compile"
	judge root "$disk" || bad=1
	enough root || bad=1
	if [ -n "$data" ]; then
		first=$highest
		judge data "$data" || bad=1
		enough data || bad=1
		if [ "$first" != - ] && { [ "$highest" = - ] || [ "$highest" -lt "$first" ]; }; then
			echo "records.sh: record $first is on the first disk, the second one has $highest" >&2
			bad=1
		fi
	fi
	return $bad
}

main "$@"
