#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# S12: the export tells its block sizes and that it takes discards, and what a guest discards is
# space again: for the disk, for the node and for the file system below, half of it and all of it.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo qemu-io python3

used() { vmstore df --bytes -H -o used; }
# What the folder takes without the journal and the catalogue, which do not grow with data.
key_bytes() { du -s --block-size=1 --exclude=meta --exclude=journal --exclude=catalogue \
  "$data_dir" | cut -f1; }
readonly mib=$((1 << 20)) size=$((192 << 20))
readonly ahead=$((72 << 20))  # at most: space promised to a disk for its next writes

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
start_store
empty=$(key_bytes)
vmstore create web ${size}B
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
nbdinfo --json "$uri" | python3 -c '
import json, sys
e = json.load(sys.stdin)["exports"][0]
assert e["can_trim"] and e["can_zero"], e
assert e["block_size_minimum"] <= 4096 and e["block_size_preferred"] == 4096, e'

# Bytes of each 64 KiB differ; a record holds several of them.
random_file "$work/content" $size
nbdcopy --flush "$work/content" "$uri"
full=$(used)
[ "$full" -ge $size ] || fail "$size bytes were written, $full bytes are used"
full_keys=$(key_bytes)

# freed_to BYTES: both figures are at most that, beside what an empty store takes. The tail of a
# log waits a second for company, so the first round may come too early.
freed_to() {
  vmstore gc -q
  [ "$(used)" -le "$1" ] && [ $(($(key_bytes) - empty)) -le "$1" ]
}
# Every second 64 KiB.
discards=()
for ((at = 0; at < size; at += 131072)); do discards+=(-c "discard $at 64k"); done
qemu-io -d unmap -f raw "$uri" "${discards[@]}" -c flush >"$work/io" 2>&1 ||
  fail "$(tail -n 3 "$work/io")"
wait_until 60 freed_to $((size / 2 + ahead))
echo "$size bytes written: used $full, folder $full_keys; half discarded: used $(used)," \
  "folder $(key_bytes)"
# What stayed is what was written, what went is zeros.
nbdcopy "$uri" "$work/back"
python3 - "$work/content" "$work/back" <<'END'
import sys
wrote, back = (open(path, "rb").read() for path in sys.argv[1:])
for at in range(0, len(wrote), 131072):
    assert back[at : at + 65536] == bytes(65536), f"not zeros at {at}"
    assert back[at + 65536 : at + 131072] == wrote[at + 65536 : at + 131072], f"lost at {at}"
END

qemu-io -d unmap -f raw "$uri" -c "discard 0 $size" -c flush >"$work/io" 2>&1 ||
  fail "$(cat "$work/io")"
wait_until 60 freed_to $ahead
echo "all discarded: used $(used), folder $(key_bytes) ($empty at first)"
[ "$(nbdinfo --map --totals "$uri" | awk '$3 == 0 { print $1 }')" = "" ] || fail "data is left"
stop_store
