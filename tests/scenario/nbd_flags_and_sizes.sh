#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# N1: every export advertises what a guest needs for its data to be safe, and its true size.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo python3

# has_all URI NAME=VALUE...: the export's description, as nbdinfo sees it.
has_all() {
  local uri=$1
  shift
  nbdinfo --json "$uri" >"$work/info.json"
  python3 - "$work/info.json" "$@" <<'END'
import json, sys
export = json.load(open(sys.argv[1]))["exports"][0]
for wanted in sys.argv[2:]:
    name, value = wanted.split("=", 1)
    assert str(export[name]).lower() == value, f"{name} is {export[name]}, not {value}"
END
}

start_store
vmstore create web 10G
vmstore create lab/odd 1025K
vmstore snapshot web@v1
for reference in web lab/odd web@v1; do vmstore attach "$reference" >/dev/null; done

writable="is_read_only=false can_flush=true can_fua=true can_trim=true can_zero=true \
  can_fast_zero=true can_cache=true can_multi_conn=true is_rotational=false \
  block_size_minimum=512 block_size_preferred=4096 block_size_maximum=33554432"
# shellcheck disable=SC2086
has_all "$(vmstore nbd uri web)" export-size=$((10 << 30)) $writable
# shellcheck disable=SC2086
has_all "$(vmstore nbd uri lab/odd)" export-size=$((1025 << 10)) $writable
has_all "$(vmstore nbd uri web@v1)" export-size=$((10 << 30)) is_read_only=true can_multi_conn=true

nbdinfo --json "$(vmstore nbd uri web)" | grep -q '"description": "VMStore disk web, 10.0 GiB"' ||
  fail "no description"
nbdinfo --list "$(vmstore nbd uri lab/odd)" | grep -q 'export="lab/odd"' || fail "not listed"

# Who asks for the default export gets the one there is.
socket=$(vmstore nbd uri lab/odd | sed 's/.*socket=//')
[ "$(nbdinfo --size "nbd+unix:///?socket=$socket")" -eq $((1025 << 10)) ] || fail "no default"
stop_store
