#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# make.sh [DIR]: makes the golden repositories of the format and the catalog's schema that are built,
# format-N-schema-S-plain.tar.xz and format-N-schema-S-encrypted.tar.xz, in DIR (default: this folder).  Run by hand, once
# per released version of either; the files stay for ever and tests/golden.sh reads them.  (Those without a schema in
# their name have schema 1, and nothing that came with schema 2: no holds, no prune, one key.)
#
#	bash tests/golden/make.sh            # with the program of build/; LIVEPOINT_BIN names another
#
# Each holds: repo/ (two names, three points, two disks, an increment, a grown disk, a hole, from schema 3 on files kept with
# a point; an unreadable range is not in it), expected.txt (SHA-256, size and POINT/DISK a line), config.txt (SHA-256, POINT
# and name of the file a line), overlays.txt (SHA-256, overlay and disk a line), dumps/ (`livepoint debug dump` of every file that it knows), README (how it was made, and
# the passphrase).
out=$(cd "${1:-$(dirname "$0")}" && pwd)
# functions.sh names the test, and finds the program, by the place of the script
. "$(dirname "$0")/../functions.sh"

passphrase='golden passphrase, known to everybody'
format=$(lp version | sed -nE 's/.*format[^0-9]*([0-9]+).*/\1/p' | head -n 1)
[ -n "$format" ] || fail "livepoint version does not tell the format"

# compressible, incompressible, equal to each other, zeroes, a short end
disks() {
	random_bytes 3000 1 | base64 >text
	random_file noise 20000 2
	rm -f vda.raw data.raw
	dd if=text of=vda.raw bs=64K seek=0 conv=notrunc status=none
	dd if=noise of=vda.raw bs=64K seek=3 conv=notrunc status=none
	dd if=text of=vda.raw bs=64K seek=1030 conv=notrunc status=none
	truncate -s $((1031 * 65536 + 3 * 512)) vda.raw
	dd if=text of=data.raw bs=64K seek=0 conv=notrunc status=none
	truncate -s $((5 * 65536)) data.raw
}

expect() { # POINT DISK FILE
	printf '%s  %s  %s/%s\n' "$(sha "$3")" "$(stat -c %s "$3")" "$1" "$2" >>expected.txt
}

# What came with schema 2: a new epoch of the key, a point that was forgotten and pruned out of packs that it shared, a
# held one, one that is forgotten and can come back.
later() {
	local r=$1/repo p
	if [ "$1" = encrypted ]; then
		lp -q -r "$r" key rotate
		lp -q -r "$r" key add --label second --new-passphrase-file <(printf '%s, second' "$passphrase")
	fi
	head -c 200000 text >>data.raw
	p=$(lp -q -r "$r" backup --time 2026-01-05T03:04:05Z web1 vda=vda.raw data=data.raw)
	lp -q -r "$r" forget "$p" >/dev/null
	lp -q -r "$r" prune --min-unused 0
	truncate -s 65536 data.raw
	p=$(lp -q -r "$r" backup --time 2026-01-06T03:04:05Z web1 data=data.raw)
	lp -q -r "$r" forget --grace 100y "$p" >/dev/null
	lp -q -r "$r" protect --reason 'golden is held' web1@2026-01-02
}

# An overlay (schema 3) of two disks: blocks and parts of blocks, over data, a hole and the short end, in two flushes.
overlay() { # REPO POINT LIST
	local driver=$abs_top_builddir/tests/overlay-driver id
	cp vda.raw vda.over
	id=$("$driver" create "$1" "$2" golden)
	for at in 70000 8388608 $((1031 * 65536 + 512)); do
		dd if=noise of=vda.over bs=1 seek="$at" count=1000 conv=notrunc status=none
		head -c 1000 noise | "$driver" write "$1" "$id" vda "$at"
	done
	printf '%s  %s  %s\n' "$(sha vda.over)" "$id" vda "$(sha data.raw)" "$id" data >"$3"
}

make() {
	local kind=$1 p f schema name
	shift
	rm -rf "$kind" expected.txt
	mkdir -p "$kind/dumps"
	disks
	lp -q -r "$kind/repo" init "$@"
	echo '<domain/>' >domain.xml
	: >empty
	p=$(lp -q -r "$kind/repo" backup --time 2026-01-02T03:04:05Z --label made=golden --config domain.xml=domain.xml \
		--config nvram=noise --config empty=empty web1 vda=vda.raw data=data.raw)
	printf '%s  %s  %s\n' "$(sha domain.xml)" "$p" domain.xml "$(sha noise)" "$p" nvram "$(sha empty)" "$p" empty >"$kind/config.txt"
	expect "$p" vda vda.raw
	expect "$p" data data.raw
	# one chunk other, one gone, one disk longer
	printf 'changed' | dd of=vda.raw bs=1 seek=$((1030 * 65536 + 5)) conv=notrunc status=none
	dd if=/dev/zero of=vda.raw bs=64K seek=3 count=1 conv=notrunc status=none
	printf 'longer' >>data.raw
	truncate -s $((6 * 65536 + 512)) data.raw
	p=$(lp -q -r "$kind/repo" backup --time 2026-01-03T03:04:05Z --consistency filesystem web1 vda=vda.raw data=data.raw)
	expect "$p" vda vda.raw
	expect "$p" data data.raw
	p=$(lp -q -r "$kind/repo" backup --time 2026-01-04T03:04:05Z --compression none db.2 data=data.raw)
	expect "$p" data data.raw
	overlay "$kind/repo" web1@2026-01-03 "$kind/overlays.txt"
	later "$kind"
	mv expected.txt "$kind/"
	(cd "$kind/repo" && find . -type f -printf '%P\n' | sort) | while IFS= read -r f; do
		case $f in
		livepoint.conf | keys/* | packs/*.pack | index/*.seg)
			mkdir -p "$kind/dumps/$(dirname "$f")"
			lp debug dump "$kind/repo/$f" >"$kind/dumps/$f.txt"
			;;
		catalog.sqlite | overlays/*) ;;
		*) fail "$f: what is that?" ;;
		esac
	done
	schema=$(sqlite3 "$kind/repo/catalog.sqlite" 'PRAGMA user_version')
	name=format-$format-schema-$schema-$kind
	cat >"$kind/README" <<-END
		Golden repository of Livepoint, format $format, catalog schema $schema, $kind.
		Made by tests/golden/make.sh with $(lp version | head -n 1).
		Passphrase: $([ "$kind" = plain ] && echo none || echo "$passphrase")
	END
	tar -C "$kind" --sort=name --owner=0 --group=0 --numeric-owner --mtime=2026-01-05T00:00:00Z -c . |
		xz -9e >"$out/$name.tar.xz"
	echo "$name.tar.xz: $(stat -c %s "$out/$name.tar.xz") bytes"
}

make plain
export LIVEPOINT_PASSPHRASE=$passphrase
make encrypted --encrypt
