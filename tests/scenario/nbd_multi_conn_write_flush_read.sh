#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# N3: multi-conn is advertised, so what one connection writes all others read, flushed or not.
source "$(dirname "$0")/functions.sh"
requires nbdkit python3

start_store
vmstore create web 64M
vmstore attach web >/dev/null
uri=$(vmstore nbd uri web)
python3 "$SOURCE_DIR/tests/scenario/nbd_client.py" "${uri#*socket=}" web multi_conn
stop_store
