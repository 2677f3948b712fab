# SPDX-License-Identifier: Apache-2.0
"""Just enough lexing of C++ for the checks of this folder: no parser, no compiler."""

import bisect
import re

# In this order: a quote inside a comment is no string, a // inside a string is no comment. The
# digit separator of 1'000 must not open a character literal.
_TOKEN = re.compile(
    r"""//(?:\\\n|[^\n])*
      | /\*.*?\*/
      | R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"
      | "(?:\\.|[^"\\\n])*"
      | (?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'
    """,
    re.S | re.X,
)


def blank(text):
    """The same text, comments and the insides of literals turned into spaces, lines kept."""

    def cover(match):
        token = match.group()
        if token[0] == "/":
            return re.sub(r"[^\n]", " ", token)
        start = token.index(token[0] if token[0] != "R" else '"') + 1
        return token[:start] + re.sub(r"[^\n]", " ", token[start:-1]) + token[-1]

    return _TOKEN.sub(cover, text)


def blank_preprocessor(text):
    """`text` (already blanked) without its preprocessor lines, whose braces need not match."""
    return re.sub(
        r"^[ \t]*#(?:\\\n|[^\n])*", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.M
    )


class Lines:
    """Offsets to line numbers."""

    def __init__(self, text):
        self.starts = [0] + [m.end() for m in re.finditer("\n", text)]

    def number(self, offset):
        return bisect.bisect_right(self.starts, offset)


_PAIRS = {"(": ")", "[": "]", "{": "}"}


def matching(text):
    """Offset of each bracket to the offset of its partner; brackets without one are left out."""
    partner = {}
    stack = []
    for match in re.finditer(r"[(){}\[\]]", text):
        if match.group() in _PAIRS:
            stack.append(match.start())
        elif stack and _PAIRS[text[stack[-1]]] == match.group():
            opening = stack.pop()
            partner[opening] = match.start()
            partner[match.start()] = opening
    return partner
