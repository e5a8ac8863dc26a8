#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# livepoint recover killed at each of its steps, then resumed or discarded; discard killed at each of its own, then called again;
# recover failing at each: nothing of it is left.
. "$(dirname "$0")/../functions.sh"
# shellcheck source=libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"
# shellcheck source=recover-help.sh
. "$abs_top_srcdir/tests/recover-help.sh"

recover_start
make_record_disk "$u/disk.raw" 4M || fail "boot sector"
chmod 644 "$u/disk.raw"
ul -q init
ul -q backup tick vda="$u/disk.raw" >/dev/null
recover() { ul -q recover tick --memory 64M --overlay "${1:-server}"; }
ids() { ul --json recoveries | jq -r '.[].id'; }

# --- which steps there are ---
# both kinds of overlay; the first recovery of a connection also looks for <reconnect>, so its steps are hit more often
extra=(LIVEPOINT_FAULT_LOG="$u/faults")
for kind in server local; do
	recover $kind >/dev/null || fail "recover"
	extra=(LIVEPOINT_FAULT_LOG="$u/faults-$kind")
	ul -q discard "$(ids)" || fail "discard"
	nothing_left "$kind"
	extra=(LIVEPOINT_FAULT_LOG="$u/faults")
done
extra=()
mapfile -t steps < <(grep -h '^recover[.]' "$u/faults" | grep -v -e unlink -e remove -e discard | sort -u)
mapfile -t ends < <(grep -h '^recover[.]' "$u"/faults-* | grep -e unlink -e remove -e discard | sort -u)
[ ${#steps[@]} -ge 14 ] && [ ${#ends[@]} -ge 5 ] || fail "steps: ${steps[*]}; of discard: ${ends[*]}"

# --- killed there, then resumed or discarded, in turn ---
rounds=0 resumed=0
for step in "${steps[@]}" recover.record.rename:2 recover.record.rename:3; do
	kind=server
	case $step in recover.local.* | recover.folder.*) kind=local ;; esac
	rm -rf "$u/state"
	case $step in *:*) ;; *) step=$step:1 ;; esac
	extra=(LIVEPOINT_FAULT="$step:kill")
	status=0
	recover $kind >/dev/null 2>&1 || status=$?
	extra=()
	id=$(ids)
	# the steps that record the end of the first start belong to the watcher too, which may be the one that is killed
	[ $status -eq 137 ] || [ $status -eq 0 ] || fail "$step: status $status"
	[ $status -eq 137 ] || echo "$step is not hit by recover itself"
	rounds=$((rounds + 1))
	if [ -n "$id" ] && [ $((rounds % 2)) -eq 0 ] && [ -f "$u/repo/overlays/$(field "$id" overlay)/recovery.json" ]; then
		[ "$(ul -q recover --resume "$id" 2>"$tmp/err")" = tick ] || fail "$step: --resume: $(cat "$tmp/err"; ul recoveries)"
		[ "$(field "$id" guest)" = running ] || fail "$step: resumed, it is $(field "$id" guest)"
		[ "$(v list --name | grep -c .)" -eq 1 ] || fail "$step: guests: $(v list)"
		resumed=$((resumed + 1))
	fi
	for id in $(ids); do
		ul -q discard "$id" 2>"$tmp/err" || fail "$step: discard: $(cat "$tmp/err")"
	done
	nothing_left "$step"
done
[ $resumed -ge 5 ] || fail "only $resumed were resumed"

# --- a step that fails: recover takes all of it back ---
for step in "${steps[@]}"; do
	kind=server
	case $step in recover.local.* | recover.folder.*) kind=local ;; esac
	rm -rf "$u/state"
	extra=(LIVEPOINT_FAULT="$step:1:eio")
	status=0
	recover $kind >/dev/null 2>&1 || status=$?
	extra=()
	[ $status -eq 1 ] || fail "$step: eio: status $status, recoveries: $(ul recoveries)"
	nothing_left "$step: eio"
done

# --- discard, killed ---
for step in "${ends[@]}"; do
	recover local >/dev/null || fail "recover"
	id=$(ids)
	extra=(LIVEPOINT_FAULT="$step:1:kill")
	status=0
	ul -q discard "$id" 2>/dev/null || status=$?
	extra=()
	[ $status -eq 137 ] || fail "discard: $step: status $status"
	for id in $(ids); do
		ul -q discard "$id" 2>"$tmp/err" || fail "discard again: $step: $(cat "$tmp/err")"
	done
	nothing_left "discard: $step"
done

# --- a signal while the guest is being made ---
for n in 1 2 3; do
	recover >/dev/null 2>&1 &
	sleep 0.$((n * 3))
	pid=$(pgrep -U "$libvirt_uid" -f 'recover tick' | head -n 1) || :
	[ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || :
	status=0
	wait $! || status=$?
	[ $status -eq 143 ] || [ $status -eq 0 ] || fail "SIGTERM: status $status"
	[ $status -eq 143 ] || ul -q discard "$(ids)"
	nothing_left "SIGTERM"
done
slow_done recover-kill $((rounds + ${#steps[@]} + ${#ends[@]} + 3)) 0 38
