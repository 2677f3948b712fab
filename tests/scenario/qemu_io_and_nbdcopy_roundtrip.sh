#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tools that people use agree: what nbdcopy and qemu-img put in, qemu-img and nbdcopy get out,
# holes included; what qemu-io writes is what a file would hold; snapshots stay as they were.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdcopy nbdinfo qemu-img qemu-io

size=$((96 << 20))
random_file "$work/part" $((9 << 20))
truncate -s $size "$work/source.raw"
dd if="$work/part" of="$work/source.raw" conv=notrunc bs=1M seek=3 status=none
dd if="$work/part" of="$work/source.raw" conv=notrunc bs=512 seek=100001 status=none
cp --sparse=always "$work/source.raw" "$work/twin.raw"

start_store
vmstore create web 96M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)

nbdcopy --flush "$work/source.raw" "$uri"
qemu-img compare -f raw -F raw "$work/source.raw" "$uri"
nbdcopy "$uri" "$work/back.raw"
expect_same "$work/source.raw" "$work/back.raw"
mapped=$(nbdinfo --map --totals "$uri" | awk '$3 == 0 { print $1 }')
[ "${mapped:-0}" -le $((20 << 20)) ] || fail "$mapped bytes of data, of 18 MiB"

vmstore snapshot web@before
# Unaligned, overlapping, zeroing, discarding: on the disk and on a plain file.
acts=(-c 'write -P 10 0 512' -c 'write -P 11 511 3' -c 'write -P 12 1048000 70000'
  -c 'write -z 2M 1M' -c 'write -z -u 5000000 123456' -c 'write -P 13 4095k 2k' -c 'aio_flush'
  -c 'write -P 14 3145728 65536' -c 'discard 8M 4M' -c 'write -P 15 10M 4k' -c 'flush')
qemu-io -f raw "$uri" "${acts[@]}" >/dev/null
qemu-io -f raw "$work/twin.raw" "${acts[@]}" >/dev/null
# A file may keep what was discarded; a disk of ours reads zeros (I10).
dd if=/dev/zero of="$work/twin.raw" conv=notrunc bs=1M seek=8 count=2 status=none
fallocate -p -o $(((10 << 20) + 4096)) -l $(((2 << 20) - 4096)) "$work/twin.raw"
qemu-img compare -f raw -F raw "$work/twin.raw" "$uri"

vmstore attach web@before >/dev/null
qemu-img compare -f raw -F raw "$work/source.raw" "$(vmstore nbd uri web@before)"
qemu-img convert -f raw -O qcow2 "$(vmstore nbd uri web@before)" "$work/out.qcow2"
qemu-img compare -f raw -F qcow2 "$work/source.raw" "$work/out.qcow2"

# And the same bytes after everything was stopped.
stop_store
start_store
vmstore attach web >/dev/null
qemu-img compare -f raw -F raw "$work/twin.raw" "$(vmstore nbd uri web)"
stop_store
