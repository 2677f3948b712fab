#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Something else fills the file system of the data folder to the last byte. Nothing that was written
# is lost, a node that dies starts again there, and VMStore's own commands still change the
# catalogue: a disk is removed and its space is free again. With room, the node keeps some back for
# the catalogue again.
source "$(dirname "$0")/functions.sh"
requires nbdkit python3 losetup mkfs.ext4 mount umount
[ "$(id -u)" -eq 0 ] || { echo "SKIP: loop devices need root" >&2; exit 77; }

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
truncate -s 256M "$work/small.img"
mkfs.ext4 -q -m 0 "$work/small.img"
mkdir "$data_dir"
mount -o loop "$work/small.img" "$data_dir" || { echo "SKIP: no loop device" >&2; exit 77; }
undo_with 'umount -l "$data_dir"'

free_bytes() { stat -f -c '%a * %S' "$data_dir" | { read -r sum; echo $((sum)); }; }
ballast_bytes() { stat -c '%b * %B' "$data_dir/ballast" | { read -r sum; echo $((sum)); }; }
holds_ballast() { [ "$(ballast_bytes)" -ge $((3 << 20)) ]; }
gave_up_ballast() { [ "$(ballast_bytes)" -eq 0 ]; }
digest() { vmstore export "$1" "$work/out.raw" --overwrite --sha256 | grep -oE '[0-9a-f]{64}'; }
# Until it has the last page: what others gave back counts as free only after a sync.
fill_with_something_else() {
  local n
  for n in {1..20}; do
    cat /dev/zero >"$data_dir/foreign.$n" 2>/dev/null || true
    dd if=/dev/zero of="$data_dir/small.$n" bs=1k 2>/dev/null || true
    sync -f "$data_dir"
    if [ "$(free_bytes)" -lt 8192 ]; then return; fi
  done
  fail "$(free_bytes) bytes are free"
}
# More changes of the catalogue than the last pages of its files have room for.
take_snapshots() {
  local n
  for n in {1..40}; do vmstore snapshot "kept@$1$n" >/dev/null; done
}

start_store --create
wait_until 30 holds_ballast
random_file "$work/a.raw" $((24 << 20))
random_file "$work/b.raw" $((60 << 20))
vmstore import "$work/a.raw" kept --source-format raw
vmstore import "$work/b.raw" large --source-format raw
vmstore snapshot large@v1
vmstore attach kept >/dev/null
digest kept >"$work/kept.digest"

fill_with_something_else
holds_ballast || fail "it was given up although nothing was asked for"
kill -KILL "$(node_pid)"
wait_until 60 vmstore ls --timeout 2s
wait_until 60 gave_up_ballast
take_snapshots first
before=$(free_bytes)
vmstore rm large --now
vmstore gc
[ "$(free_bytes)" -gt $((before + (50 << 20))) ] || fail "only $(free_bytes) bytes are free"
digest kept | diff "$work/kept.digest" - || fail "bytes differ"

# Once more, while the node runs: now it is the change itself that finds no room.
wait_until 60 holds_ballast
vmstore import "$work/a.raw" large --source-format raw
fill_with_something_else
holds_ballast || fail "it was given up although nothing was asked for"
take_snapshots second
vmstore rm large --now
vmstore gc
[ "$(free_bytes)" -gt $((20 << 20)) ] || fail "only $(free_bytes) bytes are free"
wait_until 60 holds_ballast
digest kept | diff "$work/kept.digest" - || fail "bytes differ at last"
vmstore verify --all >/dev/null
stop_store
