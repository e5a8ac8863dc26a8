#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# In /tmp anybody can make our run folder first: records that lie there are not believed, or unexport would end the
# process that they name.
. "$(dirname "$0")/../functions.sh"
requires test "$(id -u)" = 0
requires flock --version

export LIVEPOINT_RUN_DIR=$tmp/run
sleep 300 &
victim=$!
cleanup_fn kill -9 $victim
mkdir -m 700 run
ticks=$(awk '{ sub(/.*\) /, ""); print $20 }' "/proc/$victim/stat")
cat >run/x00000001.json <<EOF
{"id":"x00000001","repo":"/r","point":"a@2026-01-01T00:00:00Z","disks":[{"name":"vda","uri":"nbd+unix:///"}],
"overlay":null,"socket":null,"port":1,"supervisor":$victim,"start_ticks":$ticks,"since":1}
EOF
echo "$victim" >run/x00000001.pid
exec 9<>run/x00000001.json
flock 9
# the record is one that counts
[ "$(lp --json exports 9>&- | grep -c "\"supervisor\":$victim")" = 1 ] || fail "the forged record is not a good one"

refused() {
	expect_exit 1 lp exports 9>&- >out 2>err
	grep -q "$1" err || { cat err >&2; fail "exports: not '$1'"; }
	expect_exit 1 lp unexport --all --force 9>&- 2>err
	grep -q "$1" err || { cat err >&2; fail "unexport: not '$1'"; }
	case $(awk '{ sub(/.*\) /, ""); print $1 }' "/proc/$victim/stat") in Z) fail "unexport ended a process" ;; esac
	[ -e run/x00000001.json ] || fail "a file of another's folder was removed"
}
chown 12345 run
refused 'belongs to user 12345'
chown 0 run
chmod 777 run
refused 'can be written by others'
chmod 700 run
mv run elsewhere
ln -s elsewhere run
refused 'is not a folder'
