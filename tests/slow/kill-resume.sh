#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A first backup killed at about 90 %: the next run keeps what was checkpointed.  It reads the source again, but stores
# the missing tenth and at most five packs more, and the point restores to the source's SHA-256.  2 GiB; with SIZE_MIB
# in the environment less (tests/kill-resume-small.sh: 512 MiB).
# check: alone
. "$(dirname "${BASH_SOURCE[0]}")/../functions.sh"

size=${SIZE_MIB:-2048}
pack=$((64 * 1024 * 1024))
free=$(df --output=avail -m "$tmp" | tail -n 1)
[ "$free" -ge $((size * 4)) ] || skip "needs $((size * 4)) MiB free in $tmp, $free are"

random_file disk.raw "${size}M" 90
want=$(sha disk.raw)
make_repo

stored_mib() { du -sm --apparent-size "$1" 2>/dev/null | cut -f1 || echo 0; }

# What was written, staged packs included: killed when it passes 90 %.
killed_at=0
for try in 1 2 3; do
	"$LIVEPOINT_BIN" -q backup big vda=disk.raw >first.out 2>first.err & # not lp: its pid would be a shell's
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		now=$(stored_mib "$LIVEPOINT_REPOSITORY")
		if [ "${now:-0}" -ge $((size * 90 / 100)) ]; then
			kill -KILL $pid 2>/dev/null && killed_at=$now
			break
		fi
		sleep 0.02
	done
	status=0
	wait $pid || status=$?
	if [ $status -eq 137 ]; then break; fi
	# it was faster than we looked: once more from nothing
	[ $status -eq 0 ] || { cat first.err; fail "the backup ended with $status by itself"; }
	killed_at=0
	rm -rf "$LIVEPOINT_REPOSITORY"
	make_repo
done
[ "$killed_at" -gt 0 ] || fail "the backup could not be caught at 90 % in $try tries"
[ "$(lp list --json | jq length)" -eq 0 ] || fail "a killed first backup is listed"

lp -q --json backup big vda=disk.raw >second.json
jq -se 'last | .type == "summary"' second.json >/dev/null || { cat second.json; fail "no summary"; }
read_bytes=$(jq -s 'last | .read' second.json)
stored=$(jq -s 'last | .stored' second.json)
[ "$read_bytes" -eq $((size * 1048576)) ] || fail "read $read_bytes bytes, not the whole source"
missing=$(((size - killed_at) * 1048576))
[ "$missing" -gt 0 ] || missing=0
echo "killed at $killed_at of $size MiB; the second run stored $((stored / 1048576)) MiB"
# what was missing, five packs, and maps and record headers (under 1 %)
limit=$((missing + 5 * pack + size * 1048576 / 100))
[ "$stored" -le $limit ] || fail "stored $stored bytes again, at most $limit were expected"

lp -q restore big@latest back.raw
[ "$(sha back.raw)" = "$want" ] || fail "the restored disk differs"
rm -f back.raw
leftovers=$(lp -q verify --leftovers)
[ -z "$leftovers" ] || fail "leftovers: $leftovers"
lp -q verify || fail "verify found damage"
if [ -n "${SIZE_MIB:-}" ]; then exit 0; fi
slow_done "resume after a kill at 90 % of $size MiB" 1 0 1
