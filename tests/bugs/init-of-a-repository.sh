#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# init of a folder that is a repository said that it "is not empty (it has 'overlays')", whichever entry came first.
. "$(dirname "$0")/../functions.sh"

make_repo
for _ in 1 2 3; do
	expect_exit 1 lp init 2>error
	grep -q "is a repository already" error || fail "message: $(cat error)"
	touch "repo/$RANDOM" # another order
done
