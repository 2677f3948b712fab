# SPDX-License-Identifier: Apache-2.0
"""One measurement of a served disk, and the statistics of many."""

import json
import math
import os
import resource
import statistics
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


def cpu_seconds(pids):
    total = 0.0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def processor_seconds():
    """(busy, all) of all processors since the start of the machine; stolen time is busy."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) / TICKS for field in file.readline().split()[1:9]]
    total = sum(fields)
    return total - fields[3] - fields[4], total


def wait_until_quiet(limit_s):
    """Waits, at most so long, for half a second in which the machine had nothing to do."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        busy, total = processor_seconds()
        time.sleep(0.5)
        busy_then, total_then = processor_seconds()
        if busy_then - busy < 0.1 * (total_then - total):
            return


def memory_bytes(pid, field):
    """A field of /proc/PID/status that is in kB: RssAnon, VmHWM."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise KeyError(field)


class Result:
    """Of one run: requests (or MiB) per second, server CPU microseconds of one, p50 in us, and the
    share of the processors that neither server nor load used (their kernel threads included)."""

    def __init__(self, rate, cpu_us, p50_us, foreign):
        self.rate, self.cpu_us, self.p50_us, self.foreign = rate, cpu_us, p50_us, foreign


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fio(disks, **options):
    """Runs fio on all disks at once, one job each. `mib`: the rate is in MiB/s, not requests."""
    unit_is_mib = options.pop("mib", False)
    common = {"ioengine": "nbd", "group_reporting": 1, "randrepeat": 0, "norandommap": 1,
              "buffer_compress_percentage": 0, "refill_buffers": 1, **options}
    lines = ["[global]"] + [f"{key}={value}" for key, value in common.items()]
    for number, disk in enumerate(disks):
        lines += [f"[job{number}]", f"uri={disk.uri}"]
    pids = sorted({pid for disk in disks for pid in disk.pids})
    before, load_before = cpu_seconds(pids), children_seconds()
    busy_before, total_before = processor_seconds()
    done = subprocess.run(["fio", "--output-format=json", "-"], input="\n".join(lines) + "\n",
                          capture_output=True, text=True, check=False)
    used = cpu_seconds(pids) - before
    busy, total = processor_seconds()
    others = busy - busy_before - used - (children_seconds() - load_before)
    foreign = max(0, others) / max(total - total_before, 1 / TICKS)
    start = done.stdout.find("\n{") + 1  # fio says other things before its JSON
    if done.returncode != 0 or not done.stdout[start:].startswith("{"):
        raise RuntimeError("fio: " + (done.stderr + done.stdout)[:2000])
    job = json.loads(done.stdout[start:])["jobs"][0]
    side = max((job["read"], job["write"]), key=lambda part: part["total_ios"])
    seconds = side["runtime"] / 1000
    count = side["io_bytes"] / MIB if unit_is_mib else side["total_ios"]
    p50 = side["clat_ns"].get("percentile", {}).get("50.000000", 0) / 1000
    if "fsync" in options:  # a write and its flush are one thing
        p50 += job["sync"]["lat_ns"].get("percentile", {}).get("50.000000", 0) / 1000
    return Result(count / seconds, used / count * 1e6, p50, foreign)


def fill(disk, megabytes):
    """Writes all of it, with bytes that no two blocks share."""
    fio([disk], rw="write", bs="1M", iodepth=4, size=f"{megabytes}M", end_fsync=1)


def median_interval(values):
    """Median and its 95 % interval from order statistics; without one for fewer than 6 values."""
    ordered = sorted(values)
    count = len(ordered)
    median = statistics.median(ordered)
    outside = 0.0
    low = 0
    for rank in range(count // 2):
        outside += 2 * math.comb(count, rank) / 2 ** count
        if outside > 0.05:
            break
        low = rank + 1
    if low == 0:
        return median, None, None
    return median, ordered[low - 1], ordered[count - low]


def ratios(ours, theirs):
    return median_interval([a / b for a, b in zip(ours, theirs)])
