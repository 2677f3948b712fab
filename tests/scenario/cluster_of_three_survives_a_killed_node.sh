#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three nodes with TLS and an etcd, made by scripts/cluster; a disk with two copies. Each node in
# turn is killed with -9 under a guest that writes and flushes (the one that serves the guest its
# catalogue, those that have copies, and whoever is left): no I/O error, and everything flushed
# reads back, with each node away. Prints the longest gap.
source "$(dirname "$0")/functions.sh"
requires etcd nbdkit fio qemu-io python3

cluster=$work/cluster
undo_with "'$SOURCE_DIR/scripts/cluster' stop '$cluster'"
in_background "$SOURCE_DIR/scripts/cluster" 3 "$cluster" >"$work/cluster.log" 2>&1
cluster_pid=$last_pid
is_there() {
  kill -0 "$cluster_pid" 2>/dev/null || fail "cluster ended: $(tail -n 5 "$work/cluster.log")"
  grep -q '^Ctrl-C' "$work/cluster.log"
}
wait_until 120 is_there
# shellcheck disable=SC1091
source "$cluster/env"
wait_until 20 vmstore nbd ls
expect_exit 2 "$SOURCE_DIR/scripts/cluster" 3 "$cluster" # it runs already, and goes on
vmstore create web 256M --copies 2
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)

# The nodes that are not up.
states() {
  vmstore node ls -H -o address,state | sed 's/:[0-9]*\t/ /' | grep -v ' up$' || true
}
pid_of() { cut -d' ' -f1 "$cluster/node$1.pid"; }

# write_for SECONDS NAME: a guest that writes, each 8th write with a flush behind it.
write_for() {
  fio --name="$2" --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=4 --size=64M \
    --offset=64M --time_based --runtime="$1" --rate_iops=400 --fsync=8 --output-format=json \
    --output="$work/$2.json"
}
gap_of() {
  python3 - "$work/$1.json" <<'END'
import json, sys
text = open(sys.argv[1]).read()
job = json.JSONDecoder().raw_decode(text[text.index("{"):])[0]["jobs"][0]
assert job["error"] == 0 and job["write"]["total_ios"] > 200, job["write"]
longest = max(job["write"]["clat_ns"]["max"], job["sync"]["lat_ns"]["max"])
print("%s: %d writes, longest gap %.0f ms" % (sys.argv[1].split("/")[-1][:-5],
      job["write"]["total_ios"], longest / 1e6))
END
}

# io COMMAND...: qemu-io, whose reads must find what they are told.
io() {
  local arguments=() command
  for command in "$@"; do arguments+=(-c "$command"); done
  timeout 120 qemu-io -f raw "$uri" "${arguments[@]}" >"$work/io" 2>&1 || fail "$(cat "$work/io")"
  if grep -q -e 'verification failed' -e 'error' "$work/io"; then fail "$(cat "$work/io")"; fi
}

io 'write -P 9 0 16M' flush
written=()
for node in 1 2 3; do
  io "write -P $node ${node}M 1M" flush
  written+=("read -P $node ${node}M 1M")
  write_for 6 "killed-node$node" &
  guest=$!
  read -r -t 2 <> <(:) || true # in the midst of it, whatever it does then
  kill -KILL "$(pid_of "$node")"
  wait "$guest" || fail "fio: $(cat "$work/killed-node$node.json")"
  gap_of "killed-node$node"
  io "${written[@]}" 'read -P 9 8M 8M' 'write -P 7 32M 1M' flush
  vmstore ls -H -o name | grep -qx web || fail "no catalogue without node $node"
  [ "$(states)" = "$(printf '127.0.0.%s down' "$node")" ] || fail "$(vmstore node ls)"
  "$SOURCE_DIR/scripts/cluster" start "$node" "$cluster"
done

# All of them and the guest's server at once; they come back in another order.
kill -KILL "$(nbdkit_pid web)" "$(pid_of 1)" "$(pid_of 2)" "$(pid_of 3)"
for node in 3 1 2; do "$SOURCE_DIR/scripts/cluster" start "$node" "$cluster"; done
io "${written[@]}" 'read -P 9 8M 8M' 'read -P 7 32M 1M' 'write -P 8 33M 1M' flush
vmstore detach web
vmstore verify web >/dev/null
"$SOURCE_DIR/scripts/cluster" stop "$cluster"
