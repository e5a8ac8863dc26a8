#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# init, list, exit statuses and messages: no repository, foreign, newer, wrong passphrase from every
# source, unknown commands and options, output that cannot be written.
. "$(dirname "$0")/functions.sh"

count=0
run_lp() { lp "$@" >out 2>err </dev/null; }
# says CODE WORDS ARGS...: lp ends with CODE, says one line with WORDS on standard error, and nothing
# on standard output.
says() {
	local code=$1 words=$2
	shift 2
	expect_exit "$code" run_lp "$@"
	[ "$(wc -l <err)" -eq 1 ] || { cat err >&2; fail "not one line: lp $*"; }
	grep -q '^livepoint: ' err || { cat err >&2; fail "no prefix: lp $*"; }
	grep -qF -- "$words" err || { cat err >&2; fail "does not say '$words': lp $*"; }
	[ ! -s out ] || { cat out >&2; fail "output: lp $*"; }
	# the same as an object
	expect_exit "$code" run_lp --json "$@"
	jq -e '.type == "error" and (.code | type == "string") and (.message | length > 0) and has("object")' err \
		>/dev/null || { cat err >&2; fail "no error object: lp --json $*"; }
	count=$((count + 1))
}
requires jq --version

# --- usage: 2, before any repository is looked for ---
says 2 "no command"
says 2 "did you mean 'list'" lst
says 2 "did you mean 'backup'" bakcup
says 2 "unknown command 'frobnicate'" frobnicate
says 2 "name a POINT" recover
says 2 "unknown command 'debug'" debug
says 2 "unknown command 'debug dmup'; did you mean 'debug dump'" debug dmup
says 2 "did you mean '--compression'" backup --compresion fast a b
says 2 "unknown option '-x'" list -x
says 2 "stand after it" --dry-run backup a b
says 2 "--since needs POINT" backup a b --since
says 2 "is no value for --compression: none|fast" backup a b --compression high
says 2 "is no value for --sample" backup a b --sample 101
says 2 "is no value for --time" backup a b --time yesterday
says 2 "is no value for --label" backup a b --label novalue
says 2 "takes no value" backup a b --full=yes
says 2 "given twice" backup a b --since x --since y
says 2 "exclude each other" backup a b --since x --full
says 2 "too few arguments" backup a
says 2 "too many arguments" stats now
says 2 "power of two" -r new init --chunk-size 5000
says 2 "--from needs --delta" restore a b --from c
says 2 "--listen needs" export a --listen localhost:1
says 2 "name one ID, or --all" unexport
says 2 "goes alone" verify --leftovers --data
says 2 "only bash is known" completion zsh
[ ! -e new ] || fail "a refused init made a folder"

# --- help and versions need nothing ---
lp --help | grep >/dev/null '^Usage: livepoint'
lp backup --help | grep >/dev/null -- '--dry-run'
lp version | grep >/dev/null '^livepoint [0-9]'
lp --version | grep >/dev/null '^livepoint [0-9]'
lp --json version | jq -e '.format == 1 and (.version | length > 0)' >/dev/null

# --- no repository: 10 ---
says 10 "no repository was named" list
says 10 "missing" -r missing list
mkdir foreign && echo hello >foreign/file
says 10 "foreign" -r foreign list
says 1 "foreign" -r foreign init
[ "$(ls foreign)" = file ] || fail "init changed a foreign folder"

# --- init and an empty list ---
make_repo
[ "$(stat -c %a "$LIVEPOINT_REPOSITORY")" = 700 ] || fail "the repository is not 0700"
says 1 "repo" init
[ "$(lp --json list)" = '[]' ] || fail "an empty list is not []"
[ "$(lp list | wc -l)" -eq 1 ] || fail "an empty list is not its head alone"
mkdir empty
lp -q -r empty init --compression best --chunk-size 128K
lp -r empty stats | grep >/dev/null 'Compression: *best' || fail "the compression is not kept"
lp -r empty --json stats | jq -e '.chunk_size == 131072 and .points == 0 and .suite == "none"' >/dev/null ||
	fail "chunk size or suite is not kept"

# --- options before and after the command, environment ---
lp -q backup web1 <(:) 2>/dev/null && fail "a backup of a pipe file that is no stream"
random_file disk.raw 1M 1
p=$(lp -q backup web1 disk.raw)
env -u LIVEPOINT_REPOSITORY "$LIVEPOINT_BIN" list web1 "--repository=$LIVEPOINT_REPOSITORY" | grep >/dev/null "^$p "
env -u LIVEPOINT_REPOSITORY "$LIVEPOINT_BIN" "-r$LIVEPOINT_REPOSITORY" -q list -- web1 | grep >/dev/null "^$p "
lp show "$p" | grep >/dev/null "^Point: *$p$"

# --- a newer format: 10, with the reason ---
cp -r "$LIVEPOINT_REPOSITORY" newer
# reconf SED-SCRIPT: changes the header and makes its check line fit
reconf() {
	sed -e '/^check = /d' -e "$1" "$LIVEPOINT_REPOSITORY/livepoint.conf" >newer/livepoint.conf
	echo "check = $("$abs_top_builddir/tests/xxh3" <newer/livepoint.conf)" >>newer/livepoint.conf
}
requires test -x "$abs_top_builddir/tests/xxh3"
reconf ''
lp -r newer list >/dev/null || fail "the check line is not made as the program makes it"
reconf 's/^format = 1$/format = 2/'
says 10 "2" -r newer list
says 10 "2" -r newer backup web1 disk.raw
reconf 's/^incompatible = 0*$/incompatible = 0000000000000080/'
says 10 "feature" -r newer list
reconf 's/^chunk-size/unheard-of/'
says 10 "unheard-of" -r newer list
reconf 's/^grace/x-anything = 1\ngrace/'
lp -r newer list >/dev/null || fail "a key that starts with x- is refused"
printf 'garbage' >newer/livepoint.conf
expect_exit 4 run_lp -r newer list
sed 's/^chunk-size = 65536/chunk-size = 65537/' "$LIVEPOINT_REPOSITORY/livepoint.conf" >newer/livepoint.conf
says 4 "livepoint.conf" -r newer list

# --- passphrases: 12 at once without one; every source, in order ---
says 12 "no passphrase was given" -r secret init --encrypt
[ ! -e secret ] || fail "init without a passphrase made a folder"
says 12 "empty" -r secret init --encrypt --passphrase-file /dev/null
printf 'correct horse\n' >right
printf 'wrong' >wrong
lp -q -r secret init --encrypt --passphrase-file right
export LIVEPOINT_REPOSITORY=$tmp/secret
lp list >/dev/null || fail "list wants a passphrase"
lp exports >/dev/null || fail "exports wants a passphrase"
says 12 "no passphrase was given" backup web1 disk.raw
says 12 "" backup web1 disk.raw --passphrase-file wrong
says 12 "not there" backup web1 disk.raw --passphrase-file "not there"
says 12 "command" backup web1 disk.raw --passphrase-command false
says 12 "not open" backup web1 disk.raw --passphrase-fd 77
says 2 "is no value for --passphrase-fd" backup web1 disk.raw --passphrase-fd seven
LIVEPOINT_PASSPHRASE_FD=seven says 2 "is no descriptor" backup web1 disk.raw
LIVEPOINT_PASSPHRASE=wrong says 12 "" backup web1 disk.raw
LIVEPOINT_PASSPHRASE_FILE=wrong says 12 "" backup web1 disk.raw
LIVEPOINT_PASSPHRASE_COMMAND='cat wrong' says 12 "" backup web1 disk.raw
opens() { lp -q diff web1 web1 "$@" </dev/null || fail "does not open: $*"; }
lp -q backup web1 disk.raw --passphrase-file right >/dev/null
opens --passphrase-file right
lp show web1 >/dev/null || fail "show wants a passphrase"
lp --json stats >stats.json || fail "stats wants a passphrase"
jq -e '.points == 1 and .referenced_bytes == null and .dedup_ratio == null and .chunks == 16' stats.json >/dev/null ||
	{ cat stats.json >&2; fail "stats without a passphrase"; }
lp --json stats --passphrase-file right | jq -e '.referenced_bytes == 1048576 and .dedup_ratio == 1' >/dev/null ||
	fail "stats with a passphrase"
opens --passphrase-fd 7 7<right
opens --passphrase-command 'cat right'
LIVEPOINT_PASSPHRASE='correct horse' opens
LIVEPOINT_PASSPHRASE_FILE=right opens
LIVEPOINT_PASSPHRASE_FD=7 opens 7<right
LIVEPOINT_PASSPHRASE_COMMAND='cat right' opens
# options win over the environment; _FILE over _COMMAND over the plain one
LIVEPOINT_PASSPHRASE_FILE=wrong opens --passphrase-command 'cat right'
LIVEPOINT_PASSPHRASE_COMMAND='cat wrong' LIVEPOINT_PASSPHRASE_FILE=right opens
LIVEPOINT_PASSPHRASE=wrong LIVEPOINT_PASSPHRASE_COMMAND='cat right' opens
# one newline is dropped, not two
printf 'correct horse\n\n' >two
says 12 "" diff web1 web1 --passphrase-file two
says 2 "aes-256-gcm is wanted" -r other init --encrypt=rot13

# --- a prompt: on a terminal only, without echo, twice for a new one ---
requires script --version
# typing PROMPT ANSWER [PROMPT ANSWER]... | on_terminal ARGS...: answers each prompt when it stands there
typing() {
	local i
	while [ $# -gt 0 ]; do
		for ((i = 0; i < 400; i++)); do
			if grep -qF -- "$1" screen 2>/dev/null; then break; fi
			sleep 0.025
		done
		printf '%b' "$2"
		shift 2
	done
	sleep 0.3
}
on_terminal() {
	local command
	printf -v command '%q ' "$LIVEPOINT_BIN" "$@"
	script -qefc "$command" screen >/dev/null
}
twice() { rm -f screen; typing 'New passphrase: ' "$1\n" 'The same again: ' "$2\n" | on_terminal -r tty init --encrypt; }
expect_exit 12 twice 'by hand' 'by foot'
[ ! -e tty ] || fail "two different passphrases made a folder"
expect_exit 0 twice 'by hand' 'by hand'
if grep -q hand screen; then fail "the passphrase is echoed"; fi
LIVEPOINT_PASSPHRASE='by hand' lp -q -r tty backup web1 disk.raw >/dev/null || fail "typed and given passphrase differ"
once() { rm -f screen; typing 'Passphrase: ' "$1" | on_terminal -r tty diff web1 web1; }
expect_exit 0 once 'by hand\n'
expect_exit 12 once 'by foot\n'
expect_exit 130 once '\003'

# --- signals: 143 and 130 soon, nothing published; SIGUSR1 is no end ---
export LIVEPOINT_REPOSITORY=$tmp/repo
# ended SIGNAL CODE: a backup of a stream that neither goes on nor ends
mkfifo stream
ended() {
	local pid begun
	exec 8<>stream
	"$LIVEPOINT_BIN" backup stalled - <stream >out 2>err &
	pid=$!
	random_bytes 3M 5 >&8
	# its handlers stand when it has made its lease's lock
	for ((i = 0; i < 400; i++)); do
		[ -z "$(ls -A "$LIVEPOINT_REPOSITORY/staging")" ] || break
		sleep 0.025
	done
	kill -USR1 "$pid"
	sleep 0.3
	kill -0 "$pid" 2>/dev/null || { cat err >&2; fail "SIGUSR1 ended a backup"; }
	begun=$SECONDS
	kill "-$1" "$pid"
	expect_exit "$2" wait "$pid"
	exec 8>&-
	[ $((SECONDS - begun)) -le 3 ] || fail "SIG$1: $((SECONDS - begun)) seconds"
	[ ! -s out ] || fail "SIG$1: a point is named"
	grep -q '^livepoint: ' err || fail "SIG$1: nothing is said"
}
ended TERM 143
# bash starts background jobs with SIGINT ignored unless it has job control
set -m
ended INT 130
set +m
expect_exit 13 run_lp list stalled

# --- output that cannot be written is a failure; a reader that goes is not noise ---
expect_exit 1 lp list >/dev/full 2>err
grep -q 'standard output' err || fail "a full standard output is not said"
{ sleep 0.2; lp --help && echo 0 >status || echo $? >status; } 2>err | :
[ "$(cat status)" -eq 1 ] || fail "exit $(cat status), not 1, when the reader has gone"
[ ! -s err ] || { cat err >&2; fail "a closed pipe is noise"; }

echo "cli-basics: $count cases"
