#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Proof by booting of a real Debian, in a session of libvirt as an ordinary user: its agent answers, a command through it says what it
# must; commands that fail, or print something else, fail the proof.
# check: alone
. "$(dirname "$0")/../functions.sh"
# shellcheck source=../libvirt.sh
. "$abs_top_srcdir/tests/libvirt.sh"
# shellcheck source=../recover-help.sh
. "$abs_top_srcdir/tests/recover-help.sh"
requires test "$(id -u)" = 0

recover_start
bash "$abs_top_srcdir/tests/guest/build.sh" records "$u/disk.raw" 1G 2>"$tmp/build.err" || fail "$(tail -n 3 "$tmp/build.err")"
chmod 644 "$u/disk.raw"
ul -q init
ul -q backup debian vda="$u/disk.raw" >/dev/null

boot() {
	ul --json verify debian --boot --memory 512M "$@" >"$tmp/out" 2>"$tmp/err"
}
has() {
	jq -se ".[0] | $1" "$tmp/out" >/dev/null || fail "not $1: $(cat "$tmp/out" "$tmp/err")"
	echo "verify-boot-agent: $(jq -r 'select(.type == "boot") | .seen' "$tmp/out")"
}

# shellcheck disable=SC2016
boot --wait agent --exec 'cat /etc/os-release; echo "and $((6 * 7))" >&2' --expect "and 42" || fail "agent: $(cat "$tmp/out" "$tmp/err")"
has '.passed and .criterion == "agent" and .exec.status == 0 and .exec.expected and (.exec.output | test("ID=debian"))'
[ "$(ul --json list debian | jq -r '.[0].verified.kind')" = boot ] || fail "list: $(ul list)"
ul -q show debian --screenshot "$u/screen.png" >/dev/null || fail "no screenshot"
nothing_left "agent"
expect_exit 1 boot --wait LIVEPOINT-BOOT-OK --exec 'echo no; exit 3'
has '(.passed | not) and .criterion == "marker" and .exec.status == 3 and .exec.output == "no\n" and (.seen | test("status 3"))'
nothing_left "exit status"
expect_exit 1 boot --exec 'ls /sys/class/net' --expect nowhere
has '(.passed | not) and .exec.status == 0 and (.exec.expected | not) and (.exec.output | test("lo\n"))'
nothing_left "expected text"
