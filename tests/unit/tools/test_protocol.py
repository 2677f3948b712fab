# SPDX-License-Identifier: Apache-2.0
"""tools/protocol.py believes no search that was cut short, and no violation of another promise."""

import os
import re
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import protocol  # noqa: E402

WHOLE = protocol.Run("m", "m", [], None)
BROKEN = protocol.Run("m-RULE", "m", ["RULE"], "I1_kept")
HOLDS = """\
State-vector 124 byte, depth reached 77, errors: 0
     1234 states, stored
    5.000\ttotal actual memory usage
"""
BREAKS = """\
pan:1: assertion violated I1_kept (at depth 38)
Warning: Search not completed
State-vector 124 byte, depth reached 38, errors: 1
       38 states, stored
"""
SOURCE_FUNCTION = re.compile(r"`([\w:]+)`[^|]*?`([\w-]+/[\w/.-]+\.(?:cc|h))`")


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


class Judge(unittest.TestCase):
    def test_a_complete_search_without_errors_holds(self):
        outcome = protocol.judge(WHOLE, HOLDS)
        self.assertTrue(outcome.ok)
        self.assertEqual((outcome.states, outcome.depth, outcome.mebibytes), (1234, 77, 5.0))

    def test_the_violation_that_is_expected_is_seen(self):
        self.assertTrue(protocol.judge(BROKEN, BREAKS).ok)

    def test_any_other_outcome_fails(self):
        self.assertFalse(protocol.judge(WHOLE, BREAKS).ok)
        self.assertFalse(protocol.judge(BROKEN, HOLDS).ok)
        self.assertFalse(protocol.judge(BROKEN, BREAKS.replace("I1_kept", "I2_other")).ok)
        self.assertFalse(protocol.judge(WHOLE, "").ok)
        self.assertFalse(protocol.judge(WHOLE, HOLDS, timed_out=True).ok)

    def test_a_search_that_was_cut_short_fails(self):
        for text in ("error: max search depth too small\n", "pan: out of memory\n",
                     "pan: reached -DMEMLIM bound\n", "Warning: Search not completed\n"):
            for run in (WHOLE, BROKEN):
                self.assertFalse(protocol.judge(run, text + HOLDS).ok, text)

    def test_what_no_state_reaches_is_named(self):
        text = HOLDS + "unreached in proctype p\n\tm.pml:12, state 7, \"x = 1\"\n" \
            "\tm.pml:20, state 9, \"-end-\"\n"
        self.assertEqual(len(protocol.judge(WHOLE, text).unreached), 1)


class Documents(unittest.TestCase):
    def test_every_rule_of_a_model_is_taken_out_by_a_run(self):
        taken_out = {one.split("=")[0] for run in protocol.BROKEN for one in run.scope}
        scopes = {one.split("=")[0] for run in protocol.WHOLE for one in run.scope}
        scopes |= {"SESSIONS", "SEQUENCES", "KEYS", "NODES", "VERSIONS", "EPOCHS", "RECORDS",
                   "POWER_CUTS"}
        guide = read("docs", "protocol", "README.md")
        for run in protocol.WHOLE:
            text = read("docs", "protocol", run.model + ".pml")
            rules = set(re.findall(r"^#(?:ifn?def|if !?defined\() ?(\w+)", text, re.M))
            rules |= set(re.findall(r"defined\((\w+)\)", text))
            rules -= set(re.findall(r"^#define (\w+)(?:  /\*.*)?$", text, re.M))  # made of rules
            self.assertLessEqual(rules - scopes, taken_out, run.model)
            for rule in rules - scopes:
                self.assertIn(f"`{rule}`", guide)

    def test_what_the_guide_names_is_in_the_code(self):
        found = SOURCE_FUNCTION.findall(read("docs", "protocol", "README.md"))
        self.assertGreater(len(found), 15)
        for name, path in found:
            self.assertIn(name.rsplit("::", 1)[-1], read(path), f"{name} in {path}")


if __name__ == "__main__":
    unittest.main()
