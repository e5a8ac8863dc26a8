# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
# Sourced after functions.sh by tests that need NBD servers which are not ours, as sources and targets.
#
# shellcheck disable=SC2034,SC2154 # variables are for the tests, or functions.sh's

# start_nbdkit NAME ARGS...: nbdkit on a private socket, once it answers.  Sets nbd_uri and nbd_pid.
# Its end is functions.sh's business: stop_plugin NAME or kill_plugin NAME.
start_nbdkit() {
	local name=$1 i
	shift
	nbd_sock=$tmp/$name.sock
	nbd_uri="nbd+unix:///?socket=$nbd_sock"
	rm -f "$tmp/$name.pid" "$nbd_sock"
	nbdkit -f -P "$tmp/$name.pid" -U "$nbd_sock" "$@" </dev/null >"$tmp/$name.log" 2>&1 &
	nbd_pid=$!
	for ((i = 0; i < 1200; i++)); do
		if [ -s "$tmp/$name.pid" ]; then
			server_pid[$name]=$nbd_pid
			return 0
		fi
		kill -0 "$nbd_pid" 2>/dev/null || break
		sleep 0.025
	done
	cat "$tmp/$name.log" >&2
	fail "nbdkit '$name' does not listen"
}

# log_ranges KIND FILE: "offset count" of each request of that kind (Read, Write, Zero) in the log of
# nbdkit's log filter.
log_ranges() {
	sed -nE "s/.* $1 id=[0-9]+ offset=(0x[0-9a-f]+) count=(0x[0-9a-f]+).*/\1 \2/p" "$2" |
		while read -r offset count; do echo $((offset)) $((count)); done
}

# log_bytes KIND FILE: the sum of their counts.
log_bytes() {
	log_ranges "$1" "$2" | awk '{ n += $2 } END { print n + 0 }'
}

# json_of FILE FILTER: of the summary, the last line of a command with --json.
json_of() {
	tail -n 1 "$1" | jq -r "$2"
}
