#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A restart of vmstored under load is a pause for the guest, never an I/O error. fio writes random
# blocks with checksums, flushes and reads back as fast as it can while the node is killed again and
# again; the longest time in which no request of it was answered is measured and stays below 30 s.
source "$(dirname "$0")/functions.sh"
requires nbdkit fio python3

readonly kills_min=3 pause_limit_s=30

start_store
vmstore create web 256M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
nbdkit=$(nbdkit_pid web)

# A line of its log for each request: when it was answered, in ms.
in_background fio --name=guest --ioengine=nbd --uri="$uri" --size=256M --rw=randwrite --bs=4k \
  --iodepth=16 --fsync=64 --verify=crc32c --verify_backlog=256 --randseed=7 --time_based \
  --runtime=25 --write_lat_log="$work/guest" --log_unix_epoch=1 --output-format=json \
  --output="$work/fio.json" --aux-path="$work" </dev/null >"$work/fio.log" 2>&1
fio=$last_pid
runs() { kill -0 "$fio" 2>/dev/null; }
serves_again() { [ "$(node_pid)" != "$node" ] && vmstore ls --timeout 2s; }
while :; do
  for _ in {1..30}; do read -r -t 0.1 <> <(:) || true; done  # three seconds of load between kills
  runs || break
  node=$(node_pid)
  date +%s%3N >>"$work/kills"
  kill -KILL "$node"
  wait_until 60 serves_again
done
wait "$fio" || fail "fio failed: $(cat "$work/fio.log" "$work/fio.json" | tail -n 20)"
[ "$(nbdkit_pid web)" = "$nbdkit" ] || fail "the disk's server was restarted, too"

python3 - "$work" $kills_min $pause_limit_s <<'END'
import json, sys
work, kills_min, pause_limit_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
job = json.load(open(f"{work}/fio.json"))["jobs"][0]
assert job["error"] == 0, job["error"]
answered = sorted(int(line.split(",")[0]) for line in open(f"{work}/guest_lat.1.log"))
# A kill in fio's last moments met no load: it writes no more, or only what was under way.
kills = [moment for moment in map(int, open(f"{work}/kills")) if moment < answered[-1] - 1000]
gaps = list(zip(answered, answered[1:]))
longest = max(after - before for before, after in gaps)
# What each kill made: the longest gap that ended before the next one.
pauses = []
for kill, following in zip(kills, kills[1:] + [answered[-1]]):
    pauses.append(max(after - before for before, after in gaps if kill <= after <= following))
print(
    f"{len(kills)} kills of the node under {job['write']['total_ios']} writes,"
    f" {job['sync']['total_ios']} flushes and {job['read']['total_ios']} verified reads;"
    f" pauses of {', '.join(map(str, pauses))} ms; the longest gap: {longest} ms"
)
assert len(kills) >= kills_min, f"only {len(kills)} kills"
assert longest < pause_limit_s * 1000, f"a pause of {longest} ms"
# They were felt: else something else was killed, or nothing ran.
usual = sorted(after - before for before, after in gaps)[len(gaps) // 2]
assert min(pauses) > 10 * usual + 20, (pauses, usual)
assert job["read"]["total_ios"] > 1000, job["read"]["total_ios"]
END
stop_store
