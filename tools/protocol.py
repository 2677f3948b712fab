#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the models of docs/protocol with spin, whole and with each rule taken out.

Usage: tools/protocol.py [--deep] [--memory MiB] [--only NAME]... [--markdown]
       tools/protocol.py --trace NAME      the steps to the violation that NAME shows
       tools/protocol.py --list

A whole model must hold in every state of its scope. With a rule taken out (-DRULE) the promise that
the rule is for must be seen broken, and no other one. A search that ended for any other reason (its
depth, its memory, its time) has shown nothing and fails. Exit: 0 all as it must be, 1 not, 77 there
is no spin (Debian: spin, gcc).
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = os.path.join(ROOT, "docs", "protocol")
DEPTH = 200_000
SECONDS = 600  # of one search, beside other work; alone none takes more than some twenty
SKIPPED = 77
NEVER = "/* never */"  # on a line that only a model without some rule reaches

# `breaks`: the promise that must be seen broken; None: everything holds.
Run = namedtuple("Run", "name model scope breaks")

_FOLDERS = ("FAULT_WIPE", "FAULT_OLDER")
WHOLE = [
    Run("ownership-three", "ownership", [*_FOLDERS, "SESSIONS=3", "KEYS=2", "SEQUENCES=1"], None),
    Run("ownership-two", "ownership", [*_FOLDERS, "SESSIONS=2", "KEYS=3"], None),
    Run("ownership-tail", "ownership", ["FAULT_TAIL", "SESSIONS=2", "KEYS=2"], None),
    Run("handover", "handover", ["EPOCHS=3"], None),
    Run("journal", "journal", [], None),
]
# Larger scopes, minutes each (--deep).
DEEP = [
    Run("deep-ownership-wiped", "ownership", ["FAULT_WIPE", "SESSIONS=3", "KEYS=2"], None),
    Run("deep-ownership-older", "ownership", ["FAULT_OLDER", "SESSIONS=3", "KEYS=2"], None),
    Run("deep-ownership-tail", "ownership", ["FAULT_TAIL", "SESSIONS=3", "KEYS=2"], None),
    Run("deep-handover", "handover", ["EPOCHS=4"], None),
    Run("deep-journal", "journal", ["RECORDS=4", "POWER_CUTS=3"], None),
]


def without(model, rule, breaks, *scope):
    return Run(f"{model}-{rule}", model, [rule, *scope], breaks)


_IN_LOG = "I1_acknowledged_is_in_the_log_of_later_owners"
_SERVED = "I2_nothing_that_was_served_changes"
_EQUAL = "I2_replicas_hold_what_is_sealed"
_ONE_OWNER = "I3_a_fenced_owner_acknowledges_nothing_new"
_NEVER_OLDER = "C3_a_read_is_never_older"
_TWO = ("SESSIONS=2", "KEYS=2")
_THREE = ("SESSIONS=3", "KEYS=1", "SEQUENCES=1")
BROKEN = [
    without("ownership", "ACK_BEFORE_ALL", _IN_LOG, *_TWO),
    without("ownership", "NO_EPOCH_CHECK", _ONE_OWNER, *_TWO),
    without("ownership", "NO_FENCE_SYNC", _ONE_OWNER, *_TWO),
    without("ownership", "TRUST_WIPED", _IN_LOG, "FAULT_OLDER", *_TWO),
    without("ownership", "UNKNOWN_IS_EMPTY", _IN_LOG, "FAULT_WIPE", *_TWO),
    without("ownership", "NO_START_COUNT", _IN_LOG, "FAULT_OLDER", *_TWO),
    without("ownership", "APPEND_TO_OLDER", _ONE_OWNER, "FAULT_OLDER", *_TWO),
    without("ownership", "CREATE_BY_APPEND", _ONE_OWNER, "FAULT_WIPE", *_TWO),
    without("ownership", "NAME_BEFORE_CREATE", "I9_a_named_key_exists", *_TWO),
    without("ownership", "APPEND_BEFORE_NAMED", _IN_LOG, *_TWO),
    without("ownership", "NAME_WITHOUT_EPOCH", _ONE_OWNER, *_TWO),
    without("ownership", "NO_TOKEN_NONCE", _SERVED, "SESSIONS=3", "KEYS=2", "SEQUENCES=1"),
    without("ownership", "ROLL_SEALS_PLACED", _EQUAL, *_TWO),
    without("ownership", "SEAL_LONGEST", _EQUAL, *_TWO),
    without("ownership", "SEAL_SHORTEST", _IN_LOG, "FAULT_TAIL", *_TWO),
    without("ownership", "SERVE_BEFORE_SEAL", _IN_LOG, *_THREE),
    # Where tails are completed this rule is a second one behind the first.
    without("ownership", "CUT_BELOW_COMMITTED", _IN_LOG, "FAULT_TAIL", "SEAL_SHORTEST",
            "ONLY_ANNOUNCED", *_TWO),
    without("handover", "READ_WITHOUT_HOLDER", _NEVER_OLDER),
    without("handover", "KEEP_MAPPING", _NEVER_OLDER),
    without("handover", "RELEASE_BEFORE_COMMIT", _NEVER_OLDER),
    without("handover", "READ_WITHOUT_LEASE", _NEVER_OLDER),
    without("handover", "PASS_OVER_HOLDERS", _NEVER_OLDER),
    without("handover", "NO_GRACE", "R17_a_living_holder_is_not_passed_over"),
    without("journal", "ANSWER_BEFORE_SYNC", "C12_an_answered_record_is_there"),
    without("journal", "QUEUE_OVERTAKES", "C12_an_answered_record_is_there"),
    without("journal", "HEADER_BEFORE_BLOCKS", "C12_a_header_has_its_blocks"),
    without("journal", "FENCE_OVERTAKES", "C15_nothing_follows_a_fence"),
    without("journal", "TOKEN_WHEN_SYNCED", "C15_nothing_follows_a_fence"),
    without("journal", "NO_FENCE_SYNC", "F4_a_fence_outlives_a_power_cut"),
    without("journal", "TWO_GROUPS", "R11_only_the_newest_group_may_be_missing"),
]
Outcome = namedtuple("Outcome", "run ok what states depth seconds mebibytes unreached")


def judge(run, output, timed_out=False):
    """What pan's output means for a run. Anything that is not understood is a failure."""
    def number(pattern, default=0.0):
        found = re.search(pattern, output, re.M)
        return float(found.group(1)) if found else default

    broken = re.search(r"assertion violated \(?(\w+)\)?", output)
    errors = re.search(r"errors: (\d+)", output)
    truncated = re.search(
        r"(?i)max search depth too small|out of memory|memlim|vectorsz|interrupted|truncated",
        output)
    if timed_out:
        ok, what = False, f"not finished after {SECONDS} s: nothing is shown"
    elif broken and run.breaks == broken.group(1):
        ok, what = True, f"breaks {broken.group(1)}"
    elif broken:
        ok, what = False, f"breaks {broken.group(1)}, not {run.breaks or 'nothing'}"
    elif truncated:
        ok, what = False, f"the search is not complete: {truncated.group()}"
    elif not errors or errors.group(1) != "0" or "Search not completed" in output:
        ok, what = False, "pan did not end as it should"
    elif run.breaks:
        ok, what = False, f"nothing is broken, {run.breaks} should be"
    else:
        ok, what = True, "holds"
    unreached = []
    if run.breaks is None:  # what no state reaches is not checked either
        unreached = re.findall(r"^\t\S+\.pml:(\d+), state \d+, (\"(?!-end-).*)$", output, re.M)
    return Outcome(run, ok, what, int(number(r"^\s*([\d.e+]+) states, stored")),
                   int(number(r"depth reached (\d+)")), 0.0,
                   number(r"^\s*([\d.]+)\s+total actual memory"), unreached)


def build(run, folder):
    defines = [f"-D{one}" for one in run.scope]
    with open(os.path.join(MODELS, run.model + ".pml"), encoding="utf-8") as file:
        text = file.read()
    if run.breaks:  # what else breaks without the rule is not asked
        if f"assert({run.breaks})" not in text:
            raise subprocess.CalledProcessError(1, "spin", f"no promise {run.breaks}")
        text = re.sub(r"\bassert\((?!%s\))\w+\)" % run.breaks, "skip", text)
    with open(os.path.join(folder, run.model + ".pml"), "w", encoding="utf-8") as file:
        file.write(text)
    subprocess.run(["spin", "-a", *defines, run.model + ".pml"], cwd=folder, check=True,
                   capture_output=True, text=True)


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def search(run, memory):
    started = processor_seconds()
    with tempfile.TemporaryDirectory(prefix="protocol-") as folder:
        try:
            build(run, folder)
            # A violation is found soon: compiling fast is worth more than running fast.
            level = "-O2" if run.breaks is None else "-O0"
            subprocess.run(
                ["gcc", level, "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048",
                 f"-DMEMLIM={memory}", "-o", "pan", "pan.c"],
                cwd=folder, check=True, capture_output=True, text=True)
        except subprocess.CalledProcessError as error:
            text = (error.stdout or "") + (error.stderr or "")
            return Outcome(run, False, "not built: " + text[-600:], 0, 0, 0.0, 0.0, [])
        try:
            # -E: a session that cannot go on is a disk that is unavailable, not a deadlock.
            done = subprocess.run(["./pan", "-E", f"-m{DEPTH}"], cwd=folder, capture_output=True,
                                  text=True, timeout=SECONDS, check=False)
            output, timed_out = done.stdout + done.stderr, False
        except subprocess.TimeoutExpired:
            output, timed_out = "", True
        outcome = judge(run, output, timed_out)
        with open(os.path.join(folder, run.model + ".pml"), encoding="utf-8") as file:
            text = file.read().split("\n")
        unreached = [(number, what) for number, what in outcome.unreached
                     if NEVER not in text[int(number) - 1]]
        outcome = outcome._replace(unreached=unreached)
    return outcome._replace(seconds=processor_seconds() - started)


def trace(run, memory):
    """Prints the steps of the shortest violation that a search by breadth finds."""
    with tempfile.TemporaryDirectory(prefix="protocol-") as folder:
        build(run, folder)
        subprocess.run(["gcc", "-O1", "-w", "-DSAFETY", "-DBFS", "-DVECTORSZ=2048",
                        f"-DMEMLIM={memory}", "-o", "pan", "pan.c"], cwd=folder, check=True)
        subprocess.run(["./pan", "-E"], cwd=folder, check=False, stdout=subprocess.DEVNULL)
        defines = [f"-D{one}" for one in run.scope]
        return subprocess.run(["spin", "-t", "-p", "-g", *defines, run.model + ".pml"], cwd=folder,
                              check=False).returncode


def line(outcome):
    mark = "ok  " if outcome.ok else "FAIL"
    text = (f"{mark} {outcome.run.name:<34} {outcome.states:>9,} states  depth {outcome.depth:>5} "
            f" {outcome.seconds:5.1f} s  {outcome.mebibytes:6.0f} MiB  {outcome.what}")
    return text


def never_reached(outcomes):
    """Statements of a model that none of its whole runs reaches: what is not checked at all."""
    lines = []
    for model in sorted({run.model for run in WHOLE}):
        names = {run.name for run in WHOLE if run.model == model}
        found = [set(one.unreached) for one in outcomes if one.run.name in names]
        if len(found) == len(names):  # else not all were wanted
            lines += [f"FAIL {model}.pml:{number}: no whole run reaches {what}"
                      for number, what in sorted(set.intersection(*found))]
    return lines


def markdown(outcomes):
    rows = ["| search | states | depth | CPU s | MiB | outcome |", "|---|---|---|---|---|---|"]
    for one in outcomes:
        rows.append(f"| `{one.run.name}` | {one.states:,} | {one.depth} | {one.seconds:.1f} "
                    f"| {one.mebibytes:.0f} | {one.what} |")
    return "\n".join(rows)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--memory", type=int, default=1500, help="MiB of one search")
    parser.add_argument("--deep", action="store_true", help="larger scopes, minutes each")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--trace")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args(arguments)
    runs = DEEP if options.deep else WHOLE + BROKEN
    if options.list:
        print("\n".join(run.name for run in runs))
        return 0
    if not shutil.which("spin") or not shutil.which("gcc"):
        print("protocol: spin or gcc is not installed", file=sys.stderr)
        return SKIPPED
    wanted = [options.trace] if options.trace else options.only
    unknown = set(wanted) - {run.name for run in runs}
    if unknown:
        print(f"protocol: no run of that name: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 1
    runs = [run for run in runs if not wanted or run.name in wanted]
    if options.trace:
        return trace(runs[0], options.memory)
    started = time.monotonic()
    outcomes = []
    for run in runs:
        outcomes.append(search(run, options.memory))
        if not options.markdown:
            print(line(outcomes[-1]), flush=True)
    if options.markdown:
        print(markdown(outcomes))
    never = never_reached(outcomes)
    print("\n".join(never), end="\n" if never else "")
    bad = [one for one in outcomes if not one.ok] + never
    print(f"protocol: {len(outcomes)} searches, {len(bad)} not as they must be, "
          f"{processor_seconds():.0f} s of processor time, "
          f"{time.monotonic() - started:.0f} s in all")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
