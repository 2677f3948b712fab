#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk is made, listed, renamed, resized, removed, brought back and purged; every exit code on the
# way is the documented one.
source "$(dirname "$0")/functions.sh"
requires python3
start_store

vmstore create web 1G
expect_exit 4 vmstore create web 1G
expect_exit 2 vmstore create web2 20
grep -q '20G' "$work/stderr" || fail "no hint for a bare number"
vmstore create g/db 512M -q
[ "$(vmstore ls -H -o name)" = $'g/db\nweb' ] || fail "ls: $(vmstore ls -H)"

expect_exit 3 vmstore info wbe
grep -q 'closest: "web"' "$work/stderr" || fail "no nearest name: $(cat "$work/stderr")"
vmstore info web --json | python3 -c '
import json, sys
o = json.load(sys.stdin)
assert o["output_version"] == 1 and o["disk"]["size"] == 2**30, o'
expect_exit 3 vmstore info nope --json
python3 -c '
import json, sys
e = json.load(open(sys.argv[1]))["error"]
assert e["code"] == "not_found" and e["exit_code"] == 3 and e["object"] == "nope", e' "$work/stderr"

vmstore resize web +1G
expect_exit 2 vmstore resize web -- -1G
vmstore resize web 1G --allow-shrink
[ "$(vmstore ls web -H --bytes -o size)" = 1073741824 ] || fail "resize"
vmstore mv web prod/web
expect_exit 3 vmstore mv web x

vmstore rm prod/web -n
vmstore info prod/web -q >/dev/null || fail "a dry run removed the disk"
vmstore rm prod/web
expect_exit 3 vmstore info prod/web
[ "$(vmstore trash ls -H -o name)" = prod/web ] || fail "trash ls: $(vmstore trash ls)"
vmstore trash restore prod/web --as web
vmstore rm web --now
[ -z "$(vmstore trash ls -H)" ] || fail "--now went to the trash"
vmstore rm g/db
vmstore trash purge --all
[ -z "$(vmstore ls -H)$(vmstore trash ls -H)" ] || fail "something is left"
vmstore df >/dev/null
vmstore du >/dev/null
vmstore gc
stop_store

# Without a node, and nobody who would start one, there is nothing to wait for.
begin=${EPOCHREALTIME/./}
expect_exit 6 vmstore ls
grep -q 'vmstore up' "$work/stderr" || fail "no hint: $(cat "$work/stderr")"
[ $((${EPOCHREALTIME/./} - begin)) -lt 3000000 ] || fail "it waited for a node that nobody starts"
