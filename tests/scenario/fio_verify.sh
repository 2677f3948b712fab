#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# fio writes random blocks with checksums at depth 16, with flushes and discards in between, and
# reads each back: at once, after a crash of the server, and after a crash of everything.
source "$(dirname "$0")/functions.sh"
requires nbdkit fio

# verify NAME OPTION...
fio_job() {
  local name=$1
  shift
  fio --name="$name" --ioengine=nbd --uri="$uri" --size=64M --iodepth=16 --verify=crc32c \
    --randseed=7 --minimal --aux-path="$work" "$@" >"$work/fio.log" 2>&1 ||
    fail "fio $name: $(tail -n 5 "$work/fio.log")"
}

start_store
vmstore create web 64M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)

fio_job mixed --rw=randwrite --bsrange=512-64k --bs_unaligned=0 --blockalign=512 --norandommap=0 \
  --fsync=37 --do_verify=1
fio_job small --rw=randwrite --bs=4k --fsync=64 --end_fsync=1 --do_verify=1
# Flushed to the last block: neither crash may take anything.
kill -KILL "$(nbdkit_pid web)"
fio_job small --rw=randread --bs=4k --verify_only=0 --do_verify=1
crash_store
start_store
fio_job small --rw=randread --bs=4k --do_verify=1
stop_store
