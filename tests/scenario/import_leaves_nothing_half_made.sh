#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An import that fails or is interrupted leaves no disk, no part of one and no process. One that is
# killed leaves its disk, which the next import removes; that of one that still runs stays. The same
# for the snapshot and the file of a killed export.
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

# half_import NAME COUNT: an import of NAME under way; then COUNT disks of imports are there.
half_import() {
  mkfifo "$work/$1.pipe"
  exec 7<>"$work/$1.pipe"
  in_background vmstore import - "$1" <"$work/$1.pipe" 7>&-
  head -c 3000000 "$work/a.raw" >&7
  wait_until 20 eval '[ "$(vmstore ls -H "vmstore-import/*" | wc -l)" -eq '"$2"' ]'
}
half_import killed 1
end_process "$last_pid" KILL
exec 7>&-
[ -n "$(vmstore ls -H "vmstore-import/*")" ] || fail "a killed import cleans up?"
left=$(vmstore ls -H -o name "vmstore-import/*")
mkfifo "$work/alive.pipe"
exec 8<>"$work/alive.pipe"
in_background vmstore import - alive <"$work/alive.pipe" 8>&-
alive=$last_pid
head -c 3000000 "$work/a.raw" >&8
wait_until 20 eval '! vmstore info "$left" && [ -n "$(vmstore ls -H "vmstore-import/*")" ]'
vmstore import "$work/a.raw" whole --source-format raw
[ "$(vmstore ls -H "vmstore-import/*" | wc -l)" -eq 1 ] || fail "the living one: $(vmstore ls)"
exec 8>&-
wait "$alive"
[ "$(vmstore ls -H -o name)" = $'alive\nwhole' ] || fail "left: $(vmstore ls)"

# An export, killed when its file has begun.
vmstore create big 64G
in_background vmstore export big "$work/big.raw" --sha256
wait_until 20 eval '[ -n "$(vmstore snap ls big -H)" ] && ls "$work"/.big.raw.part-*'
end_process "$last_pid" KILL
[ -n "$(vmstore snap ls big -H)" ] || fail "a killed export cleans up?"
vmstore resize big 8M --allow-shrink -y
vmstore export big "$work/big.raw" -q
[ -z "$(vmstore snap ls big -H)" ] || fail "left: $(vmstore snap ls big)"
[ -z "$(ls "$work"/.big.raw.part-* 2>/dev/null)" ] || fail "left: $(ls -A "$work")"
stop_store
