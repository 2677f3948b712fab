#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nbdkit 1.32 dies of one block-status request of maximal length on an export over 4 GiB unless the
# plugin clips its extents to the asked range (CVE-2025-47711).
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo qemu-img qemu-io python3

start_store
vmstore create big 10T
vmstore attach big >/dev/null
uri=$(vmstore nbd uri big)
pid=$(nbdkit_pid big)
qemu-io -f raw "$uri" -c 'write -P 1 0 1M' -c 'write -P 1 5T 64k' \
  -c 'write -P 1 10995116273664 4k' -c flush >/dev/null

python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "${uri#*socket=}" big maximal_block_status
[ "$(nbdkit_pid big)" = "$pid" ] || fail "the server died of a block-status request"

# S5: dirty or clean, data is never called a hole, and what was never written is one.
nbdinfo --map --json "$uri" >"$work/map.json"
python3 - "$work/map.json" <<'END'
import json, sys
data = [(e["offset"], e["length"]) for e in json.load(open(sys.argv[1])) if e["type"] == 0]
assert data == [(0, 1 << 20), (5 << 40, 64 << 10), ((10 << 40) - 4096, 4096)], data
END
qemu-img map --output=json -f raw "$uri" >/dev/null
[ "$(nbdkit_pid big)" = "$pid" ] || fail "the server died of a map"
stop_store
