#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A node whose catalogue is in an etcd: while etcd is away, killed for 30 s or silent for 10 s, a
# running disk goes on writing and flushing without an error; when it is back, so is the rest.
source "$(dirname "$0")/functions.sh"
source "$(dirname "$0")/functions_etcd.sh"
requires nbdkit qemu-io fio python3

# write_for SECONDS: random writes with a flush each 16; prints the longest gap.
write_for() {
  fio --name=away --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=4 --size=64M \
    --offset=64M \
    --time_based --runtime="$1" --rate_iops=400 --fsync=16 --output-format=json \
    --output="$work/fio.json" || fail "fio: $(cat "$work/fio.json")"
  python3 - "$work/fio.json" "$1" <<'END'
import json, sys
text = open(sys.argv[1]).read()
job = json.JSONDecoder().raw_decode(text[text.index("{"):])[0]["jobs"][0]
assert job["error"] == 0 and job["write"]["total_ios"] > 100 * int(sys.argv[2]), job["write"]
print("etcd away %s s: %d writes, longest gap %.0f ms" %
      (sys.argv[2], job["write"]["total_ios"], job["write"]["clat_ns"]["max"] / 1e6))
END
}

start_etcd
export VMSTORE_META=etcd=$etcd_url
start_store
vmstore create busy 256M
vmstore create idle 64M
vmstore attach busy >/dev/null
uri=$(vmstore nbd uri busy)

# The guest: connected all the time, so that the disk stays this process's.
mkfifo "$work/guest"
exec 9<>"$work/guest"
in_background qemu-io -f raw "$uri" <"$work/guest" >"$work/guest.out" 2>&1
guest_pid=$last_pid
echo 'write -P 5 0 64k' >&9
wait_until 20 grep -q 'wrote 65536/65536' "$work/guest.out"
write_for 2

end_etcd KILL
write_for 30
echo 'read -P 5 0 64k' >&9
wait_until 20 grep -q 'read 65536/65536' "$work/guest.out"
if grep -q 'verification failed' "$work/guest.out"; then fail "$(cat "$work/guest.out")"; fi
start_etcd
wait_until 30 vmstore snapshot busy@back
vmstore rm idle

kill -STOP "$etcd_pid"
write_for 10
kill -CONT "$etcd_pid"
wait_until 30 vmstore snapshot busy@again
vmstore clone busy@again copy
vmstore verify --all >/dev/null
echo quit >&9
wait "$guest_pid"
stop_store

# The folder knows where its catalogue is.
unset VMSTORE_META
expect_exit 1 vmstore up --data "$data_dir"
grep -q 'is in etcd' "$work/stderr" || fail "no word about etcd: $(cat "$work/stderr")"
[ ! -e "$data_dir/meta" ] || fail "a second catalogue in the folder"

# Everything comes up again, etcd last.
export VMSTORE_META=etcd=$etcd_url
end_etcd
vmstore up --data "$data_dir" >>"$work/up.log" 2>&1 &
up_pid=$!
wait_until 20 grep -q 'waiting for etcd' "$work/up.log"
start_etcd
wait_until 60 store_is_up
vmstore info copy -q >/dev/null
stop_store
