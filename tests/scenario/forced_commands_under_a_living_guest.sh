#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# snap rollback, resize --allow-shrink and rm against a server that lives: busy while a client is
# connected, done at once when none is; with --force done as well, the client gets errors from then
# on and the next one is served. Nothing takes longer than its bound.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

start_store
vmstore create web 8M
uri=$(vmstore attach web)

# A guest that stays: qemu-io takes commands from a pipe and answers into a file.
guest_begin() {
  rm -f "$work/commands"
  mkfifo "$work/commands"
  exec 3<>"$work/commands"
  in_background qemu-io -f raw "$uri" <&3 >"$work/guest" 2>&1
  guest=$last_pid
  guest_says wrote write -P "$1" 0 64k
}
guest_says() { # guest_says WORD COMMAND...: the answer to the command contains the word
  local word=$1 before
  shift
  before=$(wc -c <"$work/guest")
  echo "$*" >&3
  wait_until 20 answered "$before"
  tail -c "+$((before + 1))" "$work/guest" | grep -q "$word" || fail "$*: $(cat "$work/guest")"
}
answered() { tail -c "+$(($1 + 1))" "$work/guest" | grep -q 'wrote\|read \|failed\|error'; }
guest_end() {
  echo quit >&3
  wait "$guest" || true
  exec 3>&-
}
reads() {
  qemu-io -r -f raw "$uri" -c "read -P $1 0 64k" >"$work/io" 2>&1 &&
    ! grep -qi 'verification\|error' "$work/io"
}
bounded() { # bounded COMMAND...: within thirty seconds
  timeout 30 "$@"
}

qemu-io -f raw "$uri" -c 'write -P 1 0 64k' -c flush >/dev/null
vmstore snapshot web@a

guest_begin 2
expect_exit 5 bounded vmstore snap rollback web@a -y
bounded vmstore snap rollback web@a --force -y
guest_says 'failed\|error' write -P 9 0 64k
bounded vmstore snap rollback web@a --force -y
guest_end
reads 1 || fail "not rolled back: $(cat "$work/io")"

# Attached, and nobody connected: not busy.
qemu-io -f raw "$uri" -c 'write -P 3 0 64k' -c flush >/dev/null
bounded vmstore snap rollback web@a -y
reads 1 || fail "not rolled back: $(cat "$work/io")"

guest_begin 4
expect_exit 5 bounded vmstore resize web 4M --allow-shrink -y
bounded vmstore resize web 4M --allow-shrink --force -y
guest_says 'failed\|error' write -P 9 0 64k
guest_end
reads 4 || fail "an answered write is gone: $(cat "$work/io")"
[ "$(vmstore info web --json |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["disk"]["size"])')" = $((4 << 20)) ] ||
  fail "$(vmstore info web)"
vmstore verify web

# rm asks the supervisor of this run folder; the server of another one is fenced.
vmstore detach web
other_dir=$(mktemp -d /dev/shm/vmstore-scenario-XXXXXX)
undo_with "rm -rf '$other_dir'"
in_background nbdkit -f -U "$other_dir/web.sock" \
  "$BUILD_DIR/nbd-plugin/nbdkit-vmstore-plugin.so" endpoint="$run_dir/vmstored.sock" disk=web
uri="nbd+unix:///web?socket=$other_dir/web.sock"
wait_until 20 test -S "$other_dir/web.sock"
guest_begin 5
expect_exit 5 bounded vmstore rm web -y
bounded vmstore rm web --force -y
guest_says 'failed\|error' write -P 9 0 64k
guest_end
bounded vmstore trash restore web
vmstore export web "$work/back"
cmp -n 65536 "$work/back" <(printf '\5%.0s' {1..65536}) || fail "restored with other bytes"
stop_store
