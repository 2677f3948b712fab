#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A store that a later release has written is refused with a word that says so, and not one byte of
# it is changed: neither with a newer identity nor with a newer catalogue. Of a collector that knows
# more, everything is served and nothing is freed.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io timeout

# Behind 8 bytes of magic all our files have their version; it is looked at before any checksum.
make_newer() { printf '\x63' | dd of="$1" bs=1 seek=8 conv=notrunc status=none; }
digest_of_folder() { (cd "$data_dir" && find . -type f ! -path './meta/*' -exec sha256sum {} + |
  sort -k 2 | sha256sum); }

export VMSTORE_JOURNAL_SIZE=16M
start_store
vmstore create web 8M
vmstore attach web >/dev/null
qemu-io -f raw "$(vmstore nbd uri web)" -c 'write -P 1 0 1M' -c flush >/dev/null
vmstore gc
stop_store
cp -a "$data_dir" "$work/good"

for file in store catalogue; do
  rm -rf "$data_dir"
  cp -a "$work/good" "$data_dir"
  make_newer "$data_dir/$file"
  before=$(digest_of_folder)
  expect_exit 1 timeout 20 vmstored --data "$data_dir" --listen "unix:$work/x.sock"
  grep -q 'newer' "$work/stderr" || fail "$file: no word of it: $(cat "$work/stderr")"
  [ "$(digest_of_folder)" = "$before" ] || fail "$file: the folder was changed"
done
rm -rf "$data_dir"
mv "$work/good" "$data_dir"
make_newer "$data_dir/gc"
before=$(sha256sum <"$data_dir/gc")
start_store
expect_exit 1 vmstore gc
grep -q 'newer' "$work/stderr" || fail "gc: $(cat "$work/stderr")"
[ "$(sha256sum <"$data_dir/gc")" = "$before" ] || fail "the collector's state was changed"
vmstore verify --all >/dev/null
stop_store
