#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Times of points: imports with older ones, clocks far ahead are warned about; `list` goes by time, `latest` and the parent by
# the order of publication; two points of one second get two seconds.
. "$(dirname "$0")/functions.sh"
requires jq --version

make_repo
random_file disk.raw 1M 1
lp -q backup a disk.raw --time 2026-01-01T00:00:00Z
lp backup a disk.raw --time 1999-01-01T00:00:00Z >old 2>said
grep -q "is the clock right" said || fail "a time before the last point's was not warned about"
lp backup a disk.raw --time 2999-01-01T00:00:00Z >future 2>said
grep -q "in the future" said || fail "a time in the future was not warned about"
lp backup a disk.raw --time 2026-01-01T00:00:00Z >again 2>said
[ "$(cat again)" = a@2026-01-01T00:00:01Z ] || fail "two points of one second: $(cat again)"
lp --json list a >list.json
[ "$(jq -r '[.[].time] == ([.[].time] | sort)' list.json)" = true ] || fail "list is not by time"
# the parent of each is the one published before it
[ "$(lp --json show a@2026-01-01T00:00:01Z | jq -r .parent)" = "$(lp --json show "$(cat future)" | jq -r .id)" ] ||
	fail "the parent goes by time"
[ "$(lp --json show a | jq -r .time)" = 2026-01-01T00:00:01Z ] || fail "latest goes by time"
