#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# C10: on a full store a write waits, then is refused for want of space before it is acknowledged
# (QEMU pauses its guest). What was acknowledged stays, whoever is killed; `df` says how full it is,
# and reading, snapshots and removing work. With space freed the same request goes on, and one that
# still waits never learns of it.
source "$(dirname "$0")/functions.sh"
requires nbdkit python3 losetup mkfs.ext4 mount umount
[ "$(id -u)" -eq 0 ] || { echo "SKIP: loop devices need root" >&2; exit 77; }

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
truncate -s 256M "$work/small.img"
mkfs.ext4 -q "$work/small.img"
mkdir "$data_dir"
mount -o loop "$work/small.img" "$data_dir" || { echo "SKIP: no loop device" >&2; exit 77; }
undo_with 'umount -l "$data_dir"'

nbd_client=$SOURCE_DIR/tests/scenario/nbd_client.py
client() { python3 "$nbd_client" "$run_dir/nbd/$1.sock" "$@"; }
percent_full() { vmstore df 2>&1 | sed -nE 's/.*file system ([0-9]+) % full.*/\1/p'; }
# fill NAME FIRST LAST: in the background; what it says is in $work/NAME.said, its stdin is fd 5.
fill() {
  mkfifo "$work/$1.word"
  exec 5<>"$work/$1.word"
  : >"$work/$1.said"
  in_background python3 "$nbd_client" "$run_dir/nbd/$1.sock" "$1" fill "$2" "$3" \
    <"$work/$1.word" >"$work/$1.said" 5>&-
}
is_full() { grep -q '^full' "$work/$1.said"; }
is_done() { grep -q '^done' "$work/$1.said"; }

start_store --create
for name in old web; do
  vmstore create "$name" 400M
  vmstore attach "$name" >/dev/null
done
[ -z "$(percent_full)" ] || fail "a new store warns"
# Another disk, that will go, to the first step of the warnings.
for ((n = 0; n < 600; n += 20)); do
  client old fill "$n" $((n + 20)) >/dev/null
  full=$(percent_full)
  if [ "${full:-0}" -ge 70 ]; then break; fi
done
[ "${full:-0}" -ge 70 ] || fail "df does not say that it fills: $(vmstore df 2>&1)"

# Until there is no more. The answer takes 20 s: that long a write waits for space.
fill web 0 1600
filler=$last_pid
is_full_and_df_looked_at() { percent_full && is_full web; }
wait_until 60 is_full_and_df_looked_at
wrote=$(sed -n 's/^full //p' "$work/web.said")
echo "refused after $wrote chunks of 256 KiB; $(percent_full) % full"
[ "$wrote" -ge 40 ] || fail "only $wrote chunks fit"
[ "$(percent_full)" -ge 85 ] || fail "full at $(percent_full) %"
for step in 7 8 9; do
  grep -q "file system is $step[0-9] % full" "$work/up.log" || fail "no warning at $step. %"
done
client web check_chunks 0 "$wrote" || fail "acknowledged writes are not there"

# Whoever is killed now, nothing that was acknowledged is lost, and the node starts on a full disk.
kill -KILL "$(node_pid)"
client web check_chunks 0 "$wrote" || fail "lost with the node"
kill -KILL "$(nbdkit_pid web)"
client web check_chunks 0 "$wrote" || fail "lost with nbdkit"
end_process "$filler" KILL
vmstore snapshot web@full

# A client that sends the refused request again, after space was freed, goes on.
rm "$work/web.word"
fill web "$wrote" $((wrote + 80))
filler=$last_pid
wait_until 60 is_full web
vmstore detach old
vmstore rm old --now
vmstore gc
echo >&5
wait_until 60 is_done web
wait "$filler" || fail "the client failed: $(cat "$work/web.said")"
client web check_chunks 0 $((wrote + 80)) || fail "bytes differ"

# Freed while a write waits: it never learns of it.
vmstore create filler 400M
vmstore attach filler >/dev/null
fill filler 0 1600
filler=$last_pid
wait_until 90 is_full filler
: >"$work/web.said"
in_background python3 "$nbd_client" "$run_dir/nbd/web.sock" web fill $((wrote + 80)) \
  $((wrote + 200)) </dev/null >"$work/web.said"
waiting=$last_pid
for _ in {1..20}; do  # two seconds: longer than writing takes, shorter than a refusal
  read -r -t 0.1 <> <(:) || true
  if is_done web; then fail "there was room for it"; fi
done
end_process "$filler" KILL
vmstore detach filler --force
vmstore rm filler --now --force
vmstore gc
wait "$waiting" || fail "the waiting client failed"
is_done web || fail "it was refused: $(cat "$work/web.said")"
client web check_chunks 0 $((wrote + 200)) || fail "bytes differ"
vmstore verify --all >/dev/null
stop_store
