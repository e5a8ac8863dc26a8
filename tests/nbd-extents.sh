#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# base:allocation is the map: holes where the disk has chunks of zeroes, data elsewhere, to the byte.
. "$(dirname "$0")/functions.sh"

requires nbdinfo --version
requires nbdcopy --version

chunk=65536
# 130 MiB, so that more than one leaf (64 MiB) is in it, with a short chunk at the end.
size=$((130 * 1024 * 1024 + 512))
truncate -s $size disk.raw
put() { random_bytes $(($2 * chunk)) "$1" | dd of=disk.raw bs=64K seek="$1" conv=notrunc status=none; }
put 0 1
put 5 3
put 1020 8 # across the border of two leaves
put 1500 1
printf 'x' | dd of=disk.raw bs=1 seek=$((size - 1)) conv=notrunc status=none

make_repo
point=$(lp -q backup web1 vda=disk.raw)
start_plugin point="$point"

cat >want <<EOF
0 $((1 * chunk)) 0
$((1 * chunk)) $((4 * chunk)) 3
$((5 * chunk)) $((3 * chunk)) 0
$((8 * chunk)) $((1012 * chunk)) 3
$((1020 * chunk)) $((8 * chunk)) 0
$((1028 * chunk)) $((472 * chunk)) 3
$((1500 * chunk)) $((1 * chunk)) 0
$((1501 * chunk)) $((size / chunk * chunk - 1501 * chunk)) 3
$((size / chunk * chunk)) 512 0
EOF
nbdinfo --map "$plugin_uri" | awk '{ print $1, $2, $3 }' >got
diff -u want got || fail "the map is not the disk's"

# Through a reader that stops at each extent too, and a copy that skips the holes.
qemu-img map -f raw --output=json "$plugin_uri" >map.json
[ "$(grep -c '"data": true' map.json)" -eq 5 ] || { cat map.json; fail "qemu-img map sees other extents"; }
nbdcopy "$plugin_uri" copy.raw
cmp disk.raw copy.raw || fail "the copy differs"
[ "$(du -k copy.raw | cut -f1)" -lt 2048 ] || fail "the copy is not sparse"

# A disk of nothing is one hole.
truncate -s 10M empty.raw
empty=$(lp -q backup empty vda=empty.raw)
start_plugin -n empty point="$empty"
nbdinfo --map "$plugin_uri" | awk '{ print $1, $2, $3 }' >got
echo "0 10485760 3" | diff -u - got || fail "the map of an empty disk is not one hole"
stop_plugin empty
stop_plugin
