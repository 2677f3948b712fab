#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The catalogue's folder and the node's own copy of it are both lost. `meta rebuild` has nothing to
# go by and says so; `meta restore FILE --data DIR` brings every disk, snapshot and byte of the
# backup back, and what was written to its disks afterwards as far as their newest keys tell. While
# the node has a copy of its own, a backup is refused: it is older. A backup that names keys which
# are gone is refused unless the loss is accepted.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io

digests() {
  local name digest
  for name in base base@v1 vm1 vm2; do
    digest=$(vmstore export "$name" "$work/out.raw" --overwrite --sha256 | grep -oE '[0-9a-f]{64}')
    echo "$name $digest"
  done
}
lose_everything() {
  rm -rf "$data_dir/meta" "$data_dir/catalogue"
  expect_exit 1 vmstore up --data "$data_dir"
}
restore() { vmstore meta restore "$work/backup" --data "$data_dir" -y "$@"; }

start_store
random_file "$work/a.raw" $((6 << 20))
vmstore import "$work/a.raw" base --source-format raw
vmstore snapshot base@v1
vmstore clone base@v1 vm --count 2 --name-pattern 'vm%d'
vmstore attach vm1 >/dev/null
uri=$(vmstore nbd uri vm1)
qemu-io -f raw "$uri" -c 'write -P 7 1M 2M' -c 'discard 4M 1M' -c flush >/dev/null
vmstore create unused 8M
vmstore meta backup "$work/backup"
digests >"$work/digests"
expect_exit 5 restore
stop_store

expect_exit 3 vmstore meta rebuild --data "$work/none" -y
grep -q "$work/none.*--data" "$work/stderr" || fail "not named: $(cat "$work/stderr")"

# The node's own copy is newer than any backup.
rm -rf "$data_dir/meta"
expect_exit 4 restore
grep -q 'rebuild-meta' "$work/stderr" || fail "no word about the way: $(cat "$work/stderr")"
lose_everything
expect_exit 3 vmstore meta rebuild --data "$data_dir" -y
grep -q 'meta restore' "$work/stderr" || fail "no word about the way out: $(cat "$work/stderr")"
restore
start_store
digests | diff "$work/digests" - || fail "bytes differ"
vmstore info unused >/dev/null
vmstore verify --all >/dev/null

vmstore attach vm1 >/dev/null

# A backup of then, a store that went on: what a guest wrote since is found, and so is a disk that
# was never written then. What was made since is gone, and the store goes on.
qemu-io -f raw "$uri" -c 'write -P 9 512k 64k' -c flush >/dev/null
vmstore clone base@v1 younger
vmstore meta backup "$work/backup" --overwrite
qemu-io -f raw "$uri" -c 'write -P 11 5M 512k' -c flush >/dev/null
vmstore create lost 8M
vmstore detach vm1
stop_store
lose_everything
restore
start_store
expect_exit 3 vmstore info lost
vmstore attach vm1 >/dev/null
qemu-io -r -f raw "$uri" -c 'read -P 11 5M 512k' -c 'read -P 9 512k 64k' -c 'read -P 7 2M 1M' \
  >"$work/read" 2>&1 || fail "$(cat "$work/read")"
if grep -q 'verification failed' "$work/read"; then fail "$(cat "$work/read")"; fi
qemu-io -f raw "$uri" -c 'write -P 12 0 64k' -c flush >/dev/null
grep -v '^vm1 ' "$work/digests" >"$work/others"
digests | grep -v '^vm1 ' | diff "$work/others" - || fail "bytes differ"
vmstore create lost 8M
vmstore df >/dev/null 2>"$work/df"
grep -q 'vmstore gc' "$work/df" || fail "no word about the hold: $(cat "$work/df")"
vmstore gc --dry-run
[ -e "$data_dir/gc.hold" ] || fail "the hold is gone"
vmstore gc
[ ! -e "$data_dir/gc.hold" ] || fail "the hold is still there"
vmstore verify --all >/dev/null
vmstore meta backup "$work/backup" --overwrite
vmstore info vm1 >/dev/null
stop_store

# Keys that it names are gone.
lose_everything
key=$(find "$data_dir/keys" -name '*.log' | sort | head -n 1)
mv "$key" "$work/key.log"
expect_exit 3 restore
grep -q "$(basename "$key" .log)" "$work/stderr" || fail "not named: $(cat "$work/stderr")"
[ ! -e "$data_dir/meta" ] || fail "something was changed"
head -c -1 "$work/backup" >"$work/cut"
expect_exit 8 vmstore meta restore "$work/cut" --data "$data_dir" -y
mv "$work/key.log" "$key"
restore --accept-loss
start_store
digests | grep -v '^vm1 ' | diff "$work/others" - || fail "bytes differ at last"
stop_store
