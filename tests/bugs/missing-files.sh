#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Exit 13 is for points, disks and exports; a file or folder that is not there is exit 1, code "io" or the like.  A run
# folder that is no absolute path is wrong usage, not ignored.
. "$(dirname "$0")/../functions.sh"
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force
random_file a.raw 1M 1
make_repo
lp -q backup a a.raw >/dev/null

# missing ARGS...: names the file and ends with 1
missing() {
	expect_exit 1 lp --json "$@" >/dev/null 2>words
	grep -q nothere words || { cat words >&2; fail "the file is not named: $*"; }
	[ "$(tail -n 1 words | jq -r .code)" != not-found ] || fail "code 'not-found': $*"
}
missing debug dump nothere
missing benchmark --seconds 0 --path nothere
missing benchmark --seconds 0 --path nothere/deeper
missing export a --listen 127.0.0.1:0 --tls-psk nothere
missing export a --listen 127.0.0.1:0 --tls-certificates nothere
missing backup b nothere
missing backup a a.raw --changed nothere
missing restore a nothere/deeper/a.raw
LIVEPOINT_RUN_DIR=$tmp/nothere/deeper missing export a
expect_exit 10 lp -r nothere list 2>/dev/null
expect_exit 12 lp -r "$tmp/sealed" --passphrase-file nothere init --encrypt 2>/dev/null
expect_exit 13 lp show nothere 2>/dev/null
expect_exit 13 lp restore a/nothere out.raw 2>/dev/null
expect_exit 13 lp unexport xffffffff 2>/dev/null

# a file of the repository that has gone: damage or failure, never "no such point"
cp -r "$LIVEPOINT_REPOSITORY" hurt
rm -r hurt/staging
status=0
lp -q -r hurt backup a a.raw >/dev/null 2>words || status=$?
[ $status -ne 13 ] || { cat words; fail "a missing folder of the repository is exit 13"; }

for command in "export a" exports "unexport --all"; do
	# shellcheck disable=SC2086 # words
	LIVEPOINT_RUN_DIR=run expect_exit 2 lp $command 2>words
	grep -q "absolute.*'run'" words || { cat words >&2; fail "$command: the relative run folder is not named"; }
done
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR" 2>/dev/null)" ] || fail "left in the run folder"
