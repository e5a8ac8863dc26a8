#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# repair --from a copy of an encrypted repository: the passphrase, which can be read only once from the environment or a
# descriptor, was used up by the copy, and the repository itself had none.
. "$(dirname "$0")/../functions.sh"

random_file a.raw 256K 1
export LIVEPOINT_PASSPHRASE=one
make_repo "$tmp/repo" --encrypt
lp -q backup web1 a.raw >/dev/null
cp -a repo copy
lose() {
	rm -f repo/packs/01/000000000001.pack
}
lose
lp -q repair --from copy >/dev/null || fail "by environment"
lp -q verify --data || fail "not healed"
unset LIVEPOINT_PASSPHRASE
lose
lp -q --passphrase-fd 3 repair --from copy 3<<<one >/dev/null || fail "by descriptor"
lp -q --passphrase-fd 3 verify --data 3<<<one || fail "not healed"
# another passphrase for the other one
echo two >pass
LIVEPOINT_PASSPHRASE=two lp -q -r other init --encrypt
lose
LIVEPOINT_PASSPHRASE=two lp -q -r other backup web1 a.raw >/dev/null
LIVEPOINT_PASSPHRASE=one lp -q repair --from other --from-passphrase-file pass >/dev/null || fail "with its own"
expect_exit 12 lp -q --passphrase-fd 3 repair --from copy 3<<<wrong 2>/dev/null
