#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk as a file: a file system made and filled through a loop device over FUSE is whole and has
# the same bytes over NBD; the write token holds between the two.
source "$(dirname "$0")/functions.sh"
requires nbdkit python3 losetup mkfs.ext4 fsck.ext4 mount umount fusermount3 qemu-io qemu-img
[ -c /dev/fuse ] || { echo "SKIP: no /dev/fuse" >&2; exit 77; }
[ "$(id -u)" -eq 0 ] || { echo "SKIP: loop devices need root" >&2; exit 77; }

view=$work/view inside=$work/inside loop=
mkdir "$view" "$inside"
undo_mounts() {
  local status=$?
  umount -l "$inside" 2>/dev/null || true
  if [ -n "$loop" ]; then losetup -d "$loop" 2>/dev/null || true; fi
  fusermount3 -u -z "$view" 2>/dev/null || true
  return "$status"
}
trap 'undo_mounts || cleanup; cleanup' EXIT

start_store
vmstore create web 64M
vmstore create lab/db 1G
vmstore mount "$view"
[ "$(stat -c %s "$view/web.raw")" -eq $((64 << 20)) ] || fail "wrong size"
[ "$(find "$view" -name '*.raw' | wc -l)" -eq 2 ] || fail "wrong listing: $(find "$view")"

# A file system with a real tree, through a loop device.
loop=$(losetup --find --show "$view/web.raw")
mkfs.ext4 -q "$loop"
mount "$loop" "$inside"
cp -r "$SOURCE_DIR/base" "$SOURCE_DIR/docs" "$inside/"
random_file "$inside/random" $((20 << 20))
(cd "$inside" && find . -type f ! -path './lost+found/*' -exec sha256sum {} + | sort -k 2) \
  >"$work/sums"
umount "$inside"
fsck.ext4 -fn "$loop" >"$work/fsck" 2>&1 || fail "$(cat "$work/fsck")"
losetup -d "$loop"
loop=
wait_until 10 test "$(losetup -j "$view/web.raw" | wc -l)" -eq 0

# The same disk over NBD: the last file is closed, so the token is free.
vmstore snapshot web@made
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
qemu-img convert -f raw -O raw "$uri" "$work/over-nbd.raw"
expect_same "$work/over-nbd.raw" "$view/web.raw"
expect_same "$work/over-nbd.raw" "$view/.snap/web@made.raw"
fsck.ext4 -fn "$work/over-nbd.raw" >"$work/fsck" 2>&1 || fail "$(cat "$work/fsck")"
mount -o ro,loop "$work/over-nbd.raw" "$inside"
(cd "$inside" && sha256sum --quiet -c "$work/sums") || fail "files differ over NBD"
umount "$inside"

# What NBD writes is read here, at once, and the other way round.
qemu-io -f raw "$uri" -c 'write -P 85 1M 4k' -c flush >/dev/null
head -c 4096 /dev/zero | tr '\0' 'U' >"$work/pattern"
cmp -n 4096 "$work/pattern" <(dd if="$view/web.raw" bs=4096 skip=256 count=1 status=none) ||
  fail "FUSE reads older bytes than NBD wrote"

# New disks appear; nothing is made, removed or emptied here.
vmstore create fresh 1M
[ -f "$view/fresh.raw" ] || fail "a new disk does not appear"
for act in "touch $view/nope" "rm $view/fresh.raw" "mkdir $view/group" \
  "mv $view/fresh.raw $view/x.raw" \
  "cp /dev/null $view/fresh.raw"; do
  if $act 2>"$work/stderr"; then fail "'$act' worked"; fi
done
# A disk only grows here, by name or by an open file: `vmstore resize` asks before it shrinks one.
shrink='import os, sys; os.truncate(sys.argv[1], 512)'
if python3 -c "$shrink" "$view/fresh.raw" 2>"$work/stderr"; then fail "it shrank by name"; fi
if truncate -s 512 "$view/fresh.raw" 2>"$work/stderr"; then fail "it shrank by a file"; fi
[ "$(stat -c %s "$view/fresh.raw")" -eq $((1 << 20)) ] || fail "a refused act changed the size"
truncate -s 2M "$view/fresh.raw"
size_of='import json,sys; print(json.load(sys.stdin)["disk"]["size"])'
[ "$(vmstore info fresh --json | python3 -c "$size_of")" \
  -eq $((2 << 20)) ] || fail "truncate did not grow the disk"

expect_exit 5 vmstore mount "$view"
grep -q umount "$work/stderr" || fail "no hint: $(cat "$work/stderr")"

# What a mount would hide, or could not be on.
mkdir "$work/full"
touch "$work/full/kept"
expect_exit 2 vmstore mount "$work/full"
expect_exit 2 vmstore mount "$work/full/kept"
expect_exit 3 vmstore mount "$work/nowhere"

# A mount whose program died.
kill -9 "$(pgrep -f "vmstore-fuse.* $view\$")"
dead() { ! stat "$view" 2>/dev/null; }
wait_until 10 dead
expect_exit 5 vmstore mount "$view"
grep -q "is gone" "$work/stderr" || fail "a dead mount is called $(cat "$work/stderr")"
vmstore umount "$view"
vmstore mount "$view"

fusermount3 -u "$view"
stop_store
