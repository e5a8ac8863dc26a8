#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What has no value is null in JSON: a hold without a reason said "".
. "$(dirname "$0")/../functions.sh"
requires jq --version

random_file a.raw 64K 1
make_repo
point=$(lp -q backup web1 a.raw)
lp --json protect "$point" | jq -e '.hold == { reason: null, until: null }' >/dev/null || fail "protect"
lp --json list | jq -e '.[0].hold == { reason: null, until: null }' >/dev/null || fail "list"
lp --json show web1 | jq -e '.hold == { reason: null, until: null }' >/dev/null || fail "show"
lp --json forget --keep-last 1 | jq -e '.points[0].hold == { reason: null, until: null }' >/dev/null || fail "forget"
lp --json protect "$point" --reason audit | jq -e '.hold.reason == "audit"' >/dev/null || fail "with a reason"
