# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced after functions.sh by the scripts that run the reliability drivers.

# fast_dir NAME: sets fast to a folder of this test in memory if there is room for it (512 MiB), else one in $tmp.  Neither a
# kill nor a fault takes the page cache, so memory shows the same, without the waits for a disk.
fast_dir() {
	local dir=$tmp/$1 free
	free=$(df --output=avail -m /dev/shm 2>/dev/null | tail -n 1) || free=0
	if [ -w /dev/shm ] && [ "${free:-0}" -ge 512 ]; then
		dir=/dev/shm/lpt.$$.$1
		cleanup_fns+=("[ \"\${LIVEPOINT_KEEP:-}\" = 1 ] || rm -rf $(printf %q "$dir")")
	fi
	mkdir -p "$dir"
	fast=$dir
}

# requires_faults: the fault points must be built in.
requires_faults() {
	grep -q '^#define ENABLE_FAULT_POINTS' "$abs_top_builddir/config.h" || skip "built without fault points"
}

# stopped_by_fault PID: waits until the process stands still at its fault point (ACTION stop).
stopped_by_fault() {
	local i state=
	for ((i = 0; i < 400; i++)); do
		state=$(sed 's/.*) //; s/ .*//' "/proc/$1/stat" 2>/dev/null || echo gone)
		[ "$state" != T ] || return 0
		sleep 0.025
	done
	fail "process $1 did not stop (state $state)"
}

passed=0 failed=0
seed=${LIVEPOINT_SEED:-$(date +%s)}

# drive DRIVER ARGS...: runs a driver, shows what it says, adds up its last line.  A driver that ends otherwise, by a
# signal say, has failed.
drive() {
	local last status=0
	"$abs_top_builddir/tests/$1" "${@:2}" >driver.out 2>&1 || status=$?
	cat driver.out
	last=$(tail -n 1 driver.out)
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
		passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
		[ $status -eq 0 ] || [ "${BASH_REMATCH[2]}" -gt 0 ] || failed=$((failed + 1))
	else
		echo "$1 ended with status $status and no result"
		failed=$((failed + 1))
	fi
}

# drive_done: the end of a quick test.
drive_done() {
	echo "$passed passed, $failed failed (seed $seed)"
	if [ $failed -gt 0 ] || [ $passed -eq 0 ]; then fail "$failed failed, $passed passed"; fi
	exit 0
}
