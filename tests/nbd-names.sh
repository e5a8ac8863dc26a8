#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Names of exports: which are served, which are refused and with which words; the server lives on.
. "$(dirname "$0")/functions.sh"

requires nbdinfo --version

random_file a.raw 1M 1
random_file b.raw 2M 2
make_repo
p1=$(lp -q backup web1 vda=a.raw)
id=$(lp --json show "$p1" | sed -nE 's/^ *"id": *"([0-9a-f]{32})".*/\1/p')
[ -n "$id" ] || fail "show --json has no id"

start_plugin
uri() { echo "nbd+unix:///$1?socket=$plugin_sock"; }
size_of() { nbdinfo --size "$(uri "$1")"; }
# served NAME SIZE
served() { [ "$(size_of "$1")" = "$2" ] || fail "'$1' is not served with $2 bytes"; }
# refused NAME WORDS: with these words in the log, and the server goes on.
refused() {
	local before
	before=$(wc -l <"$tmp/plugin.log")
	if nbdinfo --size "$(uri "$1")" >/dev/null 2>&1; then fail "'$1' is served"; fi
	tail -n +$((before + 1)) "$tmp/plugin.log" >new.log
	grep -qF -- "$2" new.log || { cat new.log; fail "'$1': the log does not say '$2'"; }
	if LC_ALL=C grep -q $'[\001-\010\013-\037]' new.log; then fail "'$1': control characters in the log"; fi
	served "$p1/vda" 1048576
}

# The repository has one point with one disk: the empty name is that.
served "" 1048576
served "$p1/vda" 1048576
served "$p1" 1048576
served web1@latest/vda 1048576
served web1@latest 1048576
served web1 1048576
served "$id/vda" 1048576
served "${id:0:8}/vda" 1048576
served "${p1%:*}/vda" 1048576 # a shortened time

# A point that is made later is served, and ends the time of the empty name.
p2=$(lp -q backup db1 vda=a.raw vdb=b.raw)
served "$p2/vdb" 2097152
served db1@latest/vda 1048576
refused "" "there are several points"
refused "$p2" "has several disks"

refused web11@latest/vda "near: web1"
refused web2 "near: web1"
refused nothing/like/this "is no DISK"
refused web1@2001-01-01T00:00:00Z/vda "the newest of 'web1': $p1"
refused "$p1/vdz" "no disk 'vdz'"
refused "$p1/volumes/vda1" "volumes"

# Garbage
refused "$(printf 'a%.0s' {1..300})" "300 bytes"
refused "$(printf 'a%.0s' {1..4000})" "4000 bytes"
refused "web1%0A@latest/vda" "byte 0x0a at 4"
refused "%01%02%03" "byte 0x01 at 0"
refused "web1%20" "byte 0x20"
refused "w%C3%A9b1" "byte 0xc3"
refused "%1B%5B31mred" "byte 0x1b"
refused ".." "should look like"
refused "../../etc/passwd" "should look like"
refused "web1@latest/../vda" "should look like"
refused "web1@latest//vda" "should look like"
refused "web1@latest/" "should look like"
refused "%2Fweb1" "should look like"
refused "web1@" "no time after"
refused "@latest" "is no NAME"
refused "web1@latest/vda/x" "is no DISK"
refused "%27%3B+DROP+TABLE+point" "byte 0x27 at 0"

# The list: newest first, with descriptions.
nbdinfo --list "$(uri "")" >list.txt
sed -nE 's/^export="(.*)":$/\1/p' list.txt >names
printf '%s\n' "$p2/vda" "$p2/vdb" "$p1/vda" | diff -u - names || fail "the list is not that"
grep -qE 'description: 2\.0 MiB, full, crash-consistent, 20[0-9-]+T[0-9:]+Z' list.txt ||
	{ cat list.txt; fail "descriptions are missing"; }
stop_plugin

# point= leaves one point: its disks and nothing else, by all its names.
start_plugin point="$p2"
served "$p2/vda" 1048576 2>/dev/null || fail "not served with point="
p1_saved=$p1
p1=$p2 # what refused() looks for afterwards
refused "$p1_saved/vda" "is not served here"
refused "" "has 2 disks"
served db1@latest/vdb 2097152
nbdinfo --list "$(uri "")" | sed -nE 's/^export="(.*)":$/\1/p' >names
printf '%s\n' "$p2/vda" "$p2/vdb" | diff -u - names || fail "the list with point= is not that"
stop_plugin

# point= with a disk: the empty name too.
start_plugin point="$p2/vdb"
served "" 2097152
served "$p2" 2097152
if nbdinfo --size "$(uri "$p2/vda")" 2>/dev/null; then fail "vda is served with point=.../vdb"; fi
grep -q "this server has only disk 'vdb'" "$tmp/plugin.log" || fail "no clear words for another disk"
stop_plugin

# What is wrong is told before nbdkit forks, on the terminal.
# wrong WORDS PARAMETERS...
wrong() {
	local words=$1
	shift
	if nbdkit -f -U "$tmp/wrong.sock" "$LIVEPOINT_PLUGIN" "$@" >wrong.log 2>&1 </dev/null; then
		fail "nbdkit started with $*"
	fi
	grep -qF -- "$words" wrong.log || { cat wrong.log; fail "$*: no '$words'"; }
}
wrong "repo=DIR is needed"
wrong "no repository at" repo="$tmp/nowhere/at/all"
mkdir empty
wrong "is not a repository" repo="$tmp/empty"
wrong "near: web1" repo="$LIVEPOINT_REPOSITORY" point=web11
wrong "no disk 'vdz'" repo="$LIVEPOINT_REPOSITORY" point=web1/vdz
wrong "o12345678" repo="$LIVEPOINT_REPOSITORY" overlay=o12345678
wrong "unknown parameter 'nonsense'" repo="$LIVEPOINT_REPOSITORY" nonsense=1
wrong "at least 1M" repo="$LIVEPOINT_REPOSITORY" cache=1K
wrong "no such descriptor" repo="$LIVEPOINT_REPOSITORY" key-fd=77
