#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The commands that the README gives for attaching a disk, run as they stand there. Only the build
# folder and the image are put in their place.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-img nbdinfo

truncate -s 64M "$work/plain.raw"
random_file "$work/start" $((8 << 20))
dd if="$work/start" of="$work/plain.raw" conv=notrunc status=none
qemu-img convert -O qcow2 "$work/plain.raw" "$work/debian-12.qcow2"

# The block after "## Attach a disk", without its first line, which says where the build is.
awk '/^## Attach a disk/ { here = 1 } here && /^```/ { ++fences; next }
     here && fences == 1 { print } fences == 2 { exit }' "$SOURCE_DIR/README.md" >"$work/commands"
grep -q '^export PATH=.*build/release/cli' "$work/commands" ||
  fail "the README names another build folder"
[ -x "$BUILD_DIR/cli/vmstore" ] || fail "programs are not where the README says"
grep -v '^export PATH' "$work/commands" | sed 's/#.*//' >"$work/commands.sh"
[ "$(grep -c '^vmstore ' "$work/commands.sh")" -ge 6 ] || fail "no commands are in the README"

# `up` of the README has no folder of its own: it must not touch the one of this machine's user.
sed -i "s|^vmstore up --detach|vmstore up --detach --data $data_dir|" "$work/commands.sh"
undo_with 'vmstore down --force >/dev/null 2>&1'
cd "$work"
bash -euo pipefail "$work/commands.sh" | tee "$work/said"

uri=$(vmstore nbd uri web)
grep -qF "$uri" "$work/said" || fail "attach did not print the URI"
[ "$(nbdinfo --size "$uri")" = $((64 << 20)) ] || fail "the attached disk has another size"
qemu-img compare -f raw -F raw "$uri" "$work/plain.raw"
