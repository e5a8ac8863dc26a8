# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# libvirt for tests and the demo: a session of an ordinary user, made for the run and gone after it.  Source this file; it needs
# no other.  What can fail prints why and returns 1.
#
#	libvirt_usable			is all here that is needed?  (requires libvirt_usable)
#	libvirt_start DIR		makes the user and DIR (short: sockets lie below it), warms libvirt up
#	libvirt_bring BUILD PATH...	copies programs of the build tree to DIR/built, where the user can run them
#	as_user COMMAND...		runs it as that user in a clean environment, in DIR; variables: as_user env A=B COMMAND
#	v ARGUMENTS...			virsh of the session
#	make_record_disk FILE SIZE	a raw disk with the guest of tests/guest/records.S
#	last_record SERIAL-LOG		the last number that this guest printed, decimal (0: none)
#	disk_record DISK N		the number in N's sector of a raw disk
#	wait_records LOG N [SECONDS]	waits until a number over N was printed
#	libvirt_stop			stops all guests and daemons of the user and removes it
#	libvirt_adopt DIR		the user of a run that was killed, if there is one, for libvirt_stop
#
# As root it makes a user of its own, in no group but its own, so not in kvm: guests are emulated.  Else it is the one who calls.
# libvirt keeps what it learned about QEMU (5 to 10 s of work) in $LIBVIRT_WARM, if that is set.
#
#  1. All processes that are stopped are of the user that was made here, or named by a pid file in DIR.
#  2. Nothing of the caller's libvirt is used or seen: own HOME and XDG_RUNTIME_DIR.
#  3. The user runs nothing out of the build tree and reads nothing there, which may lie in a folder of mode 0700: what it needs
#     is brought to DIR, under the paths that it has in the tree, by which the programs find each other.

libvirt_dir='' libvirt_user='' libvirt_uid=''

libvirt_usable() {
	command -v virsh >/dev/null && command -v qemu-system-x86_64 >/dev/null && command -v setpriv >/dev/null &&
		{ [ "$(id -u)" -ne 0 ] || command -v useradd >/dev/null; } &&
		{ command -v libvirtd >/dev/null || [ -x /usr/sbin/libvirtd ]; }
}

# A group of its own, no home, no shell; another test may hold the lock on the files.
libvirt_make_user() {
	local try

	if [ "$(id -u)" -ne 0 ]; then
		libvirt_uid=$(id -u)
		return 0
	fi
	libvirt_user=lpt$$
	for try in 1 2 3 4 5 6 7 8 9 10; do
		! useradd --user-group --no-create-home --home-dir "$libvirt_dir" --shell /bin/sh "$libvirt_user" 2>"$libvirt_dir/useradd.err" ||
			break
		[ "$try" -lt 10 ] || { cat "$libvirt_dir/useradd.err" >&2; return 1; }
		sleep 0.5
	done
	libvirt_uid=$(id -u "$libvirt_user")
	chown "$libvirt_user:$libvirt_user" "$libvirt_dir" "$libvirt_dir"/*
}

libvirt_start() {
	libvirt_dir=$1
	if [ ${#libvirt_dir} -gt 40 ]; then
		echo "libvirt_start: \"$libvirt_dir\" is too long for the sockets below it" >&2
		return 1
	fi
	mkdir -p "$libvirt_dir/run" && chmod 0711 "$(dirname "$libvirt_dir")" && chmod 0755 "$libvirt_dir" || return 1
	libvirt_make_user || return 1
	chmod 0700 "$libvirt_dir/run"
	if ! as_user test -w "$libvirt_dir"; then
		echo "libvirt_start: \"$libvirt_dir\" lies where an ordinary user cannot go: set TMPDIR to another folder" >&2
		return 1
	fi
	if [ -n "${LIBVIRT_WARM:-}" ] && [ -d "$LIBVIRT_WARM" ]; then
		mkdir -p "$libvirt_dir/.cache"
		cp -r "$LIBVIRT_WARM" "$libvirt_dir/.cache/libvirt"
		[ -z "$libvirt_user" ] || chown -R "$libvirt_user:$libvirt_user" "$libvirt_dir/.cache"
	fi
	v version >"$libvirt_dir/version" || { echo "libvirt_start: no session" >&2; return 1; }
	v capabilities >/dev/null || return 1
	if [ -n "${LIBVIRT_WARM:-}" ] && [ ! -d "$LIBVIRT_WARM" ] && [ -d "$libvirt_dir/.cache/libvirt/qemu" ]; then
		# whoever is first; cp into a name of its own, since another test may do the same
		cp -r "$libvirt_dir/.cache/libvirt" "$LIBVIRT_WARM.$$" && mv -T "$LIBVIRT_WARM.$$" "$LIBVIRT_WARM" 2>/dev/null ||
			rm -rf "$LIBVIRT_WARM.$$"
	fi
}

libvirt_bring() {
	local build=$1 path
	shift

	for path; do
		mkdir -p "$libvirt_dir/built/$(dirname "$path")" &&
			cp --reflink=auto "$build/$path" "$libvirt_dir/built/$path" || return 1
	done
	chmod -R a+rX "$libvirt_dir/built"
}

as_user() {
	local who=()

	[ -z "$libvirt_user" ] || who=(setpriv --reuid "$libvirt_uid" --regid "$libvirt_uid" --clear-groups)
	(
		cd "$libvirt_dir" &&
			exec "${who[@]}" env -i HOME="$libvirt_dir" XDG_RUNTIME_DIR="$libvirt_dir/run" TMPDIR="$libvirt_dir" \
				LIBVIRT_DEFAULT_URI=qemu:///session PATH="$PATH:/usr/sbin:/sbin" LC_ALL=C "$@"
	)
}

v() {
	as_user virsh -q -c qemu:///session "$@"
}

# Guests first, while their daemon is there; then whatever is left of the user, which nobody else is.
libvirt_stop() {
	local name pid n

	[ -n "$libvirt_dir" ] || return 0
	if [ -S "$libvirt_dir/run/libvirt/libvirt-sock" ]; then
		for name in $(v list --name 2>/dev/null); do
			v destroy "$name" >/dev/null 2>&1 || :
		done
	fi
	if [ -n "$libvirt_user" ]; then
		for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
			pgrep -U "$libvirt_uid" >/dev/null || break
			for pid in $(pgrep -U "$libvirt_uid"); do
				kill -"$([ "$n" -le 10 ] && echo TERM || echo KILL)" "$pid" 2>/dev/null || :
			done
			sleep 0.2
		done
		for n in 1 2 3 4 5; do
			userdel "$libvirt_user" 2>/dev/null && break
			sleep 0.5
		done
	else
		for pid in "$libvirt_dir"/run/libvirt/*.pid; do
			[ ! -f "$pid" ] || kill "$(<"$pid")" 2>/dev/null || :
		done
	fi
	libvirt_dir='' libvirt_user=''
}

# Known by its home and by the names that libvirt_make_user gives.
libvirt_adopt() {
	local line

	line=$(getent passwd | awk -F: -v home="$1" '$6 == home && $1 ~ /^lpt[0-9]+$/ { print $1 " " $3 }')
	[ -n "$line" ] || return 0
	libvirt_dir=$1 libvirt_user=${line% *} libvirt_uid=${line#* }
}

make_record_disk() {
	local here object

	here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
	object=$(mktemp)
	cpp -P "$here/guest/records.S" | as --32 -o "$object" - && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$1" "$object" &&
		truncate -s "$2" "$1"
	rm -f "$object"
	[ -s "$1" ]
}

last_record() {
	local line

	line=$(tail -c 200 -- "$1" 2>/dev/null | tr -d '\r\0' | grep -aoE '^[0-9a-f]{8}$' | tail -n 1) || :
	echo $((16#${line:-0}))
}

disk_record() {
	local sector=$((1 + $2 % 1024)) first last

	read -r first last < <(dd if="$1" bs=512 skip=$sector count=1 2>/dev/null | od -An -v -tu4 -w512 | awk '{ print $1, $128 }')
	[ "$first" = "$last" ] || { echo torn; return; }
	echo "$first"
}

wait_records() {
	local n

	for ((n = 0; n < ${3:-60} * 10; n++)); do
		[ "$(last_record "$1")" -le "$2" ] || return 0
		sleep 0.1
	done
	echo "wait_records: no number over $2 in \"$1\", the last is $(last_record "$1")" >&2
	return 1
}
