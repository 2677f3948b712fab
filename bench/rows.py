# SPDX-License-Identifier: Apache-2.0
"""The rows of bench/compare. Each gets a Bench and returns its table as Markdown."""

import ctypes
import os
import statistics
import subprocess
import time

from measure import (MIB, fill, fio, median_interval, memory_bytes, ratios, wait_until_quiet)

GIB = 1 << 30
TIB = 1 << 40


# ---- tables ----

def number(value):
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def verdict(ratio, bar, at_most=False):
    met = ratio <= bar if at_most else ratio >= bar
    return "met" if met else f"**missed** ({ratio / bar:.2f} of it)"


class Series:
    """Results of one kind of run, by peer, in the order of the turns."""

    def __init__(self, title):
        self.title, self.results = title, {}

    def add(self, peer, result):
        self.results.setdefault(peer, []).append(result)

    def values(self, peer, field="rate"):
        return [getattr(result, field) for result in self.results[peer]]

    def table(self, unit, bars):
        """`bars`: (other peer, field, bar, at_most). One row per peer, then the ratios."""
        rows = []
        for peer in self.results:
            rate, low, high = median_interval(self.values(peer))
            spread = "" if low is None else f"{number(low)} - {number(high)}"
            rows.append([peer, number(rate), spread,
                         number(statistics.median(self.values(peer, "cpu_us"))),
                         number(statistics.median(self.values(peer, "p50_us")))])
        text = f"{self.title}\n\n" + markdown(
            ["server", unit, "95 % interval", "server CPU us each", "p50 us"], rows)
        foreign = statistics.median(
            share for peer in self.results for share in self.values(peer, "foreign"))
        lines = [f"- other work took {foreign:.0%} of the machine meanwhile (median of the runs)"]
        for other, field, bar, at_most in bars:
            ratio, low, high = ratios(self.values("vmstore", field), self.values(other, field))
            spread = "" if low is None else f" ({low:.2f} - {high:.2f})"
            what = "rate" if field == "rate" else "CPU each"
            sign = "<=" if at_most else ">="
            lines.append(f"- {what} vs {other}: {ratio:.2f}{spread}, bar {sign} {bar}: "
                         + verdict(ratio, bar, at_most))
        return text + "\n\n" + "\n".join(lines) + "\n"


def in_turns(bench, series, disks, run):
    """`run(disks of the peer)` for each peer in turn, as often as there are pairs."""
    for turn in range(bench.pairs):
        wait_until_quiet(bench.quiet_s)
        for peer, mine in disks.items():
            series.add(peer, run(mine))
        bench.say(f"{series.title}: {turn + 1} of {bench.pairs}")


def remove_all(bench, disks):
    for peer, mine in disks.items():
        for disk in mine:
            bench.peers[peer].remove(disk)


def filled(bench, names, megabytes):
    """A written, settled and once read disk of each peer."""
    disks = {}
    for name in bench.names(names):
        disk = bench.peers[name].create("filled", megabytes * MIB)
        fill(disk, megabytes)
        disk = bench.peers[name].settle(disk)
        fio([disk], rw="read", bs="1M", iodepth=4, size=f"{megabytes}M")
        disks[name] = [disk]
    return disks


# ---- reads and writes ----

FIVE = ["vmstore", "nbdkit memory", "nbdkit file", "qemu-nbd raw", "qemu-nbd qcow2"]


def read_4k(bench):
    """4 KiB random reads, warm, at queue depth 1 and 32"""
    megabytes = 256 if bench.quick else 1024
    disks = filled(bench, FIVE, megabytes)
    tables = []
    for depth in (1, 32):
        series = Series(f"4 KiB random read, queue depth {depth}, {megabytes} MiB, warm")
        in_turns(bench, series, disks, lambda mine, depth=depth: fio(
            mine, rw="randread", bs="4k", iodepth=depth, size=f"{megabytes}M", runtime=1,
            time_based=1))
        tables.append(series.table("reads/s", bench.bars([
            ("nbdkit memory", "rate", 0.9, False), ("nbdkit file", "cpu_us", 1.2, True)])))
    remove_all(bench, disks)
    return "\n".join(tables)


def write_4k(bench):
    """4 KiB random writes at queue depth 32, and the flush that ends them"""
    megabytes = 256 if bench.quick else 1024
    written = 32 if bench.quick else 128
    disks = filled(bench, FIVE, megabytes)
    series = Series(f"4 KiB random write, queue depth 32, {written} MiB over {megabytes} MiB, "
                    "with the final flush")

    def run(mine):
        os.sync()
        return fio(mine, rw="randwrite", bs="4k", iodepth=32, size=f"{megabytes}M",
                   io_size=f"{written}M", end_fsync=1)

    in_turns(bench, series, disks, run)
    remove_all(bench, disks)
    return series.table("writes/s", bench.bars([
        ("nbdkit memory", "rate", 0.7, False), ("qemu-nbd raw", "rate", 3, False)]))


def write_flush(bench):
    """4 KiB random write and flush, one at a time"""
    megabytes = 256
    names = ["vmstore", "nbdkit file", "qemu-nbd raw", "qemu-nbd qcow2"]
    disks = filled(bench, names, megabytes)
    series = Series(f"4 KiB write + flush, queue depth 1, over {megabytes} MiB")

    def run(mine):
        os.sync()
        return fio(mine, rw="randwrite", bs="4k", iodepth=1, size=f"{megabytes}M", fsync=1,
                   runtime=1, time_based=1)

    in_turns(bench, series, disks, run)
    remove_all(bench, disks)
    return series.table("writes/s", bench.bars([("qemu-nbd raw", "rate", 1.5, False)]))


def write_flush_16(bench):
    """4 KiB random write and flush on 16 disks at once"""
    megabytes, count = 64, 16
    names = ["vmstore", "qemu-nbd raw"]
    disks = {}
    for name in bench.names(names):
        disks[name] = []
        for index in range(count):
            disk = bench.peers[name].create(f"many{index}", megabytes * MIB)
            fill(disk, megabytes)
            disks[name].append(disk)
    series = Series(f"4 KiB write + flush, {count} disks at once, queue depth 1 each, all together")

    def run(mine):
        os.sync()
        return fio(mine, rw="randwrite", bs="4k", iodepth=1, size=f"{megabytes}M", fsync=1,
                   runtime=2, time_based=1)

    in_turns(bench, series, disks, run)
    remove_all(bench, disks)
    return series.table("writes/s", bench.bars([("qemu-nbd raw", "rate", 3, False)]))


def read_1m(bench):
    """1 MiB sequential reads, warm, at queue depth 1 and 4"""
    megabytes = 256 if bench.quick else 1024
    disks = filled(bench, FIVE, megabytes)
    tables = []
    for depth in (1, 4):
        series = Series(f"1 MiB sequential read, queue depth {depth}, {megabytes} MiB, warm")
        in_turns(bench, series, disks, lambda mine, depth=depth: fio(
            mine, mib=True, rw="read", bs="1M", iodepth=depth, size=f"{megabytes}M", runtime=1,
            time_based=1))
        tables.append(series.table("MiB/s", bench.bars([("nbdkit file", "rate", 0.9, False)])))
    remove_all(bench, disks)
    return "\n".join(tables)


def read_1m_cold(bench):
    """1 MiB sequential reads, queue depth 1, nothing of it in the page cache"""
    megabytes = 256 if bench.quick else 1024
    names = ["vmstore", "nbdkit file", "qemu-nbd raw"]
    disks = filled(bench, names, megabytes)
    series = Series(f"1 MiB sequential read, queue depth 1, {megabytes} MiB, cold")

    def run(mine):
        os.sync()
        try:
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                file.write("1")
        except PermissionError as error:
            raise SystemExit("compare: read-1m-cold needs root, to drop the page cache") from error
        return fio(mine, mib=True, rw="read", bs="1M", iodepth=1, size=f"{megabytes}M")

    in_turns(bench, series, disks, run)
    remove_all(bench, disks)
    return series.table("MiB/s", bench.bars([("nbdkit file", "rate", 0.9, False)]))


def write_1m(bench):
    """1 MiB sequential writes to a fresh disk, and the flush that ends them"""
    megabytes = 128 if bench.quick else 512
    series = Series(f"1 MiB sequential write of a fresh disk, queue depth 4, {megabytes} MiB, "
                    "with the final flush")
    for turn in range(bench.pairs):
        wait_until_quiet(bench.quiet_s)
        for name in bench.names(["vmstore", "nbdkit file", "qemu-nbd raw"]):
            disk = bench.peers[name].create(f"fresh{turn}", megabytes * MIB)
            os.sync()
            series.add(name, fio([disk], mib=True, rw="write", bs="1M", iodepth=4,
                                 size=f"{megabytes}M", end_fsync=1))
            bench.peers[name].remove(disk)
        bench.say(f"{series.title}: {turn + 1} of {bench.pairs}")
    return series.table("MiB/s", bench.bars([("nbdkit file", "rate", 0.9, False)]))


# ---- snapshots, clones ----

def start_load(disk):
    return subprocess.Popen(  # pylint: disable=consider-using-with
        ["fio", "--name=load", "--ioengine=nbd", f"--uri={disk.uri}", "--rw=randwrite", "--bs=4k",
         "--iodepth=4", "--rate_iops=2000", "--size=1G", "--time_based", "--runtime=600"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def snapshot(bench):
    """Snapshots and clones of a 10 GiB and a 10 TiB disk, idle and under load"""
    store = bench.peers["vmstore"]
    count = 10 if bench.quick else 100
    rows = []
    for size, label in ((10 * GIB, "10 GiB"), (10 * TIB, "10 TiB")):
        disk = store.create("snapped", size)
        fio([disk], rw="randwrite", bs="4k", iodepth=32, size=label.replace("iB", "").replace(
            " ", ""), io_size="64M", end_fsync=1)
        for loaded in (False, True):
            load = start_load(disk) if loaded else None
            if load is not None:
                time.sleep(1)
            taken, cloned, whole = [], [], []
            for index in range(count):
                name = f"snapped@s{index}-{int(loaded)}"
                started = time.monotonic()
                taken.append(store.call("snapshot", name))
                whole.append((time.monotonic() - started) * 1e3)
                cloned.append(store.call("clone", name, f"cloned{index}-{int(loaded)}")["seconds"])
            if load is not None:
                load.terminate()
                load.wait()
            stall = statistics.median(one["stall_ns"] for one in taken) / 1e6
            clone = statistics.median(cloned) * 1e3
            flush = fio([disk], rw="randwrite", bs="4k", iodepth=1, size="1G", fsync=1,
                        number_ios=50)
            rows.append([label, "2,000 writes/s" if loaded else "idle", number(stall),
                         number(statistics.median(whole)), number(clone),
                         number(1000 / flush.rate),
                         "met" if max(stall, clone) < 10 else "**missed**"])
        for index in range(count):
            for loaded in (0, 1):
                store.call("rm", f"cloned{index}-{loaded}", "--now")
        store.remove(disk)
    return (f"Medians of {count}, in ms; bar: the guest's wait and the clone each under 10. The "
            "disk is attached: its nbdkit takes the snapshot, and tells how long the guest "
            "waited.\n\n"
            + markdown(["disk", "load", "snapshot: guest waits", "snapshot: whole command",
                        "clone", "one write + flush", "bar"], rows) + "\n")


def many_snapshots(bench):
    """4 KiB random reads of a disk with 10,000 snapshots beside one with none"""
    store = bench.peers["vmstore"]
    count = 200 if bench.quick else 10000
    megabytes = 128
    disks = {}
    for name in ("plain", "snapped"):
        disk = store.create(name, megabytes * MIB)
        fill(disk, megabytes)
        if name == "snapped":
            for index in range(count):
                store.call("snapshot", f"snapped@s{index}")
                if index % 1000 == 999:
                    bench.say(f"{index + 1} snapshots")
        disk = store.settle(disk)
        fio([disk], rw="read", bs="1M", iodepth=4, size=f"{megabytes}M")
        disks[name] = disk
    p50 = {"plain": [], "snapped": []}
    for _ in range(bench.pairs):
        for name, disk in disks.items():
            p50[name].append(fio([disk], rw="randread", bs="4k", iodepth=1, size=f"{megabytes}M",
                                 runtime=1, time_based=1).p50_us)
    ratio, low, high = ratios(p50["snapped"], p50["plain"])
    spread = "" if low is None else f" ({low:.2f} - {high:.2f})"
    for disk in disks.values():
        store.remove(disk)
    return (f"p50 of a 4 KiB random read: {statistics.median(p50['plain']):.1f} us without, "
            f"{statistics.median(p50['snapped']):.1f} us with {count:,} snapshots: ratio "
            f"{ratio:.2f}{spread}, bar <= 1.1: {verdict(ratio, 1.1, True)}\n")


# ---- big disks, memory, recovery ----

class Libnbd:
    """As much of libnbd as whole_disk needs: its zero and trim take more than QEMU's 32 MiB."""

    def __init__(self, uri):
        self.library = ctypes.CDLL("libnbd.so.0")
        self.library.nbd_create.restype = ctypes.c_void_p
        self.handle = ctypes.c_void_p(self.library.nbd_create())
        self.check(self.library.nbd_connect_uri(self.handle, uri.encode()))

    def check(self, result):
        if result != 0:
            raise RuntimeError("a request of libnbd failed")

    def over(self, what, size, chunk):
        """Seconds for `what` (nbd_trim, nbd_zero) over the whole disk, and a flush."""
        call = getattr(self.library, what)
        call.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint32]
        started = time.monotonic()
        for at in range(0, size, chunk):
            self.check(call(self.handle, min(chunk, size - at), at, 0))
        self.check(self.library.nbd_flush(self.handle, 0))
        took = time.monotonic() - started
        self.library.nbd_shutdown(self.handle, 0)
        self.library.nbd_close(self.handle)
        return took


def timed(command, **options):
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr[-300:]}")
    return time.monotonic() - started


def whole_disk(bench):
    """Discard, write-zeroes and block status of a whole 10 TiB disk"""
    store = bench.peers["vmstore"]
    size = 10 * TIB
    rows = []
    for label, what in (("discard", "nbd_trim"), ("write-zeroes", "nbd_zero")):
        disk = store.create("huge", size)
        fio([disk], rw="randwrite", bs="4k", iodepth=32, size="10T",
            io_size="16M" if bench.quick else "64M", end_fsync=1)
        before = memory_bytes(disk.pids[0], "RssAnon")
        status = timed(["nbdinfo", "--map", "--totals", disk.uri])
        took = Libnbd(disk.uri).over(what, size, GIB)
        grown = max(0, memory_bytes(disk.pids[0], "RssAnon") - before) / MIB
        rows.append(["block status", f"{status:.2f}", "-", "met" if status < 1 else "**missed**"])
        rows.append([label, f"{took:.2f}", number(grown),
                     "met" if took < 1 and grown < 32 else "**missed**"])
        store.remove(disk)
    return ("A 10 TiB disk with scattered 4 KiB blocks, in requests of 1 GiB and a flush; bar: "
            "under 1 s and 32 MiB. (QEMU 7.2 sends zeroes in requests of 32 MiB, 32 times as "
            "many.)\n\n"
            + markdown(["what", "seconds", "memory grown, MiB", "bar"], rows) + "\n")


def index_memory(bench):
    """Memory of one open disk after random writes and reads all over it"""
    store = bench.peers["vmstore"]
    disk = store.create("wide", 64 * GIB)
    before = memory_bytes(disk.pids[0], "RssAnon")
    peak = 0
    for rw in ("randwrite", "randread", "randwrite"):
        fio([disk], rw=rw, bs="4k", iodepth=32, size="64G",
            io_size="128M" if bench.quick else "768M", end_fsync=1)
        peak = max(peak, memory_bytes(disk.pids[0], "RssAnon"))
    store.remove(disk)
    grown = (peak - before) / MIB
    return (f"64 GiB, 4 KiB blocks written at random: {before / MIB:.1f} MiB when opened, "
            f"{grown:.1f} MiB more afterwards; bar 32 MiB: {verdict(grown, 32, True)}\n")


def open_after_kill(bench):
    """The first read after kill -9 of nbdkit that had just written 1 GiB"""
    store = bench.peers["vmstore"]
    megabytes = 128 if bench.quick else 1024
    rows = []
    for label, options in (("4 KiB random writes", {"rw": "randwrite", "bs": "4k", "iodepth": 32}),
                           ("1 MiB writes", {"rw": "write", "bs": "1M", "iodepth": 4})):
        times = []
        for turn in range(1 if bench.quick else 5):
            disk = store.create(f"killed{turn}", 4 * GIB)
            fio([disk], size="4G", io_size=f"{megabytes}M", norandommap=0, **options)
            started = time.monotonic()
            store.kill_server(disk)
            timed(["qemu-io", "-f", "raw", "-c", "read 0 4k", disk.uri])
            times.append(time.monotonic() - started)
            store.remove(disk)
        rows.append([label, f"{statistics.median(times):.2f}", f"{max(times):.2f}",
                     "met" if max(times) < 2 else "**missed**"])
    return (f"Seconds from kill -9 to the first read's answer, {megabytes} MiB written before; "
            "with the supervisor's pause before it starts nbdkit again; bar: 2\n\n"
            + markdown(["written as", "median", "worst", "bar"], rows) + "\n")


# ---- boots ----

def storm(bench, vms, *more):
    trace = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traces",
                         "debian-12-boot.trace")
    return bench.peers["vmstore"].call("bench", "boot-storm", "--vms", str(vms), "--trace", trace,
                                       *more)


def boot_storm(bench):
    """The recorded boot of a Debian 12 on 1, 5 and 10 clones, beside nbdkit null and memory"""
    size = 2 * GIB
    rows = []
    for vms in (1, 5, 10):
        last = {"vmstore": [], "nbdkit null": [], "nbdkit memory": []}
        cpu = []
        disks = {name: [bench.peers[name].create(f"boot{index}", size) for index in range(vms)]
                 for name in last if name != "vmstore"}
        for _ in range(bench.pairs):
            ours = storm(bench, vms)
            last["vmstore"].append(ours["last_boot_ns"] / 1e9)
            cpu.append((ours["nbdkit_cpu_us"] + ours["vmstored_cpu_us"]) / vms / 1e3)
            for name, mine in disks.items():
                uris = [word for disk in mine for word in ("--uri", disk.uri)]
                last[name].append(storm(bench, vms, *uris)["last_boot_ns"] / 1e9)
        remove_all(bench, disks)
        rows.append([vms] + [number(statistics.median(last[name])) for name in last]
                    + [number(ratios(last["vmstore"], last["nbdkit memory"])[0]),
                       number(statistics.median(cpu))])
    return ("Seconds until the last boot is done, as fast as possible; each clone is new\n\n"
            + markdown(["boots at once", "vmstore", "nbdkit null", "nbdkit memory",
                        "vmstore / memory", "server CPU ms per boot"], rows) + "\n")


def paced_boots(bench):
    """The most boots at recorded pace whose slowest takes at most 1.2 of one alone"""
    size = 2 * GIB

    def slowest(name, vms):
        if name == "vmstore":
            return storm(bench, vms, "--paced")["last_boot_ns"]
        disks = [bench.peers[name].create(f"paced{index}", size) for index in range(vms)]
        uris = [word for disk in disks for word in ("--uri", disk.uri)]
        took = storm(bench, vms, "--paced", *uris)["last_boot_ns"]
        remove_all(bench, {name: disks})
        return took

    most, rows = {}, []
    for name in ("vmstore", "nbdkit null"):
        alone = slowest(name, 1)
        good, bad, vms = 1, None, 64
        while vms <= 1000 and (bad is None or bad - good > max(8, good // 8)):
            is_good = slowest(name, vms) <= 1.2 * alone
            bench.say(f"{name}: {vms} boots: {'good' if is_good else 'too slow'}")
            good, bad = (vms, bad) if is_good else (good, vms)
            vms = min(good * 2, 1000) if bad is None else (good + bad) // 2
            if bad is None and good == 1000:
                break
        most[name] = good
        rows.append([name, f"{alone / 1e9:.1f}", good if bad else f"{good} or more"])
    ratio = most["vmstore"] / most["nbdkit null"]
    return (markdown(["server", "one boot, s", "most at once"], rows)
            + f"\n\n- vs nbdkit null: {ratio:.2f}, bar >= 0.6: {verdict(ratio, 0.6)}\n")


ROWS = {
    "read-4k": read_4k,
    "write-4k": write_4k,
    "write-flush": write_flush,
    "write-flush-16": write_flush_16,
    "read-1m": read_1m,
    "read-1m-cold": read_1m_cold,
    "write-1m": write_1m,
    "snapshot": snapshot,
    "many-snapshots": many_snapshots,
    "whole-disk": whole_disk,
    "index-memory": index_memory,
    "open-after-kill": open_after_kill,
    "boot-storm": boot_storm,
    "paced-boots": paced_boots,
}
