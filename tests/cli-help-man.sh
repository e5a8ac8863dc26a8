#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Each option of --help stands in its manual page, and each option of a page in --help; --help needs
# no repository; each exit status and variable of the contract stands in livepoint(1).
. "$(dirname "$0")/functions.sh"

man=$abs_top_srcdir/man
count=0

# Options of the help on standard input, in the section whose head begins with $1.
help_options() {
	awk -v head="$1" '
		/^[A-Z]/ { inside = index($0, head) == 1; next }
		inside && match($0, /^  (-[A-Za-z], |    )--[a-z-]+/) {
			match($0, /--[a-z-]+/); print substr($0, RSTART, RLENGTH)
		}' | sort -u
}
# Options that head a paragraph of a page.
page_options() {
	sed 's/\\-/-/g' "$1" | awk '
		tag { while (match($0, /--[a-z][a-z-]*/)) { print substr($0, RSTART, RLENGTH); $0 = substr($0, RSTART + RLENGTH) } }
		{ tag = $0 == ".TP" }' | sort -u
}
# same WHAT FILE1 FILE2
same() {
	[ -s "$2" ] || [ ! -s "$3" ] || fail "$1: help has no option, the page has"
	if ! diff "$2" "$3" >difference; then
		cat difference >&2
		fail "$1: options of --help (<) and page (>) differ"
	fi
	count=$((count + $(wc -l <"$2")))
}

lp --help >overview.txt
help_options "Global options" <overview.txt >help.global
[ "$(wc -l <help.global)" -ge 7 ] || fail "global options are missing from --help"
page_options "$man/livepoint.1" >page.global
same livepoint.1 help.global page.global

mapfile -t commands < <(awk '/^Commands:/ { on = 1; next } /^$/ { on = 0 } on { print $0 }' overview.txt |
	sed -E 's/^  ([a-z-]+( [a-z-]+)?)  .*/\1/')
[ ${#commands[@]} -ge 15 ] || fail "only ${#commands[@]} commands in --help: ${commands[*]}"

declare -A page=()
for command in "${commands[@]}"; do
	case $command in
	exports | unexport) name=livepoint-export.1 ;;
	unforget) name=livepoint-forget.1 ;;
	unprotect) name=livepoint-protect.1 ;;
	version | completion) name=livepoint.1 ;;
	*) name=livepoint-${command%% *}.1 ;;
	esac
	[ -f "$man/$name" ] || fail "no page $name for '$command'"
	sed 's/\\-/-/g' "$man/$name" >text
	grep -qE "(livepoint |^\.B )${command}( |\"|\$)|^\.B ${command}\$" text ||
		fail "$name does not name '$command'"
	sed 's/\\-/-/g' "$man/livepoint.1" >overview
	grep -qE "^\.(B|BR) (livepoint-)?${command%% *}( |\$)" overview ||
		grep -qE "^\.BR? ${command%% *} [,:]" overview || fail "livepoint.1 does not name '$command'"
	# shellcheck disable=SC2086 # two words are two arguments
	lp $command --help >command.txt || fail "$command --help"
	grep -q "^Usage: livepoint $command" command.txt || fail "$command --help has no usage line"
	help_options "Global options" <command.txt >command.global
	cmp -s help.global command.global || fail "$command --help has other global options"
	help_options "Options:" <command.txt >>"help.$name"
	page[$name]=1
done
for name in "${!page[@]}"; do
	[ "$name" != livepoint.1 ] || continue
	sort -u -o "help.$name" "help.$name"
	page_options "$man/$name" >"page.$name"
	same "$name" "help.$name" "page.$name"
done
[ ! -s help.livepoint.1 ] || fail "version or completion has options: give it a page"

# The completion knows what --help knows, and bash takes it.
lp completion bash >completion.sh
bash -n completion.sh
for option in $(cat help.*); do
	grep -qF -- "$option" completion.sh || fail "completion does not know $option"
done
completed() {
	local IFS=' '
	# shellcheck disable=SC2016 # expanded by the inner shell
	bash -c '. ./completion.sh; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _livepoint; echo "${COMPREPLY[*]}"' \
		bash "$@"
}
[ "$(completed livepoint ver)" = "verify version" ] || fail "completion of 'ver': $(completed livepoint ver)"
[ "$(completed livepoint backup --comp)" = --compression ] || fail "completion of backup --comp"
[ "$(completed livepoint backup --compression be)" = "better best" ] || fail "completion of a choice"
[ "$(completed livepoint -r x debug d)" = dump ] || fail "completion of 'debug d'"

for status in 0 1 2 3 4 10 11 12 13 130 143; do
	grep -qx "\.B $status" "$man/livepoint.1" || fail "exit status $status is not in livepoint.1"
done
for variable in LIVEPOINT_REPOSITORY LIVEPOINT_PASSPHRASE LIVEPOINT_PASSPHRASE_FILE LIVEPOINT_PASSPHRASE_FD \
	LIVEPOINT_PASSPHRASE_COMMAND LIVEPOINT_CACHE_DIR LIVEPOINT_STATE_DIR LIVEPOINT_ACCEL NO_COLOR; do
	grep -qw "$variable" "$man/livepoint.1" || fail "$variable is not in livepoint.1"
done
# each error code of the table is in livepoint-json(5)
while read -r code; do
	sed 's/\\-/-/g' "$man/livepoint-json.5" | tr '\n' ' ' | grep >/dev/null -E "[ ,]${code}[ ,]" ||
		fail "error code $code is not in livepoint-json.5"
done < <(sed -nE 's/^ERRCODE\([A-Z_]+, "([^"]+)".*/\1/p' "$abs_top_srcdir/base/errcodes.def")

if command -v mandoc >/dev/null; then
	mandoc -T lint -W warning "$man"/livepoint*.1 "$man"/livepoint-json.5 "$man"/livepoint-security.7 >lint || true
	[ ! -s lint ] || { cat lint >&2; fail "mandoc has warnings"; }
fi
echo "cli-help-man: ${#commands[@]} commands, $count options"
