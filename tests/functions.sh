# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Sourced first by every shell test:
#
#	. "$(dirname "$0")/functions.sh"
#
# It gives the test a folder of its own ($tmp, also the current folder) with a short path, so that
# UNIX sockets in it stay under 108 bytes; an environment without anyone's repository or passphrase;
# and the functions below.  At the end, however it comes, servers are stopped, functions given to
# cleanup_fn run, last first, and the folder goes (LIVEPOINT_KEEP=1 keeps it).  A server that did not
# end with status 0 fails a test that would have passed.
#
# shellcheck disable=SC2034 # variables are for the tests

set -euo pipefail
export LC_ALL=C

: "${abs_top_srcdir:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
if [ -z "${abs_top_builddir:-}" ]; then
	abs_top_builddir=$abs_top_srcdir/build
	[ -f "$abs_top_builddir/config.status" ] || abs_top_builddir=$abs_top_srcdir
fi
: "${LIVEPOINT_BIN:=$abs_top_builddir/cli/livepoint}"
: "${LIVEPOINT_PLUGIN:=$abs_top_builddir/nbdkit-plugin/.libs/nbdkit-livepoint-plugin.so}"
export abs_top_srcdir abs_top_builddir LIVEPOINT_BIN LIVEPOINT_PLUGIN
test_name=$(basename "$0" .sh)

unset LIVEPOINT_REPOSITORY LIVEPOINT_FAULT LIVEPOINT_FAULT_LOG LIVEPOINT_FAULT_NUMBER LIVEPOINT_PLANT LIVEPOINT_PASSPHRASE \
	LIVEPOINT_PASSPHRASE_FILE LIVEPOINT_PASSPHRASE_FD LIVEPOINT_PASSPHRASE_COMMAND

# mktemp under TMPDIR would do, but for sockets when TMPDIR is long.
tmp_base=${TMPDIR:-/tmp}
[ ${#tmp_base} -le 40 ] || tmp_base=/tmp
tmp=$(mktemp -d "$tmp_base/lpt.XXXXXX")
export LIVEPOINT_CACHE_DIR=$tmp/cache
cd "$tmp"

cleanup_fns=()
declare -A server_pid=()

# fail TEXT...: ends the test.
fail() {
	echo "$test_name: FAIL: $*" >&2
	exit 1
}

# skip TEXT...: ends the test as skipped, which counts as a failure in CI.
skip() {
	echo "$test_name: SKIP: $*" >&2
	exit 77
}

# requires COMMAND [ARGS...]: the test is skipped unless the command succeeds.
requires() {
	"$@" </dev/null >/dev/null 2>&1 || skip "prerequisite missing: $*"
}

# cleanup_fn COMMAND [ARGS...]: run at the end, last first.
cleanup_fn() {
	local command
	printf -v command '%q ' "$@"
	cleanup_fns+=("$command")
}

run_cleanup() {
	local status=$? i name
	trap - EXIT
	set +e
	[ -z "${view_pid:-}" ] || view_detach # its server waits for it to leave
	for name in "${!server_pid[@]}"; do
		stop_plugin "$name" || status=$((status ? status : 1))
	done
	for ((i = ${#cleanup_fns[@]} - 1; i >= 0; i--)); do
		eval "${cleanup_fns[i]}"
	done
	cd /
	if [ "${LIVEPOINT_KEEP:-}" = 1 ]; then
		echo "$test_name: kept $tmp" >&2
	else
		rm -rf "$tmp"
	fi
	exit "$status"
}
trap run_cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# lp ARGS...: the livepoint that was built.
lp() {
	"$LIVEPOINT_BIN" "$@"
}

# make_repo [DIR [OPTIONS OF INIT...]]: a repository, which becomes the one lp uses.
make_repo() {
	local dir=${1:-$tmp/repo}
	[ $# -eq 0 ] || shift
	case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
	lp -q -r "$dir" init "$@" || fail "init of $dir"
	export LIVEPOINT_REPOSITORY=$dir
}

# expect_exit CODE COMMAND [ARGS...]: fails unless the command ends with just that code.
expect_exit() {
	local want=$1 got=0
	shift
	"$@" || got=$?
	[ "$got" -eq "$want" ] || fail "exit $got, not $want: $*"
}

# random_file NAME SIZE SEED: the same bytes for the same seed (a number); SIZE takes K, M and G.
# AES-128-CTR of zeroes: about 1 GiB a second, and nothing compresses it.
random_file() {
	random_bytes "$2" "$3" >"$1"
}
random_bytes() {
	head -c "$1" /dev/zero |
		openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "$2")" -iv 00000000000000000000000000000000
}

# sha [FILE]: SHA-256 of a file or of standard input, the digits alone.
sha() {
	local line
	line=$(sha256sum -- "${1:--}") || return
	line=${line#\\}
	echo "${line%% *}"
}

# start_plugin [-n NAME] [-o NBDKIT-OPTION]... [PARAMETER...]: nbdkit with the built plugin on a
# private socket, once it answers.  Sets plugin_sock, plugin_uri and plugin_pid.  Parameters are the
# plugin's; repo= is added from LIVEPOINT_REPOSITORY unless given.  NAME is for a second server.
start_plugin() {
	local name=plugin options=() i repo=yes parameter
	while [ $# -gt 0 ]; do
		case $1 in
		-n) name=$2; shift 2 ;;
		-o) options+=("$2"); shift 2 ;;
		*) break ;;
		esac
	done
	for parameter; do
		case $parameter in repo=*) repo=no ;; esac
	done
	if [ $repo = yes ]; then
		[ -n "${LIVEPOINT_REPOSITORY:-}" ] || fail "start_plugin: no repository: call make_repo first"
		set -- "repo=$LIVEPOINT_REPOSITORY" "$@"
	fi
	[ -z "${server_pid[$name]:-}" ] || fail "start_plugin: '$name' is running"
	[ -f "$LIVEPOINT_PLUGIN" ] || fail "plugin not built: $LIVEPOINT_PLUGIN"
	plugin_sock=$tmp/$name.sock
	plugin_uri="nbd+unix:///?socket=$plugin_sock"
	rm -f "$tmp/$name.pid" "$plugin_sock"
	nbdkit -f -P "$tmp/$name.pid" -U "$plugin_sock" "${options[@]}" "$LIVEPOINT_PLUGIN" "$@" \
		</dev/null >"$tmp/$name.log" 2>&1 &
	plugin_pid=$!
	for ((i = 0; i < 1200; i++)); do
		# nbdkit writes its pid file when it listens
		if [ -s "$tmp/$name.pid" ]; then
			server_pid[$name]=$plugin_pid
			return 0
		fi
		if ! kill -0 "$plugin_pid" 2>/dev/null; then
			local status=0
			wait "$plugin_pid" || status=$?
			cat "$tmp/$name.log" >&2
			fail "nbdkit '$name' ended with status $status before it listened"
		fi
		sleep 0.025
	done
	cat "$tmp/$name.log" >&2
	kill -KILL "$plugin_pid"
	fail "nbdkit '$name' did not listen within 30 s"
}

# stop_plugin [NAME]: ends a server; fails (returns 1, with its log) unless its own status is 0.
stop_plugin() {
	local name=${1:-plugin} pid status=0
	pid=${server_pid[$name]:-}
	[ -n "$pid" ] || { echo "$test_name: no server '$name'" >&2; return 1; }
	unset "server_pid[$name]"
	kill -TERM "$pid" 2>/dev/null || true
	wait "$pid" || status=$?
	rm -f "$tmp/$name.sock"
	if [ "$status" -ne 0 ]; then
		echo "$test_name: FAIL: nbdkit '$name' ended with status $status; its log:" >&2
		cat "$tmp/$name.log" >&2
		return 1
	fi
}

# kill_plugin [NAME]: SIGKILL, for tests that mean it; its status is not judged.
kill_plugin() {
	local name=${1:-plugin}
	kill -KILL "${server_pid[$name]}" 2>/dev/null || true # it may have ended already
	wait "${server_pid[$name]}" 2>/dev/null || true
	unset "server_pid[$name]"
}

# view_attach URI: an NBD export as a loop device of this host, for file systems: nbdfuse, and a loop device on its file.  Sets
# view_dev.  One at a time; view_detach ends it, also after its server was killed, and is done at the end of the test.
view_attach() {
	local i
	view_dir=$tmp/view
	mkdir -p "$view_dir"
	nbdfuse "$view_dir/disk" "$1" >"$tmp/nbdfuse.log" 2>&1 &
	view_pid=$!
	for ((i = 0; i < 400; i++)); do
		[ ! -e "$view_dir/disk" ] || break
		kill -0 "$view_pid" 2>/dev/null || { cat "$tmp/nbdfuse.log" >&2; fail "nbdfuse has ended"; }
		sleep 0.025
	done
	[ -e "$view_dir/disk" ] || fail "nbdfuse shows no disk"
	view_dev=$(losetup --find --show "$view_dir/disk") || fail "no loop device"
}
view_detach() {
	local i
	# not by mountpoint(1): a file system that has lost its disk cannot be looked at
	if grep -q " $tmp/mnt " /proc/mounts; then umount "$tmp/mnt" || umount -l "$tmp/mnt" || true; fi
	if [ -n "${view_dev:-}" ]; then
		losetup -d "$view_dev" || true
		# the kernel lets go of the file when the last user of the device has gone
		for ((i = 0; i < 400; i++)); do
			[ -n "$(losetup -n -O BACK-FILE "$view_dev" 2>/dev/null)" ] || break
			sleep 0.025
		done
	fi
	view_dev=
	if [ -n "${view_pid:-}" ]; then
		fusermount3 -u "$view_dir" 2>/dev/null || fusermount3 -uz "$view_dir" 2>/dev/null || true
		{ wait "$view_pid" || true; } 2>/dev/null # libnbd may abort when its server dies
	fi
	view_pid=
}

# make_fs TYPE DEVICE, check_fs TYPE DEVICE (not mounted, its journal replayed), mount_fs TYPE DEVICE [OPTIONS]: on $tmp/mnt.
make_fs() {
	case $1 in
	ext4) mkfs.ext4 -q -F "$2" ;;
	xfs) mkfs.xfs -q -f "$2" ;;
	btrfs) mkfs.btrfs -q -f "$2" >/dev/null ;;
	esac
}
check_fs() {
	case $1 in
	ext4) e2fsck -fn "$2" >"$tmp/checker.log" 2>&1 ;;
	xfs) xfs_repair -n "$2" >"$tmp/checker.log" 2>&1 ;;
	btrfs) btrfs check --readonly "$2" >"$tmp/checker.log" 2>&1 ;;
	esac || { cat "$tmp/checker.log" >&2; return 1; }
}
mount_fs() {
	mkdir -p "$tmp/mnt"
	mount -t "$1" ${3:+-o "$3"} "$2" "$tmp/mnt"
}

# slow_count DEFAULT FULL: how many rounds a slow test does: DEFAULT, or with --soak FACTOR, FULL
# times FACTOR.
slow_count() {
	if [ -n "${LIVEPOINT_SOAK:-}" ]; then
		awk -v n="$2" -v f="$LIVEPOINT_SOAK" 'BEGIN { printf "%d\n", n * f < 1 ? 1 : n * f }'
	else
		echo "$1"
	fi
}

# slow_done NAME PASSED FAILED FLOOR: the line that ./check adds up, and the end of a slow test.
slow_done() {
	echo "$1: $2 passed, $3 failed (floor $4, $((SECONDS / 60)) min $((SECONDS % 60)) s)"
	[ "$3" -eq 0 ] || fail "$1: $3 failed"
	[ "$2" -ge "$4" ] || fail "$1: $2 is below the floor of $4"
	exit 0
}
