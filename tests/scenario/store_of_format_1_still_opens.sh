#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every release opens the stores of all before it: a folder written by format 1 and killed in the
# middle of its work has all its disks, snapshots and bytes, and can be worked with.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io xz

tar -C "$work" -xJf "$SOURCE_DIR/tests/format/store-v1.tar.xz"
start_store
[ "$(vmstore ls -H -o name | sort | tr '\n' ' ')" = "base empty one " ] ||
  fail "other disks than were made: $(vmstore ls)"
[ "$(vmstore trash ls -H -o name)" = two ] || fail "the trash was lost"
check_all() {
  local sum name
  for sum in "$work"/sums/*; do
    name=$(basename "$sum")
    rm -f "$work/image.raw"
    vmstore export "$name" "$work/image.raw" >/dev/null
    [ "$(sha256sum <"$work/image.raw" | cut -d' ' -f1)" = "$(cat "$sum")" ] ||
      fail "$name has other bytes than were written"
  done
}
check_all
vmstore verify --all
vmstore trash restore two
vmstore clone one@late three
vmstore attach three >/dev/null
qemu-io -f raw "$(vmstore nbd uri three)" -c 'write -P 1 0 64k' -c flush -c 'read -P 1 0 64k' \
  >/dev/null
vmstore detach three
vmstore gc
check_all
