#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Six generations of a changing disk: a real ext4 with files that come, grow, change and go, and writes that no file
# system made.  Each is backed up, then all are restored and compared, and nothing is deleted.  Prints what the repository
# grew by beside what the disks add up to.
#
# An increment stores at most the chunks in which a byte changed (counted here by comparing the images), and the map.
. "$(dirname "$0")/functions.sh"

PATH=$PATH:/usr/sbin:/sbin
requires mkfs.ext4 -V
requires debugfs -V
requires jq --version

chunk=65536
size=$((72 * 1024 * 1024))

# text BYTES SEED: about so many compressible bytes, the same for the same seed.
text() {
	random_bytes $(($1 * 3 / 4)) "$2" | base64 -w 76
}

# changed_chunks A B: how many chunks of B have a byte that A has not, and are not all zeroes.
changed_chunks() {
	local n list
	list=$(cmp -l -- "$1" "$2" | awk -v c=$chunk '{ n = int(($1 - 1) / c); if (n != last || !any) print n; last = n; any = 1 }') || true
	n=0
	for i in $list; do
		if ! cmp -s -n $chunk --ignore-initial=$((i * chunk)):0 "$2" /dev/zero; then
			n=$((n + 1))
		fi
	done
	echo $n
}

# The first tree; mkfs.ext4 -d copies it in without a mount.
mkdir -p tree/etc tree/var/log tree/usr/bin
for i in $(seq 1 60); do
	text $((2000 + i * 900)) "$i" >"tree/etc/file$i"
done
for i in $(seq 1 12); do
	random_file "tree/usr/bin/program$i" $((700 * 1024 + i * 4321)) $((100 + i))
done
text 3000000 7 >tree/var/log/messages
truncate -s $size disk.raw
mkfs.ext4 -q -F -b 4096 -U 6c697665-706f-696e-7420-746573740000 -E lazy_itable_init=0,nodiscard,hash_seed=6c697665-706f-696e-7420-746573740001 \
	-d tree disk.raw

# change N: what happens to the disk between two generations.
change() {
	local n=$1
	case $n in
	2) # a log grows, files are rewritten in place and under new names
		text 400000 21 >added
		cat tree/var/log/messages added >messages
		debugfs -w -f - disk.raw >debugfs.out 2>&1 <<-END
			rm /var/log/messages
			write messages /var/log/messages
			rm /etc/file3
			write added /etc/file3-new
		END
		;;
	3) # bytes that no file system wrote: here and there, across chunk borders, at both ends of a chunk
		for at in 5000000 $((40 * chunk - 3)) $((500 * chunk)) $((501 * chunk - 1)) $((1100 * chunk + 77)); do
			printf 'generation3' | dd of=disk.raw bs=1 seek="$at" conv=notrunc status=none
		done
		;;
	4) # files go, and their blocks are given back as holes
		debugfs -w -f - disk.raw >debugfs.out 2>&1 <<-END
			rm /usr/bin/program1
			rm /usr/bin/program2
			rm /usr/bin/program3
		END
		fallocate -p -o $((800 * chunk)) -l $((200 * chunk)) disk.raw
		;;
	5) # a copy of what is there already, on the grid and off it
		dd if=disk.raw of=part bs=1M skip=8 count=6 status=none
		dd if=part of=disk.raw bs=1M seek=60 conv=notrunc status=none
		dd if=part of=disk.raw bs=4096 skip=1024 seek=14001 count=256 conv=notrunc status=none
		;;
	6) # the disk grows, and its new end is used
		truncate -s $((size + 10 * 1024 * 1024 + 512)) disk.raw
		random_bytes 1M 66 | dd of=disk.raw bs=512 seek=$(((size + 9 * 1024 * 1024) / 512 + 1)) conv=notrunc status=none
		;;
	esac
}

repo_bytes() {
	find "$LIVEPOINT_REPOSITORY/packs" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'
}

make_repo
: >previous.raw
sum=0 before=$(repo_bytes) start=$before
points=() shas=()
printf '%3s %12s %12s %12s %12s %9s %9s\n' gen disk 'sum of disks' grown repository changed new
for n in 1 2 3 4 5 6; do
	change $n
	shas[n]=$(sha disk.raw)
	lp --json -q backup web1 vda=disk.raw >"$n.json"
	points[n]=$(jq -r 'select(.type == "summary") | .point' "$n.json")
	new=$(jq -r 'select(.type == "summary") | .chunks_new' "$n.json")
	stored=$(jq -r 'select(.type == "summary") | .stored' "$n.json")
	bytes=$(stat -c %s disk.raw)
	sum=$((sum + bytes))
	after=$(repo_bytes)
	grown=$((after - before))
	if [ $n -eq 1 ]; then
		changed=$((bytes / chunk))
	else
		# what the old disk does not have is compared with nothing
		truncate -s "$bytes" previous.raw
		changed=$(changed_chunks previous.raw disk.raw)
	fi
	printf '%3d %12d %12d %12d %12d %9d %9d\n' $n "$bytes" $sum $grown $((after - start)) "$changed" "$new"
	[ "$new" -le "$changed" ] || fail "generation $n: $changed chunks changed, $new were stored"
	# each at most as it is, and one record header, and one entry of the footer; the map: a leaf of 16 KiB for each
	# 64 MiB, a page, a root, a manifest, and the frames of the packs
	most=$((new * (chunk + 96 + 52) + (bytes / (64 * 1024 * 1024) + 1) * 16384 + 3 * 16384))
	[ $grown -le $most ] || fail "generation $n: $new new chunks, and the packs grew by $grown"
	# "stored" is what the packs grew by, but for the frames of the packs and the manifest that says it
	[ $((grown - stored)) -ge 0 ] && [ $((grown - stored)) -le $(((new + 8) * 52 + 4096)) ] ||
		fail "generation $n: says $stored, the packs grew by $grown"
	[ $n -ne 3 ] || [ "$new" -eq 6 ] || fail "five writes in six chunks stored $new"
	[ $n -ne 5 ] || [ "$new" -le 18 ] || fail "an aligned copy of 6 MiB stored $new chunks"
	cp --sparse=always disk.raw previous.raw
	before=$after
done
[ $((after - start)) -lt $((sum / 6)) ] || fail "six generations of $sum bytes need $((after - start))"

[ "$(lp --json list web1 | jq -r '.[].point' | xargs)" = "${points[*]}" ] || fail "the list differs"
[ "$(lp --json list web1 | jq -r '.[].kind' | sort | uniq -c | xargs)" = "1 full 5 incremental" ] || fail "kinds"
# in another order than they were made
for n in 6 1 4 2 5 3; do
	rm -f out.raw
	lp -q restore "${points[n]}" out.raw
	[ "$(sha out.raw)" = "${shas[n]}" ] || fail "generation $n restored differs"
done
e2fsck -fn out.raw >fsck.out 2>&1 || true # generation 3 has foreign bytes: only that it can be read as ext4
grep -q 'files' fsck.out || fail "generation 3 is no ext4"
# any point on top of any other: the target holds 3
lp -q restore --delta "${points[6]}" out.raw
[ "$(sha out.raw)" = "${shas[6]}" ] || fail "3 made into 6 differs"
lp -q restore --delta "${points[1]}" out.raw
[ "$(sha out.raw)" = "${shas[1]}" ] || fail "6 made into 1 differs"
lp -q verify --data >verify.out || fail "verify found something"
