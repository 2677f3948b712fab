#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian 12's nbdkit dies when a client with two or more reads in flight closes its socket, as a
# killed virtual machine does. Then it takes down its own disk's server only, which comes back with
# everything that was acknowledged.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo qemu-io python3

client() { python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "$@"; }

start_store
for name in web other; do
  vmstore create "$name" 64M
  vmstore attach "$name" >/dev/null
done
uri=$(vmstore nbd uri web)
socket=${uri#*socket=}
other_pid=$(nbdkit_pid other)

qemu-io -f raw "$uri" -c 'write -P 1 0 32M' -c flush >/dev/null
for shape in '2 1048576' '64 4096'; do
  # Acknowledged, and not flushed.
  qemu-io -t unsafe -f raw "$uri" -c 'write -P 2 1M 1M' >/dev/null
  # shellcheck disable=SC2086
  client "$socket" web reads_in_flight 3 $shape || true  # the server may die of the first round
  wait_until 20 nbdinfo --size "$uri"
  qemu-io -r -f raw "$uri" -c 'read -P 1 0 1M' -c 'read -P 2 1M 1M' -c 'read -P 1 2M 30M' \
    >"$work/read" 2>&1 || fail "$(cat "$work/read")"
  if grep -q 'Pattern verification failed' "$work/read"; then fail "$(cat "$work/read")"; fi
done
[ "$(nbdkit_pid other)" = "$other_pid" ] || fail "another disk's server died as well"
stop_store
