#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `vmstore meta migrate`: the catalogue of a stopped node moves to etcd, killed after each of its
# steps and run again. In between nobody serves the folder; afterwards only with that etcd.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/functions_etcd.sh"
requires nbdkit qemu-io

digests() {
  local name
  for name in base base@v1 copy; do
    echo "$name $(vmstore export "$name" "$work/out.raw" --overwrite --sha256 |
      grep -oE '[0-9a-f]{64}')"
  done
}
refused() { # refused WORDS [ENVIRONMENT...]: no node starts, and it says why
  local words=$1
  shift
  expect_exit 1 env "$@" vmstore up --data "$data_dir"
  grep -q "$words" "$work/stderr" || fail "not a word of '$words': $(cat "$work/stderr")"
}

start_store
random_file "$work/a.raw" $((6 << 20))
vmstore import "$work/a.raw" base --source-format raw
vmstore snapshot base@v1
vmstore clone base@v1 copy
vmstore create gone 8M
vmstore rm gone
vmstore attach copy >/dev/null
qemu-io -f raw "$(vmstore nbd uri copy)" -c 'write -P 7 1M 2M' -c flush >/dev/null
digests >"$work/digests"
expect_exit 5 vmstore meta migrate --data "$data_dir" --to "etcd=$etcd_url" -y
stop_store

to_etcd=VMSTORE_META=etcd=$etcd_url
expect_exit 1 vmstore meta migrate --data "$data_dir" --to "etcd=$etcd_url" -y
start_etcd
refused 'meta migrate' "$to_etcd"
for point in marked filled logged set_aside; do
  expect_exit 137 env "VMSTORE_FAULT=meta.move.$point=kill" \
    vmstored --migrate-meta --data "$data_dir" --meta "etcd=$etcd_url"
  refused 'on its way'
  refused 'on its way' "$to_etcd"
done
# With RocksDB's folder aside it cannot be given up any more.
expect_exit 1 vmstored --rebuild-meta --data "$data_dir"
vmstore meta migrate --data "$data_dir" --to "etcd=$etcd_url" -y
expect_exit 4 vmstore meta migrate --data "$data_dir" --to "etcd=$etcd_url" -y
refused 'is in etcd'
expect_exit 1 vmstore meta rebuild --data "$data_dir" -y
[ -d "$data_dir/meta.old" ] || fail "the old catalogue is not kept"
[ ! -e "$data_dir/meta" ] || fail "the old catalogue is still there"

export VMSTORE_META=etcd=$etcd_url
start_store
digests | diff "$work/digests" - || fail "bytes differ"
vmstore trash restore gone
vmstore attach copy >/dev/null
qemu-io -f raw "$(vmstore nbd uri copy)" -c 'write -P 9 4M 64k' -c 'read -P 7 1M 2M' -c flush \
  >"$work/io" 2>&1 || fail "$(cat "$work/io")"
if grep -q 'verification failed' "$work/io"; then fail "$(cat "$work/io")"; fi
vmstore snapshot copy@there
vmstore gc >/dev/null
vmstore verify --all >/dev/null
stop_store

# Another store finds that etcd taken.
expect_exit 2 env "$to_etcd" vmstored --create --data "$work/other"
grep -q 'catalogue of store' "$work/stderr" || fail "$(cat "$work/stderr")"
