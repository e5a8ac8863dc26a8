#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Golden repositories, one pair per released format version, are read by every later program: listed, dumped as they were,
# verified and restored, where nothing may be written; then written to, and an increment put on top.
. "$(dirname "$0")/functions.sh"

requires xz --version
requires jq --version

# read_all REPO: every disk of the list, byte for byte, by way of a file and of the numbers in the catalog.
read_all() {
	local want size point text
	while read -r want size point; do
		rm -f out.raw
		lp -q -r "$1" restore "$point" out.raw || fail "$golden: $point cannot be restored"
		[ "$(stat -c %s out.raw)" -eq "$size" ] || fail "$golden: $point has $(stat -c %s out.raw) bytes, not $size"
		[ "$(sha out.raw)" = "$want" ] || fail "$golden: $point has other bytes"
	done <"$tmp/g/expected.txt"
	[ -f "$tmp/g/config.txt" ] || return 0 # made before there were such files
	while read -r want point text; do
		lp -q -r "$1" dump "$point" "config/$text" >out.config || fail "$golden: config/$text of $point cannot be read"
		[ "$(sha out.config)" = "$want" ] || fail "$golden: config/$text of $point has other bytes"
	done <"$tmp/g/config.txt"
}

# The overlays, which only somebody who may write can attach.
read_overlays() {
	local want id disk
	while read -r want id disk; do
		"$abs_top_builddir/tests/overlay-driver" read "$1" "$id" "$disk" >out.raw || fail "$golden: overlay $id/$disk cannot be read"
		[ "$(sha out.raw)" = "$want" ] || fail "$golden: overlay $id/$disk has other bytes"
	done <"$tmp/g/overlays.txt"
}

tree_sum() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum); }

# look REPO: all that reads.
look() {
	local repo=$1 text
	lp -r "$repo" --json list >list.json || fail "$golden: list"
	[ "$(jq -r '.[] | .point as $p | .disks[] | "\($p)/\(.name)"' list.json | sort)" = \
		"$(cut -d' ' -f5 "$tmp/g/expected.txt" | sort)" ] || { cat list.json; fail "$golden: list differs"; }
	[ "$(jq -r '[.[].kind] | join(" ")' list.json)" = "full incremental full" ] || fail "$golden: kinds"
	[ "$(jq -r '.[0].labels.made, .[1].consistency' list.json | xargs)" = "golden filesystem" ] || fail "$golden: labels"
	case $golden in
	*-schema-*)
		[ "$(jq -r '[.[].hold.reason] | @csv' list.json)" = '"golden is held",,' ] || fail "$golden: holds"
		[ "$(lp -r "$repo" --json list --forgotten | jq -r '[.[] | select(.forgotten).time] | join(" ")')" = \
			2026-01-06T03:04:05Z ] || fail "$golden: forgotten points"
		lp -q -r "$repo" log --verify || fail "$golden: the audit log"
		;;
	esac
	lp -q -r "$repo" verify --data >verify.txt 2>&1 || { cat verify.txt; fail "$golden: verify --data"; }
	read_all "$repo"
	while IFS= read -r text; do
		lp debug dump "$repo/${text%.txt}" | cmp - "$tmp/g/dumps/$text" ||
			fail "$golden: dump of ${text%.txt} differs"
	done < <(cd "$tmp/g/dumps" && find . -name '*.txt' -printf '%P\n')
}

count=0
for golden in "$abs_top_srcdir"/tests/golden/format-*.tar.xz; do
	[ -f "$golden" ] || fail "no golden repository"
	count=$((count + 1))
	rm -rf g
	mkdir g
	xz -dc "$golden" | tar -C g -x --no-same-owner
	golden=$(basename "$golden")
	export LIVEPOINT_PASSPHRASE
	LIVEPOINT_PASSPHRASE=$(sed -n 's/^Passphrase: //p' g/README)
	for kind in livepoint.conf packs index; do
		[ -n "$(find g/dumps/$kind* -type f | head -n 1)" ] || fail "$golden: no dump of $kind"
	done

	# where nothing can be written: a read-only mount, or where there is none (some containers) without permission to
	# write, which binds root only when it gives up the right to overrule it
	before=$(tree_sum g/repo)
	export -f look read_all lp fail sha
	export golden tmp test_name
	if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
		unshare -m bash -euc 'mount --bind g/repo g/repo && mount -o remount,ro,bind g/repo
			if touch g/repo/x 2>/dev/null; then exit 1; fi
			look "$tmp/g/repo"' || fail "$golden: not readable on a read-only mount"
	else
		bound=()
		[ "$(id -u)" -ne 0 ] || bound=(setpriv --bounding-set -dac_override)
		chmod -R a-w g/repo
		"${bound[@]}" bash -euc 'if touch g/repo/x 2>/dev/null; then exit 1; fi
			look "$tmp/g/repo"' || fail "$golden: not readable without permission to write"
		chmod -R u+w g/repo
	fi
	[ "$(tree_sum g/repo)" = "$before" ] || fail "$golden: reading has changed it"

	if [ -f g/overlays.txt ]; then
		[ "$(lp -r g/repo --json overlays | jq -r '.[].name')" = golden ] || fail "$golden: overlays"
		lp -q -r g/repo overlays --check golden >/dev/null || fail "$golden: overlays --check"
		read_overlays g/repo
	fi

	# and written to, as by today's user with yesterday's repository
	lp -q -r g/repo restore web1/vda disk.raw
	lp -q -r g/repo restore web1/data data.raw
	printf 'of today' | dd of=disk.raw bs=1 seek=70000 conv=notrunc status=none
	lp -q --json -r g/repo backup web1 vda=disk.raw data=data.raw >new.json
	[ "$(jq -r 'select(.type == "summary") | .chunks_new' new.json)" = 1 ] || { cat new.json; fail "$golden: increment"; }
	[ "$(lp --json -r g/repo show web1 | jq -r .kind)" = incremental ] || fail "$golden: the new point is no increment"
	want=$(sha disk.raw)
	lp -q -r g/repo restore --overwrite web1/vda out.raw
	[ "$(sha out.raw)" = "$want" ] || fail "$golden: the new point has other bytes"
	read_all g/repo
	lp -q -r g/repo verify --data || fail "$golden: verify after the increment"
	if [ -f g/overlays.txt ]; then
		read_overlays g/repo
		point=$(lp -q -r g/repo seal golden --name sealed)
		while read -r want id disk; do
			lp -q -r g/repo restore --overwrite "$point/$disk" out.raw
			[ "$(sha out.raw)" = "$want" ] || fail "$golden: what was sealed of $disk has other bytes"
		done <g/overlays.txt
	fi
	[ "$(lp --json -r g/repo verify --leftovers | jq -r 'select(.type == "summary") | .leftovers')" = 0 ] ||
		fail "$golden: leftovers"
	rm -f disk.raw data.raw
	unset LIVEPOINT_PASSPHRASE
done
[ $((count % 2)) -eq 0 ] || fail "a format has a plain and an encrypted golden repository"
