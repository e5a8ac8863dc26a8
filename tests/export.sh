#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# livepoint export, exports, unexport: starting, listing, ending; clients, dead servers, modes, owners,
# long paths, network, and where the key of an encrypted repository can be seen: nowhere.
. "$(dirname "$0")/functions.sh"

requires nbdcopy --version
requires nbdinfo --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force

random_file a.raw 3M 1
random_file b.raw 1M 2
make_repo
old=$(lp -q backup web1 vda=a.raw vdb=b.raw)
one=$(lp -q backup one vda=b.raw)

# alive PID: runs, and is not one that only waits to be reaped.
alive() { readlink "/proc/$1/exe" >/dev/null 2>&1; }

# --- nothing yet ---
[ "$(lp --json exports)" = "[]" ] || fail "exports of nothing is not an empty array"
expect_exit 13 lp unexport x00000000 2>/dev/null
expect_exit 13 lp unexport ../../etc/passwd 2>/dev/null
lp -q unexport --all || fail "unexport --all of nothing fails"

# --- start: one URI a line in the order of the disks, usable at once ---
lp export web1@latest >uris
[ "$(wc -l <uris)" -eq 2 ] || fail "not one URI for each disk: $(cat uris)"
grep -qE "^nbd\+unix:///$old/vda\?socket=$LIVEPOINT_RUN_DIR/x[0-9a-f]{8}\.sock$" uris || fail "URI: $(cat uris)"
nbdcopy "$(sed -n 1p uris)" copy.raw && cmp a.raw copy.raw || fail "vda differs"
nbdcopy "$(sed -n 2p uris)" copy.raw && cmp b.raw copy.raw || fail "vdb differs"

# latest was resolved: a newer point does not change what is served.
lp -q backup web1 vda=b.raw vdb=a.raw >/dev/null
nbdcopy "$(sed -n 1p uris)" copy.raw && cmp a.raw copy.raw || fail "the export has moved to a newer point"
nbdinfo --can multi-conn "$(sed -n 1p uris)" || fail "an export is not multi-conn"

lp --json exports >list.json
id=$(jq -r '.[0].id' list.json)
jq -e --arg point "$old" --arg uri "$(sed -n 1p uris)" '
	length == 1 and (.[0] | .point == $point and .uri == $uri and .overlay == null and
	([.disks[].name] == ["vda", "vdb"]) and .disks[0].uri == $uri and (.pid | type) == "number" and
	(.since | test("^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")))' list.json >/dev/null ||
	{ cat list.json; fail "exports --json is not as promised"; }
pid=$(jq -r '.[0].pid' list.json)
[ "$(readlink "/proc/$pid/cwd")" = / ] || fail "the server keeps a folder busy"
lp exports | grep -q "$id" || fail "exports does not list $id"

# --- modes and owners ---
mode_of() { stat -c %a "$1"; }
[ "$(mode_of "$LIVEPOINT_RUN_DIR/$id.json")" = 600 ] || fail "mode of ID.json"
[ "$(mode_of "$LIVEPOINT_RUN_DIR/$id.log")" = 600 ] || fail "mode of ID.log"
if [ "$(id -u)" -eq 0 ]; then
	[ "$(mode_of "$LIVEPOINT_RUN_DIR")" = 711 ] || fail "mode of root's run folder"
	if getent group libvirt-qemu >/dev/null; then
		want="660 libvirt-qemu"
	else
		want="600 root"
	fi
else
	[ "$(mode_of "$LIVEPOINT_RUN_DIR")" = 700 ] || fail "mode of the run folder"
	want="600 $(id -gn)"
fi
[ "$(stat -c '%a %G' "$LIVEPOINT_RUN_DIR/$id.sock")" = "$want" ] ||
	fail "socket is $(stat -c '%a %G' "$LIVEPOINT_RUN_DIR/$id.sock"), not $want"

# --- a second one, of one disk; each is ended alone ---
lp --json export one/vda >one.json
second=$(jq -r .id one.json)
[ "$(jq -r .uri one.json)" = "nbd+unix:///$one/vda?socket=$LIVEPOINT_RUN_DIR/$second.sock" ] || fail "URI of $second"
[ "$(lp --json exports | jq length)" -eq 2 ] || fail "not two exports"
lp -q unexport "$second"
[ ! -e "$LIVEPOINT_RUN_DIR/$second.sock" ] || fail "the socket of $second is left"
[ "$(lp --json exports | jq -r '.[].id')" = "$id" ] || fail "unexport has ended another one"

# --- clients connected: refused, unless forced ---
mkfifo hold
nbdcopy "$(sed -n 1p uris)" - >hold 2>/dev/null &
client=$!
exec 7<hold
head -c 65536 <&7 >/dev/null
expect_exit 11 lp unexport "$id" 2>refused
grep -q "$id.*client" refused || { cat refused; fail "no clear words about clients"; }
expect_exit 11 lp unexport --all 2>/dev/null
alive "$pid" || fail "a refused unexport has ended the server"
lp -q unexport "$id" --force
exec 7<&-
wait "$client" 2>/dev/null || true
alive "$pid" && fail "the server lives after unexport --force"
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"
[ "$(lp --json exports)" = "[]" ] || fail "an ended export is listed"

# --- kill -9 of what keeps it up (export-restart.sh has the other case): the files are stale, seen as such and removed ---
lp --json export one >one.json
kill -KILL "$(jq -r .supervisor one.json)"
stale=$(jq -r .id one.json)
[ -S "$LIVEPOINT_RUN_DIR/$stale.sock" ] || fail "no stale socket to test with"
for ((i = 0; i < 200; i++)); do
	alive "$(jq -r .pid one.json)" || alive "$(jq -r .supervisor one.json)" || break
	sleep 0.02
done
[ "$(lp --json exports)" = "[]" ] || fail "a killed server is listed"
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "stale files are left: $(ls "$LIVEPOINT_RUN_DIR")"
expect_exit 13 lp unexport "$stale" 2>/dev/null
# The lock of a killed reader does not stay in anybody's way.
lp -q backup one vda=a.raw >/dev/null

# --- errors: exit codes, words, and nothing left behind ---
expect_exit 13 lp export web11 2>words
grep -q 'near: web1' words || { cat words; fail "no near matches"; }
expect_exit 13 lp export web1/vdz 2>/dev/null
expect_exit 2 lp export one --listen 127.0.0.1:0 2>/dev/null
expect_exit 2 lp export one --tls-psk /dev/null 2>/dev/null
expect_exit 1 env PATH="$tmp/no-programs" "$LIVEPOINT_BIN" export one 2>words
grep -q nbdkit words || { cat words; fail "no word about a missing nbdkit"; }
LIVEPOINT_NBDKIT_PLUGIN=$tmp/nothing.so expect_exit 1 lp export one 2>words
grep -q 'nothing.so' words || { cat words; fail "nbdkit's own words are not passed on"; }
long=$tmp/$(printf 'long%.0s' {1..30})
LIVEPOINT_RUN_DIR=$long expect_exit 1 lp export one 2>words
grep -q '107' words && grep -q 'LIVEPOINT_RUN_DIR' words || { cat words; fail "no way out named for a long path"; }
[ -z "$(ls -A "$long")" ] || fail "a refused export left files: $(ls "$long")"
mkdir -m 777 open-to-all
LIVEPOINT_RUN_DIR=$tmp/open-to-all expect_exit 1 lp export one 2>words
grep -q 'written by others' words || { cat words; fail "a folder open to all is taken"; }
if [ "$(id -u)" -eq 0 ]; then
	expect_exit 1 lp export one --socket-group no-such-group 2>/dev/null
	lp --json export one --socket-group daemon >one.json
	[ "$(stat -c '%a %G' "$LIVEPOINT_RUN_DIR/$(jq -r .id one.json).sock")" = "660 daemon" ] || fail "--socket-group"
	lp -q unexport --all
fi
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"

# --- encrypted: the key is in no argument, no environment and no file of the server ---
export LIVEPOINT_PASSPHRASE="correct horse battery staple"
make_repo "$tmp/secret" --encrypt
lp -q backup web1 vda=a.raw >/dev/null
lp --json export web1 >one.json
nbdcopy "$(jq -r .uri one.json)" copy.raw && cmp a.raw copy.raw || fail "an encrypted point differs"
pid=$(jq -r .pid one.json)
for file in cmdline environ; do
	tr '\0' '\n' <"/proc/$pid/$file" >seen
	[ -s seen ] || fail "/proc/$pid/$file is empty: nothing was tested"
	grep -q 'battery' seen && fail "the passphrase is in $file"
done
tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qE '^key-fd=[0-9]+$' || fail "the key did not come by descriptor"
grep -rq 'battery' "$LIVEPOINT_RUN_DIR" && fail "the passphrase is in the run folder"
# nbdkit has one pipe of its own
[ "$(find "/proc/$pid/fd" -lname 'pipe:*' -printf '%l\n' | sort -u | wc -l)" -le 1 ] || fail "the key's pipe is still open"
lp -q unexport --all
(
	unset LIVEPOINT_PASSPHRASE
	expect_exit 12 lp export web1 </dev/null 2>/dev/null
	LIVEPOINT_PASSPHRASE=wrong expect_exit 12 lp export web1 2>/dev/null
) || exit 1

# nbdkit by hand with each way to give a passphrase
printf '%s\n' "$LIVEPOINT_PASSPHRASE" >pass
(
	unset LIVEPOINT_PASSPHRASE
	ask() { nbdkit -U - "$LIVEPOINT_PLUGIN" "$LIVEPOINT_REPOSITORY" point=web1 "$@" --run 'nbdinfo --size "$uri"' 2>words; }
	[ "$(ask passphrase-file="$tmp/pass")" = 3145728 ] || fail "passphrase-file"
	[ "$(ask passphrase-fd=9 9<pass)" = 3145728 ] || fail "passphrase-fd"
	[ "$(LIVEPOINT_PASSPHRASE_FILE=$tmp/pass ask)" = 3145728 ] || fail "LIVEPOINT_PASSPHRASE_FILE"
	[ "$(LIVEPOINT_PASSPHRASE_FD=9 ask 9<pass)" = 3145728 ] || fail "LIVEPOINT_PASSPHRASE_FD"
	[ "$(LIVEPOINT_PASSPHRASE_COMMAND="cat $tmp/pass" ask)" = 3145728 ] || fail "LIVEPOINT_PASSPHRASE_COMMAND"
	ask && fail "it opens without a passphrase"
	grep -q 'no passphrase was given' words || { cat words; fail "no word about a missing passphrase"; }
	echo wrong >wrong
	ask passphrase-file="$tmp/wrong" && fail "it opens with a wrong passphrase"
	grep -q 'wrong passphrase' words || { cat words; fail "no word about a wrong passphrase"; }
	ask key-fd=9 9<pass && fail "a key of another length is taken"
	grep -q 'a repository key has 32' words || { cat words; fail "no word about the key's length"; }
) || exit 1

# --- network: only with TLS; pre-shared keys ---
if nbdkit --dump-config | grep -q '^tls=yes'; then
	echo "alice:0123456789abcdef0123456789abcdef" >psk
	lp --json export web1 --listen 127.0.0.1:0 --tls-psk psk >tls.json
	uri=$(jq -r .uri tls.json)
	[[ $uri =~ ^nbds://127\.0\.0\.1:([0-9]+)/ ]] || fail "URI $uri"
	port=${BASH_REMATCH[1]}
	[ ! -e "$LIVEPOINT_RUN_DIR/$(jq -r .id tls.json).sock" ] || fail "a socket beside the network port"
	nbdinfo --size "nbd://127.0.0.1:$port/web1@latest/vda" 2>/dev/null && fail "the port answers without TLS"
	size=$(nbdinfo --size "nbds://alice@127.0.0.1:$port/web1@latest/vda?tls-psk-file=$tmp/psk")
	[ "$size" = 3145728 ] || fail "no answer over TLS"
	lp -q unexport "$(jq -r .id tls.json)"
	nbdinfo --size "nbd://127.0.0.1:$port/" 2>/dev/null && fail "the port is open after unexport"
fi
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"
[ -z "$(ls -A "$LIVEPOINT_REPOSITORY/locks")" ] || fail "left locks: $(ls "$LIVEPOINT_REPOSITORY/locks")"
