#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
# export --listen --tls-certificates: X.509 end to end.  A client with a certificate of the CA reads the point, with two
# programs; no TLS, no certificate, one of a foreign CA, and a server that the client's CA does not know: refused.
. "$(dirname "$0")/functions.sh"

requires jq --version
requires openssl version
requires qemu-img --version
requires nbdcopy --version
requires bash -c 'nbdkit --dump-config | grep -q ^tls=yes'

export LIVEPOINT_RUN_DIR=$tmp/run
cleanup_fn lp -q unexport --all --force

# ca DIR: a certificate authority
ca() {
	mkdir "$1"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=CA of $1" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
		-keyout "$1/key.pem" -out "$1/ca-cert.pem" 2>/dev/null
}
# certify CA DIR server|client: key and certificate in DIR, as nbdkit, QEMU and libnbd name them
certify() {
	mkdir -p "$2"
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$3" -keyout "$2/$3-key.pem" -out "$2/$3.csr" 2>/dev/null
	printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=%sAuth\nkeyUsage=digitalSignature\nbasicConstraints=CA:FALSE\n' "$3" >"$2/ext"
	openssl x509 -req -in "$2/$3.csr" -CA "$1/ca-cert.pem" -CAkey "$1/key.pem" -set_serial "$RANDOM" -days 2 -extfile "$2/ext" \
		-out "$2/$3-cert.pem" 2>/dev/null
	cp "$1/ca-cert.pem" "$2/"
}
ca ours
ca foreign
certify ours server server
certify ours client client
certify foreign stranger client
cp ours/ca-cert.pem stranger/ca-cert.pem # it knows the server; the server does not know it
mkdir nothing
cp ours/ca-cert.pem nothing/
mkdir deceived # a client of ours that trusts another CA
cp client/client-*.pem deceived/
cp foreign/ca-cert.pem deceived/

random_file a.raw 3M 1
make_repo
lp -q backup web1 vda=a.raw >/dev/null
cd "$tmp"
lp --json export web1 --listen 127.0.0.1:0 --tls-certificates server >tls.json # a relative path
uri=$(jq -r .uri tls.json)
[[ $uri =~ ^nbds://127\.0\.0\.1:([0-9]+)/(.*)$ ]] || fail "URI $uri"
port=${BASH_REMATCH[1]} name=${BASH_REMATCH[2]//%40/@}

# by_qemu DIR, by_libnbd DIR: the whole point into copy.raw, with the certificates in DIR
by_qemu() {
	rm -f copy.raw
	timeout 30 qemu-img convert --object "tls-creds-x509,id=t,endpoint=client,dir=$PWD/$1" --image-opts \
		"driver=nbd,host=127.0.0.1,port=$port,export=$name,tls-creds=t" -O raw copy.raw 2>words
}
by_libnbd() {
	rm -f copy.raw
	timeout 30 nbdcopy "$uri?tls-certificates=$PWD/$1" copy.raw 2>words
}
for client in by_qemu by_libnbd; do
	$client client || { cat words >&2; fail "$client: a good certificate is refused"; }
	cmp a.raw copy.raw || fail "$client: other bytes over TLS"
	# TLS 1.3 tells a client without a certificate after its handshake: it may connect, and gets nothing
	for who in nothing stranger deceived; do
		if $client $who; then fail "$client: read with the certificates of '$who'"; fi
		[ ! -s copy.raw ] || ! cmp -s a.raw copy.raw || fail "$client: '$who' was refused and has the bytes"
	done
done
timeout 30 nbdinfo --size "nbd://127.0.0.1:$port/$name" >/dev/null 2>&1 && fail "the port answers without TLS"

# clients on TCP are counted; after a kill the port and its certificates are the same
mkfifo hold
nbdcopy "$uri?tls-certificates=$PWD/client" - >hold 2>/dev/null &
reader=$!
exec 7<hold
head -c 65536 <&7 >/dev/null
expect_exit 11 lp unexport --all 2>refused
grep -q '1 client connected' refused || { cat refused >&2; fail "the client on TCP is not counted"; }
kill -KILL "$(jq -r .pid tls.json)"
exec 7<&-
wait "$reader" || true
by_libnbd client || { cat words >&2; fail "no answer after kill -9"; }
cmp a.raw copy.raw || fail "other bytes after kill -9"
if by_libnbd nothing; then fail "after kill -9 everybody may read"; fi
for ((i = 0; i < 200; i++)); do
	! lp -q unexport --all 2>/dev/null || break
	sleep 0.05
done
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"
if by_libnbd client; then fail "the port is open after unexport"; fi

# certificates that cannot be used end the export, in nbdkit's words
mkdir empty
expect_exit 1 lp export web1 --listen 127.0.0.1:0 --tls-certificates empty 2>words
grep -qi 'certificat\|tls' words || { cat words >&2; fail "no word about certificates"; }
[ -z "$(ls -A "$LIVEPOINT_RUN_DIR")" ] || fail "left in the run folder: $(ls "$LIVEPOINT_RUN_DIR")"
