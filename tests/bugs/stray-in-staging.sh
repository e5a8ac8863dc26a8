#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# A folder that is not ours in staging/ (one of an editor, or of NFS) ended every backup and prune with exit 4, although it harms
# nobody there.
. "$(dirname "$0")/../functions.sh"

random_file a.raw 1M 1
make_repo
mkdir "$LIVEPOINT_REPOSITORY/staging/lost" "$LIVEPOINT_REPOSITORY/staging/77"
lp -q backup web vda=a.raw >/dev/null 2>backup.err || fail "$(cat backup.err)"
grep -q "'staging/lost'" backup.err || fail "it is not said: $(cat backup.err)"
lp -q prune 2>/dev/null
lp -q verify --data 2>/dev/null
[ -d "$LIVEPOINT_REPOSITORY/staging/lost" ] || fail "what is not ours was removed"
[ ! -d "$LIVEPOINT_REPOSITORY/staging/77" ] || fail "what is ours was not"
