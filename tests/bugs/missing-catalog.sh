#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A repository that has lost its catalog: backup blamed the permissions of the folder, and no command said what to do.
. "$(dirname "$0")/../functions.sh"

random_file a.raw 64K 1
make_repo
lp -q backup web1 a.raw >/dev/null
rm repo/catalog.sqlite*
for command in "list" "backup web1 a.raw" "prune" "forget web1@latest" "verify"; do
	# shellcheck disable=SC2086 # words
	expect_exit 10 lp $command 2>error
	grep -q "catalog.sqlite' is not there; 'livepoint repair' builds it again" error || fail "$command: $(cat error)"
done
lp -q repair >/dev/null || fail "repair"
lp -q backup web1 a.raw >/dev/null || fail "backup after repair"
