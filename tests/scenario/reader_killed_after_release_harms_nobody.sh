#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A session that only read and was killed has no acknowledged writes: whatever the session before it
# left or took away in order, the next one opens the disk and finds what was flushed. It must not be
# asked for the batch file of a writer that had given the disk back.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io

start_store
vmstore create web 8M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
reads() {
  qemu-io -r -f raw "$uri" -c "read -P $1 1M 64k" >"$work/io" 2>&1 &&
    ! grep -Eq 'verification failed|error' "$work/io" || fail "$(cat "$work/io")"
}
has_server() { [ -n "$(nbdkit_pid web)" ]; }
has_new_server() { has_server && [ "$(nbdkit_pid web)" != "$1" ]; }
signal_server() {
  local pid
  wait_until 20 has_server
  pid=$(nbdkit_pid web)
  kill "$1" "$pid"
  wait_until 20 has_new_server "$pid"
}
for byte in 1 2 3; do
  qemu-io -f raw "$uri" -c "write -P $byte 1M 64k" -c flush >/dev/null
  case $byte in
    1) vmstore detach web && vmstore attach web >/dev/null ;;
    2) signal_server -USR1 ;;
    3) stop_store && start_store && vmstore attach web >/dev/null ;;
  esac
  reads "$byte"
  signal_server -KILL
  reads "$byte"
  crash_store
  start_store
  reads "$byte"
done
stop_store
