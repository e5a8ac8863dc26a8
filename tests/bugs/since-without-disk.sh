#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# --since POINT, and POINT has no disk of that name: everything is read, and that is said.
. "$(dirname "$0")/../functions.sh"
requires jq --version
make_repo
random_file disk.raw 1M 1
lp -q backup other sda=disk.raw >/dev/null
lp --json backup web vda=disk.raw --since other >out.json
jq -es 'last.warnings | map(select(test("disk .vda. is not in other@.*: everything was read"))) | length == 1' out.json >/dev/null ||
	{ cat out.json; fail "it is not said"; }
lp --json backup web vda=disk.raw --since web >out.json
jq -es 'last.warnings == []' out.json >/dev/null || { cat out.json; fail "said without a reason"; }
