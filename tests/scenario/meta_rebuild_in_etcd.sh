#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The etcd that had the catalogue is wiped, or put back from an old backup: the node does not start,
# and `meta rebuild` makes the catalogue anew there from the node's own log, with everything (C14).
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/functions_etcd.sh"
requires nbdkit

listing() { vmstore ls --snaps -H -o name,size; }
rebuild() { vmstore meta rebuild --data "$data_dir" --meta "etcd=$etcd_url" -y; }
refused() {
  expect_exit "${1:-1}" vmstore up --data "$data_dir"
  grep -q 'meta rebuild' "$work/stderr" || fail "no word about the way out: $(cat "$work/stderr")"
}

start_etcd
export VMSTORE_META=etcd=$etcd_url
start_store
random_file "$work/a.raw" $((4 << 20))
vmstore import "$work/a.raw" base --source-format raw
vmstore snapshot base@v1
vmstore clone base@v1 vm --count 3 --name-pattern 'vm%d'
vmstore rm vm2
listing >"$work/listing"
stop_store

expect_exit 4 rebuild  # nothing is lost

end_etcd KILL
cp -a "$work/etcd" "$work/etcd.backup"
rm -rf "$work/etcd"
start_etcd
refused
expect_exit 137 env VMSTORE_FAULT=meta.move.filled=kill \
  vmstored --rebuild-meta --data "$data_dir" --meta "etcd=$etcd_url"
rebuild
start_store
listing | diff "$work/listing" - || fail "the catalogue is another after a wipe"
vmstore export base "$work/out.raw" --overwrite >/dev/null
cmp "$work/a.raw" "$work/out.raw" || fail "bytes differ"
vmstore trash restore vm2
listing >"$work/listing"
stop_store

# The backup of before the wipe: an earlier catalogue altogether.
end_etcd KILL
rm -rf "$work/etcd"
cp -a "$work/etcd.backup" "$work/etcd"
start_etcd
refused 2
rebuild
start_store
listing | diff "$work/listing" - || fail "the catalogue is another after an old backup"
stop_store

# A backup of this catalogue, from before the last changes.
end_etcd KILL
rm -rf "$work/etcd.backup"
cp -a "$work/etcd" "$work/etcd.backup"
start_etcd
start_store
vmstore create later 8M
vmstore rm vm1
listing >"$work/listing"
stop_store
end_etcd KILL
rm -rf "$work/etcd"
cp -a "$work/etcd.backup" "$work/etcd"
start_etcd
refused
rebuild
start_store
listing | diff "$work/listing" - || fail "changes after the backup are lost"
vmstore verify --all >/dev/null
stop_store
