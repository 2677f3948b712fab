#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# I6: disks, snapshots, clones and what lies in the trash share blocks in every way; when all of
# them are gone and garbage was collected, the node uses 0 bytes, its folder says the same as du
# sees it, and it is as good as new.
source "$(dirname "$0")/functions.sh"
requires nbdkit qemu-io python3

used() { vmstore df --bytes -H -o used; }
# What the folder takes without the journal and the catalogue, which do not grow with data.
key_bytes() { du -s --block-size=1 --exclude=meta --exclude=journal --exclude=catalogue \
  "$data_dir" | cut -f1; }
# The tail of a log waits a second for company, and a checkpoint runs behind a snapshot.
collect_until_empty() {
  vmstore gc -q
  [ "$(used)" -eq 0 ]
}

export VMSTORE_GC=manual VMSTORE_JOURNAL_SIZE=16M
start_store
[ "$(used)" -eq 0 ] || fail "a new store uses $(used) bytes"
empty=$(key_bytes)
for round in 1 2; do
  random_file "$work/a.raw" $((24 << 20))
  vmstore import "$work/a.raw" base --source-format raw
  vmstore snapshot base@v1
  vmstore clone base@v1 vm --count 3 --name-pattern 'vm%d'
  vmstore clone base solo
  for name in base vm1 solo; do
    vmstore attach "$name" >/dev/null
    qemu-io -f raw "$(vmstore nbd uri "$name")" -c 'write -P 3 1M 6M' -c 'discard 9M 1M' \
      -c 'write -P 4 2M 64k' -c flush >/dev/null
  done
  vmstore snapshot vm1@inner
  vmstore clone vm1@inner nested
  vmstore detach vm1
  vmstore snap rollback vm1@inner
  [ "$(used)" -ge $((30 << 20)) ] || fail "only $(used) bytes are used"

  # The parents first: children never block (there are no chains).
  vmstore detach base
  vmstore rm base
  vmstore trash purge --all
  vmstore gc -q
  vmstore verify --all >/dev/null
  case $round in
    1) # A server that was killed, and one that nobody detached: forced.
      kill -KILL "$(nbdkit_pid solo)"
      wait_until 20 test -n "$(nbdkit_pid solo)"
      vmstore detach solo
      ;;
    2) # Everything that ran was killed.
      crash_store
      start_store
      vmstore detach solo
      ;;
  esac
  for name in $(vmstore ls -H -o name); do vmstore rm "$name" --now --force; done
  [ -z "$(vmstore ls -H)$(vmstore trash ls -H)" ] || fail "left: $(vmstore ls)"
  wait_until 20 collect_until_empty
  now=$(key_bytes)
  [ "$now" -le $((empty + 65536)) ] || fail "du sees $now bytes, $empty at first"
  echo "round $round: used $(used) bytes, folder $now bytes ($empty at first)"
done
vmstore create new 1G
stop_store
