#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A source that may not be read, is no file, or gives an I/O error in its middle is not imported in
# part: the command says so, and no disk, no trash and after a collection no byte is left.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-nbd setpriv mkfs.ext4 mount umount losetup
[ "$(id -u)" -eq 0 ] || { echo "SKIP: loop devices need root" >&2; exit 77; }

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
start_store
random_file "$work/a.raw" $((24 << 20))
qemu-img convert -f raw -O qcow2 "$work/a.raw" "$work/a.qcow2"
# refused WORD COMMAND...: exit 1 with the word, and nothing is left.
refused() {
  local word=$1 got=0
  shift
  "$@" >/dev/null 2>"$work/stderr" || got=$?
  { [ "$got" -gt 0 ] && [ "$got" -lt 124 ]; } || fail "exit $got: $*"
  grep -qi "$word" "$work/stderr" || fail "no '$word': $(cat "$work/stderr")"
  [ -z "$(vmstore ls -H)$(vmstore trash ls -H)" ] || fail "left: $(vmstore ls)"
  echo "exit $got: $(head -n 1 "$work/stderr")"
}

# Its owner may not read it; root has to be told to obey.
cp "$work/a.raw" "$work/secret.raw"
cp "$work/a.qcow2" "$work/secret.qcow2"
chmod 000 "$work"/secret.*
obeying=(setpriv --inh-caps=-dac_override,-dac_read_search
  --bounding-set=-dac_override,-dac_read_search)
refused 'denied\|permission' "${obeying[@]}" vmstore import "$work/secret.raw" one
refused 'denied\|permission' "${obeying[@]}" vmstore import "$work/secret.qcow2" one
refused . vmstore import "$work" one

# A file system whose device lost its second half.
truncate -s 64M "$work/device"
mkfs.ext4 -q "$work/device"
mkdir "$work/mounted"
mount -o loop "$work/device" "$work/mounted" || { echo "SKIP: no loop device" >&2; exit 77; }
undo_with 'umount -l "$work/mounted"'
cp "$work/a.raw" "$work/a.qcow2" "$work/mounted"
sync -f "$work/mounted"
for file in a.raw a.qcow2; do dd if="$work/mounted/$file" iflag=nocache count=0 status=none; done
truncate -s 16M "$work/device"
if cat "$work/mounted/a.raw" "$work/mounted/a.qcow2" >/dev/null 2>&1; then
  fail "the files can be read: the device still has them"
fi
refused 'error\|read' vmstore import "$work/mounted/a.raw" two
refused 'error\|read' vmstore import "$work/mounted/a.qcow2" two

is_empty() { vmstore gc -q && [ "$(vmstore df --bytes -H -o used)" -eq 0 ]; }
wait_until 30 is_empty
vmstore import "$work/a.raw" good
stop_store
