#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# The server of a whole repository that recoveries share: one, however many start it at a time; listed, restarted when it is
# killed, ended by unexport; another one for another repository, and after a rotation of keys; and a proxy in front of it.
. "$(dirname "$0")/functions.sh"

requires nbdinfo --version
requires nbdcopy --version
requires jq --version

export LIVEPOINT_RUN_DIR=$tmp/run LIVEPOINT_PASSPHRASE='shared words'
cleanup_fn lp -q unexport --all --force
random_file a.raw 2M 1
make_repo "$tmp/other"
point_other=$(lp -q backup web9 vda=a.raw)
other=$LIVEPOINT_REPOSITORY
make_repo "$tmp/sealed" --encrypt
point=$(lp -q backup web1 vda=a.raw)
shared() { "$abs_top_builddir/tests/serve-shared" "$@"; }

# --- ten at a time: one server ---
pids=()
for ((i = 0; i < 10; i++)); do
	shared "$LIVEPOINT_REPOSITORY" >"out.$i" &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || fail "a starter has failed"; done
[ "$(sort -u out.* | wc -l)" -eq 1 ] || { cat out.*; fail "several servers"; }
read -r id pid sock <out.0
[ "$(lp --json exports | jq length)" -eq 1 ] || fail "not one server is listed"
lp --json exports | jq -e --arg id "$id" --arg repo "$(readlink -f "$LIVEPOINT_REPOSITORY")" --arg uri "nbd+unix:///?socket=$sock" \
	'.[0] | .id == $id and .kind == "shared" and .point == null and .overlay == null and .disks == [] and
	.uri == $uri and .target == null and .repository == $repo' >/dev/null || { lp --json exports; fail "JSON"; }
lp exports | grep -q "$id  *\*" || { lp exports; fail "text"; }
uri="nbd+unix:///$point/vda?socket=$sock"
nbdcopy "$uri" copy.raw && cmp a.raw copy.raw || fail "it does not serve the point"

# a point and an overlay made later
later=$(lp -q backup web2 vda=a.raw)
nbdcopy "nbd+unix:///$later/vda?socket=$sock" copy.raw && cmp a.raw copy.raw || fail "it does not serve a later point"

# --- killed: comes back on its socket, with the key; who starts it then finds it ---
kill -KILL "$pid"
[ "$(shared "$LIVEPOINT_REPOSITORY" | cut -d' ' -f1,3)" = "$id $sock" ] || fail "a second server beside one that is started again"
nbdcopy "$uri" copy.raw && cmp a.raw copy.raw || fail "after kill -9"

# --- a folder by another path is the same repository; another repository has a server of its own ---
ln -s "$LIVEPOINT_REPOSITORY" link
[ "$(shared link | cut -d' ' -f1)" = "$id" ] || fail "a link to the repository has a server of its own"
second=$(shared "$other" | cut -d' ' -f1)
[ "$second" != "$id" ] || fail "two repositories share a server"
lp -q unexport "$second" || fail "unexport"

# --- keys rotated: the old server cannot read what comes, and stays for its clients ---
lp -q key rotate
newest=$(lp -q backup web3 vda=a.raw)
read -r id2 pid2 sock2 < <(shared "$LIVEPOINT_REPOSITORY")
[ "$id2" != "$id" ] || fail "a server without the new key is used on"
nbdcopy "nbd+unix:///$newest/vda?socket=$sock2" copy.raw && cmp a.raw copy.raw || fail "the new key"
nbdcopy "$uri" copy.raw && cmp a.raw copy.raw || fail "the old server has gone"
lp -q unexport "$id2"

# --- a proxy: all exports by their names; listed with what is behind it; ended alone ---
read -r proxy proxy_pid proxy_sock < <(shared "$LIVEPOINT_REPOSITORY" proxy)
target=$(lp --json exports | jq -r --arg id "$proxy" '.[] | select(.id == $id) | .target')
[ -n "$(lp --json exports | jq -r --arg id "$target" '.[] | select(.id == $id and .kind == "shared") | .id')" ] ||
	fail "the proxy's target '$target' is no shared server"
lp exports | grep -q "$proxy  *proxy of $target" || { lp exports; fail "text of a proxy"; }
nbdcopy "nbd+unix:///$point/vda?socket=$proxy_sock" copy.raw && cmp a.raw copy.raw || fail "through the proxy"
tr '\0' ' ' <"/proc/$proxy_pid/cmdline" | grep -q -- "--filter=retry nbd" || fail "it is no proxy"
kill -KILL "$proxy_pid"
nbdcopy "nbd+unix:///$point/vda?socket=$proxy_sock" copy.raw && cmp a.raw copy.raw || fail "a killed proxy does not come back"
lp -q unexport "$proxy"
[ ! -e "$proxy_sock" ] || fail "the socket of the proxy is left"
lp -q unexport --all
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"
