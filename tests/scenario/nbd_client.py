#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A small NBD client for acts that no well-behaved client does, and the acts.

    nbd_client.py SOCKET EXPORT ACT [ARGUMENT...]

It sends what it is told, as raw frames, and looks at what comes back frame by frame.
"""

import errno
import fcntl
import os
import random
import signal
import socket
import struct
import sys
import termios
import time

OPTION_MAGIC = 0x49484156454F5054
REPLY_MAGIC = 0x3E889045565A9
OPT_GO, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT = 7, 8, 10
REP_ACK, REP_INFO, REP_META_CONTEXT = 1, 3, 4
CMD_READ, CMD_WRITE, CMD_FLUSH, CMD_BLOCK_STATUS = 0, 1, 3, 7
CHUNK_NONE, CHUNK_OFFSET_DATA, CHUNK_OFFSET_HOLE, CHUNK_BLOCK_STATUS = 0, 1, 2, 5
FLAG_DONE = 1


class Connection:
    def __init__(self, path, export, timeout=60):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.cookie = 0
        self.size = 0
        magic, option, _flags = struct.unpack(">QQH", self.receive(18))
        assert (magic, option) == (0x4E42444D41474943, OPTION_MAGIC)
        self.socket.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes
        self.option(OPT_STRUCTURED_REPLY, b"")
        name = export.encode()
        context = b"base:allocation"
        self.option(
            OPT_SET_META_CONTEXT,
            struct.pack(">I", len(name)) + name + struct.pack(">II", 1, len(context)) + context,
        )
        self.option(OPT_GO, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))

    def receive(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError("the server closed the connection")
            data += more
        return data

    def option(self, number, data):
        self.socket.sendall(struct.pack(">QII", OPTION_MAGIC, number, len(data)) + data)
        while True:
            magic, _option, kind, length = struct.unpack(">QIII", self.receive(20))
            assert magic == REPLY_MAGIC
            body = self.receive(length)
            if kind == REP_INFO and body[:2] == b"\0\0":
                self.size = struct.unpack(">Q", body[2:10])[0]
            if kind == REP_ACK:
                return
            if kind & 0x80000000:
                raise OSError(f"option {number} refused: {kind:#x} {body!r}")

    def send(self, command, offset, length, data=b"", flags=0):
        self.cookie += 1
        frame = struct.pack(">IHHQQI", 0x25609513, flags, command, self.cookie, offset, length)
        self.socket.sendall(frame + data)
        return self.cookie

    def reply(self):
        """One whole answer: (cookie, chunks)."""
        chunks = []
        while True:
            magic = struct.unpack(">I", self.receive(4))[0]
            if magic == 0x67446698:
                error, cookie = struct.unpack(">IQ", self.receive(12))
                if error:
                    raise OSError(error, f"request {cookie} failed")
                return cookie, chunks
            assert magic == 0x668E33EF, hex(magic)
            flags, kind, cookie, length = struct.unpack(">HHQI", self.receive(16))
            body = self.receive(length)
            if kind & 0x8000:
                raise OSError(struct.unpack(">I", body[:4])[0], f"request {cookie} failed")
            chunks.append((kind, body))
            if flags & FLAG_DONE:
                return cookie, chunks

    def read(self, offset, length):
        self.send(CMD_READ, offset, length)
        data = bytearray(length)
        for kind, body in self.reply()[1]:
            at = struct.unpack(">Q", body[:8])[0] - offset if kind != CHUNK_NONE else 0
            if kind == CHUNK_OFFSET_DATA:
                data[at : at + len(body) - 8] = body[8:]
            elif kind == CHUNK_OFFSET_HOLE:
                count = struct.unpack(">I", body[8:12])[0]
                data[at : at + count] = bytes(count)
        return bytes(data)

    def write(self, offset, data):
        self.send(CMD_WRITE, offset, len(data), data)
        self.reply()

    def flush(self):
        self.send(CMD_FLUSH, 0, 0)
        self.reply()

    def block_status(self, offset, length):
        """[(bytes, flags)] of base:allocation."""
        self.send(CMD_BLOCK_STATUS, offset, length)
        found = []
        for kind, body in self.reply()[1]:
            if kind == CHUNK_BLOCK_STATUS:
                found += list(struct.iter_unpack(">II", body[4:]))
        return found


def reads_in_flight(path, export, requests, length):
    """A client that is killed while it waits: sends many reads and closes its socket while the
    server still has answers for which the socket has no room. Says how many."""
    requests, length = int(requests), int(length)
    connection = Connection(path, export)
    for i in range(requests):
        connection.send(CMD_READ, i * length % (connection.size - length), length)
    connection.receive(1)  # now some wait for us to take their data
    arrived = struct.unpack("i", fcntl.ioctl(connection.socket, termios.FIONREAD, bytes(4)))[0]
    waiting = requests - arrived // length
    assert waiting >= 2, f"only {waiting} of {requests} reads were in flight"
    print(waiting)
    connection.socket.close()


def serve_until(path, export, stop):
    """Another guest beside the act: writes, flushes and reads back until the file `stop` is there.
    Says how many rounds it made, and its longest one."""
    connection = Connection(path, export)
    rounds, longest = 0, 0.0
    while not os.path.exists(stop):
        begin = time.monotonic()
        offset, data = rounds * 65536 % (connection.size - 65536), os.urandom(65536)
        connection.write(offset, data)
        connection.flush()
        assert connection.read(offset, len(data)) == data, f"round {rounds}: bytes differ"
        longest = max(longest, time.monotonic() - begin)
        rounds += 1
        if rounds == 1:
            print("serves", flush=True)
    print(f"rounds {rounds} longest {longest:.3f} s", flush=True)


def maximal_block_status(path, export):
    """The largest request that the protocol has, at every place that may matter."""
    length = 0xFFFFFFFF
    connection = Connection(path, export)
    places = [0, 1 << 20, connection.size // 2, connection.size - length]
    for offset in places + [place - 512 for place in places[1:]]:
        found = connection.block_status(offset, length)
        total = sum(count for count, _flags in found)
        assert found and 0 < total <= length, (offset, found[:3], total)
        print(f"{offset}: {len(found)} extents, {total} bytes")


def multi_conn(path, export):
    """N3: what one connection wrote and flushed, and what it only wrote, the others read."""
    writer = Connection(path, export)
    readers = [Connection(path, export) for _ in range(3)]
    for step in range(50):
        offset, data = step * 65536, os.urandom(65536)
        for reader in readers:  # so that each had a chance to keep the old bytes
            reader.read(offset, len(data))
        writer.write(offset, data)
        if step % 2 == 0:
            writer.flush()
        for reader in readers:
            assert reader.read(offset, len(data)) == data, f"stale bytes at step {step}"
    readers[0].write(0, b"x" * 512)
    readers[1].flush()  # a flush of one connection covers the writes of all
    assert writer.read(0, 512) == b"x" * 512


CHUNK = 256 << 10


def chunk(number):
    """Bytes that no compression and no deduplication finds anything in, known by their number."""
    return random.Random(number).randbytes(CHUNK)


def fill(path, export, first, last):
    """Writes chunks [first, last) until one is refused for want of space.

    Says how many it wrote before and waits for a word on stdin, as a guest that is paused; then it
    sends the refused one again. Nothing is flushed before the end.
    """
    connection = Connection(path, export)
    for number in range(int(first), int(last)):
        data = chunk(number)
        while True:
            try:
                connection.write(number * CHUNK, data)
                break
            except OSError as refused:
                if refused.errno != errno.ENOSPC:
                    raise
                print(f"full {number}", flush=True)
                if not sys.stdin.readline():
                    return
    connection.flush()
    print(f"done {last}", flush=True)


def check_chunks(path, export, first, last):
    connection = Connection(path, export)
    for number in range(int(first), int(last)):
        assert connection.read(number * CHUNK, CHUNK) == chunk(number), f"chunk {number} differs"


def survive(path, export, rounds):
    """Overlapping writes, never a flush; the server is killed at any moment. As QEMU does it, a
    request without an answer is sent again to the next server."""
    dice = random.Random(1)
    connection = Connection(path, export)
    disk = bytearray(connection.size)

    def insist(act):
        nonlocal connection
        deadline = time.monotonic() + 60
        while True:
            try:
                return act(connection)
            except (EOFError, ConnectionError, socket.timeout):
                assert time.monotonic() < deadline, "no server for a minute"
                connection.socket.close()
            try:
                connection = Connection(path, export)
            except (EOFError, ConnectionError):
                pass

    writes = 0
    for round_number in range(int(rounds)):
        for step in range(200):
            length = 512 * dice.randint(1, 128)
            offset = 512 * dice.randrange((len(disk) - length) // 512)
            data = dice.randbytes(length)
            insist(lambda c: c.write(offset, data))
            disk[offset : offset + length] = data
            writes += 1
            if step == 100:
                print(f"round {round_number}", flush=True)
        for offset in range(0, len(disk), 1 << 20):
            found = insist(lambda c: c.read(offset, 1 << 20))
            if found != disk[offset : offset + (1 << 20)]:
                print(f"failed in round {round_number}: the MiB at {offset} differs", flush=True)
                sys.exit(1)
    print(f"survived: {writes} writes", flush=True)


def die_unflushed(path, export, node, server, byte, offset, length):
    """A write that is acknowledged while the node is stopped: only the batch file has it when the
    server is killed."""
    connection = Connection(path, export)
    connection.write(0, connection.read(0, 512))  # it may write, and has space promised
    connection.flush()
    os.kill(int(node), signal.SIGSTOP)
    try:
        connection.write(int(offset), bytes([int(byte)]) * int(length))
        os.kill(int(server), signal.SIGKILL)
    finally:
        os.kill(int(node), signal.SIGCONT)


ACTS = {
    "die_unflushed": die_unflushed,
    "survive": survive,
    "fill": fill,
    "check_chunks": check_chunks,
    "reads_in_flight": reads_in_flight,
    "serve_until": serve_until,
    "maximal_block_status": maximal_block_status,
    "multi_conn": multi_conn,
}

if __name__ == "__main__":
    ACTS[sys.argv[3]](sys.argv[1], sys.argv[2], *sys.argv[4:])
