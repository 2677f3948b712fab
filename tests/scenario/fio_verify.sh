#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fio writes random blocks with checksums at depth 16, with flushes and discards in between, and
# reads each back: at once, after a crash of the server, and after a crash of everything.
source "$(dirname "$0")/functions.sh"
requires nbdkit fio qemu-io python3

# fio_job NAME OPTION...
fio_job() {
  local name=$1
  shift
  fio --name="$name" --ioengine=nbd --uri="$uri" --iodepth=16 --randseed=7 --aux-path="$work" \
    --output-format=json --output="$work/fio.json" "$@" >"$work/fio.log" 2>&1 ||
    fail "fio $name: $(tail -n 5 "$work/fio.log")"
}
# did KIND: how many requests of that kind the last job made.
did() {
  python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["jobs"][0][sys.argv[2]]["total_ios"])' "$work/fio.json" "$1"
}
readonly verified=(--size=64M --verify=crc32c --do_verify=1)
# What the last writes and discards left: blocks with checksums, and 16 MiB of zeros among them.
all_is_there() {
  fio_job small --rw=randread --bs=4k --size=32M --verify=crc32c --do_verify=1
  [ "$(did read)" -eq 8192 ] || fail "only $(did read) blocks were read"
  fio_job small --rw=randread --bs=4k --offset=48M --size=16M --verify=crc32c --do_verify=1
  qemu-io -r -f raw "$uri" -c 'read -P 0 32M 16M' >"$work/read" 2>&1 || fail "$(cat "$work/read")"
  if grep -q 'Pattern verification failed' "$work/read"; then
    fail "discarded blocks are not zeros: $(cat "$work/read")"
  fi
}

start_store
vmstore create web 64M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)

fio_job mixed "${verified[@]}" --rw=randwrite --bsrange=512-64k --bs_unaligned=0 \
  --blockalign=512 --norandommap=0 --fsync=37
# Each block is discarded, then written, in random order. Two requests that overlap on their way
# have no order: fio waits for the first.
fio_job reused "${verified[@]}" --rw=randtrimwrite --bs=16k --serialize_overlap=1
[ "$(did trim)" -eq 4096 ] || fail "$(did trim) discards, not 4096"
[ "$(did read)" -eq 4096 ] || fail "$(did read) blocks were verified, not 4096"
fio_job small "${verified[@]}" --rw=randwrite --bs=4k --fsync=64 --end_fsync=1
fio_job gone --rw=randtrim --bs=16k --offset=32M --size=16M
[ "$(did trim)" -eq 1024 ] || fail "$(did trim) discards, not 1024"
qemu-io -f raw "$uri" -c flush >/dev/null
all_is_there
# Flushed to the last block: neither crash may take anything, or bring anything back.
kill -KILL "$(nbdkit_pid web)"
all_is_there
crash_store
start_store
all_is_there
stop_store
