#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The only copy of a disk's log is damaged in its midst. The disk is "unknown", never shorter by
# itself; `verify --repair` says what would be lost, with `--accept-loss` the log ends before the
# damage, what was cut is kept, and the disk has a prefix of what was flushed.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

start_store
vmstore create web 8M
vmstore create other 8M
vmstore attach web >/dev/null
acts=()
for i in $(seq 1 20); do acts+=(-c "write -P $i $((i * 4))k 4k" -c flush); done
qemu-io -f raw "$(vmstore nbd uri web)" "${acts[@]}" >/dev/null
crash_store
# The journal is replayed into the log, and nobody opens the disk.
start_store
stop_store

log=$(find "$data_dir/keys" -name '*.log')
[ "$(wc -l <<<"$log")" = 1 ] || fail "which log? $log"
# Sixteen bytes in the middle of what its head says was committed.
python3 - "$log" <<'END'
import struct, sys
with open(sys.argv[1], "r+b") as log:
    slots = []
    for at in (0, 2048):
        log.seek(at)
        head = log.read(512)
        if head[:7] == b"VMSHEAD":
            slots.append((struct.unpack_from("<Q", head, 16)[0],
                          struct.unpack_from("<Q", head, 120)[0]))
    length = max(slots)[1]
    log.seek(4096 + length // 2)
    log.write(b"\xa5" * 16)
END

start_store
# Asked before the lease of the dead client is over it may also be busy: that is waited for.
is_unknown() {
  local code=0
  vmstore verify web >"$work/out" 2>"$work/stderr" || code=$?
  [ "$code" = 6 ] && grep -q 'cannot be told' "$work/stderr"
}
wait_until 60 is_unknown
expect_exit 2 vmstore verify web --accept-loss
expect_exit 8 vmstore verify web --repair
grep -q 'would lose [0-9]* records' "$work/stderr" || fail "$(cat "$work/stderr")"
grep -q -- '--accept-loss' "$work/stderr" || fail "no way out: $(cat "$work/stderr")"
vmstore verify web --repair --accept-loss -n >"$work/out"
grep -q 'would be cut' "$work/out" || fail "$(cat "$work/out")"
[ ! -e "$data_dir/cut" ] || fail "a dry run cut"
expect_exit 8 vmstore verify web --repair

vmstore verify web --repair --accept-loss --json >"$work/out" 2>"$work/stderr" ||
  fail "$(cat "$work/stderr")"
cut=$(python3 - "$work/out" <<'END'
import json, sys
row = json.load(open(sys.argv[1]))["repaired"][0]
assert row["action"] == "cut" and row["lost_records"] > 0 and row["kept_sequence"] > 0, row
print(row["cut_path"])
END
)
[ -s "$cut.log" ] && [ -s "$cut.data" ] || fail "what was cut is not kept: $cut"
vmstore verify web --repair --accept-loss 2>"$work/stderr"
grep -q 'nothing to repair' "$work/stderr" || fail "$(cat "$work/stderr")"
vmstore verify other --repair

vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
holds() { # holds PATTERN BLOCK
  qemu-io -r -f raw "$uri" -c "read -P $1 $(($2 * 4))k 4k" >"$work/io" 2>&1 &&
    ! grep -q 'verification failed' "$work/io"
}
kept=0
for i in $(seq 1 20); do
  if [ "$kept" = $((i - 1)) ] && holds "$i" "$i"; then
    kept=$i
  else
    holds 0 "$i" || fail "block $i is of no prefix: $(cat "$work/io")"
  fi
done
[ "$kept" -ge 5 ] && [ "$kept" -lt 20 ] || fail "kept $kept of 20"
# It is a disk like any other again.
qemu-io -f raw "$uri" -c 'write -P 33 1M 64k' -c flush >/dev/null
stop_store
start_store
vmstore verify --all >/dev/null
stop_store
