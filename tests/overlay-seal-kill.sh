#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Seals that die: of the sealer and of the server, killed at each step that a seal takes of its own, with an overlay of two disks
# that is written to all the time, and with one that nobody has.  Afterwards it is the overlay, or the point and the overlay
# on it, or the point: what was flushed is there, a point is one moment of all disks, and after a sweep nothing is left over.
# In make check a few steps, in tests/slow/overlay-seal-kill.sh all of them.
. "$(dirname "$0")/functions.sh"

requires jq --version
driver=$abs_top_builddir/tests/overlay-driver
export LIVEPOINT_REPOSITORY=$tmp/r
runner=
rounds=0

quiet_kill() { [ -z "$runner" ] || kill -9 "$runner" 2>/dev/null || true; }
cleanup_fn quiet_kill

# serve [FAULT]: the writer; returns when it has flushed something
serve() {
	rm -f flushed
	LIVEPOINT_FAULT=${1:-} "$driver" run "$LIVEPOINT_REPOSITORY" "$id" flushed 2>>server.txt &
	runner=$!
	for _ in $(seq 600); do
		[ ! -e flushed ] || return 0
		sleep 0.05
	done
	fail "the server does not start"
}
end_server() {
	kill "$runner" 2>/dev/null || true
	wait "$runner" 2>/dev/null || true
	runner=
}
points() { lp --json list | jq '[.[] | select(.name == "web1")] | length'; }
# sums of both disks of the overlay, or of the newest point
overlay_sums() { for d in vda vdb; do "$driver" read "$LIVEPOINT_REPOSITORY" "$id" "$d" | sha; done; }
point_sums() {
	for d in vda vdb; do
		lp -q restore --overwrite "web1/$d" out.raw
		sha out.raw
	done
}
# what must hold after a death, with nobody there: flushed is the number that the writer had flushed last
after() {
	local now moment n overlays known
	known=$(cat flushed)
	now=$(points)
	[ "$now" -eq "$had" ] || [ "$now" -eq $((had + 1)) ] || fail "$1: $now points, $had before"
	if [ "$now" -gt "$had" ]; then
		moment=$("$driver" moment "$LIVEPOINT_REPOSITORY" web1) || fail "$1: the point is not one moment"
		[ "$moment" -ge "$least" ] || fail "$1: the point has $moment, $least was flushed before the seal"
	fi
	overlays=$(lp --json overlays | jq length)
	if [ "$overlays" -eq 1 ]; then
		"$driver" kept "$LIVEPOINT_REPOSITORY" "$id" "$known" || fail "$1: the overlay has lost what was flushed"
	elif [ "$now" -eq "$had" ]; then
		fail "$1: neither the overlay nor the point is there"
	fi
	# whatever it was, it can be sealed, and is gone then
	if [ "$overlays" -eq 1 ]; then
		overlay_sums >sums
		lp -q seal "$id" --name web1 >/dev/null || fail "$1: it cannot be sealed afterwards"
		point_sums | cmp - sums || fail "$1: what was sealed afterwards is not the overlay"
	else
		expect_exit 13 lp discard "$id" 2>/dev/null # sweeps overlays
		lp -q prune >/dev/null # and the dead one's lease
	fi
	n=$(find "$LIVEPOINT_REPOSITORY/overlays" -mindepth 1 | wc -l)
	[ "$n" -eq 0 ] || { find "$LIVEPOINT_REPOSITORY/overlays"; fail "$1: files are left"; }
	lp -q verify >verify.txt 2>&1 || { cat verify.txt; fail "$1: verify"; }
	n=$(lp --json verify --leftovers | jq -r 'select(.type == "summary") | .leftovers')
	[ "$n" = 0 ] || { lp verify --leftovers; fail "$1: leftovers"; }
	rounds=$((rounds + 1))
}
# Of all steps (LIVEPOINT_SEAL_STEPS) some, a merge of index segments say, are not there each time.
missed=0
not_hit() {
	missed=$((missed + 1))
	[ -n "${LIVEPOINT_SEAL_STEPS:-}" ] || fail "$1: not hit"
}
# The writer ends by itself after a kill of the server only.
begin() {
	id=$("$driver" create "$LIVEPOINT_REPOSITORY" web0)
	had=$(points)
}
# what a seal does of its own; $1: sealer or server
steps() {
	sort -u "$1" | grep -E "${LIVEPOINT_SEAL_STEPS:-^(catalog\.(publish|away)|overlay\.(freeze|header|remove|stray))}" || true
}

lp -q init
truncate -s 2M a.raw b.raw
random_bytes 300000 1 | dd of=a.raw bs=1M seek=1 conv=notrunc status=none
lp -q backup web0 vda=a.raw vdb=b.raw >/dev/null

# which steps there are
begin
LIVEPOINT_FAULT_LOG=$tmp/attach.log serve
end_server
LIVEPOINT_FAULT_LOG=$tmp/server.log serve
LIVEPOINT_FAULT_LOG=$tmp/sealer.log lp -q seal "$id" --name web1 >/dev/null || fail "a seal under writes"
end_server
LIVEPOINT_FAULT_LOG=$tmp/alone.log lp -q seal "$id" --name web1 >/dev/null || fail "a seal of what nobody has"
# those of an ordinary server are left out: it is killed there in other tests
sort -u attach.log >ordinary
sort -u server.log | grep -vxFf ordinary >server.own || true
for step in overlay.freeze.sync overlay.header.rename; do
	grep -qx "$step" server.own || { cat server.own; fail "a freeze has no step $step"; }
done
for step in catalog.publish.before catalog.publish.after; do
	grep -qx "$step" sealer.log || fail "a seal has no step $step"
done
for step in overlay.remove.folder catalog.away.before; do
	grep -qx "$step" alone.log || fail "a seal of what nobody has has no step $step"
done

# the sealer dies, the server goes on
for step in $(steps sealer.log); do
	begin
	serve
	least=$(cat flushed)
	if LIVEPOINT_FAULT="$step:1:kill" lp -q seal "$id" --name web1 >/dev/null 2>&1; then not_hit "$step"; fi
	least_now=$(cat flushed)
	for _ in $(seq 600); do # writes go on
		[ "$(cat flushed)" -le "$least_now" ] || break
		sleep 0.05
	done
	[ "$(cat flushed)" -gt "$least_now" ] || fail "$step: no more writes"
	end_server
	after "sealer at $step"
done
# the server dies, the sealer may end well or not
for step in $(steps server.own); do
	begin
	serve "$step:1:kill"
	least=$(cat flushed)
	lp -q seal "$id" --name web1 >/dev/null 2>&1 || true
	if wait "$runner" 2>/dev/null; then not_hit "$step"; fi
	runner=
	after "server at $step"
done
# a sealer of what nobody has
for step in $(steps alone.log); do
	begin
	serve
	end_server
	least=$(cat flushed)
	if LIVEPOINT_FAULT="$step:1:kill" lp -q seal "$id" --name web1 >/dev/null 2>&1; then not_hit "$step"; fi
	after "sealer alone at $step"
done
# both at once
begin
serve
least=$(cat flushed)
lp -q seal "$id" --name web1 >/dev/null 2>&1 &
sealer=$!
sleep 0.05
kill -9 "$runner" "$sealer" 2>/dev/null || true
wait "$runner" "$sealer" 2>/dev/null || true
runner=
after "both"
lp -q verify --data || fail "verify --data"
echo "$((rounds - missed)) deaths"
