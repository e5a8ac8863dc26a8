#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Each call of a command into libc, SQLite, libcrypto and libzstd fails once (tests/failing-calls.c), one in each run: memory, reads,
# writes, statements, ciphers, compression, threads.  Whatever failed:
#  - the command ends with a status of livepoint(1), never by a signal, and says why on standard error;
#  - a command that reads and ends with 0 prints what it prints without a failure;
#  - a change has happened or has not, it has if the command ends with 0, and what was there before is whole;
#  - what is no error of the disk is not taken for damage;
#  - the next command that writes leaves nothing over, and a repair after one that failed heals.
# Some commands here, all of them with LIVEPOINT_SLOW (tests/slow/failing-calls.sh).  LIVEPOINT_FAILING=PATTERN picks scenarios.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires_faults
requires jq --version
library=$abs_top_builddir/tests/.libs/failing-calls.so
requires test -f "$library"

fast_dir failing
export LIVEPOINT_CACHE_DIR=$fast/cache

as=()
lp() { "${as[@]}" "$LIVEPOINT_BIN" "$@"; }

# --- what the scenarios start from ---
random_file a.raw 200K 1
cp a.raw b.raw
random_bytes 64K 2 | dd of=b.raw bs=64K seek=1 conv=notrunc status=none
head -c 192K a.raw >c.raw && truncate -s 320K c.raw
for n in one two three; do echo "passphrase $n" >$n; done

# build KIND: three points, one of them forgotten, one held, garbage for prune.
build() {
	local repo=$fast/$1 n=0 file
	shift
	LIVEPOINT_FAULT_NUMBER=store.pack.close:65536
	export LIVEPOINT_FAULT_NUMBER
	make_repo "$repo" "$@"
	if [ $# -gt 0 ]; then
		# a hundred times a second of scrypt tests nothing
		grep -v '^check' "$repo/livepoint.conf" | sed 's/^kdf-n = .*/kdf-n = 16/' >conf
		echo "check = $("$abs_top_builddir/tests/xxh3" <conf)" >>conf
		cp conf "$repo/livepoint.conf"
		lp -q key change --new-passphrase-file one
		lp -q key add --label second --new-passphrase-file two
	fi
	for file in a b c; do
		n=$((n + 1))
		lp -q backup web vda=$file.raw --time "2026-01-0${n}T00:00:00Z" --label "n=$n" >/dev/null
	done
	lp -q protect web@2026-01-01 --reason held
	lp -q forget web@2026-01-02 --grace 1000d >/dev/null
	unset LIVEPOINT_FAULT_NUMBER
}
export LIVEPOINT_PASSPHRASE_FILE=$tmp/one
build plain
[ -z "${LIVEPOINT_SLOW:-}" ] || build encrypted --encrypt

# What a change can alter, in one line.
view() {
	lp --json list | jq -c '[.[] | [.name, .time, .hold, .damaged]]'
}
fresh() {
	[ ! -e "$LIVEPOINT_REPOSITORY" ] || chmod -R u+w "$LIVEPOINT_REPOSITORY"
	rm -rf "$LIVEPOINT_REPOSITORY" "$LIVEPOINT_CACHE_DIR"
	cp -a "$fast/$lane" "$LIVEPOINT_REPOSITORY"
	$setup
}

# --- one run ---

# told: the place that failed, for messages.
told() {
	cut -d' ' -f2- said | xargs -n1 echo | addr2line -s -fe "$LIVEPOINT_BIN" 2>/dev/null | paste -d' ' - - | head -n 8 |
		tr '\n' ';' | sed "s/^/$(cut -d' ' -f1 said): /"
}
wrong() { # TEXT
	echo "$lane, $title: $*: $(told): exit $got: $(head -c 300 err)" >>wrong
}

# run COMMAND...: sets got and what; false if nothing failed any more.
run() {
	rm -f said
	got=0
	LD_PRELOAD=$library LIVEPOINT_FAIL_SEEN=$fast/seen.$mode LIVEPOINT_FAIL_SAID=said LIVEPOINT_FAIL_MODE=$mode \
		LIVEPOINT_FAIL_CLASSES=$classes lp "$@" >out 2>err </dev/null || got=$?
	[ -s said ] || return 1
	what=$(cut -d' ' -f1 said)
	case $got in
	0) ;;
	1 | 3 | 10 | 11 | 12 | 13) [ $got = 3 ] || [ -s err ] || wrong "no reason given" ;;
	# SQLite takes EIO of a read for a file that is damaged (SQLITE_IOERR_CORRUPTFS)
	4) case $what-$damaged in *-yes | pread* | read-* | fstat* | open* | mmap* | lseek*) ;; *) wrong "taken for damage" ;; esac ;;
	*) wrong "not a status that it may have" ;;
	esac
	runs=$((runs + 1))
}

picked() {
	title=$1
	[[ -z ${LIVEPOINT_FAILING:-} || "$lane $title" == *$LIVEPOINT_FAILING* ]] || return 1
	echo "$lane: $mode: $title ($runs before, $SECONDS s)"
}

# reads COMMAND...: prints the same, or fails.
reads() {
	picked "$*" || return 0
	fresh
	lp "$@" >want 2>/dev/null </dev/null || fail "$*: without a failure"
	while run "$@"; do
		[ $got -ne 0 ] || cmp -s want out || wrong "another answer"
	done
	lp -q verify >/dev/null || fail "$lane, $*: verify after the last"
}

# writes COMMAND...: changes what view shows from before to after, or not.
writes() {
	local before after now next=(protect web@2026-01-01 --reason next)
	# what a prune has not finished the next one does
	[ "$1" != prune ] || next=(prune --min-unused 0)
	picked "$*" || return 0
	fresh
	before=$(view)
	lp "$@" >/dev/null 2>&1 </dev/null || fail "$*: without a failure"
	after=$(view)
	fresh
	while run "$@"; do
		now=$(view) || wrong "the list after it"
		[ "$now" = "$before" ] || [ "$now" = "$after" ] || wrong "neither before nor after: $now"
		[ $got -ne 0 ] || [ "$now" = "$after" ] || wrong "success, and nothing was done"
		lp -q verify --data >left 2>&1 || wrong "verify after it: $(head -c 300 left)"
		lp -q "${next[@]}" >left 2>&1 || wrong "the next change: $(head -c 300 left)"
		lp -q verify --leftovers >left 2>&1 && [ ! -s left ] || wrong "left $(head -c 300 left)"
		fresh
	done
}

# heals DAMAGE COMMAND...: after `damage` the same command, without a failure, makes all whole.
heals() {
	local damage=$1 damaged=yes before
	shift
	picked "$damage: $*" || return 0
	fresh
	before=$(view)
	$damage
	while run "$@"; do
		lp -q "$@" >left 2>&1 </dev/null || wrong "once more: $(head -c 300 left)"
		lp -q repair --accept >/dev/null 2>&1 || true
		lp -q verify --data >left 2>&1 || wrong "verify after it: $(head -c 300 left)"
		# a point that was forgotten after the newest state object is complete again
		view | jq -e --argjson before "$before" '$before - . == []' >/dev/null || wrong "not what it was: $(view)"
		fresh
		$damage
	done
}
no_catalog() { rm -f "$LIVEPOINT_REPOSITORY"/catalog.sqlite*; }
no_index() { rm -f "$LIVEPOINT_REPOSITORY"/index/*; }
no_footer() {
	local pack
	for pack in "$LIVEPOINT_REPOSITORY"/packs/*/*1.pack; do
		truncate -s -20 "$pack"
	done
}
# One byte in the middle of the records of a data pack.
bad_record() {
	local pack
	for pack in "$LIVEPOINT_REPOSITORY"/packs/*/*1.pack; do
		printf '\252\252' | dd of="$pack" bs=1 seek=$(($(stat -c %s "$pack") / 2)) conv=notrunc status=none
	done
}
# A backup that was killed.
dead_session() {
	LIVEPOINT_FAULT=catalog.publish.before:1:kill lp -q backup web vda=b.raw --time 2026-01-04T00:00:00Z >/dev/null 2>&1 || true
	[ -n "$(ls "$LIVEPOINT_REPOSITORY/staging" "$LIVEPOINT_REPOSITORY/locks")" ] || fail "nothing was left by a killed backup"
}

# prints COMMAND...: says the same each time, or fails; what it says without a failure need not be success.
prints() {
	local damaged=yes plain=0
	picked "$*" || return 0
	fresh
	lp "$@" >want 2>/dev/null </dev/null || plain=$?
	while run "$@"; do
		[ $got -ne $plain ] || [ $plain -ne 0 ] || cmp -s want out || wrong "another answer"
	done
}

# ends COMMAND...: what it prints is never the same.
ends() {
	picked "$*" || return 0
	fresh
	while run "$@"; do :; done
}

# inits: a repository that is made, or nothing of it is left.
inits() {
	local new=$PWD/new options=()
	picked init || return 0
	[ $lane = plain ] || options=(--encrypt)
	rm -rf "$new"
	while run -r "$new" init "${options[@]}"; do
		[ $got -eq 0 ] || [ ! -e "$new" ] || lp -q -r "$new" verify >/dev/null 2>&1 || wrong "left $(ls "$new" | tr '\n' ' ')"
		[ $got -ne 0 ] || lp -q -r "$new" verify >left 2>&1 || wrong "verify after it: $(head -c 300 left)"
		rm -rf "$new"
	done
}

# Nothing may be written, and the log has changes that are not in the file yet: the catalog is read from a copy.
not_writable() {
	dead_session
	rm -f "$LIVEPOINT_REPOSITORY"/catalog.sqlite-shm
	chmod -R a-w "$LIVEPOINT_REPOSITORY"
}
# What nobody owns, of each kind.
strays() {
	dead_session
	mkdir -p "$LIVEPOINT_REPOSITORY"/packs/ff "$LIVEPOINT_REPOSITORY"/staging/77 "$LIVEPOINT_REPOSITORY"/quarantine
	cp "$LIVEPOINT_REPOSITORY"/packs/01/000000000001.pack "$LIVEPOINT_REPOSITORY"/packs/ff/0000000000ff.pack
	mv "$LIVEPOINT_REPOSITORY"/packs/01/000000000001.pack "$LIVEPOINT_REPOSITORY"/quarantine
	cp "$(ls "$LIVEPOINT_REPOSITORY"/index/*.seg | head -n 1)" "$LIVEPOINT_REPOSITORY"/index/00000000000000ff.seg
	touch "$LIVEPOINT_REPOSITORY"/locks/stray
}

# finds DAMAGE COMMAND...: says 4 of damage, or that it could not look.
finds() {
	local damage=$1 damaged=yes plain=0
	shift
	picked "$damage: $*" || return 0
	fresh
	$damage
	lp "$@" >want 2>/dev/null </dev/null || plain=$?
	[ $plain -eq 4 ] || fail "$damage: $*: exit $plain without a failure"
	while run "$@"; do
		[ $got -ne 0 ] || wrong "damage not found"
	done
}

# --- the scenarios ---

lane() {
	local classes=memory,read,write,sql,crypto,zstd,thread${LIVEPOINT_SOAK:+,sqlite} mode=once runs=0 got what title setup= damaged=no as=()
	lane=$1
	mkdir -p "$tmp/$lane" && cd "$tmp/$lane"
	cp ../*.raw ../one ../two ../three .
	export LIVEPOINT_REPOSITORY=$fast/$lane.work LIVEPOINT_CACHE_DIR=$fast/$lane.cache
	touch wrong
	reads --json list
	writes forget web@2026-01-03 --grace 10d
	if [ -n "${LIVEPOINT_SLOW:-}" ]; then slow; fi
	echo "$runs" >runs
}

slow() {
	writes prune --min-unused 0
	heals no_catalog repair
	heals no_footer repair
	writes backup web vda=b.raw --time 2026-01-04T00:00:00Z
	reads verify --data
	heals no_index repair
	heals bad_record repair --read-data
	if [ $lane = encrypted ]; then
		writes key rotate
		writes key add --label third --new-passphrase-file three
		writes key remove --label second
		writes key change --label second --new-passphrase-file three
		writes key export-recovery --label paper
		reads --json key list
	fi
	inits
	finds no_footer verify --data
	finds no_index verify
	finds bad_record verify --data
	setup=dead_session
	writes backup web vda=b.raw --time 2026-01-04T00:00:00Z
	writes prune --min-unused 0
	# its owner is gone only once somebody has looked
	prints verify --leftovers
	setup=strays
	prints verify --leftovers
	prints verify
	setup=not_writable
	as=(setpriv --bounding-set -dac_override)
	prints --json list
	as=()
	setup=
	reads restore web@2026-01-01 out.raw --overwrite
	reads diff web@2026-01-01 web@2026-01-03
	reads --json log
	reads log --verify
	reads stats --prometheus
	reads show web@2026-01-01
	writes protect web@2026-01-03 --reason next --until 2036-01-01
	writes unprotect web@2026-01-01
	writes unforget web@2026-01-02
	writes forget --keep-last 1
	writes backup web vda=c.raw --time 2026-01-04T00:00:00Z --full
	reads prune --dry-run
	prints repair --dry-run
	ends benchmark --seconds 0
	mode=ever
	writes backup web vda=b.raw --time 2026-01-04T00:00:00Z
	writes prune --min-unused 0
	heals no_catalog repair
	heals no_footer repair
}

lanes=plain
[ -z "${LIVEPOINT_SLOW:-}" ] || lanes="plain encrypted"
for l in $lanes; do
	(lane "$l") &
done
wait || true
for l in $lanes; do cat "$tmp/$l/wrong"; done
total=0 bad=0
for l in $lanes; do
	[ -f "$tmp/$l/runs" ] || fail "$l did not end"
	total=$((total + $(cat "$tmp/$l/runs")))
	bad=$((bad + $(wc -l <"$tmp/$l/wrong")))
done
echo "$((total - bad)) passed, $bad failed"
[ $bad -eq 0 ] && [ $total -ge 100 ] || fail "$bad of $total"
