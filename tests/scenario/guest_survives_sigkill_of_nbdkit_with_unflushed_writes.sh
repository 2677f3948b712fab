#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# I13: QEMU believes that every write it was told of is there, flushed or not, and reconnects to
# whatever serves the socket. A client that writes without a flush, at many places, many times over,
# meets kills of its server between any two writes and in the midst of them, and finds each
# acknowledged write, newest over older; so does whoever comes after a flush and a kill.
source "$(dirname "$0")/functions.sh"
requires nbdkit python3

start_store
vmstore create web 16M
vmstore attach web >/dev/null
kill_server() { kill -KILL "$(nbdkit_pid web)"; }

# The client says "n" after each round of writes; then its server is killed while it goes on.
mkfifo "$work/said"
exec 5<>"$work/said"
in_background python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "$run_dir/nbd/web.sock" web \
  survive 6 >"$work/said" 2>"$work/client.err" 5>&-
client=$last_pid
kills=0
while IFS= read -r -t 60 word <&5; do
  case $word in
    round*)
      kill_server
      kills=$((kills + 1))
      ;;
    survived*)
      echo "$word; $kills kills"
      break
      ;;
    failed*) fail "$word" ;;
  esac
done
wait "$client" || fail "the client failed: $(tail -n 3 "$work/client.err")"
[ "$kills" -ge 6 ] || fail "only $kills kills"
stop_store
