#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What cannot be backed up gets a clear error, and nothing is published or lost.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version

make_repo
random_file disk.raw 1M 1
lp backup good disk.raw
mkdir folder
mkfifo pipe

# refused CODE TEXT ARGS...: the backup ends with that code and says that.
refused() {
	local code=$1 text=$2
	shift 2
	expect_exit "$code" lp backup "$@" 2>err.txt
	grep -q -- "$text" err.txt || { cat err.txt >&2; fail "no '$text' for: $*"; }
}
refused 1 'folder' n folder
refused 1 'libvirt:' n libvirt:guest
refused 1 'rbd:' n rbd:pool/image
refused 1 'No such file' n missing.raw
refused 1 'neither a file nor a block device' n pipe
refused 1 'neither a file nor a block device' n /dev/null
refused 1 'cannot connect' n 'nbd+unix:///?socket=/nonexistent/sock'
refused 1 'cannot connect' n nbd://127.0.0.1:1/
refused 2 'qcow3' --format qcow3 n disk.raw
refused 1 'not exist\|No such file' n disk.raw --changed missing.json
refused 13 '' --since nothing n disk.raw
refused 2 '' n disk.raw --sample 101
refused 2 '' --full --changed c.json n disk.raw
for name in a/b .. .a -a $'a\nb' '' "$(printf 'x%.0s' {1..300})"; do
	expect_exit 2 lp backup -- "$name" disk.raw 2>/dev/null
done
lp backup "$(printf 'x%.0s' {1..128})" disk.raw

# one bad disk among good ones: no point
refused 1 'missing.raw' n disk.raw b=missing.raw
# two backups of one name: the second is told who holds it; another name is not in the way
mkfifo slow
lp backup web - <slow &
holder=$!
exec 9>slow
head -c 65536 disk.raw >&9
for ((i = 0; i < 200; i++)); do
	[ -n "$(find "$LIVEPOINT_REPOSITORY/locks" -type f)" ] && break
	sleep 0.02
done
refused 11 "$(hostname)\|pid" web disk.raw
lp backup other disk.raw
(sleep 1; exec 9>&-) &
exec 9>&-
wait $holder || fail "the backup that held the name failed"
lp backup --wait 20 web disk.raw

# a file with an equals sign, a disk in front of one
cp disk.raw a=b.raw
lp --json backup eq a=b.raw >eq.json
[ "$(json_of eq.json '.disks[0].name')" = vda ] || fail "a file's name was cut"
lp --json backup eq2 a=disk.raw >eq.json
[ "$(json_of eq.json '.disks[0].name')" = a ] || fail "DISK= was not understood"

expect_exit 13 lp list n # no failed backup left a point
lp verify --data good
