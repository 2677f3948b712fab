#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An import that fails or is interrupted leaves no disk, no part of one and no process.
source "$(dirname "$0")/functions.sh"
requires qemu-img qemu-nbd mkfifo
start_store

random_file "$work/a.raw" $((6 << 20))
qemu-img convert -f raw -O qcow2 "$work/a.raw" "$work/a.qcow2"
truncate -s -70000 "$work/a.qcow2"
expect_exit 1 vmstore import "$work/a.qcow2" cut
grep -q 'cut off\|damaged' "$work/stderr" || fail "$(cat "$work/stderr")"
[ -z "$(vmstore ls -H)" ] || fail "left: $(vmstore ls)"

mkfifo "$work/pipe"
for signal in INT TERM; do
  # Both ends at once: opening only one of a pipe waits for the other.
  exec 7<>"$work/pipe"
  # bash makes background programs deaf to SIGINT: python gives it back.
  in_background python3 -c '
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execvp("vmstore", ["vmstore", "import", "-", "half"])' <"$work/pipe" 7>&-
  import=$last_pid
  head -c 3000000 "$work/a.raw" >&7
  wait_until 20 eval '[ -n "$(vmstore ls -H "vmstore-import/*")" ]'
  kill -"$signal" "$import"
  got=0
  wait "$import" || got=$?
  exec 7>&-
  [ "$got" = 130 ] || fail "exit $got after SIG$signal, not 130"
  [ -z "$(vmstore ls -H)$(vmstore trash ls -H)" ] || fail "left after SIG$signal: $(vmstore ls)"
done
stop_store
