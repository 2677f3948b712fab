#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# libvirt runs QEMU as another user. With `up --socket-group` users of that group reach attached
# disks, also those attached again by the next `up`, and neither the node nor the supervisor;
# without it, and for users of no such group, nothing is reached.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo qemu-io setpriv
[ "$(id -u)" -eq 0 ] || { echo "SKIP: another user needs root" >&2; exit 77; }

group=daemon
as_other() { setpriv --reuid=nobody --regid="$1" --clear-groups "${@:2}"; }
chmod 0755 "$work"

start_store --socket-group "$group"
vmstore create web 8M
uri=$(vmstore attach web)
[ "$(as_other "$group" nbdinfo --size "$uri")" -eq $((8 << 20)) ] || fail "not reached"
as_other "$group" qemu-io -f raw "$uri" -c 'write -P 5 0 64k' -c flush >/dev/null
if as_other nogroup nbdinfo --size "$uri" >/dev/null 2>&1; then fail "reached without the group"; fi
for socket in vmstored.sock control.sock; do
  python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' \
    "$run_dir/$socket"
  if as_other "$group" python3 -c '
import socket, sys
socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$run_dir/$socket" 2>/dev/null; then
    fail "another user reached $socket"
  fi
done
vmstore nbd snippet web --libvirt 2>"$work/stderr" >/dev/null
[ ! -s "$work/stderr" ] || fail "$(cat "$work/stderr")"

crash_store
start_store --socket-group "$group"
as_other "$group" qemu-io -r -f raw "$uri" -c 'read -P 5 0 64k' >/dev/null
crash_store
start_store
if as_other "$group" nbdinfo --size "$uri" >/dev/null 2>&1; then fail "reached without it"; fi
vmstore nbd snippet web --libvirt 2>"$work/stderr" >/dev/null
grep -q -e '--socket-group' "$work/stderr" || fail "no hint: $(cat "$work/stderr")"
stop_store
expect_exit 2 timeout 20 vmstore up --data "$data_dir" --socket-group no-such-group
