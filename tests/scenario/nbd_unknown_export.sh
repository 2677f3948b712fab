#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A socket serves its own disk only: other names, and bytes that are no name, are refused with the
# reason in the log, and the server lives on.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdinfo

start_store
vmstore create web 1G
vmstore create db 1G
vmstore snapshot web@v1
vmstore attach web >/dev/null
socket=$(vmstore nbd uri web | sed 's/.*socket=//')
pid=$(nbdkit_pid web)

long=$(printf 'a%.0s' $(seq 4000))
for name in db web@v1 nope Web web/ ../web %2e%2e web%0a web%40 'web%20;id' '%c3%28' "$long"; do
  if nbdinfo "nbd+unix:///$name?socket=$socket" >"$work/out" 2>&1; then
    fail "export '$name' was served: $(cat "$work/out")"
  fi
done
wait_until 10 grep -q 'export "db": only web is served' "$work/up.log"
wait_until 10 grep -q 'export "web?": not a name' "$work/up.log"
[ "$(nbdkit_pid web)" = "$pid" ] || fail "the server died of a name"
nbdinfo --size "$(vmstore nbd uri web)" >/dev/null
stop_store
