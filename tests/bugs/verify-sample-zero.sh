#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# verify --data --sample 0 read everything.
. "$(dirname "$0")/../functions.sh"

random_file a.raw 64K 1
make_repo
lp -q backup web1 a.raw >/dev/null
expect_exit 2 lp verify --data --sample 0 2>error
grep -q "above 0" error || fail "message: $(cat error)"
lp -q verify --data --sample 0.5 || fail "a small sample"
