#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The fixed fields of --json: present, of the right type, null where there is no value.
. "$(dirname "$0")/functions.sh"

requires jq --version

count=0
# holds FILE FILTER: the filter is true of the document.
holds() {
	jq -e "$2" "$1" >/dev/null || { cat "$1" >&2; fail "not true of $1: $2"; }
	count=$((count + 1))
}
point_filter='
	(keys_unsorted | contains(["id","point","name","time","disks","tree","stored","kind","parent",
		"consistency","labels","hold","verified","damaged","effective"])) and
	(.id | test("^[0-9a-f]{32}$")) and
	(.time | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")) and
	.point == .name + "@" + .time and
	(.disks | length > 0 and all(has("name") and (.size | type == "number") and
		(.method == "full" or .method == "hash" or .method == "map"))) and
	.tree == null and (.stored | type == "number") and .hold == null and
	(.labels | type == "object" and all(.[]; type == "string")) and
	(.damaged | type == "boolean") and (.effective == false)'

make_repo
random_file a.raw 2M 1
random_file b.raw 1M 2
cp a.raw a2.raw
printf 'changed' | dd of=a2.raw bs=1 seek=700000 conv=notrunc status=none

lp --json backup web1 vda=a.raw vdb=b.raw --label k=v --label 'empty=' >backup.json
[ "$(jq -s 'all(has("type"))' backup.json)" = true ] || fail "a line without a type"
tail -n 1 backup.json >summary.json
[ "$(wc -l <summary.json)" -eq 1 ] || fail "the summary is not one line"
holds summary.json '.type == "summary" and (.id | test("^[0-9a-f]{32}$")) and (.point | startswith("web1@")) and
	.read == 3145728 and .stored > 3145728 and (.seconds >= 0) and .warnings == [] and
	(.disks | map(.name)) == ["vda","vdb"] and .chunks_new == 48'
first=$(jq -r .point summary.json)
first_id=$(jq -r .id summary.json)
second=$(lp -q backup web1 vda=a2.raw vdb=b.raw --consistency filesystem)
lp --json backup web1 vda=a2.raw --dry-run | tail -n 1 >dry.json
holds dry.json '.id == null and .point == null and .dry_run == true and .read > 0'

lp --json list >list.json
holds list.json 'type == "array" and length == 2'
holds list.json "all($point_filter)"
holds list.json ".[0].point == \"$first\" and .[1].point == \"$second\""
holds list.json ".[0].kind == \"full\" and .[0].parent == null and .[0].labels == {\"k\":\"v\",\"empty\":\"\"} and
	.[0].consistency == \"crash\" and .[0].verified == null"
holds list.json ".[1].kind == \"incremental\" and .[1].parent == \"$first_id\" and .[1].labels == {} and
	.[1].consistency == \"filesystem\" and (.[1].disks | map(.size)) == [2097152, 1048576]"
lp --json list web1 --label k=v >label.json
holds label.json "map(.point) == [\"$first\"]"
lp --json list --label k=other >label.json
holds label.json '. == []'

lp --json show "$second" >show.json
holds show.json "$point_filter"
holds show.json '.sequence > 0 and .generation > 0 and (.program | startswith("livepoint")) and
	(.disks[0].source | endswith("a2.raw")) and .disks[0].unreadable == 0 and .disks[0].chunk_size == 65536 and
	.disks[0].source_size == 2097152 and (.disks[0].read | type == "number")'

lp --json verify --data >verify.json
tail -n 1 verify.json >summary.json
holds summary.json '.type == "summary" and .kind == "data" and .points == 2 and .findings == 0 and
	.damaged_points == 0 and .bytes > 0'
lp --json show "$first" >show.json
holds show.json '.verified.kind == "data" and .verified.share == 1 and (.verified.time | endswith("Z")) and
	.damaged == false'

lp --json diff "$first" "$second" >diff.json
holds diff.json '. == [{"disk":"vda","start":655360,"length":65536,"data":true}]'
[ "$(lp diff "$first" "$second")" = "vda 655360 65536 data" ] || fail "diff as text"
lp --json diff "$first" "$first" >diff.json
holds diff.json '. == []'
lp --json diff "$first/vdb" "$second/vdb" >diff.json
holds diff.json '. == []'

# what diff prints is a change map
lp --json diff "$first/vda" "$second/vda" >changed.json
lp --json backup copy vda=a2.raw --since "$first" --changed vda=changed.json | tail -n 1 >summary.json
holds summary.json '.disks[0].method == "map" and .read < 1048576'
[ "$(lp diff "$second/vda" copy/vda)" = "" ] || fail "the point made with a change map differs"
lp --json show copy >show.json
holds show.json ".kind == \"differential\" and .parent == \"$first_id\""

lp --json restore "$second/vda" out.raw >restore.json
tail -n 1 restore.json >summary.json
holds summary.json '.type == "summary" and .size == 2097152 and .damaged == 0 and .written > 0'
cmp a2.raw out.raw

! grep -Eq '"seconds":[0-9.]*[0-9]{13}' summary.json || fail "digits that a clock does not have: $(cat summary.json)"

lp --json stats >stats.json
holds stats.json '.points == 3 and .names == 2 and .dedup_ratio > 1 and .compression_ratio > 0 and
	.disk_bytes == 8388608 and .referenced_bytes == 8388608 and .chunks == 49 and .suite == "none"'

lp stats --prometheus >stats.prom
grep -qx 'livepoint_points 3' stats.prom && grep -q '^livepoint_last_good_age_seconds{name="copy"} [0-9]*$' stats.prom ||
	fail "stats --prometheus: $(cat stats.prom)"
expect_exit 2 lp --json stats --prometheus 2>/dev/null

lp --json exports >exports.json
holds exports.json 'type == "array"'
lp --json benchmark --seconds 0 --path "$tmp" >benchmark.json
holds benchmark.json '(.rows | length >= 10) and (.rows | all(.rate > 0)) and
	(.rows | map(select(.name == "compress-default")) | .[0].ratio > 1)'
lp --json debug dump "$LIVEPOINT_REPOSITORY/livepoint.conf" >dump.json
holds dump.json '.text | contains("chunk-size")'
echo "cli-json: $count documents"
