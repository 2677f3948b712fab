# SPDX-License-Identifier: Apache-2.0
"""tools/mutate.py passes over no entry that does not fit, and no test that does not fail."""

import os
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import mutate  # noqa: E402

ENTRY = """\
# what this is
promised: I9

[I9_forgotten]
rule: I9, S13: unknown is not empty
file: a.cc
-  if (!known) return unknown;
+  known = true;
test: a_test A.I9_*
"""
CODE = "int f() {\n  if (!known) return unknown;\n}\n"


class Lists(unittest.TestCase):
    def test_an_entry_is_read(self):
        (entry,), promised = mutate.parse(ENTRY, "list")
        self.assertEqual(promised, ["I9"])
        self.assertEqual(mutate.rules_of(entry), ["I9", "S13"])
        self.assertEqual((entry.program, entry.arguments), ("a_test", ["--gtest_filter=A.I9_*"]))
        self.assertEqual(entry.hunks[0].old, "  if (!known) return unknown;\n")

    def test_half_an_entry_is_refused(self):
        for line in ("rule:", "file:", "test:", "-"):
            text = "\n".join(x for x in ENTRY.split("\n") if not x.startswith(line))
            with self.assertRaises(mutate.Broken, msg=line):
                mutate.parse(text, "list")
        for more in ("tset: x\n", "rule: I9: twice\n", "hang: perhaps\n"):
            with self.assertRaises(mutate.Broken, msg=more):
                mutate.parse(ENTRY + more, "list")


class Fits(unittest.TestCase):
    def changed(self, code):
        (entry,), _ = mutate.parse(ENTRY, "list")
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "a.cc"), "w", encoding="utf-8") as file:
                file.write(code)
            return mutate.changed_files(folder, entry)["a.cc"][1]

    def test_the_old_line_is_replaced(self):
        self.assertEqual(self.changed(CODE), "int f() {\n  known = true;\n}\n")

    def test_an_old_line_that_is_not_there_once_is_refused(self):
        for code in ("int f() {}\n", CODE + CODE, CODE.replace("  if", "    if")):
            with self.assertRaises(mutate.Broken, msg=code):
                self.changed(code)

    def test_a_promised_rule_without_an_entry_is_told(self):
        self.assertEqual(mutate.check(ROOT, [], ["I9"], None), 1)


class Outcomes(unittest.TestCase):
    """With a copy in which nothing is built and the test ends as it is told to."""

    def outcome(self, code, built=0, hang=False, test="a_test A.I9_*"):
        text = ENTRY.replace("a_test A.I9_*", test) + ("hang: counts\n" if hang else "")
        (entry,), _ = mutate.parse(text, "list")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.cc")
            with open(path, "w", encoding="utf-8") as file:
                file.write(CODE)
            copy = mutate.Copy(ROOT, folder, 1)
            copy.tree = folder
            copy.make = lambda programs: mutate.Ended(built, "a.cc:1: error: x\n", 0.0)
            copy.test = lambda entry: mutate.Ended(code, "[ RUN      ] A.I9_x\n", 0.0)
            result = mutate.try_one(copy, entry)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), CODE)  # put back
        return result.outcome, result.by

    def test_only_a_test_that_fails_catches(self):
        self.assertEqual(self.outcome(1), ("caught", "A.I9_x"))
        self.assertEqual(self.outcome(-6), ("caught", "A.I9_x (signal 6)"))
        self.assertEqual(self.outcome(0)[0], "SURVIVED")
        self.assertEqual(self.outcome(1, built=1)[0], "BROKEN")

    def test_a_test_without_end_catches_only_if_the_entry_says_so(self):
        self.assertEqual(self.outcome(None)[0], "SURVIVED")
        self.assertEqual(self.outcome(None, hang=True), ("caught", "A.I9_x (time-out)"))

    def test_a_scenario_that_cannot_run_here_catches_nothing(self):
        self.assertEqual(self.outcome(77)[0], "caught")  # of a program it is a failure
        self.assertEqual(self.outcome(77, test="scenario x")[0], "NOT RUN")
        self.assertEqual(self.outcome(1, test="scenario x")[0], "caught")

    def test_a_scenario_that_cannot_run_unbroken_is_not_run(self):
        (entry,), _ = mutate.parse(ENTRY.replace("a_test A.I9_*", "scenario x"), "list")
        with tempfile.TemporaryDirectory() as folder:
            copy = mutate.Copy(ROOT, folder, 1)
            copy.make = lambda programs: mutate.Ended(0, "", 0.0)
            copy.test = lambda entry: mutate.Ended(77, "", 0.0)
            (result,) = mutate.run_all(copy, [entry], 1)
        self.assertEqual(result.outcome, "NOT RUN")

    def test_a_pattern_without_an_entry_is_an_error(self):
        entries, _ = mutate.parse(ENTRY, "list")
        self.assertEqual(len(mutate.choose(entries, ["I9_*"], None)), 1)
        with self.assertRaises(mutate.Broken):
            mutate.choose(entries, ["I9_*", "I8_*"], None)

    def test_one_survivor_is_a_failure(self):
        (entry,), _ = mutate.parse(ENTRY, "list")
        caught = mutate.Result(entry, "caught", "A.I9_x", 1.0)
        self.assertEqual(mutate.print_results([caught], False, 1.0), 0)
        for outcome in ("SURVIVED", "BROKEN", "NOT RUN"):
            results = [caught, mutate.Result(entry, outcome, "", 1.0)]
            self.assertEqual(mutate.print_results(results, False, 1.0), 1)


if __name__ == "__main__":
    unittest.main()
