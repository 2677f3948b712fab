#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A backup of the catalogue is whole or refused, and goes only into the store it is of, also while
# that runs, when it has no disks.
source "$(dirname "$0")/functions.sh"
start_store

random_file "$work/a.raw" $((2 << 20))
vmstore import "$work/a.raw" web --source-format raw
vmstore snapshot web@s
vmstore meta backup "$work/backup"
expect_exit 4 vmstore meta backup "$work/backup"
expect_exit 4 vmstore create web 1G
head -c -1 "$work/backup" >"$work/cut"
expect_exit 8 vmstore meta restore "$work/cut"
vmstore create other 1G
expect_exit 4 vmstore meta restore "$work/backup" -y

# Into a running store whose disks are gone, but not yet their keys. The backup has what the
# collector wrote into the catalogue, too, which belongs to the node.
vmstore rm other --now
vmstore gc
vmstore meta backup "$work/backup" --overwrite
vmstore rm web --now
expect_exit 2 vmstore meta restore "$work/backup" -y --accept-loss
grep -q -- '--data' "$work/stderr" || fail "no word about the way: $(cat "$work/stderr")"
vmstore meta restore "$work/backup" -y
vmstore export web "$work/b.raw"
cmp "$work/a.raw" "$work/b.raw" || fail "bytes differ"
vmstore gc
vmstore verify --all >/dev/null
stop_store
