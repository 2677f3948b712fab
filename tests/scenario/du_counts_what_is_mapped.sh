#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `du`, `info` and `import` count what the index of a disk names: of an idle disk, of a clone, of
# one in use with everything acknowledged in it, of one that a dead client left. What nobody can
# count at the moment is shown as unknown, not as a number.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

mib=$((1 << 20))
mapped() { vmstore du "$1" -H --bytes -o mapped; }
is_mapped() { [ "$(mapped "$1")" = "$2" ]; }
expect_mapped() { is_mapped "$1" "$2" || fail "$1: $(mapped "$1") bytes are mapped, not $2"; }

start_store
random_file "$work/a.raw" $((6 * mib))
truncate -s 64M "$work/a.raw"
vmstore import "$work/a.raw" base --source-format raw >"$work/imported" 2>&1
cat "$work/imported"
grep -q '6.00 MiB mapped' "$work/imported" || fail "import does not say what is mapped"
vmstore create empty 10T
vmstore clone base web
expect_mapped base $((6 * mib))
expect_mapped web $((6 * mib))
expect_mapped empty 0

vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
qemu-io -f raw "$uri" -c 'write -P 1 5M 3M' >/dev/null
expect_mapped web $((8 * mib))
qemu-io -f raw "$uri" -c 'discard 0 2M' -c 'write -z 2M 512k' -c 'write -P 1 63M 4k' >/dev/null
less=$((8 * mib - 2560 * 1024 + 4096))
expect_mapped web $less
expect_mapped base $((6 * mib))
vmstore info web --json >"$work/info"
python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["disk"]["mapped"] == '$less \
  "$work/info" || fail "info says something else: $(cat "$work/info")"
vmstore detach web
expect_mapped web $less

# Its last client died: nobody knows until somebody opens it.
vmstore attach web >/dev/null
qemu-io -f raw "$uri" -c 'write -P 1 40M 1M' >/dev/null
crash_store
start_store
is_mapped web - || fail "a number is shown: $(mapped web)"
vmstore snapshot web@now
expect_mapped web $((less + mib))
stop_store
