#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# forget by rule over a made history: what stays is what the rule says, a dry run prints the same and changes nothing,
# held and future points stay, local periods follow TZ, and other names are left alone.
. "$(dirname "$0")/functions.sh"
requires jq --version

# history NAME TIME...
history() {
	local name=$1 time
	shift
	for time; do lp -q backup "$name" disk.raw --time "$time" >/dev/null 2>&1 || fail "backup at $time"; done
}
# points NAME: the times that are there, on one line.
points() { lp --json list "$1" | jq -r '[.[].time] | join(" ")'; }
# stays WANT ARGS...: a dry run and the run itself print the same table and leave just WANT (times) of name a.
stays() {
	local want=$1 before
	shift
	rm -rf repo && cp -a made repo
	before=$(points a)
	lp -q forget "$@" --dry-run >dry.text || fail "forget $* --dry-run"
	lp -q --json forget "$@" --dry-run >dry.json || fail "forget $* --dry-run --json"
	[ "$(points a)" = "$before" ] || fail "a dry run of '$*' changed the repository"
	lp -q --json forget "$@" >run.json || fail "forget $*"
	[ "$(points a)" = "$want" ] || fail "forget $*: stays $(points a), not $want"
	jq 'del(.dry_run)' dry.json >dry.plain
	jq 'del(.dry_run)' run.json >run.plain
	cmp -s dry.plain run.plain || { diff dry.plain run.plain >&2; fail "forget $*: dry run and run differ"; }
	rm -rf repo && cp -a made repo
	lp -q forget "$@" >run.text || fail "forget $*"
	cmp -s dry.text run.text || { diff dry.text run.text >&2; fail "forget $*: the tables differ"; }
	# what is said to stay is what stays
	[ "$(jq -r '[.points[] | select(.name == "a" and .stays).time] | sort | join(" ")' run.json)" = "$want" ] ||
		fail "forget $*: the document says otherwise"
	[ "$(jq '.stay + .forgotten == (.points | length) and
		all(.points[]; .stays == (.reasons != []))' run.json)" = true ] || fail "forget $*: counts or reasons"
}

random_file disk.raw 64K 1
make_repo repo
# 2024 is a leap year; 2024-12-30 is in week 1 of 2025
a=(2024-02-28T10:00:00Z 2024-02-29T10:00:00Z 2024-02-29T22:30:00Z 2024-12-29T12:00:00Z 2024-12-30T12:00:00Z
	2025-01-02T12:00:00Z 2025-01-02T12:20:00Z 2025-01-02T12:40:00Z)
history a "${a[@]}"
history b 2024-01-01T00:00:00Z 2024-01-02T00:00:00Z
mv repo made
mkdir repo
cp -a made/. repo/

stays "${a[*]:5:3}" a --keep-last 3
stays "${a[*]}" a --keep-last 100
stays "${a[*]:7:1}" a --keep-hourly 1
stays "${a[4]} ${a[7]}" a --keep-daily 2
stays "${a[2]} ${a[3]} ${a[4]} ${a[7]}" a --keep-daily 4
stays "${a[0]} ${a[2]} ${a[3]} ${a[4]} ${a[7]}" a --keep-daily 9
stays "${a[3]} ${a[7]}" a --keep-weekly 2
stays "${a[2]} ${a[3]} ${a[7]}" a --keep-weekly 3
stays "${a[4]} ${a[7]}" a --keep-monthly 2
stays "${a[2]} ${a[4]} ${a[7]}" a --keep-monthly 3
stays "${a[4]} ${a[7]}" a --keep-yearly 5
stays "${a[*]:5:3}" a --keep-within 40m
stays "${a[*]:6:2}" a --keep-within 20m
stays "${a[*]:4:4}" a --keep-within 3d1h
stays "${a[4]} ${a[*]:6:2}" a --keep-last 2 --keep-yearly 2
# 22:30 UTC is the next day two hours to the east
TZ=EET-2 stays "${a[1]} ${a[2]} ${a[3]} ${a[4]} ${a[7]}" a --keep-daily 5 --local
TZ=EET-2 stays "${a[0]} ${a[2]} ${a[3]} ${a[4]} ${a[7]}" a --keep-daily 5
[ "$(points b)" = "2024-01-01T00:00:00Z 2024-01-02T00:00:00Z" ] || fail "rules for a touched b"

# all names; twice named is once
stays "${a[7]}" --keep-last 1
[ "$(points b)" = 2024-01-02T00:00:00Z ] || fail "rules for all names left b alone"
stays "${a[7]}" a a --keep-last 1
stays "${a[7]}" b a --keep-last 1

# held points stay, with their reason; a hold that has ended is none
rm -rf repo && cp -a made repo
lp -q protect "a@${a[0]}" --reason 'for the auditors'
lp -q protect "a@${a[1]}" --until 2s
mv repo kept
rm -rf made
mv kept made
sleep 2.1
stays "${a[0]} ${a[7]}" a --keep-last 1
jq -e '.points[] | select(.stays and .hold.reason == "for the auditors" and .hold.until == null and .reasons == ["held"])' \
	run.json >/dev/null || fail "no reason of the held point: $(cat run.json)"
grep -q "held (for the auditors)" run.text || fail "the table does not say why: $(cat run.text)"

# future points stay and count for nothing
lp -q backup a disk.raw --time 2999-01-01T00:00:00Z >/dev/null 2>&1
rm -rf made
mv repo made
stays "${a[0]} ${a[7]} 2999-01-01T00:00:00Z" a --keep-last 1
jq -e '.points[0] | .reasons == ["future"]' run.json >/dev/null || fail "the future point's reason: $(cat run.json)"

# --- errors ---
expect_exit 2 lp forget 2>/dev/null
expect_exit 2 lp forget --keep-last 0 2>/dev/null
expect_exit 2 lp forget a --keep-daily 0 2>/dev/null
expect_exit 2 lp forget --local 2>/dev/null
expect_exit 2 lp forget --keep-within 0 2>/dev/null
expect_exit 2 lp forget --keep-within 1x 2>/dev/null
expect_exit 2 lp forget --keep-within 1h1d 2>/dev/null
expect_exit 2 lp forget --keep-last -1 2>/dev/null
expect_exit 2 lp forget "a@${a[0]}" --keep-last 1 2>/dev/null
expect_exit 2 lp forget a --keep-last 1 --grace 101y 2>/dev/null
expect_exit 13 lp forget c --keep-last 1 2>error
grep -q "no restore point 'c'" error || fail "an unknown name is not named: $(cat error)"
expect_exit 13 lp forget a c --keep-last 1 2>/dev/null
[ "$(points a)" = "${a[0]} ${a[7]} 2999-01-01T00:00:00Z" ] || fail "an error forgot points"
# an empty repository has nothing to forget
lp -q -r "$tmp/empty" init
[ "$(lp -q --json -r "$tmp/empty" forget --keep-last 1 | jq -c '[.stay, .forgotten, .points]')" = '[0,0,[]]' ] ||
	fail "forget in an empty repository"
