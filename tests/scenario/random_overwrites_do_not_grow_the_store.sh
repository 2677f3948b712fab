#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A guest writes ten times the size of its disk, 4 KiB at random places, as fast as it can. Its
# server frees what was overwritten without any round of garbage collection, and slows the guest
# before there is as much garbage as disk: 2.4 disks at the peak, and less than 2 soon after.
source "$(dirname "$0")/functions.sh"
requires nbdkit fio

disk=$((64 << 20))
export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
used() { vmstore df --bytes -H -o used 2>/dev/null; }
factor() { awk -v used="$1" -v disk="$disk" 'BEGIN { printf "%.2f", used / disk }'; }
is_small() { [ "$(used)" -le $((2 * disk)) ]; }

start_store
vmstore create web $((disk >> 20))M
vmstore attach web >/dev/null
in_background fio --name=overwrite --ioengine=nbd --uri="$(vmstore nbd uri web)" --size=$disk \
  --io_size=$((10 * disk)) --rw=randwrite --bs=4k --iodepth=32 --norandommap --randrepeat=1 \
  --fsync=256 --end_fsync=1 --minimal --aux-path="$work" >"$work/fio.log" 2>&1
fio=$last_pid
peak=0
while kill -0 "$fio" 2>/dev/null; do
  now=$(used)
  if [ "$now" -gt "$peak" ]; then peak=$now; fi
  read -r -t 0.2 <> <(:) || true
done
wait "$fio" || fail "$(tail -n 5 "$work/fio.log")"
last=$(used)
wait_until 150 is_small  # the device may be busy with others
quiet=$(used)
vmstore detach web
released=$(used)
echo "written 10 disks: the store took at most $(factor "$peak") disks, $(factor "$last") when" \
  "the writer ended, $(factor "$quiet") soon after, $(factor "$released") released"
# The disk, as much garbage, what the batch file and the index hold, and what a busy device has not
# given back yet.
[ "$peak" -le $((4 * disk)) ] || fail "garbage has no bound: $(factor "$peak") disks"
[ "$released" -le $((2 * disk)) ] || fail "the store stayed at $(factor "$released") disks"
vmstore verify web >/dev/null
stop_store
