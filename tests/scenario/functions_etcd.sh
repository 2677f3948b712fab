# SPDX-License-Identifier: Apache-2.0
# An etcd of one member, for scenarios that source this behind functions.sh: free loopback ports,
# its data in $work/etcd, ended with everything else. $etcd_url is its address, $etcd_pid its
# process.
# shellcheck shell=bash
requires etcd python3

read -r etcd_port etcd_peer_port < <(python3 - <<'END'
import socket
sockets = [socket.socket() for _ in range(2)]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in sockets])
END
)
etcd_url=http://127.0.0.1:$etcd_port
etcd_pid=

start_etcd() {
  local peer=http://127.0.0.1:$etcd_peer_port
  in_background etcd --name scenario --data-dir "$work/etcd" --log-level error \
    --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" \
    --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
    --initial-cluster "scenario=$peer" >>"$work/etcd.log" 2>&1
  etcd_pid=$last_pid
  wait_until 30 etcd_is_healthy
}

etcd_is_healthy() {
  kill -0 "$etcd_pid" 2>/dev/null || fail "etcd ended: $(tail -n 5 "$work/etcd.log")"
  (
    exec 3<>"/dev/tcp/127.0.0.1/$etcd_port"
    printf 'GET /health HTTP/1.0\r\n\r\n' >&3
    timeout 2 cat <&3 | grep -q '"health":"true"'
  )
}

end_etcd() { end_process "$etcd_pid" "${1:-TERM}"; }
