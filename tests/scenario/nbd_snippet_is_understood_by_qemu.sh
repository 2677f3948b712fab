#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The printed snippet, pasted as it is, gives a QEMU the disk, and a snapshot read-only.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-system-x86_64
start_store

vmstore create g/web 64M
vmstore snapshot g/web@s
vmstore attach g/web
vmstore attach g/web@s
for name in g/web g/web@s; do
  snippet=$(vmstore nbd snippet "$name" | tr -d '\\\n' | sed 's/-device/ -device/')
  # shellcheck disable=SC2086
  printf '%s\n' '{"execute":"qmp_capabilities"}' '{"execute":"query-block"}' '{"execute":"quit"}' |
    timeout 60 qemu-system-x86_64 -M q35 -nodefaults -display none -S -qmp stdio $snippet \
      >"$work/qmp" 2>&1 || fail "QEMU refused: $(cat "$work/qmp")"
  grep -q '"virtual-size": 67108864' "$work/qmp" || fail "$name: $(cat "$work/qmp")"
done
grep -q '"ro": true' "$work/qmp" || fail "the snapshot can be written"
vmstore nbd snippet g/web --libvirt | python3 -c '
import sys, xml.etree.ElementTree as e
d = e.fromstring(sys.stdin.read())
assert d.find("source").get("name") == "g/web" and d.find("source/host").get("socket")'
stop_store
