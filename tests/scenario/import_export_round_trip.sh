#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every image format comes in byte for byte and goes out again; the printed digest is that of the
# bytes; holes stay holes.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-nbd nbdkit sha256sum
start_store

random_file "$work/a.raw" $((5 << 20))
truncate -s 40M "$work/a.raw"
printf end | dd of="$work/a.raw" bs=1 seek=$(((40 << 20) - 3)) conv=notrunc status=none
digest=$(sha256sum <"$work/a.raw" | cut -d' ' -f1)

for format in raw qcow2 vmdk vhdx vdi; do
  qemu-img convert -f raw -O "$format" "$work/a.raw" "$work/a.$format.img"
  vmstore import "$work/a.$format.img" "in-$format" --progress none
  vmstore export "in-$format" "$work/out.raw" --sha256 --overwrite >"$work/said"
  grep -q "sha256 $digest" "$work/said" || fail "$format: $(cat "$work/said")"
  cmp -n $((40 << 20)) "$work/a.raw" "$work/out.raw" || fail "$format came out different"
done
[ "$(du -k "$work/out.raw" | cut -f1)" -lt 8000 ] || fail "the export is not sparse"

vmstore export in-raw "$work/out.qcow2" -O qcow2
qemu-img check -q "$work/out.qcow2"
qemu-img compare -f raw -F qcow2 "$work/a.raw" "$work/out.qcow2" >/dev/null || fail "qcow2 differs"
vmstore import - in-pipe <"$work/a.raw"
cat "$work/a.raw" | vmstore import - in-stream
vmstore export in-stream "$work/stream.raw"
expect_same "$work/a.raw" "$work/stream.raw"

uri=$(vmstore attach in-raw)
vmstore import "$uri" in-nbd
vmstore export in-nbd "$work/nbd.raw"
expect_same "$work/a.raw" "$work/nbd.raw"
vmstore detach in-raw
vmstore verify --all
[ -z "$(vmstore snap ls -H)" ] || fail "an export left its snapshot: $(vmstore snap ls)"
stop_store
