#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Several connections of one client see one disk: multi-conn is offered for names that never change
# their meaning, and never for @latest, where a point may be published in between.
. "$(dirname "$0")/functions.sh"

requires nbdinfo --version
requires nbdcopy --version

random_file old.raw 4M 1
random_file new.raw 4M 2
make_repo
p1=$(lp -q backup web1 vda=old.raw)

start_plugin -o --filter=log -o --filter=delay logfile="$tmp/access.log" rdelay=300ms
uri() { echo "nbd+unix:///$1?socket=$plugin_sock"; }
offered() { nbdinfo --can multi-conn "$(uri "$1")" || fail "multi-conn is not offered for '$1'"; }
withheld() { expect_exit 2 nbdinfo --can multi-conn "$(uri "$1")"; }
id=$(lp --json show "$p1" | sed -nE 's/^ *"id": *"([0-9a-f]{32})".*/\1/p')

offered "$p1/vda"
offered "$p1"
offered "$id/vda"
withheld web1@latest/vda
withheld web1@latest
withheld web1
withheld "${p1%:*}/vda" # a later point may fit too
withheld "${id:0:6}/vda"
withheld "" # a later point makes it ambiguous

# connections NAME: how many the log filter has seen ask for it.
connections() { grep -c "Connect export=\"$1\"" "$tmp/access.log" || true; }

# A client that would like four connections copies @latest while a point is published.
before=$(connections web1@latest/vda)
nbdcopy --threads=4 --connections=4 --requests=2 --request-size=262144 "$(uri web1@latest/vda)" copy.raw &
copy=$!
for ((i = 0; i < 200; i++)); do
	[ "$(connections web1@latest/vda)" -eq "$before" ] || break
	sleep 0.02
done
p2=$(lp -q backup web1 vda=new.raw)
kill -0 "$copy" 2>/dev/null || fail "the copy was over before the point was published: nothing was tested"
wait "$copy" || fail "nbdcopy failed"
[ "$(sha copy.raw)" = "$(sha old.raw)" ] || fail "a copy of @latest is not the point that it began with"
[ "$(connections web1@latest/vda)" -eq $((before + 1)) ] || fail "nbdcopy had several connections to @latest"

# The next connection of the same name sees the new one; the old name the old one, by several connections.
nbdcopy --request-size=1048576 "$(uri web1@latest/vda)" copy.raw
[ "$(sha copy.raw)" = "$(sha new.raw)" ] || fail "@latest is not the newest point"
before=$(connections "$p1/vda")
nbdcopy --threads=4 --connections=4 --request-size=262144 "$(uri "$p1/vda")" copy.raw
[ "$(sha copy.raw)" = "$(sha old.raw)" ] || fail "'$p1' has changed"
[ "$(connections "$p1/vda")" -ge $((before + 4)) ] || fail "nbdcopy did not use several connections"
offered "$p2/vda"
stop_plugin

# A server for one point: the empty name is as fixed as the point; for latest it is not.
start_plugin point="$p1"
offered ""
stop_plugin
start_plugin point=web1@latest
withheld ""
withheld web1@latest/vda
offered "$p2/vda"
p3=$(lp -q backup web1 vda=old.raw)
nbdcopy "$(uri "")" copy.raw
[ "$(sha copy.raw)" = "$(sha old.raw)" ] || fail "point=web1@latest does not follow"
offered "$p3/vda"
nbdinfo --size "$(uri "$p2/vda")" 2>/dev/null && fail "point=web1@latest serves an older point"
stop_plugin
