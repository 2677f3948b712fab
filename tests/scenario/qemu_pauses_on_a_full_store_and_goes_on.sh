#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# C10, with a real QEMU and the printed snippet: the store is full, the guest's write is refused for
# want of space, QEMU pauses the machine and the guest learns nothing of it. Continued too early it
# is paused again; with space freed it goes on, to the end, and every byte is there.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdcopy qemu-system-x86_64 python3 losetup mkfs.ext4 mount umount
[ "$(id -u)" -eq 0 ] || { echo "SKIP: loop devices need root" >&2; exit 77; }

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
truncate -s 256M "$work/small.img"
mkfs.ext4 -q "$work/small.img"
mkdir "$data_dir"
mount -o loop "$work/small.img" "$data_dir" || { echo "SKIP: no loop device" >&2; exit 77; }
undo_with 'umount -l "$data_dir"'

readonly chunks=4000  # of 32 KiB: 125 MiB, more than is left and less than there will be
tiny_guest() { python3 "$SOURCE_DIR/tests/scenario/tiny_guest.py" "$@"; }
client() { python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "$run_dir/nbd/$1.sock" "$@"; }
percent_full() { vmstore df 2>&1 | sed -nE 's/.*file system ([0-9]+) % full.*/\1/p'; }

start_store --create
vmstore create old 400M
vmstore attach old >/dev/null
for ((n = 0; n < 800; n += 20)); do
  client old fill "$n" $((n + 20)) >/dev/null
  full=$(percent_full)
  if [ "${full:-0}" -ge 70 ]; then break; fi
done
[ "${full:-0}" -ge 70 ] || fail "df does not say that it fills: $(vmstore df 2>&1)"

vmstore create guest 128M
vmstore attach guest >/dev/null
tiny_guest sector $chunks >"$work/sector"
nbdcopy --flush "$work/sector" "$(vmstore nbd uri guest)"
mapfile -t disk < <(vmstore nbd snippet guest --qemu | tr '\\\n' '  ' | xargs -n 1)
in_background qemu-system-x86_64 -M q35 -accel tcg -m 64 -nodefaults -display none \
  -serial "file:$work/serial" -qmp "unix:$work/qmp,server=on,wait=off" "${disk[@]}" \
  </dev/null >"$work/qemu.log" 2>&1
qemu=$last_pid
qmp() { tiny_guest qmp "$work/qmp" "$1"; }
written() { tr -cd . <"$work/serial" | wc -c; }
is_paused() { qmp query-status | grep -q '"status": "io-error"'; }
runs() { qmp query-status | grep -q '"status": "running"'; }
is_done() { grep -q D "$work/serial"; }
no_error_in_guest() {
  if grep -q E "$work/serial"; then fail "the guest saw an I/O error after $(written) chunks"; fi
}

paused_or_done() { is_paused || is_done; }
wait_until 150 paused_or_done
no_error_in_guest
is_paused || fail "it was never paused: $(vmstore df 2>&1)"
qmp query-block | grep -q '"io-status": "nospace"' || fail "not nospace: $(qmp query-block)"
before=$(written)
echo "paused after $before chunks of 32 KiB; $(percent_full) % full"
{ [ "$before" -gt 0 ] && [ "$before" -lt "$chunks" ]; } || fail "paused after $before chunks"
tiny_guest check "$run_dir/nbd/guest.sock" guest 1 "$before"

qmp cont >/dev/null
wait_until 90 is_paused
no_error_in_guest
echo "continued without space: paused again after $(written) chunks"
[ "$(written)" -lt "$chunks" ] || fail "there was room for it"

vmstore detach old
vmstore rm old --now
vmstore gc
is_paused || fail "nobody told it to go on"
qmp cont >/dev/null
wait_until 90 is_done
no_error_in_guest
runs || fail "$(qmp query-status)"
[ "$(written)" -eq "$chunks" ] || fail "$(written) of $chunks chunks"
echo "space freed, continued: all $chunks chunks written"
qmp quit >/dev/null
wait "$qemu" || fail "QEMU: $(cat "$work/qemu.log")"
tiny_guest check "$run_dir/nbd/guest.sock" guest 1 "$chunks"
vmstore verify --all >/dev/null
stop_store
