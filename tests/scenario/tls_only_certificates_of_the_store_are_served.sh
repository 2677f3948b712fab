#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A node on TCP with TLS: an admin makes a disk, a client writes it over NBD and reads it back, each
# within its rights; who shows no certificate, another store's, or an old one gets a clear error.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdcopy python3

tls=$work/tls
socket=unix:$work/node.sock

# start_node OPTION...: vmstored on $data_dir; its process id is $node, its TCP address $tcp.
start_node() {
  : >"$work/node.log"
  in_background vmstored --data "$data_dir" "$@" >>"$work/node.log" 2>&1
  node=$last_pid
  wait_until 60 grep -qx ready "$work/node.log"
  tcp=$(sed -n 's/^listening on .*,//p' "$work/node.log")
}

# as NAME COMMAND...: with NAME's certificate, at the node's TCP address.
as() {
  local name=$1
  shift
  env VMSTORE_ENDPOINT="$tcp" VMSTORE_TLS_CA="$tls/ca.pem" VMSTORE_TLS_CERT="$tls/$name.pem" \
    VMSTORE_TLS_KEY="$tls/$name.key" "$@"
}

# The authority is for the store that the node says it has.
start_node --create --listen "$socket"
vmstore -E "$work/node.sock" cert init "$tls"
end_process "$node"
vmstore cert issue "$tls" node --role node --host 127.0.0.1
for role in admin client read-only; do vmstore cert issue "$tls" "$role" --role "$role"; done
[ "$(stat -c %a "$tls/ca.key" "$tls/client.key" | sort -u)" = 600 ] || fail "a key is not private"
expect_exit 4 vmstore cert init "$tls" --store 00000000000000010000000000000002
expect_exit 4 vmstore cert issue "$tls" client --role client

# No TLS, no TCP; nor anything else in its place.
expect_exit 2 vmstored --data "$data_dir" --listen 127.0.0.1:0
start_node --listen "$socket,127.0.0.1:0" \
  --tls-ca "$tls/ca.pem" --tls-cert "$tls/node.pem" --tls-key "$tls/node.key"

as admin vmstore create web 64M
as admin vmstore ls -H -o name | grep -qx web || fail "the disk is not listed"
as read-only vmstore ls -H -o name | grep -qx web || fail "the disk is not listed for a reader"
expect_exit 1 as read-only vmstore create other 64M
expect_exit 1 as client vmstore rm web
as read-only vmstore info web --json | python3 -c 'import json,sys; json.load(sys.stdin)'

# A guest's disk, with a client's certificate.
in_background nbdkit -f -U "$work/nbd.sock" -P "$work/nbd.pid" \
  "$BUILD_DIR/nbd-plugin/nbdkit-vmstore-plugin.so" endpoint="$tcp" disk=web run-dir="$run_dir" \
  tls-ca="$tls/ca.pem" tls-cert="$tls/client.pem" tls-key="$tls/client.key"
nbdkit=$last_pid
wait_until 20 test -s "$work/nbd.pid"
random_file "$work/in" $((64 << 20))
nbdcopy --flush "$work/in" "nbd+unix:///web?socket=$work/nbd.sock"
nbdcopy "nbd+unix:///web?socket=$work/nbd.sock" "$work/out"
expect_same "$work/in" "$work/out"
as client vmstore snapshot web@written
end_process "$nbdkit"
as admin vmstore verify web

# Who is not let in is told so, at once.
expect_exit 2 env VMSTORE_ENDPOINT="$tcp" vmstore ls
grep -q "certificate" "$work/stderr" || fail "it does not say what is missing"
vmstore cert init "$work/other" --store 00000000000000010000000000000002
vmstore cert issue "$work/other" admin --role admin
cp "$work/other/admin.pem" "$tls/foreign.pem"
cp "$work/other/admin.key" "$tls/foreign.key"
expect_exit 2 as foreign vmstore ls # of another authority than the one it brings along
expect_exit 1 env VMSTORE_ENDPOINT="$tcp" VMSTORE_TLS_CA="$work/other/ca.pem" \
  VMSTORE_TLS_CERT="$tls/foreign.pem" VMSTORE_TLS_KEY="$tls/foreign.key" vmstore ls
grep -q "certificate" "$work/stderr" || fail "it does not say why: $(cat "$work/stderr")"
end_process "$node"
