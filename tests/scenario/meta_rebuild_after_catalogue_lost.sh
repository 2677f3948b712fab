#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# RocksDB's folder is lost. The node refuses to start over an empty catalogue, and `meta rebuild`
# brings every disk, snapshot, clone and byte back from its own log: after an orderly stop, and
# after a crash with acknowledged writes that nobody had flushed (C14). The folder is named as for
# `up`: its path may be relative, and too long for a socket.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

everything() { vmstore ls --snaps -l --json; vmstore trash ls -H; }
# The digest of each disk and snapshot, by name.
digests() {
  local name digest
  for name in base base@v1 base@v2 lab/web lab/web@mine vm1 vm2 vm3; do
    digest=$(vmstore export "$name" "$work/out.raw" --overwrite --sha256 | grep -oE '[0-9a-f]{64}')
    echo "$name $digest"
  done
}
# What stays the same across a rebuild: names, sizes, origins; not who holds what at the moment.
catalogue() {
  everything | python3 -c '
import json, sys
text = sys.stdin.read()
table, end = json.JSONDecoder().raw_decode(text)
for row in table["disks"]:
    print({k: v for k, v in row.items() if k not in ("state", "holder", "epoch")})
for row in table.get("snapshots", []):
    print(row)
print(text[end:])'
}
lose_catalogue() {
  [ -d "$data_dir/meta" ] || fail "where is the catalogue?"
  rm -rf "$data_dir/meta"
  expect_exit 1 vmstore up --data "$data_dir"
  grep -q 'rebuild' "$work/stderr" || fail "no word about the way out: $(cat "$work/stderr")"
}

start_store
random_file "$work/a.raw" $((6 << 20))
vmstore import "$work/a.raw" base --source-format raw
vmstore snapshot base@v1
vmstore attach base >/dev/null
uri=$(vmstore nbd uri base)
qemu-io -f raw "$uri" -c 'write -P 7 1M 2M' -c 'discard 4M 1M' -c flush >/dev/null
vmstore snapshot base@v2
vmstore clone base@v1 vm --count 3 --name-pattern 'vm%d'
vmstore clone base@v2 lab/web
vmstore attach lab/web >/dev/null
qemu-io -f raw "$(vmstore nbd uri lab/web)" -c 'write -P 9 0 64k' -c flush >/dev/null
vmstore snapshot lab/web@mine
vmstore create gone 8M
vmstore rm gone
digests >"$work/digests"
catalogue >"$work/catalogue"
stop_store

lose_catalogue
vmstore meta rebuild --data "$data_dir" -y
start_store
catalogue >"$work/catalogue.now"
digests >"$work/digests.now"
diff "$work/catalogue" "$work/catalogue.now" || fail "the catalogue is another"
diff "$work/digests" "$work/digests.now" || fail "bytes differ"
vmstore verify --all >/dev/null
vmstore trash restore gone

# A guest's writes, acknowledged and not flushed, then everything dies at once.
vmstore attach base >/dev/null
qemu-io -t unsafe -f raw "$uri" -c 'write -P 11 5M 512k' >/dev/null
crash_store
lose_catalogue
long=$(printf 'd%.0s' {1..120})
mkdir "$work/$long"
mv "$data_dir" "$work/$long/data"
(cd "$work" && vmstore meta rebuild --data "$long/data" -y)
mv "$work/$long/data" "$data_dir"
start_store
qemu-io -r -f raw "$uri" -c 'read -P 11 5M 512k' -c 'read -P 7 1M 2M' >"$work/read" 2>&1 ||
  fail "$(cat "$work/read")"
if grep -q 'verification failed' "$work/read"; then fail "$(cat "$work/read")"; fi
vmstore info gone -q >/dev/null
grep -v '^base ' "$work/digests" >"$work/others"
digests | grep -v '^base ' | diff "$work/others" - || fail "bytes differ after the crash"
vmstore create new 1G
vmstore clone lab/web@mine another
vmstore gc
vmstore verify --all >/dev/null
stop_store
