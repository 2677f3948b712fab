#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Refuses what g++ 12 compiles wrongly around co_await.

g++ 12.2 destroys some temporaries of a statement with co_await twice: aggregates made in braces
(`co_await f(Opts{.name = s})`, `co_await f({a, b})`) and lambdas that capture by value. Name such a
value on the line above. The result of a co_await in a conditional operator (`c ? co_await f() :
co_await g()`) is destroyed twice as well: write an if. Also refused: co_await inside a braced
initializer. Empty braces, lambdas that capture by reference or `this`, and constructor calls in
parentheses are safe.

Usage: tools/gcc12_await.py FILE...     (tools/tidy.py runs it over the whole tree)
"""

import re
import sys

from cpptext import Lines, blank, blank_preprocessor, matching

BRACES = "non-empty braces in a statement with co_await: name the value on the line above"
INSIDE = "co_await inside a braced initializer: await into a named value first"
CONDITIONAL = "co_await in a conditional operator: write an if"
CAPTURE = "lambda with value captures in a statement with co_await: name it on the line above"

# What stands before the brace of a block; before any other brace stands what it initializes.
_BLOCK_BEFORE = re.compile(
    r"(?:[;{}:)\]]|\b(?:else|do|try|const|noexcept|override|final|mutable)"
    r"|[)]\s*(?:const|noexcept|mutable|\s)*->\s*[\w:<>,\s&*]+"
    r"|\b(?:namespace|class|struct|union|enum)\b[^;{}()=]*|^)\s*$"
)


def _opens_block(text, brace):
    return _BLOCK_BEFORE.search(text[max(0, brace - 300) : brace]) is not None


def _is_control(text, paren):
    return re.search(r"\b(?:if|for|while|switch)(?:\s+constexpr)?\s*$", text[:paren][-30:])


def _statement(text, partner, at):
    """(start, end, brace): the statement around `at`; brace: an initializer that encloses it."""
    start, brace = at, None
    while start > 0:
        char = text[start - 1]
        if char == ";":
            break
        if char == "}" and start - 1 in partner:
            opening = partner[start - 1]
            if _opens_block(text, opening):
                break
            start = opening
        elif char in ")]" and start - 1 in partner:
            start = partner[start - 1]
        elif char == "{":
            if _opens_block(text, start - 1):
                break
            brace = start - 1 if brace is None else brace
            start -= 1
        elif char == "(" and _is_control(text, start - 1):
            break
        else:
            start -= 1
    return start, _end_of_statement(text, partner, start), brace


def _end_of_statement(text, partner, start):
    end = start
    while end < len(text) and text[end] not in ";)}":
        if text[end] == "{" and _opens_block(text, end):
            break
        end = partner.get(end, end) + 1
    return end


def _captures_value(captures):
    """Whether the list between the brackets of a lambda copies or makes a value."""
    for capture in re.split(r",(?![^(<{]*[)>}])", captures):
        name = capture.strip()
        if name and name != "this" and not name.startswith("&"):
            return True
    return False


def _lambdas(text, partner, start, end):
    """(start of the lambda, start of its body, end of its body) of each lambda in the range."""
    for match in re.finditer(r"\[", text[start:end]):
        opening = start + match.start()
        before = text[:opening].rstrip()[-1:]
        if opening not in partner or before.isalnum() or before in {"_", ")", "]", "["}:
            continue
        closing = partner[opening]
        after = text[closing + 1 : closing + 100]
        if text[opening + 1] == "[" or not re.match(r"\s*(?:[({<]|mutable|->)", after):
            continue
        body = text.find("{", closing)
        while body != -1 and not _opens_block(text, body):
            body = text.find("{", body + 1)
        if body in partner:
            yield opening, body, partner[body]


def check_text(source):
    """[(line, complaint)] of one file, in order, each line once."""
    text = blank_preprocessor(blank(source))
    partner, lines, found = matching(text), Lines(text), {}
    for match in re.finditer(r"\bco_await\b", text):
        start, end, brace = _statement(text, partner, match.start())
        if brace is not None:
            found.setdefault(lines.number(match.start()), INSIDE)
        if re.search(r"[?]\s*$", text[start : match.start()]):
            found.setdefault(lines.number(match.start()), CONDITIONAL)
        bodies = []
        for opening, body, body_end in _lambdas(text, partner, start, end):
            if any(first < opening < last for first, last in bodies):
                continue
            bodies.append((body, body_end))
            if _captures_value(text[opening + 1 : partner[opening]]):
                found.setdefault(lines.number(opening), CAPTURE)
        for opening in (start + m.start() for m in re.finditer(r"\{", text[start:end])):
            in_lambda = any(first <= opening < last for first, last in bodies)
            if not in_lambda and text[opening + 1 : partner.get(opening, end)].strip():
                found.setdefault(lines.number(opening), BRACES)
    return sorted(found.items())


def main(paths):
    bad = 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for line, complaint in check_text(file.read()):
                print(f"{path}:{line}: await: {complaint}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
