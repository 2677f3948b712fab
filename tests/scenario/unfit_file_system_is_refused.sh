#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A data folder on a file system that cannot allocate or punch holes (ext2, ramfs) is refused with
# the reason and with what to use instead, and no store is begun in it.
source "$(dirname "$0")/functions.sh"
requires mkfs.ext2 mount umount losetup timeout
[ "$(id -u)" -eq 0 ] || { echo "SKIP: loop devices need root" >&2; exit 77; }

export VMSTORE_JOURNAL_SIZE=16M
mkdir "$work/ext2" "$work/ramfs"
truncate -s 64M "$work/ext2.img"
mkfs.ext2 -q "$work/ext2.img"
mount -o loop "$work/ext2.img" "$work/ext2" || { echo "SKIP: no loop device" >&2; exit 77; }
undo_with 'umount -l "$work/ext2"'
mount -t ramfs none "$work/ramfs"
undo_with 'umount -l "$work/ramfs"'

# refused FOLDER WORDS: by vmstored and by `up`, with the words, and no store is begun.
refused() {
  local command got
  for command in "vmstored --data $1 --create --listen unix:$work/x.sock" \
    "vmstore up --data $1 --create"; do
    got=0
    # shellcheck disable=SC2086
    timeout 20 $command 2>"$work/stderr" || got=$?
    { [ "$got" -gt 0 ] && [ "$got" -lt 124 ]; } || fail "exit $got: $command"
    grep -q "$2" "$work/stderr" || fail "no '$2': $(cat "$work/stderr")"
    # At most the lock and the identity, which a second attempt finds again.
    [ -z "$(find "$1" -mindepth 1 ! -name lost+found ! -name lock ! -name store)" ] ||
      fail "left: $(find "$1")"
  done
  grep -o 'the data folder.s file system.*' "$work/stderr" | head -n 1
}
refused "$work/ext2" 'cannot allocate or punch'
refused "$work/ramfs" 'cannot allocate or punch'
