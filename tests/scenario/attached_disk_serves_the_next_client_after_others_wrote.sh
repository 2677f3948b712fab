#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that stays attached on two hosts (run folders) and is mounted as well: whoever wrote last,
# each new client of either export reads what is there, and may write (C3). A client that was there
# before another wrote gets errors. A snapshot that was removed and taken anew is served anew.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io fusermount3 python3

start_store
vmstore create web 8M
uri=$(vmstore attach web)
other_dir=$(mktemp -d /dev/shm/vmstore-scenario-XXXXXX)
undo_with "rm -rf '$other_dir'"
in_background nbdkit -f -U "$other_dir/web.sock" \
  "$BUILD_DIR/nbd-plugin/nbdkit-vmstore-plugin.so" endpoint="$run_dir/vmstored.sock" disk=web \
  run-dir="$other_dir/batches"
other="nbd+unix:///web?socket=$other_dir/web.sock"
wait_until 20 test -S "$other_dir/web.sock"

writes() { # writes URI BYTE OFFSET
  qemu-io -f raw "$1" -c "write -P $2 $3 64k" -c flush >"$work/io" 2>&1 || fail "$(cat "$work/io")"
  if grep -qi 'error\|failed' "$work/io"; then fail "write to $1: $(cat "$work/io")"; fi
}
reads() { # reads URI BYTE OFFSET [BYTE OFFSET]...
  local from=$1 acts=()
  shift
  while [ $# -gt 0 ]; do
    acts+=(-c "read -P $1 $2 64k")
    shift 2
  done
  qemu-io -r -f raw "$from" "${acts[@]}" >"$work/io" 2>&1 || fail "$from: $(cat "$work/io")"
  if grep -qi 'verification\|error' "$work/io"; then fail "$from: $(cat "$work/io")"; fi
}

# NBD, FUSE, NBD.
writes "$uri" 1 0
mkdir "$work/mnt"
vmstore mount "$work/mnt"
undo_with "fusermount3 -u '$work/mnt' 2>/dev/null"
printf '\2%.0s' {1..65536} |
  dd of="$work/mnt/web.raw" bs=64k seek=1 conv=notrunc,fsync iflag=fullblock status=none
reads "$uri" 1 0 2 64k
writes "$uri" 3 128k
cmp -n 65536 -i 131072:0 "$work/mnt/web.raw" <(printf '\3%.0s' {1..65536}) || fail "mount is behind"

# From host to host and back, both attached all the time.
for round in 4 5 6 7; do
  writes "$uri" "$round" 256k
  reads "$other" "$round" 256k 1 0 2 64k
  writes "$other" "$((round + 16))" 320k
  reads "$uri" "$round" 256k "$((round + 16))" 320k
done

# A snapshot of the same name is another one.
vmstore snapshot web@s
snap=$(vmstore attach web@s)
reads "$snap" 7 256k
expect_exit 5 vmstore snap rm web@s
vmstore detach web@s
in_background nbdkit -f -U "$other_dir/snap.sock" \
  "$BUILD_DIR/nbd-plugin/nbdkit-vmstore-plugin.so" endpoint="$run_dir/vmstored.sock" disk=web@s \
  run-dir="$other_dir/batches"
snap="nbd+unix:///web@s?socket=$other_dir/snap.sock"
wait_until 20 test -S "$other_dir/snap.sock"
reads "$snap" 7 256k
exec 7<"$work/mnt/.snap/web@s.raw"
cmp -n 65536 -i 262144:0 /proc/self/fd/7 <(printf '\7%.0s' {1..65536}) ||
  fail "snapshot through FUSE"
writes "$uri" 8 256k
vmstore snap rm web@s
vmstore snapshot web@s
reads "$snap" 8 256k
printf '\10%.0s' {1..65536} >"$work/eights"
new_snapshot_is_served() { # an error while the kernel remembers the old file, never its bytes
  cmp -n 65536 -i 262144:0 "$work/mnt/.snap/web@s.raw" "$work/eights" >"$work/cmp" 2>&1 && return
  if grep -q differ "$work/cmp"; then fail "old bytes of the snapshot through FUSE"; fi
  return 1
}
wait_until 5 new_snapshot_is_served
exec 7<&-
vmstore umount "$work/mnt"
stop_store --force
