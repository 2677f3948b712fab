#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A second vmstored joins a store whose catalogue is in an etcd, and only that one: a store id that
# differs, an etcd without it, a folder of something else, another node's certificate and a copy of
# a folder whose node runs are refused, and nothing is made there.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/functions_etcd.sh"

tls=$work/tls
read -ra ports < <(python3 - <<'END'
import socket
sockets = [socket.socket() for _ in range(3)]
for s in sockets:
    s.bind(("0.0.0.0", 0))
print(*[s.getsockname()[1] for s in sockets])
END
)

# node I NAME OPTION...: the command line of node I in its folder, with NAME's certificate.
node() {
  local i=$1 name=$2
  shift 2
  command=(vmstored --data "$work/node$i" --meta "etcd=$etcd_url" --journal-size 8M
    --listen "unix:$work/node$i.sock,127.0.0.$i:${ports[$((i - 1))]}"
    --tls-ca "$tls/ca.pem" --tls-cert "$tls/$name.pem" --tls-key "$tls/$name.key" "$@")
}
# started LOG: runs ${command[@]} until it serves; its process id is $last_pid.
started() {
  in_background "${command[@]}" >"$work/$1.log" 2>&1
  wait_until 60 has_started "$1"
}
has_started() {
  kill -0 "$last_pid" 2>/dev/null || fail "vmstored ended: $(tail -n 3 "$work/$1.log")"
  grep -qx ready "$work/$1.log"
}
# refused CODE WORDS: ${command[@]} ends so.
refused() {
  expect_exit "$1" timeout 60 "${command[@]}"
  grep -q "$2" "$work/stderr" || fail "not a word of '$2': $(cat "$work/stderr")"
}

start_etcd
first=(vmstored --data "$work/node1" --meta "etcd=$etcd_url" --listen "unix:$work/node1.sock")
command=("${first[@]}" --create)
started node1
vmstore -E "$work/node1.sock" cert init "$tls"
store=$(vmstore -E "$work/node1.sock" df --json | grep -oE '"store":"[0-9a-f]{32}"' | cut -d'"' -f4)
for i in 1 2 3; do vmstore cert issue "$tls" "node$i" --role node --host "127.0.0.$i"; done
vmstore cert issue "$tls" admin --role admin

# The others could not ask it whether it knows a holder.
node 2 node2 --join "$store"
refused 1 'cannot be reached by others'
end_process "$last_pid"
node 1 node1
started node1

# Not this store, or not that etcd's.
node 3 node3 --join 00000000000000010000000000000002
refused 2 'is of another store'
vmstore cert init "$work/other" --store 00000000000000010000000000000002
vmstore cert issue "$work/other" node3 --role node --host 127.0.0.3
own=$tls
tls=$work/other
node 3 node3 --join 00000000000000010000000000000002
refused 2 "catalogue of store $store"
tls=$own
node 3 admin --join "$store"
refused 1 "not a node's"
[ ! -e "$work/node3" ] || fail "a folder was made"

# Not a folder of something else, nor with a name that is taken.
mkdir "$work/node3"
echo hello >"$work/node3/file"
node 3 node3 --join "$store"
refused 2 'not a store'
[ "$(ls "$work/node3")" = file ] || fail "the folder was touched"
rm -r "$work/node3"
node 3 node1 --join "$store"
refused 1 "certificate of the name 'node1'"

# Cut short, it never gets a catalogue of its own.
rm -r "$work/node3"
node 3 node3 --join "$store"
expect_exit 137 env VMSTORE_FAULT=node.identity.saved=kill "${command[@]}"
expect_exit 1 vmstored --data "$work/node3"
grep -q 'is in etcd' "$work/stderr" || fail "$(cat "$work/stderr")"
started node3
node3=$last_pid
node 2 node2 --join "$store"
started node2
export VMSTORE_ENDPOINT="$work/node1.sock" VMSTORE_TLS_CA=$tls/ca.pem \
  VMSTORE_TLS_CERT=$tls/admin.pem VMSTORE_TLS_KEY=$tls/admin.key
vmstore create three 8M --copies 3
expect_exit 1 vmstore create four 8M --copies 4

# A copy of a folder whose node runs; the node itself goes on, and starts again.
cp -a "$work/node3" "$work/copy"
node 3 node3
command[2]=$work/copy
command[8]=unix:$work/copy.sock
refused 5 'is served at 127.0.0.3'
end_process "$node3"
node 3 node3
started node3
end_process "$last_pid"
node 3 node3 --join 00000000000000010000000000000002
refused 2 'another store'

# An etcd that lost the store.
end_etcd
rm -r "$work/etcd"
start_etcd
rm -r "$work/node3"
node 3 node3 --join "$store"
refused 1 'no catalogue'
[ ! -e "$work/node3" ] || fail "a folder was made"
