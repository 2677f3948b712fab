#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A backup of the catalogue is whole or refused, and goes only into the store it is of.
source "$(dirname "$0")/functions.sh"
start_store

random_file "$work/a.raw" $((2 << 20))
vmstore import "$work/a.raw" web --source-format raw
vmstore snapshot web@s
vmstore meta backup "$work/backup"
expect_exit 4 vmstore meta backup "$work/backup"
expect_exit 4 vmstore create web 1G
head -c -1 "$work/backup" >"$work/cut"
expect_exit 8 vmstore meta restore "$work/cut"
vmstore create other 1G
expect_exit 4 vmstore meta restore "$work/backup"
stop_store
