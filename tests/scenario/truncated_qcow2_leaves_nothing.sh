#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A qcow2 that was cut off anywhere, or is damaged inside, is not imported in part: the command says
# what is wrong, and no disk, no trash and after a collection no byte is left.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-nbd

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
start_store
random_file "$work/a.raw" $((5 << 20))
truncate -s 16M "$work/a.raw"
qemu-img convert -f raw -O qcow2 "$work/a.raw" "$work/good.qcow2"
size=$(stat -c %s "$work/good.qcow2")
leaves_nothing() {
  [ -z "$(vmstore ls -H)$(vmstore trash ls -H)" ] || fail "$1 left: $(vmstore ls)"
}
for bytes in 0 3 512 65536 131072 262144 $((size / 2)) $((size - 65536)) $((size - 1)); do
  head -c "$bytes" "$work/good.qcow2" >"$work/cut.qcow2"
  expect_exit 1 vmstore import "$work/cut.qcow2" cut --source-format qcow2
  [ -s "$work/stderr" ] || fail "no reason for $bytes bytes"
  leaves_nothing "a file of $bytes bytes"
done
# By its content alone as well: what begins as a qcow2 is none of raw.
head -c $((size / 2)) "$work/good.qcow2" >"$work/cut.qcow2"
expect_exit 1 vmstore import "$work/cut.qcow2" cut
leaves_nothing "half a file"
# An L1 table that points behind the end.
cp "$work/good.qcow2" "$work/bad.qcow2"
printf '\x80\x00\x00\x7f\xff\xff\x00\x00' |
  dd of="$work/bad.qcow2" bs=1 seek=$((3 * 65536)) conv=notrunc status=none
expect_exit 1 vmstore import "$work/bad.qcow2" bad
leaves_nothing "a damaged file"

# Compressed clusters have no length of their own that a look at the tables could compare with the
# file's: the cut is met when they are read.
random_file "$work/noise" $((1 << 20))
od -An -v -tx1 "$work/noise" "$work/noise" "$work/noise" "$work/noise" >"$work/b.raw"
truncate -s 16M "$work/b.raw"
qemu-img convert -c -f raw -O qcow2 "$work/b.raw" "$work/packed.qcow2"
size=$(stat -c %s "$work/packed.qcow2")
for bytes in 65536 200000 $((size / 2)) $((size - 131072)) $((size - 70000)); do
  head -c "$bytes" "$work/packed.qcow2" >"$work/cut.qcow2"
  expect_exit 1 vmstore import "$work/cut.qcow2" cut --source-format qcow2
  [ -s "$work/stderr" ] || fail "no reason for $bytes bytes of a compressed file"
  leaves_nothing "$bytes bytes of a compressed file"
done

is_empty() { vmstore gc -q && [ "$(vmstore df --bytes -H -o used)" -eq 0 ]; }
wait_until 20 is_empty
vmstore import "$work/good.qcow2" good
vmstore export good "$work/back.raw"
expect_same "$work/a.raw" "$work/back.raw"
vmstore import "$work/packed.qcow2" packed
vmstore export packed "$work/back.raw" --overwrite
expect_same "$work/b.raw" "$work/back.raw"
stop_store
