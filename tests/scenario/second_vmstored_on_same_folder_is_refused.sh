#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A data folder has one vmstored: a second one ends at once with the reason, changes nothing and
# does not disturb the first. When the first is gone, killed or not, the next may start.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo timeout

start_store
vmstore create web 8M
uri=$(vmstore attach web)
pid=$(node_pid)
for listen in "unix:$work/other.sock" "unix:$run_dir/vmstored.sock"; do
  expect_exit 5 timeout 20 vmstored --data "$data_dir" --create --listen "$listen"
  grep -q 'another vmstored' "$work/stderr" || fail "no reason: $(cat "$work/stderr")"
done
[ ! -e "$work/other.sock" ] || fail "it had begun to listen"
# Another supervisor, another run folder, the same data.
expect_exit 5 timeout 20 vmstore up --data "$data_dir" --run-dir "$work/run"
grep -q 'another vmstored' "$work/stderr" || fail "no reason: $(cat "$work/stderr")"
expect_exit 5 vmstore meta rebuild --data "$data_dir" -y
[ "$(node_pid)" = "$pid" ] || fail "the first one died of it"
[ "$(nbdinfo --size "$uri")" -eq $((8 << 20)) ] || fail "the disk is not served"
vmstore create db 8M
crash_store
start_store
[ "$(vmstore ls -H -o name)" = $'db\nweb' ] || fail "$(vmstore ls)"
stop_store
