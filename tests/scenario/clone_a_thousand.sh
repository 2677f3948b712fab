#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A thousand clones of one snapshot in one go; names are checked before the first is made.
source "$(dirname "$0")/functions.sh"
requires qemu-img
start_store

random_file "$work/a.raw" $((4 << 20))
vmstore import "$work/a.raw" base/debian --source-format raw
vmstore snapshot base/debian@v1
vmstore clone base/debian@v1 web --count 1000 --name-pattern 'web-%04d' | tee "$work/said"
grep -q '^1000 clones of base/debian@v1 in .* (0 bytes copied)' "$work/said" ||
  fail "said something else"
[ "$(vmstore ls 'web-*' -H -o name | wc -l)" = 1000 ] || fail "not a thousand"
vmstore export web-1000 "$work/b.raw"
expect_same "$work/a.raw" "$work/b.raw"

expect_exit 4 vmstore clone base/debian@v1 web --count 1001 --name-pattern 'web-%04d'
[ "$(vmstore ls -H -o name | wc -l)" = 1001 ] || fail "made before all names were checked"
expect_exit 2 vmstore clone base/debian@v1 web --count 3 --name-pattern 'web'
expect_exit 3 vmstore clone base/debian@v2 other

vmstore rm base/debian --now
vmstore export web-0001 "$work/b.raw" --overwrite
expect_same "$work/a.raw" "$work/b.raw"
stop_store
