#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Changes files inside a raw disk that build.sh made, while no guest runs on it.
#
#   edit.sh DISK.raw COMMAND [ARGUMENT...]
#
# COMMAND runs as root with the top of the disk's file system as its current directory (also in
# $GUEST_ROOT), so that relative names are the guest's and absolute names are this machine's:
#
#   edit.sh d.raw sh -c 'echo second >etc/livepoint-marker'
#   edit.sh d.raw cp -a /some/files srv/          edit.sh d.raw rm -rf srv/files
#
# The exit status is COMMAND's; 125 when the disk could not be mounted or not be unmounted cleanly.
#
#  1. The mount and COMMAND are in namespaces of their own: nobody else sees the mount (but for a chroot
#     whose / is no mount point), and both end with this script, even if that is killed (an empty folder
#     in TMPDIR may then stay behind).  The loop device clears itself with the mount.
#  2. On return all changes are in DISK.raw.
#  3. Edits of one disk wait for each other (flock on the disk).

set -euo pipefail

die()
{
	echo "edit.sh: $*" >&2
	exit 125
}

# partition DISK: byte offset and length of its first MBR partition.
partition()
{
	local start sectors

	[ "$(od -An -tx1 -j510 -N2 "$1" | tr -d ' ')" = 55aa ] || return 1
	read -r start sectors < <(od -An -tu4 --endian=little -j454 -N8 "$1")
	[ "$start" -gt 0 ] && [ "$sectors" -gt 0 ] || return 1
	echo "$((start * 512)) $((sectors * 512))"
}

# inside DISK COMMAND...: the part that runs in the namespace.
inside()
{
	local disk=$1 offset length status=0
	shift

	read -r offset length < <(partition "$disk") || die "\"$disk\" has no MBR partition"
	GUEST_ROOT=$(mktemp -d "${TMPDIR:-/tmp}/lp-edit.XXXXXX") || die "no temporary folder"
	export GUEST_ROOT
	trap 'umount "$GUEST_ROOT" 2>/dev/null || :; rmdir "$GUEST_ROOT" || :' EXIT
	mount -t ext4 -o "loop,offset=$offset,sizelimit=$length" "$disk" "$GUEST_ROOT" ||
		die "cannot mount \"$disk\""
	(cd "$GUEST_ROOT" && exec "$@") {lock}>&- || status=$?
	# A server that COMMAND left behind would keep the mount, and with it unwritten changes.
	umount "$GUEST_ROOT" || die "\"$disk\" is still in use after the command"
	sync "$disk"
	return "$status"
}

if [ "${1:-}" = --inside ]; then
	lock=$2
	shift 2
	inside "$@"
	exit
fi

[ $# -ge 2 ] || {
	echo "usage: edit.sh DISK.raw COMMAND [ARGUMENT...]" >&2
	exit 125
}
[ "$(id -u)" = 0 ] || die "needs root: it mounts a file system"
disk=$(readlink -e "$1") || die "no disk \"$1\""
shift
exec {lock}<"$disk"
flock "$lock"
# In a chroot whose / is no mount point nothing can be made private: the mount may be seen outside while it lasts.
propagation=private
unshare --mount --propagation private true 2>/dev/null || propagation=unchanged
exec unshare --mount --propagation "$propagation" --pid --kill-child --mount-proc \
	"$BASH" "$(readlink -f "${BASH_SOURCE[0]}")" --inside "$lock" "$disk" "$@"
