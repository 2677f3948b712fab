#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A snapshot of an attached disk has what was acknowledged before it and nothing after it; it is
# served read-only; rollback brings it back.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdcopy nbdinfo
start_store

vmstore create web 8M
uri=$(vmstore attach web)
random_file "$work/one" $((8 << 20))
random_file "$work/two" $((8 << 20))
nbdcopy "$work/one" "$uri"
vmstore snapshot web@one
nbdcopy "$work/two" "$uri"
snap=$(vmstore attach web@one)
nbdcopy "$snap" "$work/back"
expect_same "$work/one" "$work/back"
nbdinfo --json "$snap" | grep -q '"is_read_only": true' || fail "the snapshot can be written"
vmstore detach web@one
vmstore detach web
vmstore snap rollback web@one
vmstore export web "$work/rolled"
expect_same "$work/one" "$work/rolled"
vmstore snap rm web@one
expect_exit 3 vmstore info web@one
vmstore verify web
stop_store
