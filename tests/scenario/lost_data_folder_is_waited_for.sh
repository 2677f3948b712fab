#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A data folder that goes away under a running store (an unmounted file system leaves an empty one)
# never becomes a new, empty store: the guest waits, and goes on without an I/O error when the
# folder is back. Neither does another store that appears in its place get the guest's requests.
source "$(dirname "$0")/functions.sh"
requires nbdkit fio timeout

export VMSTORE_JOURNAL_SIZE=16M
start_store
vmstore create web 64M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
nbdkit=$(nbdkit_pid web)
in_background fio --name=guest --ioengine=nbd --uri="$uri" --size=64M --rw=randwrite --bs=4k \
  --iodepth=8 --fsync=64 --verify=crc32c --verify_backlog=256 --randseed=7 --time_based \
  --runtime=45 --output-format=json --output="$work/fio.json" --aux-path="$work" \
  </dev/null >"$work/fio.log" 2>&1
fio=$last_pid
pause() { for ((i = 0; i < $1; ++i)); do read -r -t 0.1 <> <(:) || true; done; }
tries() { grep -c 'vmstored: ended' "$work/up.log" || true; }
tried_again() { [ "$(tries)" -ge "$1" ]; }
# swapped_for COMMAND...: the node dies, and what the command makes is in its folder's place.
swapped_for() {
  local node
  node=$(node_pid)
  kill -STOP "$node"
  mv "$data_dir" "$work/away"
  "$@"
  kill -KILL "$node"
  wait_until 30 tried_again $(($(tries) + 2))
}
put_back() {
  rm -rf "$data_dir"
  mv "$work/away" "$data_dir"
  wait_until 60 store_is_up
}
nothing_is_served() {
  expect_exit 6 vmstore ls --timeout 1s
  expect_exit 6 vmstore create new 1M --timeout 1s
  [ "$(nbdkit_pid web)" = "$nbdkit" ] || fail "the disk's server was restarted, too"
  kill -0 "$fio" || fail "the guest ended: $(cat "$work/fio.log" "$work/fio.json")"
}

pause 10
swapped_for mkdir "$data_dir"
nothing_is_served
[ -z "$(ls -A "$data_dir")" ] || fail "the empty folder has now: $(ls -A "$data_dir")"
put_back
swapped_for true
nothing_is_served
[ ! -e "$data_dir" ] || fail "a folder was made where none was"
put_back

# Another store in its place.
vmstored --create --data "$work/other" --listen "unix:$work/other.sock" >"$work/other.log" 2>&1 &
other=$!
started_pids+=("$other")
wait_until 30 grep -q ready "$work/other.log"
end_process "$other"
swapped_for cp -a "$work/other" "$data_dir"
nothing_is_served
grep -q 'holds store' "$work/up.log" || fail "no reason: $(tail "$work/up.log")"
put_back

wait "$fio" || fail "the guest saw an error: $(cat "$work/fio.log" "$work/fio.json" | tail -n 20)"
[ "$(nbdkit_pid web)" = "$nbdkit" ] || fail "the disk's server was restarted, too"

# The next `up` knows it as well, whether the last one was killed or stopped.
crash_store
mv "$data_dir" "$work/away"
mkdir "$data_dir"
expect_exit 1 timeout 20 vmstore up --data "$data_dir" --create
grep -q 'remembers' "$work/stderr" || fail "no reason: $(cat "$work/stderr")"
rmdir "$data_dir"
mv "$work/away" "$data_dir"
start_store
[ "$(vmstore ls -H -o name)" = web ] || fail "$(vmstore ls)"
stop_store
mv "$data_dir" "$work/away"
mkdir "$data_dir"
expect_exit 1 timeout 20 vmstore up --data "$data_dir"
grep -q -e '--create' "$work/stderr" || fail "no hint: $(cat "$work/stderr")"
[ -z "$(ls -A "$data_dir")" ] || fail "the empty folder has now: $(ls -A "$data_dir")"
start_store --create
[ -z "$(vmstore ls -H -o name)" ] || fail "$(vmstore ls)"
stop_store
