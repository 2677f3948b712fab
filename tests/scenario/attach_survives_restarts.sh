#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vmstored is started again when it dies; after `up` itself was killed the next one serves what was
# attached; after a planned stop only what is persistent.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo nbdcopy python3
start_store

vmstore create web 16M
vmstore create db 16M
vmstore attach web
uri=$(vmstore attach db --persistent)
random_file "$work/content" $((16 << 20))
nbdcopy "$work/content" "$uri"

kill -KILL "$(node_pid)"
nbdcopy "$uri" "$work/back"
expect_same "$work/content" "$work/back"

expect_exit 5 vmstore up --data "$work/other"
grep -q 'another `vmstore up`' "$work/stderr" || fail "$(cat "$work/stderr")"

crash_store
start_store
[ "$(vmstore nbd ls -H -o name)" = $'db\nweb' ] || fail "after a crash: $(vmstore nbd ls)"
nbdcopy "$uri" "$work/back"
expect_same "$work/content" "$work/back"

stop_store
start_store
[ "$(vmstore nbd ls -H -o name)" = db ] || fail "after a planned stop: $(vmstore nbd ls)"
nbdcopy "$uri" "$work/back"
expect_same "$work/content" "$work/back"
stop_store
