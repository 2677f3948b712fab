#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A boot storm replays the recorded boot on every clone, tells its figures, and leaves nothing
# behind: neither when it ends by itself nor when it is interrupted in the middle of a paced replay,
# nor, once the next one has run, when it was killed there.
source "$(dirname "$0")/functions.sh"
requires nbdkit python3
start_store
trace=$SOURCE_DIR/bench/traces/debian-12-boot.trace

expect_nothing_left() {
  [ -z "$(vmstore ls -H -o name)" ] || fail "disks are left: $(vmstore ls -H -o name)"
  [ -z "$(vmstore nbd ls -H -o name)" ] || fail "exports are left"
}

vmstore bench boot-storm --vms 3 --trace "$trace" --json >"$work/report"
python3 - "$work/report" "$trace" <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
recorded = [line for line in open(sys.argv[2]) if line[:2] in ("r ", "w ", "z ", "t ", "f ")]
assert report["vms"] == 3, report
assert report["requests"]["count"] == 3 * len(recorded), report
assert 0 < report["first_boot_ns"] <= report["last_boot_ns"], report
assert report["nbdkit_cpu_us"] is not None and report["vmstored_cpu_us"] is not None, report
END
expect_nothing_left

# On a disk of the user's, through its snapshot; one that is too small is refused.
vmstore create small 1G
vmstore snapshot small@v1
expect_exit 8 vmstore bench boot-storm --vms 1 --trace "$trace" --image small@v1
vmstore rm small --now
expect_nothing_left

# A server of another kind.
nbdkit -f -U "$work/null.sock" null 2G &
started_pids+=($!)
wait_until 20 test -S "$work/null.sock"
vmstore bench boot-storm --vms 2 --trace "$trace" --uri "nbd+unix:///?socket=$work/null.sock" |
  grep -q '^2 boots at once' || fail "no report"

vmstore bench boot-storm --vms 2 --trace "$trace" --paced >/dev/null 2>"$work/said" &
storm=$!
started_pids+=("$storm")
all_connected() { [ "$(vmstore nbd ls -H -o clients | grep -c '^1$')" = 2 ]; }
wait_until 30 all_connected
kill -INT "$storm"
status=0
wait "$storm" || status=$?
[ "$status" = 130 ] || fail "interrupted, but status $status: $(cat "$work/said")"
expect_nothing_left

# One that is killed leaves its clones, attached; the next one removes them.
vmstore bench boot-storm --vms 2 --trace "$trace" --paced >/dev/null 2>"$work/said" &
started_pids+=("$!")
storm=$!
wait_until 30 all_connected
end_process "$storm" KILL
[ -n "$(vmstore nbd ls -H -o name)" ] || fail "a killed storm cleans up?"
vmstore bench boot-storm --vms 1 --trace "$trace" >/dev/null
expect_nothing_left
stop_store
