#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Sizes between points: grow, shrink, grow back; off the grid of chunks and of sectors; old bytes never show.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/nbd-servers.sh"
requires jq --version

make_repo
random_file all 110M 3
size=$((100 * 1024 * 1024 + 512))
shrunk=$((size - 64 * 1024 + 512))

# point SIZE: the disk of that size, backed up; remembers its bytes.
n=0
point() {
	n=$((n + 1))
	head -c "$1" all >disk.raw
	[ -z "${2:-}" ] || printf '%s' "$2" | dd of=disk.raw bs=1 seek=$(($1 - ${#2})) conv=notrunc status=none
	lp --json backup web disk.raw >"$n.json"
	sha disk.raw >"$n.sha"
	json_of "$n.json" .id >"$n.id"
}
point $size
point $shrunk
point $size
point $((size + (5 << 20) + 1024)) grown
point 512
point $((64 * 1024))
point $size
for ((i = 1; i <= n; i++)); do
	lp restore "$(cat $i.id)" out.raw --overwrite --verify
	[ "$(sha out.raw)" = "$(cat $i.sha)" ] || fail "point $i differs"
done
[ "$(json_of 3.json .chunks_new)" -le 2 ] || fail "growing back stored $(json_of 3.json .chunks_new) chunks"

# grown by a hole: no bytes of the old last chunk beyond the old end
head -c $shrunk all >disk.raw
lp backup web disk.raw
truncate -s $size disk.raw
lp --json backup web disk.raw >grown.json
lp restore web out.raw --overwrite
cmp disk.raw out.raw || fail "grown by a hole"

# not whole sectors: padded, and said
head -c 1000001 all >odd.raw
lp --json backup odd odd.raw >odd.json
json_of odd.json '.warnings[]' | grep -q 'padded with zeroes to 1000448' || fail "padding was not told"
lp restore odd out2.raw
truncate -s 1000448 odd.raw
cmp odd.raw out2.raw || fail "a padded disk differs"
[ "$(lp --json list odd | jq '.[0].disks[0].size')" = 1000448 ] || fail "size of a padded disk"
