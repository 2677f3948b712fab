#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A folder that holds something else is never made a store of, and a store is never served without
# or with a damaged identity; nothing in the folder is changed.
source "$(dirname "$0")/functions.sh"
requires timeout

everything_in() { (cd "$1" && find . -printf '%p %y %s %m\n' | sort; find . -type f \
  -exec sha256sum {} + 2>/dev/null | sort -k 2); }
# refused FOLDER WORD [CODE]: by vmstored and by `up`, with the word, and nothing changed.
refused() {
  everything_in "$1" >"$work/before"
  expect_exit "${3:-2}" timeout 20 vmstored --data "$1" --create --listen "unix:$work/x.sock"
  grep -q "$2" "$work/stderr" || fail "no '$2': $(cat "$work/stderr")"
  expect_exit "${3:-2}" timeout 20 vmstore up --data "$1"
  grep -q "$2" "$work/stderr" || fail "up: no '$2': $(cat "$work/stderr")"
  everything_in "$1" | diff "$work/before" - || fail "$1 was changed"
}

export VMSTORE_JOURNAL_SIZE=16M
mkdir "$work/photos"
random_file "$work/photos/cat.jpg" 10000
refused "$work/photos" cat.jpg

# Empty is good, what mkfs leaves there as well.
mkdir -p "$data_dir/lost+found"
start_store --create
vmstore create web 1M
stop_store
mv "$data_dir/store" "$work/store"
refused "$data_dir" 'not a store'
head -c 80 /dev/urandom >"$data_dir/store"
refused "$data_dir" 'store'
cp "$work/store" "$data_dir/store"
printf 'x' | dd of="$data_dir/store" bs=1 seek=20 conv=notrunc status=none
refused "$data_dir" 'identity' 1
cp "$work/store" "$data_dir/store"

# The catalogue of another store.
mv "$data_dir" "$work/first"
start_store
stop_store
rm -rf "$data_dir/meta"
cp -a "$work/first/meta" "$data_dir/meta"
expect_exit 2 timeout 20 vmstored --data "$data_dir" --listen "unix:$work/x.sock"
rm -rf "$data_dir"
mv "$work/first" "$data_dir"
start_store
[ "$(vmstore ls -H -o name)" = web ] || fail "$(vmstore ls)"
stop_store

# A pipe in place of the log of a detached start hangs nobody.
rm -f "$run_dir/up.log"
mkfifo "$run_dir/up.log"
refused_log() { expect_exit "$1" timeout 20 vmstore up --detach --data "$data_dir"; }
refused_log 1
exec 9<>"$run_dir/up.log" # with a reader it opens
refused_log 2
exec 9>&-
rm "$run_dir/up.log"
