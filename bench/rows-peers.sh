# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Three generations of the guest disk in restic, borg and here: size of the repository and CPU seconds.
# shellcheck disable=SC2154 # variables of bench/run and functions.sh
#
# Equal level: ours default (zstd 1) beside borg zstd,1; better (zstd 3) beside borg zstd,3 and restic auto (its
# zstd "default", about level 3).  Each program reads one file that changes under one name, since that is what
# restic and borg look a parent up by.  restic always encrypts; borg and ours do not here (16 bytes a chunk).

folder_bytes()
{
	du -s --apparent-size -B1 "$1" | cut -f1
}

# peer NAME COMMAND...: CPU and wall seconds of the command in $work/peer-NAME.
peer()
{
	local name=$1
	shift
	measured "$work/peer-$name" "$@" >/dev/null 2>&1 || die "$name failed: $*"
}

# generation NUMBER: the disk under the name that all read.
generation()
{
	cp --sparse=always --reflink=auto "$work/gen$1.raw" "$work/disk.raw"
}

# One generation in every program, one after the other, so that the load is about the same for all.
one_generation()
{
	generation "$1"
	LIVEPOINT_REPOSITORY=$work/peer-repo-default peer default "$livepoint" -q backup d "vda=$work/disk.raw"
	LIVEPOINT_REPOSITORY=$work/peer-repo-better peer better "$livepoint" -q backup d "vda=$work/disk.raw"
	[ $restic = no ] || peer restic restic -q -r "$work/peer-repo-restic" backup "$work/disk.raw"
	[ $borg = no ] || {
		peer borg1 borg create -C zstd,1 "$work/peer-repo-borg1::g$1" "$work/disk.raw"
		peer borg3 borg create -C zstd,3 "$work/peer-repo-borg3::g$1" "$work/disk.raw"
	}
}

total()
{
	jq -s "map($2) | add" "$work/peer-$1"
}

# against PEER TITLE LEVEL LIMIT
against()
{
	row peers "repository of three generations, $3" MiB "$(calc "$(folder_bytes "$work/peer-repo-$3") / 1048576")" \
		"$(calc "$(folder_bytes "$work/peer-repo-$1") / 1048576")" "$2" le "$4"
	row peers "the same, CPU" s "$(total "$3" .cpu)" "$(total "$1" .cpu)" "$2" none 0
	row peers "the same, wall" s "$(total "$3" .wall)" "$(total "$1" .wall)" "$2" none 0
}

group_peers()
{
	local restic=no borg=no n
	guest_disks
	rm -rf "$work"/peer-*
	unset LIVEPOINT_PASSPHRASE
	lp -r "$work/peer-repo-default" init
	lp -r "$work/peer-repo-better" init --compression better
	export RESTIC_PASSWORD=$passphrase RESTIC_CACHE_DIR=$work/peer-cache BORG_BASE_DIR=$work/peer-cache \
		BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
	if command -v restic >/dev/null; then
		restic=yes
		restic -q -r "$work/peer-repo-restic" init >/dev/null
	fi
	if command -v borg >/dev/null; then
		borg=yes
		for n in 1 3; do
			borg init -e none "$work/peer-repo-borg$n"
		done
	fi
	for n in 0 1 2; do
		one_generation $n
	done
	[ $restic = no ] || against restic "restic, compression auto" better 0.95
	[ $borg = no ] || against borg1 "borg zstd,1" default 0.9
	[ $borg = no ] || against borg3 "borg zstd,3" better 0.9
	[ $restic = yes ] && [ $borg = yes ] || say "restic or borg is not installed: no row for it"
	rm -rf "$work"/peer-* "$work/disk.raw"
}
