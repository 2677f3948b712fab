#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An attached disk is served again after its nbdkit was killed, a client that connects meanwhile
# just waits, and what was written is there.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo nbdcopy python3
start_store

vmstore create g/web 64M
uri=$(vmstore attach g/web)
[ "$uri" = "nbd+unix:///g/web?socket=$run_dir/nbd/g~web.sock" ] || fail "uri: $uri"
[ "$(vmstore nbd uri g/web)" = "$uri" ] || fail "nbd uri"
[ "$(nbdinfo --size "$uri")" = $((64 << 20)) ] || fail "nbdinfo"

random_file "$work/content" $((8 << 20))
truncate -s 64M "$work/content"
nbdcopy "$work/content" "$uri"
for _ in 1 2 3; do
  pid=$(nbdkit_pid g/web)
  kill -KILL "$pid"
  # At once: nobody listens, the supervisor's socket takes the connection.
  nbdinfo --size "$uri" >/dev/null || fail "a client did not wait for the new server"
  [ "$(nbdkit_pid g/web)" != "$pid" ] || fail "it is the same process"
done
nbdcopy "$uri" "$work/back"
expect_same "$work/content" "$work/back"

expect_exit 5 vmstore rm g/web
vmstore detach g/web
expect_exit 3 vmstore nbd uri g/web
[ ! -e "$run_dir/nbd/g~web.sock" ] || fail "the socket is left"
vmstore rm g/web --now
stop_store
