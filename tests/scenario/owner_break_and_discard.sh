#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `owner ls` says who may write. `owner break` takes a disk from a holder that does not answer any
# more; what that one writes afterwards is an error, never mixed in. `owner discard` sets aside what
# a dead client had acknowledged and nobody could replay, and only then older bytes are served.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

owner() { vmstore owner ls "$1" -H -o "$2"; }
held_by_nobody() { [ "$(owner web held)" = no ]; }

start_store
vmstore create web 8M
vmstore create other 8M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
expect_exit 3 vmstore owner break nope -y
expect_exit 3 vmstore owner discard nope -y
expect_exit 3 vmstore owner discard web -y
qemu-io -f raw "$uri" -c 'write -P 1 0 1M' -c flush >/dev/null
[ "$(owner web held,holder)" = $'yes\tnbdkit' ] || fail "$(vmstore owner ls)"
[ "$(owner other held)" = no ] || fail "$(vmstore owner ls)"
vmstore owner break web -n
[ "$(owner web holder)" = nbdkit ] || fail "a dry run took the disk"
[ "$(vmstore owner ls --json | python3 -c '
import json, sys
print([o["held"] for o in json.load(sys.stdin)["owners"] if o["name"] == "web"][0])')" = True ] ||
  fail "owner ls --json"

# The holder is stopped in the midst of its life, the disk is taken, the holder goes on.
epoch=$(owner web epoch)
nbdkit=$(nbdkit_pid web)
mkfifo "$work/commands"
exec 3<>"$work/commands"
in_background qemu-io -f raw "$uri" <&3 >"$work/guest" 2>&1
guest=$last_pid
echo 'write -P 1 0 64k' >&3
wait_until 20 grep -q 'wrote 65536' "$work/guest"
kill -STOP "$nbdkit"
vmstore owner break web -y
[ "$(owner web epoch)" -gt "$epoch" ] || fail "no new epoch: $(vmstore owner ls)"
kill -CONT "$nbdkit"
# It was fenced: its guest's next flush is an error, not an acknowledgement (I3).
guest_answered() { [ "$(wc -c <"$work/guest")" -gt "$1" ]; }
for command in 'write -P 2 2M 64k' flush; do # not both at once: it waits for input that it has
  before=$(wc -c <"$work/guest")
  echo "$command" >&3
  wait_until 20 guest_answered "$before"
done
echo quit >&3
wait "$guest" || true
exec 3>&-
grep -qi 'error\|failed' "$work/guest" ||
  fail "a fenced server acknowledged a flush: $(cat "$work/guest")"
# Another client of the same server is another guest: it is served what was flushed before.
qemu-io -r -f raw "$uri" -c 'read -P 1 0 1M' >"$work/io" 2>&1 || fail "$(cat "$work/io")"
if grep -qi 'error\|verification' "$work/io"; then fail "$(cat "$work/io")"; fi
# Attached anew it serves what was flushed before.
vmstore detach web --force
vmstore attach web >/dev/null
reads() { # reads ARGUMENTS-OF-READ...: the disk has just these bytes
  local act acts=()
  for act in "$@"; do acts+=(-c "read $act"); done
  qemu-io -r -f raw "$uri" "${acts[@]}" >"$work/io" 2>&1 &&
    ! grep -q 'verification failed' "$work/io"
}
reads '-P 1 0 1M' || fail "$(cat "$work/io")"

# A write that is acknowledged and, with the node stopped, in the batch file only. Then its server
# dies.
unflushed() {
  python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "$run_dir/nbd/web.sock" web die_unflushed \
    "$(node_pid)" "$(nbdkit_pid web)" "$1" $((4 << 20)) 65536
}
discarded() { vmstore owner discard web -y >"$work/discarded" 2>&1; }
batch_files() { find "$run_dir" "/dev/shm/vmstore-$(id -u)" -name "*-$id*" 2>/dev/null || true; }
id=$(vmstore info web --json |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["disk"]["id"])')

unflushed 5
reads '-P 5 4M 64k' || fail "not replayed: $(cat "$work/io")"
unflushed 6
wait_until 20 discarded  # until then the dead one's lease runs
grep -q '1 acknowledged batch$' "$work/discarded" || fail "$(cat "$work/discarded")"
[ "$(batch_files | grep -c aside)" -eq 1 ] || fail "not set aside: $(batch_files)"
reads '-P 5 4M 64k' '-P 1 0 1M' || fail "$(cat "$work/io")"

# The file is lost: never older bytes, until somebody says so.
unflushed 7
batch_files | grep -v aside | xargs rm
wait_until 20 held_by_nobody
if reads '-P 1 0 1M'; then fail "older bytes were served"; fi
wait_until 5 grep -q 'owner discard web' "$work/up.log"
expect_exit 0 vmstore owner discard web -y
reads '-P 5 4M 64k' '-P 1 0 1M' || fail "$(cat "$work/io")"
stop_store
