# SPDX-License-Identifier: Apache-2.0
"""The servers that bench/compare measures: each serves NBD disks on unix sockets of this host."""

import json
import os
import signal
import subprocess
import time

START_LIMIT_S = 60
OTHER = "vmstore other build"


class Disk:
    """One served disk. `uri` is for libnbd and fio, `pids` are the processes that serve it."""

    def __init__(self, name, uri, pids):
        self.name, self.uri, self.pids = name, uri, pids


def wait_until(done, what):
    deadline = time.monotonic() + START_LIMIT_S
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(what + " did not come")
        time.sleep(0.01)


def listens(path):
    with open("/proc/net/unix", encoding="ascii", errors="replace") as table:
        return any(line.split()[-1] == path and line.split()[3] == "00010000" for line in table)


class SocketPeer:
    """A server that is one process per disk, on a socket of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def command(self, name, size, socket):
        raise NotImplementedError

    def create(self, name, size):
        """A new empty disk, served."""
        socket = self.path(name, "sock")
        log = open(self.path("all", "log"), "ab")  # pylint: disable=consider-using-with
        process = subprocess.Popen(  # pylint: disable=consider-using-with
            self.command(name, size, socket), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.running[name] = (process, socket)
        wait_until(lambda: listens(socket), f"{self.name}: {socket}")
        return Disk(name, f"nbd+unix:///?socket={socket}", [process.pid])

    def remove(self, disk):
        process, socket = self.running.pop(disk.name)
        process.terminate()
        process.wait()
        for path in (socket, self.file(disk.name)):
            if os.path.exists(path):
                os.unlink(path)

    def settle(self, disk):
        """What a disk that has been written becomes by itself when it is left alone."""
        return disk

    def path(self, name, kind):
        return f"{self.folder}/{self.name.replace(' ', '-')}-{name}.{kind}"

    def file(self, name):
        return self.path(name, "img")

    def make_file(self, name, size):
        with open(self.file(name), "wb") as file:
            file.truncate(size)
        return self.file(name)

    def stop(self):
        for name in list(self.running):
            self.remove(Disk(name, "", []))


class NbdkitMemory(SocketPeer):
    name = "nbdkit memory"

    def command(self, name, size, socket):
        return ["nbdkit", "-f", "-U", socket, "memory", str(size)]


class NbdkitNull(SocketPeer):
    name = "nbdkit null"

    def command(self, name, size, socket):
        return ["nbdkit", "-f", "-U", socket, "null", str(size)]


class NbdkitFile(SocketPeer):
    name = "nbdkit file"

    def command(self, name, size, socket):
        return ["nbdkit", "-f", "-U", socket, "file", self.make_file(name, size)]


class QemuRaw(SocketPeer):
    name = "qemu-nbd raw"

    def command(self, name, size, socket):
        return ["qemu-nbd", "-t", "-e", "16", "-f", "raw", "-k", socket,
                self.make_file(name, size)]


class QemuQcow2(SocketPeer):
    name = "qemu-nbd qcow2"

    def command(self, name, size, socket):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", self.file(name), str(size)],
                       check=True)
        return ["qemu-nbd", "-t", "-e", "16", "-f", "qcow2", "-k", socket, self.file(name)]


class VMStore:
    """A store of its own: vmstored with one nbdkit per disk, as `vmstore up` runs them."""

    def __init__(self, folder, build, name="vmstore"):
        self.folder, self.build, self.name = folder, build, name
        self.data = f"{folder}/{name.replace(' ', '-')}-store"
        self.run = f"/dev/shm/{name.replace(' ', '-')}-bench-{os.getpid()}"
        self.environment = dict(os.environ, VMSTORE_RUN_DIR=self.run)
        self.is_up = False

    def call(self, *words, check=True):
        """One command; its JSON."""
        if not self.is_up:
            self.is_up = True
            self.call("up", "--detach", "--data", self.data)
        done = subprocess.run([f"{self.build}/cli/vmstore", *words, "--json"], check=False,
                              env=self.environment, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise RuntimeError(f"vmstore {' '.join(words)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.startswith("{") else {}

    def node_pid(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"/vmstored") and self.data.encode() in words:
                return int(pid)
        raise RuntimeError("no vmstored")

    def exports(self):
        listed = self.call("nbd", "ls", "-o", "name,pid,socket")["exports"]
        return {export["name"]: export for export in listed}

    def serve(self, name):
        uri = self.call("attach", name)["uri"]
        return Disk(name, uri, [self.exports()[name]["pid"], self.node_pid()])

    def create(self, name, size):
        self.call("create", name, f"{size // 512 * 512 // 1024}K")
        return self.serve(name)

    def remove(self, disk):
        self.call("detach", disk.name, "--force")
        self.call("rm", disk.name, "--now", "--force")

    def settle(self, disk):
        self.call("detach", disk.name, "--force")
        return self.serve(disk.name)

    def kill_server(self, disk):
        os.kill(self.exports()[disk.name]["pid"], signal.SIGKILL)

    def stop(self):
        if self.is_up:
            self.call("down", "--force", check=False)
            subprocess.run(["rm", "-rf", self.run], check=True)


def all_peers(folder, build, other_build=None):
    peers = [VMStore(folder, build)]
    if other_build is not None:
        peers.append(VMStore(folder, other_build, OTHER))
    peers += [kind(folder) for kind in (NbdkitMemory, NbdkitNull, NbdkitFile, QemuRaw, QemuQcow2)]
    return {peer.name: peer for peer in peers}
