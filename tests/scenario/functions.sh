# SPDX-License-Identifier: Apache-2.0
# What every scenario begins with: source it, name what it requires, start a store, expect things.
#
#   source "$(dirname "$0")/functions.sh"
#   requires nbdinfo qemu-io
#   start_store
#   vmstore create web 1G
#   expect_exit 3 vmstore info nope
#
# Each scenario has a folder $work and a run folder of its own, and ends everything it started by
# process id, whatever happens. Waiting is polling with a deadline, never a sleep of fixed length.
# shellcheck shell=bash
set -euo pipefail

: "${BUILD_DIR:?is set by ctest: the build folder}"
: "${SOURCE_DIR:?is set by ctest: the source folder}"

work=$(mktemp -d "${TMPDIR:-/tmp}/vmstore-scenario-XXXXXX")
run_dir=$(mktemp -d /dev/shm/vmstore-scenario-XXXXXX)
data_dir=$work/data
started_pids=()
undo_commands=()
up_pid=

export VMSTORE_RUN_DIR=$run_dir
unset VMSTORE_ENDPOINT
export PATH=$BUILD_DIR/cli:$BUILD_DIR/storaged:$PATH

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

# Ends one process by its id and waits for it.
end_process() {
  local pid=$1 signal=${2:-TERM}
  kill "-$signal" "$pid" 2>/dev/null || return 0
  wait "$pid" 2>/dev/null || true
}

cleanup() {
  local status=$?
  trap - EXIT
  local pid
  for pid in ${started_pids[@]+"${started_pids[@]}"}; do end_process "$pid" KILL; done
  # The children of `up` die with it.
  if [ -n "$up_pid" ]; then end_process "$up_pid" KILL; fi
  local i
  for ((i = ${#undo_commands[@]} - 1; i >= 0; i--)); do eval "${undo_commands[i]}" || true; done
  if [ "$status" -ne 0 ] && [ "$status" -ne 77 ] && [ -s "$work/up.log" ]; then
    echo "--- what vmstore up said ---" >&2
    tail -n 40 "$work/up.log" >&2
  fi
  rm -rf "$work" "$run_dir"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# undo_with COMMAND: a line of shell for the end, when no process is left; the last one goes first.
undo_with() { undo_commands+=("$1"); }

# Skips the scenario (77) unless all these programs are there.
requires() {
  local program
  for program in "$@"; do
    if ! command -v "$program" >/dev/null; then
      echo "SKIP: $program is not installed" >&2
      exit 77
    fi
  done
}

# wait_until SECONDS COMMAND...: polls until the command succeeds.
wait_until() {
  local seconds=$1 deadline
  shift
  deadline=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "waited $seconds s for: $*"
    read -r -t 0.05 <> <(:) || true
  done
}

# Runs a program in the background, with the stdin of the call; it is killed at the end if it still
# runs. Its id is $last_pid.
in_background() {
  "$@" <&0 &
  last_pid=$!
  started_pids+=("$last_pid")
}

# start_store [OPTION...]: `vmstore up` on $data_dir. Returns when it answers.
start_store() {
  vmstore up --data "$data_dir" "$@" >>"$work/up.log" 2>&1 &
  up_pid=$!
  wait_until 60 store_is_up
}

store_is_up() {
  kill -0 "$up_pid" 2>/dev/null || fail "vmstore up ended: $(tail -n 5 "$work/up.log")"
  vmstore ls --timeout 2s
}

# A planned stop.
stop_store() {
  vmstore down "$@"
  wait "$up_pid" || fail "vmstore up ended with $?"
  up_pid=
}

# `up` and everything it runs die at once, as in a crash of all of them.
crash_store() {
  end_process "$up_pid" KILL
  up_pid=
}

# Process ids of what `up` runs: the node's, or that of an attached disk's nbdkit.
node_pid() { control list | python3 -c 'import json,sys; print(json.load(sys.stdin)["node_pid"])'; }
nbdkit_pid() { vmstore nbd ls -H -o name,pid | awk -v name="$1" '$1 == name { print $2 }'; }

# control OP: one request to the supervisor's socket, the answer on stdout.
control() {
  python3 - "$run_dir/control.sock" "$1" <<'END'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"op": sys.argv[2]}).encode() + b"\n")
print(s.makefile().readline(), end="")
END
}

# expect_exit CODE COMMAND...: the command ends with just this code; its stderr is in $work/stderr.
expect_exit() {
  local wanted=$1 got=0
  shift
  "$@" 2>"$work/stderr" || got=$?
  [ "$got" -eq "$wanted" ] || fail "exit $got, not $wanted: $* ($(cat "$work/stderr"))"
}

# expect_same A B: two files with the same bytes.
expect_same() {
  cmp "$1" "$2" || fail "$1 and $2 differ"
}

# Bytes that no compression and no dedup finds anything in: random_file PATH BYTES
random_file() {
  head -c "$2" /dev/urandom >"$1"
}
