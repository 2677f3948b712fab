#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# While a client is connected, `detach` and `down` refuse with exit 5; forced, they stop in order
# and everything acknowledged is there afterwards.
source "$(dirname "$0")/functions.sh"
requires nbdkit nbdcopy python3
start_store

vmstore create web 4M
uri=$(vmstore attach web)
mkfifo "$work/hold" "$work/said"
cat >"$work/client.py" <<'END'
# A client of the oldest kind: negotiates, writes 4 KiB of 'x' at 1 MiB without a flush, then waits.
import socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
f = s.makefile("rb")
f.read(18)
s.sendall(struct.pack(">I", 3))
s.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 3) + b"web")
f.read(10)
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 1 << 20, 4096) + b"x" * 4096)
assert f.read(16)[4:8] == b"\0\0\0\0"
open(sys.argv[3], "w").write("written\n")
open(sys.argv[2]).read()
END
in_background python3 "$work/client.py" "$run_dir/nbd/web.sock" "$work/hold" "$work/said"
client=$last_pid
read -r _ <"$work/said"
expect_exit 5 vmstore detach web
expect_exit 5 vmstore down
stop_store --force
end_process "$client"
start_store
vmstore attach web >/dev/null
nbdcopy "$uri" "$work/back"
[ "$(dd if="$work/back" bs=4096 skip=256 count=1 status=none | tr -d x | wc -c)" = 0 ] ||
  fail "the acknowledged write is gone"
stop_store
