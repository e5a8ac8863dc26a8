#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A repository with 12 000 points: NBD lists the newest 10 000 (nbdkit refuses more), an old unlisted one is served by
# its name all the same, and list, show, opening and backup are as quick as with few.  Prints milliseconds, judges none.
. "$(dirname "$0")/../functions.sh"

requires nbdinfo --version
requires nbdcopy --version
requires jq --version

count=12000
passed=0
good() { passed=$((passed + 1)); }

# In memory: 12 000 commits are as many syncs, which are not the subject.
dir=
for base in /dev/shm /run /tmp; do
	if [ "$(stat -f -c %T "$base" 2>/dev/null)" = tmpfs ] && [ -w "$base" ] &&
		[ "$(df --output=avail -k "$base" | tail -n 1)" -gt $((1024 * 1024)) ]; then
		dir=$(mktemp -d "$base/lp-points.XXXXXX")
		break
	fi
done
[ -n "$dir" ] || skip "no file system in memory with 1 GiB to spare"
cleanup_fn rm -rf "$dir"
export LIVEPOINT_REPOSITORY=$dir/repo

# ms WHAT COMMAND...: runs it, says how long it took.
ms() {
	local what=$1 from to
	shift
	from=$(date +%s%N)
	"$@" || fail "$what failed"
	to=$(date +%s%N)
	printf '%8d ms  %s\n' $(((to - from) / 1000000)) "$what"
}
quietly() { "$@" >/dev/null; }

ms "$count points made" eval '"$abs_top_builddir/tests/mkpoints" "$dir/repo" "$count" >points'
[ "$(wc -l <points)" -eq "$count" ] && good || fail "not $count points"

# point_at I: the name of point I, from 0.  is_point FILE I: it is that point's disk (tests/mkpoints.c).
is_point() {
	[ "$(stat -c %s "$1")" -eq $(((256 + $2) * 512)) ] && [ "$(head -c 32 "$1" | tr -d '\0')" = "content $(($2 % 200))" ]
}
point_at() { sed -n "$(($1 + 1))p" points; }

ms "list of all points" eval 'lp list >list.txt'
ms "list of all points, JSON" eval 'lp --json list >list.json'
[ "$(jq length list.json)" -eq "$count" ] && good || fail "list has $(jq length list.json) points"
ms "list of one name" eval 'lp --json list p003 >name.json'
[ "$(jq length name.json)" -eq $((count / 500)) ] && good || fail "p003 has $(jq length name.json) points"
ms "show of the first point" quietly lp --json show "$(point_at 0)"
ms "show of the last point" quietly lp --json show "$(point_at $((count - 1)))"
ms "restore of the first point" lp -q restore "$(point_at 0)" first.raw
ms "restore of the last point" lp -q restore "$(point_at $((count - 1)))" last.raw
for pair in "0 first.raw" "$((count - 1)) last.raw"; do
	read -r i file <<<"$pair"
	is_point "$file" "$i" && good || fail "$file is not point $i"
done
ms "diff of the first and the last" eval 'lp --json diff "$(point_at 0)" "$(point_at $((count - 1)))" >diff.json'
[ "$(jq -c '.[0]' diff.json)" = '{"disk":"vda","start":0,"length":65536,"data":true}' ] && good ||
	{ cat diff.json; fail "diff of the first and the last"; }
ms "one more backup of one of the names" eval 'lp -q backup p003 vda=first.raw >new'
cat new >>points
[ "$(lp --json show p003 | jq -r .point)" = "$(cat new)" ] && good || fail "the new point is not p003's latest"

ms "server of all points started" start_plugin
uri_of() { echo "nbd+unix:///$1/vda?socket=$plugin_sock"; }
ms "NBD list" eval 'qemu-nbd --list --socket="$plugin_sock" >nbd.txt 2>nbd.err'
grep -oE 'p[0-9]{3}@[0-9TZ:-]+/vda' nbd.txt | sort >names
[ "$(wc -l <names)" -eq 10000 ] && good || { head nbd.err; fail "NBD lists $(wc -l <names) names"; }
tail -n 10000 points | sed 's,$,/vda,' | sort | cmp - names && good || fail "NBD lists others than the newest 10 000"
first_of() { # point, number
	rm -f nbd.raw
	nbdcopy "$(uri_of "$1")" nbd.raw && is_point nbd.raw "$2"
}
old=$(point_at 5)
grep -qF "$old" names && fail "$old is listed"
ms "open and read of point 6, which is not listed" first_of "$old" 5
ms "open and read of the newest but one" first_of "$(point_at $((count - 1)))" $((count - 1))
passed=$((passed + 2))
for ((i = 0; i < 40; i++)); do
	n=$((i * count / 40))
	first_of "$(point_at $n)" $n || fail "point $n over NBD"
	good
done
if nbdinfo "$(uri_of "p003@1999-01-01T00:00:00Z")" >no.txt 2>&1; then
	fail "a point that does not exist was served"
fi
stop_plugin
ms "verify of all points" quietly lp -q verify
good
slow_done points-12000 $passed 0 50
