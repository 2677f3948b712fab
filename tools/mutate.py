#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the lines that keep the promises, one at a time, and sees that a test fails.

Usage: tools/mutate.py [options] [NAME...]

tests/mutations/*.txt hold the entries (the format: tests/mutations/README.md). In a copy of the
tree, in a temporary folder with a build of its own, each entry is applied, the one test program it
names is built, the one test it names is run, and the file is put back. The test must fail; it must
pass in the unbroken copy. NAME: entries, as shell patterns; none: all.

  --list         only print the entries
  --check        only see that each entry fits the tree (and with --build, that its test exists)
  --build DIR    the build folder in which --check looks for the test programs
  --most N       not more than N entries
  --minutes N    begin no further entry after so long (default 60)
  --work DIR     keep the copy and its build in DIR, for the next run
  --jobs N       of ninja (default 1)
  --markdown     print the table as docs/testing.md has it

Exit: 0 if each entry was caught, 1 if one survived, does not compile, does not fit or was not run.
"""

import argparse
import fnmatch
import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple

TEST_SECONDS = 60
ENDING_SECONDS = 10  # what a script has for ending its daemons
BUILD_SECONDS = 1800
RULE = re.compile(r"[A-Z]\d+")
SKIPPED = 77  # what a scenario ends with that lacks a program
SCENARIO = "scenario"  # instead of a program: tests/scenario/NAME.sh, with the real programs
SCENARIO_TARGETS = {"vmstored", "vmstore", "nbdkit-vmstore-plugin"}

Hunk = namedtuple("Hunk", "file old new")
Entry = namedtuple("Entry", "name rule hunks program arguments hang place")
Ended = namedtuple("Ended", "code output seconds")  # code: None when it was ended by the limit
Result = namedtuple("Result", "entry outcome by seconds")


class Broken(Exception):
    """An entry, or the list, that says something wrong."""


# ---- the list ----


def parse_test(words, place):
    if not words:
        raise Broken(f"{place}: `test:` names a program")
    if words[0] == SCENARIO:
        if len(words) != 2:
            raise Broken(f"{place}: `test: {SCENARIO} NAME`")
        return SCENARIO, words[1:]
    return words[0], [w if w.startswith("--") else "--gtest_filter=" + w for w in words[1:]]


def parse_entry(name, lines, place):
    """`lines` are those below the `[name]`."""
    fields, hunks = {}, []
    for line in lines:
        if line[:1] in "-+" and hunks:
            hunks[-1]["old" if line[0] == "-" else "new"].append(line[1:])
            continue
        key, colon, value = line.partition(":")
        if not colon or key not in ("rule", "file", "test", "hang"):
            raise Broken(f"{place}: {name}: not a line of an entry: {line!r}")
        if key == "file":
            hunks.append({"file": value.strip(), "old": [], "new": []})
        elif key in fields:
            raise Broken(f"{place}: {name}: `{key}:` twice")
        else:
            fields[key] = value.strip()
    if not fields.get("rule") or not fields.get("test") or not hunks:
        raise Broken(f"{place}: {name}: `rule:`, `file:` and `test:` are needed")
    if any(not h["old"] or h["old"] == h["new"] for h in hunks):
        raise Broken(f"{place}: {name}: a hunk that changes nothing")
    if not RULE.match(fields["rule"]):
        raise Broken(f"{place}: {name}: a rule begins with its number: {fields['rule']!r}")
    if fields.get("hang", "counts") != "counts":
        raise Broken(f"{place}: {name}: `hang: counts`, or nothing")
    program, arguments = parse_test(shlex.split(fields["test"]), f"{place}: {name}")
    made = [Hunk(h["file"], "\n".join(h["old"]) + "\n", "".join(n + "\n" for n in h["new"]))
            for h in hunks]
    return Entry(name, fields["rule"], made, program, arguments, "hang" in fields, place)


def parse(text, place):
    """(entries, promised rules) of one file."""
    entries, promised, name, lines = [], [], None, []

    def end():
        if name is not None:
            entries.append(parse_entry(name, lines, place))

    for line in text.split("\n"):
        head = re.fullmatch(r"\[(\w+)\]", line)
        if head:
            end()
            name, lines = head.group(1), []
        elif line.startswith("promised:"):
            promised += line.partition(":")[2].split()
        elif line.strip() and not line.startswith("#"):
            if name is None:
                raise Broken(f"{place}: before the first entry: {line!r}")
            lines.append(line)
    end()
    return entries, promised


def read_list(root):
    entries, promised = [], []
    for path in sorted(glob.glob(os.path.join(root, "tests", "mutations", "*.txt"))):
        with open(path, encoding="utf-8") as file:
            some, more = parse(file.read(), os.path.basename(path))
        entries += some
        promised += more
    names = [e.name for e in entries]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise Broken("entries of one name: " + ", ".join(twice))
    return entries, promised


def rules_of(entry):
    return RULE.findall(entry.rule.partition(":")[0])


def choose(entries, patterns, most):
    lost = [p for p in patterns if not any(fnmatch.fnmatch(e.name, p) for e in entries)]
    if lost:
        raise Broken("no entry is called " + " or ".join(lost))
    chosen = [e for e in entries
              if not patterns or any(fnmatch.fnmatch(e.name, p) for p in patterns)]
    # One program after the other: what was built for the last entry serves the next one.
    return sorted(chosen, key=lambda e: e.program)[:most]


# ---- one change ----


def changed_files(root, entry):
    """{file: (text, broken text)}. Each old text must be there, once."""
    files = {}
    for hunk in entry.hunks:
        path = os.path.join(root, hunk.file)
        if not os.path.isfile(path):
            raise Broken(f"{entry.place}: {entry.name}: no file {hunk.file}")
        if hunk.file not in files:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            files[hunk.file] = (text, text)
        text, broken = files[hunk.file]
        # Whole lines: the text begins after a line's end.
        count = ("\n" + broken).count("\n" + hunk.old)
        if count != 1:
            raise Broken(f"{entry.place}: {entry.name}: its old text is {count} times in "
                         f"{hunk.file}, not once")
        at = ("\n" + broken).index("\n" + hunk.old)
        files[hunk.file] = (text, broken[:at] + hunk.new + broken[at + len(hunk.old):])
    return files


def write_files(root, texts):
    for name, text in texts.items():
        with open(os.path.join(root, name), "w", encoding="utf-8") as file:
            file.write(text)


# ---- processes ----


def run(command, seconds, log, **more):
    """In a session of its own, which ends with this: nothing stays behind."""
    began = time.monotonic()
    with open(log, "w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True, **more)
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        output.seek(0)
        return Ended(code, output.read(), time.monotonic() - began)


def caught_by(entry, ended):
    """What a failed run says of itself: the test, and how it ended."""
    failed = re.findall(r"^\[  FAILED  \] ([\w./]+)(?:, where| \(\d+ ms\)|$)", ended.output, re.M)
    if failed:
        return failed[0]
    began = re.findall(r"^\[ RUN      \] ([\w./]+)$", ended.output, re.M)
    how = "time-out" if ended.code is None else f"signal {-ended.code}" if ended.code < 0 else ""
    if not began:
        began = [" ".join(test_of(entry))]
    return began[-1] + (f" ({how})" if how else "")


class Copy:
    """A copy of the tree as it is, committed or not, and its build."""

    def __init__(self, root, folder, jobs):
        self.root, self.folder, self.jobs = root, folder, jobs
        self.tree = os.path.join(folder, "tree")
        self.build = os.path.join(self.tree, "build", "dev")  # as deep as anybody's: ccache
        self.log = os.path.join(folder, "output")
        self.scratch = os.path.join(folder, "tmp")
        os.makedirs(self.scratch, exist_ok=True)

    def bring_up_to_date(self):
        listed = subprocess.run(["git", "-C", self.root, "ls-files", "-z", "-co",
                                 "--exclude-standard"], stdout=subprocess.PIPE, check=True)
        names = {n for n in listed.stdout.decode().split("\0")
                 if os.path.isfile(os.path.join(self.root, n))}
        for name in names:
            source, target = os.path.join(self.root, name), os.path.join(self.tree, name)
            if self._same(source, target):
                continue
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        for folder, folders, files in os.walk(self.tree):
            folders[:] = [f for f in folders if folder != self.tree or f != "build"]
            for path in (os.path.join(folder, f) for f in files):
                if os.path.relpath(path, self.tree) not in names:
                    os.remove(path)

    @staticmethod
    def _same(source, target):
        if not os.path.isfile(target) or os.path.getsize(source) != os.path.getsize(target):
            return False
        with open(source, "rb") as a, open(target, "rb") as b:
            return a.read() == b.read()

    def configure(self):
        ended = run(["cmake", "--preset", "dev"], BUILD_SECONDS, self.log,
                    cwd=self.tree)
        if ended.code != 0:
            raise Broken("the copy cannot be configured:\n" + ended.output[-2000:])

    def make(self, programs):
        targets = set(programs)
        if SCENARIO in targets:
            targets = targets - {SCENARIO} | SCENARIO_TARGETS
        return run(["ninja", "-C", self.build, f"-j{self.jobs}", *sorted(targets)],
                   BUILD_SECONDS, self.log)

    def test(self, entry):
        environment = dict(os.environ, TMPDIR=self.scratch, BUILD_DIR=self.build,
                           SOURCE_DIR=self.tree)
        if entry.program == SCENARIO:
            command = [os.path.join(self.tree, scenario_path(entry))]
        else:
            command = [find_program(self.build, entry.program), *entry.arguments]
        return run(command, TEST_SECONDS, self.log, cwd=self.scratch, env=environment)


def scenario_path(entry):
    return os.path.join("tests", "scenario", entry.arguments[0] + ".sh")


def find_program(build, name):
    """Where CMake put a test program: somewhere below tests."""
    for folder, folders, files in os.walk(os.path.join(build, "tests")):
        folders[:] = [f for f in folders if f != "CMakeFiles"]
        if name in files:
            return os.path.join(folder, name)
    raise Broken(f"no test program {name} in {build}")


def test_of(entry):
    return (entry.program, *entry.arguments)


def skipped(entry, ended):
    """A scenario lacks something here: it has caught nothing."""
    return entry.program == SCENARIO and ended.code == SKIPPED


def ran_nothing(ended):
    return "] 0 tests from" in ended.output


# ---- all of them ----


def baseline(copy, entries):
    """The unbroken copy must build; {test: (outcome, why)} of those that do not pass in it."""
    built = copy.make({e.program for e in entries})
    if built.code != 0:
        raise Broken("the unbroken copy does not build:\n" + built.output[-3000:])
    failing = {}
    for test, entry in {test_of(e): e for e in entries}.items():
        ended = copy.test(entry)
        if skipped(entry, ended):
            failing[test] = ("NOT RUN", "the scenario says that it cannot run here")
        elif ended.code != 0 or ran_nothing(ended):
            why = f"does not pass in the unbroken copy ({caught_by(entry, ended)})"
            failing[test] = ("BROKEN", why)
    return failing


def try_one(copy, entry):
    began = time.monotonic()
    files = changed_files(copy.tree, entry)
    write_files(copy.tree, {name: broken for name, (_, broken) in files.items()})
    try:
        built = copy.make({entry.program})
        if built.code != 0:
            errors = "\n".join(re.findall(r"^.*error:.*$", built.output, re.M)[:5])
            return Result(entry, "BROKEN", "does not compile: " + errors, 0.0)
        ended = copy.test(entry)
    finally:
        write_files(copy.tree, {name: text for name, (text, _) in files.items()})
    seconds = time.monotonic() - began
    if ended.code == 0:
        return Result(entry, "SURVIVED", "", seconds)
    if skipped(entry, ended):
        return Result(entry, "NOT RUN", "the scenario says that it cannot run here", seconds)
    if ended.code is None and not entry.hang:
        return Result(entry, "SURVIVED", f"no end after {TEST_SECONDS} s", seconds)
    return Result(entry, "caught", caught_by(entry, ended), seconds)


def run_all(copy, entries, minutes):
    ends = time.monotonic() + 60 * minutes
    failing = baseline(copy, entries)
    results = []
    for entry in entries:
        if test_of(entry) in failing:
            results.append(Result(entry, *failing[test_of(entry)], 0.0))
        elif time.monotonic() >= ends:
            results.append(Result(entry, "NOT RUN", f"{minutes:g} minutes are over", 0.0))
        else:
            results.append(try_one(copy, entry))
        done = results[-1]
        print(f"{done.outcome:9} {entry.name:48} {done.by} ({done.seconds:.0f} s)", flush=True)
    return results


def check_test(root, entry, build):
    if entry.program == SCENARIO:
        there = os.path.isfile(os.path.join(root, scenario_path(entry)))
    elif build:
        listed = subprocess.run(
            [find_program(build, entry.program), *entry.arguments, "--gtest_list_tests"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        there = re.search(r"^  \w", listed.stdout, re.M) is not None
    else:
        return
    if not there:
        raise Broken(f"{entry.place}: {entry.name}: no test "
                     + " ".join(test_of(entry)))


def check(root, entries, promised, build):
    """Complaints: entries that do not fit, tests that are not there, rules without an entry."""
    complaints = []
    kept = {rule for entry in entries for rule in rules_of(entry)}
    complaints += [f"no entry breaks {rule}" for rule in promised if rule not in kept]
    for entry in entries:
        try:
            changed_files(root, entry)
            check_test(root, entry, build)
        except Broken as broken:
            complaints.append(str(broken))
    for complaint in complaints:
        print(complaint)
    print(f"mutations: {len(entries)} entries, {len(complaints)} complaints")
    return 1 if complaints else 0


def print_results(results, markdown, seconds):
    results = sorted(results, key=lambda r: [int(p) if p.isdigit() else p for p in
                                             re.split(r"(\d+)", r.entry.name)])
    if markdown:
        print("\n| entry | rule | caught by | s |\n|---|---|---|---|")
        for r in results:
            by = f"`{r.by}`" if r.outcome == "caught" else r.outcome
            print(f"| `{r.entry.name}` | {r.entry.rule} | {by} | {r.seconds:.0f} |")
    counts = {o: sum(r.outcome == o for r in results)
              for o in ("caught", "SURVIVED", "BROKEN", "NOT RUN")}
    print(f"\n{len(results)} entries: " + ", ".join(f"{n} {o}" for o, n in counts.items())
          + f"; {seconds:.0f} s")
    for r in results:
        if r.outcome != "caught":
            print(f"{r.outcome}: {r.entry.name}: {r.entry.rule} {r.by}")
    return 0 if counts["caught"] == len(results) else 1


def options_of(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(__file__)) or ".")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--build")
    parser.add_argument("--most", type=int)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--work")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("names", nargs="*")
    return parser.parse_args(arguments)


def main(arguments):
    options = options_of(arguments)
    root = os.path.abspath(options.root)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = None
    try:
        entries, promised = read_list(root)
        if options.check:
            return check(root, entries, promised, options.build)
        entries = choose(entries, options.names, options.most)
        if options.list:
            for entry in entries:
                print(f"{entry.name:48} {entry.rule}")
            return 0
        began = time.monotonic()
        folder = options.work or tempfile.mkdtemp(prefix="vmstore-mutations-")
        copy = Copy(root, os.path.abspath(folder), options.jobs)
        copy.bring_up_to_date()
        copy.configure()
        results = run_all(copy, entries, options.minutes)
        return print_results(results, options.markdown, time.monotonic() - began)
    except Broken as broken:
        print(broken, file=sys.stderr)
        return 1
    finally:
        if folder and not options.work:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
