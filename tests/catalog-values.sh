#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Each column of each table of the catalog with values that no program of ours writes: too big, negative, empty, of another length,
# missing.  Every command ends with a status of livepoint(1) and, where it fails, with a reason; and a catalog that is built again
# has the points as they were.  All columns, and all commands, with LIVEPOINT_SLOW.
. "$(dirname "$0")/functions.sh"
. "$abs_top_srcdir/tests/reliability.sh"
requires sqlite3 --version
requires jq --version

fast_dir values
random_file a.raw 100K 1
random_file b.raw 100K 2
make_repo "$fast/good"
n=0
for file in a b a; do
	n=$((n + 1))
	lp -q backup web vda=$file.raw --time "2026-01-0${n}T00:00:00Z" --label "n=$n" >/dev/null
done
lp -q protect web@2026-01-01 --reason held
lp -q forget web@2026-01-02 --grace 1000d >/dev/null
good=$LIVEPOINT_REPOSITORY
export LIVEPOINT_REPOSITORY=$fast/repo
db=$fast/repo/catalog.sqlite
sql() { sqlite3 "$good/catalog.sqlite" "$@"; }
sql 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
view() { lp --json list "$@" | jq -c '[.[] | [.id, .name, .time, .hold.reason]]'; }
fresh() {
	rm -rf "$fast/repo"
	cp -a "$good" "$fast/repo"
}
fresh
before=$(view)
tried=0 refused=0 passed=0

# spoil TABLE COLUMN VALUE: without the constraints of the schema; false if there is no row.
spoil() {
	sqlite3 "$db" ".dbconfig defensive off" "PRAGMA writable_schema = ON" "UPDATE sqlite_schema SET sql =
		replace(replace(sql, ' NOT NULL', ''), ') STRICT', ')') WHERE type = 'table'" "PRAGMA writable_schema = RESET" >/dev/null
	# a row number can be nothing but a number
	[ "$(sqlite3 "$db" "PRAGMA ignore_check_constraints = ON" "PRAGMA foreign_keys = OFF" \
		"UPDATE OR REPLACE $1 SET \"$2\" = $3" "SELECT changes()" 2>/dev/null || echo 0)" -gt 0 ]
}

# copes COMMAND...: no signal, no other status, a reason.
copes() {
	local got=0
	lp "$@" >out 2>err </dev/null || got=$?
	passed=$((passed + 1))
	case $got in
	0) ;;
	1 | 3 | 4 | 10 | 11 | 13)
		refused=$((refused + 1))
		[ -s err ] || [ -s out ] || fail "$table.$column = $value: $*: exit $got without a reason"
		;;
	*) fail "$table.$column = $value: $*: exit $got: $(cat err)" ;;
	esac
}

values_of() { # TYPE
	case $1 in
	INTEGER) echo "-1 9223372036854775807 0 7 NULL 'x'" ;;
	REAL) echo "-1 1e300 NULL" ;;
	TEXT) echo "'' NULL hex(zeroblob(40000)) char(10,1) x'ff00'" ;;
	BLOB) echo "x'' x'00' zeroblob(40000) NULL zeroblob(32) zeroblob(16)" ;;
	esac
}

commands() {
	copes --json list
	copes verify
	[ -n "${LIVEPOINT_SLOW:-}" ] || return 0
	copes --json list --forgotten
	copes stats
	copes --json log
	copes verify --leftovers
	copes show web@2026-01-01
	copes restore web@2026-01-03 out.raw --overwrite
	copes repair --dry-run
	copes prune --dry-run
	copes protect web@2026-01-03 --reason next
	copes forget web@2026-01-03
	copes backup web vda=b.raw --time 2026-01-05T00:00:00Z
	copes prune --min-unused 0
}

tables="meta pack point"
[ -z "${LIVEPOINT_SLOW:-}" ] || tables="meta lease pack segment point disk label hold audit tomb"
for table in $tables; do
	[ $table != lease ] || sql "INSERT INTO lease VALUES (900, 2, 1, 'gone', '', 'host', 4194305, 'boot', 1, 1, 'n', 1, 1)"
	[ $table != tomb ] || sql "INSERT INTO tomb VALUES (zeroblob(16), 1 << 24, 1, 1)"
	while IFS='|' read -r _ column type _; do
		for value in $(values_of "$type"); do
			fresh
			spoil "$table" "$column" "$value" || continue
			tried=$((tried + 1))
			commands
		done
		fresh
		spoil "$table" "$column" "$value" || continue
		lp -q repair --catalog >out 2>err || fail "$table.$column = $value: repair: $(cat err)"
		lp -q repair --accept >out 2>err || fail "$table.$column = $value: accept: $(cat err)"
		# a point that was forgotten after the newest state object is complete again
		view | jq -e --argjson before "$before" '($before | map(.[:3])) - map(.[:3]) == []' >/dev/null ||
			fail "$table.$column = $value: after repair: $(view)"
		lp -q verify --data >out || fail "$table.$column = $value: verify after repair: $(cat out)"
	done < <(sql "PRAGMA table_info($table)")
	sql "DELETE FROM lease" "DELETE FROM tomb"
done
echo "$passed passed, 0 failed: $tried values, $refused refusals"
[ $tried -ge 60 ] && [ $refused -ge 30 ] || fail "only $tried values, $refused refusals"
