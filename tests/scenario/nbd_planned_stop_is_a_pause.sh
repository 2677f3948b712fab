#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A client that reconnects (QEMU) lives through a planned stop and through a kill of its server, in
# the middle of its writes, without an error, and finds every acknowledged write (I13).
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

start_store
vmstore create web 64M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
socket=${uri#*socket=}

# A guest that does not flush: one command a line, so the server changes between two writes, and
# while one is on its way.
mkfifo "$work/commands"
exec 3<>"$work/commands"  # both ends at once: opening only one of a pipe waits for the other
in_background qemu-io -t unsafe --image-opts \
  "driver=nbd,server.type=unix,server.path=$socket,export=web,reconnect-delay=60" \
  <"$work/commands" >"$work/guest.log" 2>&1 3>&-
guest=$last_pid
# qemu-io takes in several lines at once and looks at the second only when there is a third, and it
# writes out what it says with the next prompt: an empty line makes it do both.
has_written() {
  echo >&3
  [ "$(grep -o wrote "$work/guest.log" | wc -l)" -ge "$1" ]
}
serves_again() { [ -n "$(nbdkit_pid web)" ] && [ "$(nbdkit_pid web)" != "$1" ]; }
for ((i = 0; i < 12; i++)); do
  echo "aio_write -P $((i + 1)) ${i}M 1M" >&3
  pid=$(nbdkit_pid web)
  case $((i % 4)) in
    1) kill -USR1 "$pid" ;;
    3) kill -KILL "$pid" ;;
    *) pid= ;;
  esac
  echo "write -P $((i + 101)) $((i + 20))M 64k" >&3
  wait_until 60 has_written $((2 * i + 2))
  if [ -n "$pid" ]; then wait_until 60 serves_again "$pid"; fi
done
echo 'aio_flush' >&3
for ((i = 0; i < 12; i++)); do
  echo "read -P $((i + 1)) ${i}M 1M" >&3
  echo "read -P $((i + 101)) $((i + 20))M 64k" >&3
done
exec 3>&-
wait "$guest" || fail "$(cat "$work/guest.log")"
if grep -Eiq 'error|failed' "$work/guest.log"; then fail "$(cat "$work/guest.log")"; fi
stop_store
