#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nbdkit 1.32 dies of one block-status request of maximal length on an export over 4 GiB unless the
# plugin clips its extents to the asked range (CVE-2025-47711). The requests are survived, and the
# guest of another disk is served meanwhile.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo qemu-img qemu-io python3

client() { python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "$@"; }

start_store
vmstore create big 10T
vmstore create other 64M
for name in big other; do vmstore attach "$name" >/dev/null; done
uri=$(vmstore nbd uri big)
pid=$(nbdkit_pid big) other_pid=$(nbdkit_pid other)
qemu-io -f raw "$uri" -c 'write -P 1 0 1M' -c 'write -P 1 5T 64k' \
  -c 'write -P 1 10995116273664 4k' -c flush >/dev/null
in_background client "$run_dir/nbd/other.sock" other serve_until "$work/stop" \
  </dev/null >"$work/other" 2>&1
other=$last_pid
wait_until 20 grep -q serves "$work/other"

client "${uri#*socket=}" big maximal_block_status
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

touch "$work/stop"
wait "$other" || fail "the other disk's guest: $(cat "$work/other")"
tail -n 1 "$work/other"
[ "$(nbdkit_pid other)" = "$other_pid" ] || fail "another disk's server died"
stop_store
