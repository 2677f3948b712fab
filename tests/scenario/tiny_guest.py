#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A guest of one sector for a real QEMU: no image, no kernel, just a boot sector that writes.

    tiny_guest.py sector LAST >FILE               the boot sector: writes chunks 1..LAST
    tiny_guest.py check SOCKET EXPORT FIRST LAST  what it wrote, read over NBD
    tiny_guest.py qmp SOCKET COMMAND              one QMP command; prints its answer

Chunk n is the n-th 32 KiB of the disk, dwords that count up and never repeat on the disk. For each
that the disk has acknowledged the guest says "." on its serial port; then "D", or "E" when the
firmware reported an error.
"""

import array
import json
import socket
import struct
import sys

from nbd_client import Connection

CHUNK = 32 << 10
BUFFER_SEGMENT = 0x1000


def chunk(number):
    first = number * (CHUNK // 4)
    return array.array("I", range(first, first + CHUNK // 4)).tobytes()


def boot_sector(last):
    """Real mode at 0x7c00, the firmware's services for the disk, the serial port by hand."""
    origin = 0x7C00
    data = origin + 0x100  # packet of int 13h (16 bytes), number of the chunk, drive
    packet, lba, number, drive = data, data + 8, data + 16, data + 20
    u16, u32 = (lambda v: struct.pack("<H", v)), (lambda v: struct.pack("<I", v))
    start = (
        b"\xfa\x31\xc0\x8e\xd8\x8e\xd0\xbc" + u16(origin)  # cli; ds = ss = 0; sp = origin
        + b"\xfb\xfc"  # sti; cld
        + b"\x88\x16" + u16(drive)  # mov [drive], dl
        + b"\xb8" + u16(BUFFER_SEGMENT) + b"\x8e\xc0"  # es = buffer
    )
    fill = (
        b"\x66\xa1" + u16(number) + b"\x66\xc1\xe0\x0d"  # eax = number << 13
        + b"\x31\xff\xb9" + u16(CHUNK // 4)  # di = 0; cx = dwords
        + b"\x66\xab\x66\x40\xe2\xfa"  # again: stosd; inc eax; loop again
    )
    write = (
        b"\x66\xa1" + u16(number) + b"\x66\xc1\xe0\x06"  # eax = number << 6: sectors
        + b"\x66\xa3" + u16(lba)  # mov [lba], eax
        + b"\xbe" + u16(packet) + b"\xb4\x43\xb0\x00"  # si = packet; extended write
        + b"\x8a\x16" + u16(drive) + b"\xcd\x13"  # dl = drive; int 13h
    )
    say = lambda letter: b"\xba\xf8\x03\xb0" + letter + b"\xee"  # dx = 0x3f8; al = letter; out
    loop_end = (
        say(b".")
        + b"\x66\xff\x06" + u16(number)  # inc dword [number]
        + b"\x66\x81\x3e" + u16(number) + u32(last)  # cmp dword [number], last
    )
    rest = say(b"D")
    halt = b"\xf4\xeb\xfd"  # hlt, for ever
    error = say(b"E")
    body = fill + write + b"\x72"  # jc error
    after_jc = loop_end + b"\x0f\x86"  # jbe fill
    back = len(body) + 1 + len(after_jc) + 2
    after_jc += struct.pack("<h", -back) + rest + halt
    code = start + body + bytes([len(after_jc)]) + after_jc + error + halt
    values = struct.pack("<BBHHHQI", 16, 0, CHUNK // 512, 0, BUFFER_SEGMENT, 0, 1)
    assert len(code) <= data - origin
    return (code.ljust(data - origin, b"\0") + values).ljust(510, b"\0") + b"\x55\xaa"


def check(path, export, first, last):
    connection = Connection(path, export)
    for number in range(int(first), int(last) + 1):
        assert connection.read(number * CHUNK, CHUNK) == chunk(number), f"chunk {number} differs"


def qmp(path, command):
    monitor = socket.socket(socket.AF_UNIX)
    monitor.settimeout(30)
    monitor.connect(path)
    lines = monitor.makefile("rw")

    def execute(name):
        lines.write(json.dumps({"execute": name}) + "\n")
        lines.flush()
        while True:
            answer = json.loads(lines.readline())
            if "return" in answer or "error" in answer:  # neither a greeting nor an event
                return answer

    execute("qmp_capabilities")
    print(json.dumps(execute(command)))


if __name__ == "__main__":
    act, arguments = sys.argv[1], sys.argv[2:]
    if act == "sector":
        sys.stdout.buffer.write(boot_sector(int(arguments[0])))
    else:
        {"check": check, "qmp": qmp}[act](*arguments)
