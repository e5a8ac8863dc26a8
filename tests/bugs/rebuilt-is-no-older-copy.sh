#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A catalog that was built again and accepted by a person: every command went on to warn that an older copy of the
# repository had been put back, because verify and prune had raised the generation beyond what the packs know.
. "$(dirname "$0")/../functions.sh"

random_file a.raw 64K 1
make_repo
lp -q backup web1 a.raw --time 2026-01-01T00:00:00Z >/dev/null
lp -q backup web1 a.raw --time 2026-01-02T00:00:00Z >/dev/null
lp -q forget web1@2026-01-01 >/dev/null
for _ in 1 2 3; do
	lp -q prune >/dev/null
done
lp list >/dev/null
rm repo/catalog.sqlite*
lp -q repair >/dev/null
lp list 2>error >/dev/null
grep -q "was seen at" error || fail "the rebuilt catalog knows all: this test shows nothing"
grep -q "repair --accept" error || fail "the warning does not name the way out: $(cat error)"
lp -q repair --accept --dry-run >/dev/null
lp list 2>error >/dev/null
grep -q "was seen at" error || fail "a dry run accepted"
lp -q repair --accept >/dev/null
lp list 2>error >/dev/null
[ ! -s error ] || fail "still warned: $(cat error)"
# the memory is not lost: an older copy is noticed from there on
cp -a repo old
lp -q backup web1 a.raw --time 2026-01-03T00:00:00Z >/dev/null
rm -rf repo
mv old repo
lp list 2>error >/dev/null
grep -q "an older copy was put back" error || fail "an older copy after that is not noticed"
