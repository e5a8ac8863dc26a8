# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# For tests of recover, beside functions.sh and libvirt.sh: an ordinary user with a repository of its own.
#
#	recover_start			session, user, folders; sets u (the user's folder) and run (its run folder)
#	ul ARGUMENTS...			livepoint as that user; variables: extra=(A=B)
#	field ID KEY			of a recovery, by recoveries --json
#	watch_serial GUEST LOG		what the guest prints from now on
#	wait_for SECONDS COMMAND...	until it succeeds
#	server KIND [KEY]		id (or KEY) of the server of that kind: shared, proxy
#	read_disk ID DISK FILE		the disk of a recovery, through its own socket
#	check_records FILE LAST		each of the last 1000 records up to LAST is where it belongs
#	nothing_left			no guest, overlay, file, socket or process of any recovery

extra=()
recover_start() {
	requires libvirt_usable
	requires command -v nbdcopy
	requires command -v qemu-io
	requires command -v jq
	export LIBVIRT_WARM=$abs_top_builddir/tests/libvirt-warm
	u=$tmp/u run=$tmp/u/lp
	cleanup_fn recover_end
	libvirt_start "$u" || fail "no session of libvirt"
	libvirt_bring "$abs_top_builddir" cli/livepoint serve/livepoint-supervisor \
		nbdkit-plugin/.libs/nbdkit-livepoint-plugin.so || fail "cannot copy the programs"
}

recover_end() {
	local id

	for id in $(ul --json recoveries 2>/dev/null | jq -r '.[].id'); do
		ul -q discard "$id"
	done
	ul -q unexport --all --force
	libvirt_stop
}

ul() {
	as_user env LIVEPOINT_REPOSITORY="${repository:-$u/repo}" LIVEPOINT_RUN_DIR="$run" LIVEPOINT_STATE_DIR="$u/state" \
		LIVEPOINT_CACHE_DIR="$u/cache" LIVEPOINT_ACCEL=tcg "${extra[@]}" "$u/built/cli/livepoint" "$@"
}

field() {
	ul --json recoveries | jq -r --arg id "$1" --arg key "$2" '.[] | select(.id == $id) | .[$key]'
}

watch_serial() {
	local tty
	tty=$(v ttyconsole "$1") || fail "no console of '$1'"
	as_user cat "$tty" >"$2" 2>/dev/null &
}

wait_for() {
	local n seconds=$1
	shift
	for ((n = 0; n < seconds * 5; n++)); do
		"$@" && return 0
		sleep 0.2
	done
	echo "wait_for: not within $seconds s: $*" >&2
	return 1
}

server() {
	local f
	for f in "$run"/x*.json; do
		[ ! -f "$f" ] || jq -r --arg kind "$1" --arg key "${2:-id}" 'select(.kind == $kind) | .[$key]' "$f"
	done
}

server_pid() {
	tr -d ' \n' <"$run/$(server "$1").pid"
}

read_disk() {
	as_user nbdcopy "nbd+unix:///$(field "$1" overlay)/$2?socket=$run/$1.sock" "$3"
}

check_records() {
	od -An -v -tu4 -w512 -j512 -N$((1024 * 512)) "$1" | awk -v last="$2" '
		{ first[NR - 1] = $1; end[NR - 1] = $128 }
		END {
			for (n = (last > 1000 ? last - 1000 : 1); n <= last; n++)
				if (first[n % 1024] != n || end[n % 1024] != n) { print "record " n " is " first[n % 1024] "; last " last; exit 1 }
		}'
}

no_process() {
	! pgrep -U "$libvirt_uid" -f "watch-guests|livepoint-supervisor|qemu-system" >/dev/null
}

nothing_left() {
	[ "$(ul --json recoveries)" = "[]" ] || fail "$1: recoveries are left: $(ul --json recoveries)"
	[ -z "$(v list --all --name | tr -d '\n')" ] || fail "$1: a guest is left: $(v list --all)"
	[ "$(ul --json overlays)" = "[]" ] || fail "$1: overlays are left: $(ul overlays)"
	[ -z "$(find "$run" -name '[rx]*' 2>/dev/null)" ] || fail "$1: in the run folder: $(echo "$run"/*)"
	[ -z "$(find "$u/state" -type f 2>/dev/null)" ] || fail "$1: in the state folder: $(find "$u/state")"
	wait_for 15 no_process || fail "$1: a process is left: $(pgrep -a -U "$libvirt_uid")"
}
