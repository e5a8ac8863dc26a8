#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Names: what is refused as a NAME, how points are found, near matches, ambiguity.
. "$(dirname "$0")/functions.sh"

requires jq --version

count=0
run_lp() { lp "$@" >out 2>err </dev/null; }
# says CODE WORDS ARGS...: one line on standard error.
says() {
	local code=$1 words=$2
	shift 2
	expect_exit "$code" run_lp "$@"
	[ "$(wc -l <err)" -eq 1 ] || { cat err >&2; fail "not one line: $*"; }
	grep -qF -- "$words" err || { cat err >&2; fail "does not say '$words': $*"; }
	count=$((count + 1))
}

make_repo
random_file a.raw 256K 1
random_file b.raw 256K 2
long=$(printf 'a%.0s' {1..128})

# --- refused as a NAME: 2, and nothing is stored ---
for name in a/b ../up .. . .hidden -- -x "two words" $'new\nline' $'bell\a' "" "${long}a" \
	"$(printf 'b%.0s' {1..300})" 'a@b' "ü" '*'; do
	says 2 "cannot be a NAME" backup -- "$name" a.raw
done
[ "$(lp --json list)" = '[]' ] || fail "a refused name has a point"
lp -q backup -- "$long" a.raw >/dev/null || fail "a name of 128 bytes"
for disk in disks tree config .x; do
	says 13 "$disk" restore "$long/$disk" out.raw
done
lp -q backup A-z.0_9 a.raw >/dev/null || fail "a name with all kinds of characters"

# --- found ---
t1=2020-01-01T00:00:00Z t2=2020-01-01T00:00:01Z t3=2021-05-05T05:05:05Z
for t in $t1 $t2 $t3; do
	[ "$(lp -q backup web1 vda=a.raw vdb=b.raw --time $t)" = "web1@$t" ] || fail "time $t is not kept"
done
# the second is taken: the next free one
[ "$(lp -q backup web1 a.raw --time $t1)" = "web1@2020-01-01T00:00:02Z" ] || fail "a taken second"
found() {
	local got
	got=$(lp --json show "$1" | jq -r .point)
	[ "$got" = "$2" ] || fail "'$1' is $got, not $2"
	count=$((count + 1))
}
found "web1@$t1" "web1@$t1"
found web1@2021 "web1@$t3"
found web1@2021-05-05T05 "web1@$t3"
# latest goes by publication, not by time
found web1 web1@2020-01-01T00:00:02Z
found web1@latest web1@2020-01-01T00:00:02Z
id=$(lp --json show web1@2021 | jq -r .id)
found "$id" "web1@$t3"
found "${id:0:8}" "web1@$t3"

# --- not found: 13, with what is near ---
says 13 "web1" show web2
says 13 "web1" list web11
says 13 "web1@" show web1@1999
says 13 "is no NAME" show "$(printf 'a%.0s' {1..300})@latest"
says 13 "" show ../../etc/passwd
says 13 "" show $'web1\nweb2'
says 13 "" show "${id:0:3}"
says 13 "vdz" restore web1@2021/vdz out.raw
[ ! -e out.raw ] || fail "a restore of nothing made a file"
says 13 "" unexport x00000000
says 2 "no NAME" list a/b
says 2 "not one disk" show web1@2021/vda

# --- several fit: 13, and they are listed ---
says 13 "web1@$t1" show web1@2020-01-01
says 13 "web1@$t2" show web1@2020-01-01
says 13 "vdb" diff web1@2021/vdb web1@$t1/vdc
expect_exit 1 lp restore web1@2021/volumes/vda1 out.raw 2>err
grep -q volumes err || fail "volumes are not refused by name"

# --- a NAME wins over an id ---
name=${id:0:8}
lp -q backup "$name" a.raw >/dev/null
case $(lp --json show "$name" | jq -r .name) in "$name") ;; *) fail "the id $name wins over the NAME" ;; esac

# --- control characters of an error do not reach the terminal ---
expect_exit 13 lp show $'web1\033[31m' 2>err
if LC_ALL=C grep -q $'[\001-\010\013-\037]' err; then fail "control characters in an error"; fi
echo "cli-names: $count cases"
