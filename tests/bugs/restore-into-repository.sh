#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Targets that can only be a slip are refused before anything is written: the repository itself, nothing, a link that
# leads nowhere.
. "$(dirname "$0")/../functions.sh"
make_repo
random_file disk.raw 1M 1
lp -q backup a disk.raw >/dev/null
lp -q backup two x=disk.raw y=disk.raw >/dev/null
find repo -type f | sort >before
pack=$(find repo/packs -name '*.pack' | head -n 1)
ln -s repo link
ln -s nowhere dangling
refused() {
	local want=$1 text=$2
	shift 2
	expect_exit "$want" lp restore "$@" 2>err
	grep -q "$text" err || { cat err >&2; fail "not '$text': $*"; }
}
refused 1 'in the repository' a repo
refused 1 'in the repository' a repo/new.raw
refused 1 'in the repository' a link/new.raw
refused 1 'in the repository' a "$pack" --overwrite
refused 1 'in the repository' a "$pack" --delta
refused 1 'in the repository' two repo/newfolder
refused 1 'leads nowhere' a dangling
refused 2 'empty' a ''
find repo -type f | grep -v '/locks/' | sort | diff - before || fail "the repository has other files"
lp -q verify --data
lp restore a repository.raw # a neighbour with a longer name
cmp disk.raw repository.raw
# the folder above is missing: no status of missing points
expect_exit 1 lp -r nowhere/sub init 2>/dev/null
