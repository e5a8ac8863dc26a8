#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Catalog lost and a map pack's footer broken: repair builds the catalog without the points whose manifests that pack has,
# makes the footer again, and builds the catalog once more.  Killed in between, the next run found nothing wrong: the
# points were gone from the list and it ended with 0.
. "$(dirname "$0")/../functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires jq --version
requires_faults

random_file one.raw 1M 1
random_file two.raw 1M 2
make_repo good
one=$(lp -q backup web one.raw)
two=$(lp -q backup web two.raw)
map=packs/02/000000000002.pack
for place in catalog.lease.after:1 catalog.create.after:2 repair.catalog.quarantine:1 repair.catalog.rename:2; do
	rm -rf repo "$LIVEPOINT_CACHE_DIR"
	cp -a good repo
	export LIVEPOINT_REPOSITORY=$tmp/repo
	rm -f repo/catalog.sqlite*
	printf 'XXXX' | dd of=repo/$map bs=1 seek=$(($(stat -c %s repo/$map) - 100)) conv=notrunc status=none
	status=0
	LIVEPOINT_FAULT=$place:kill lp -q repair >out.txt 2>&1 || status=$?
	[ $status -eq 137 ] || fail "not killed at $place: $status, $(cat out.txt)"
	if [ $place = catalog.create.after:2 ]; then
		status=0
		lp -q repair --accept >out.txt 2>&1 || status=$?
		[ $status -eq 4 ] || fail "a catalog without its points was accepted: $status, $(cat out.txt)"
		grep -q "run 'livepoint repair' again" out.txt || fail "no next step: $(cat out.txt)"
	fi
	lp -q repair >out.txt 2>&1 || fail "killed at $place: $(cat out.txt)"
	[ "$(lp --json list | jq -c '[.[].point]')" = "[\"$one\",\"$two\"]" ] ||
		fail "killed at $place: $(lp --json list | jq -c '[.[].point]')"
	lp -q repair >out.txt 2>&1 || fail "a second time: $(cat out.txt)"
	! grep -q 'built again' out.txt || fail "built again for nothing: $(cat out.txt)"
	lp -q repair --accept >/dev/null
	lp -q verify --data || fail "killed at $place: damage"
done
