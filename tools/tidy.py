#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The habits of this repository that a machine can check, in seconds.

Usage: tools/tidy.py [--root DIR] [FILE...]

Checks every tracked file of the tree (with FILE: prints only what concerns those files). Each
complaint is one line `path:line: rule: what to do instead`. A line that must break a rule says so
and why: `// tidy-allow: <rule> <reason>`. The tables below are the rules; change them in a commit
that gives the reason. tests/unit/tools/test_tidy.py shows each rule failing.
"""

import argparse
import ast
import os
import posixpath
import re
import subprocess
import sys
from collections import namedtuple

import gcc12_await
from cpptext import Lines, blank, blank_preprocessor, matching

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 800
MAX_BLOB_BYTES = 256 * 1024

# ---- who may include whom: folder -> folders besides itself (docs/ARCHITECTURE.md) ----
FOLDERS = {
    "base": set(),
    "wire": {"base"},
    "ring": {"base"},
    "meta": {"base"},
    "snapshot": {"base"},
    "dedup": {"base", "meta"},
    "net": {"base", "wire", "meta", "ring"},
    "storaged": {"base", "wire", "net", "meta", "ring", "dedup", "snapshot"},
    "disk": {"base", "wire", "net", "meta", "ring", "dedup", "snapshot"},
    "nbd-plugin": {"base", "disk"},
    "fuse": {"base", "disk"},
    "cli": {"base", "disk", "meta", "net"},
}
FOLDERS["bench"] = set(FOLDERS) - {"nbd-plugin", "fuse", "cli"}
FOLDERS["tests"] = set(FOLDERS) | {"tests"}

# ---- third parties and their homes: (include, files that may name it) ----
THIRD_PARTIES = [
    (r"boost/(asio|beast)\b",
     r"net/[^/]+\.cc|net/asio_[^/]+\.h|storaged/http[^/]*\.cc|tests/unit/net/.*"),
    (r"rocksdb/", r"meta/rocks_[^/]*\.cc|dedup/sparse_index\.cc"),
    (r"google/protobuf/|.*\.pb\.h$", r"(wire|meta|storaged|disk|net|cli|tests)/.*"),
    (r"nbdkit-", r"nbd-plugin/.*|tests/unit/nbd-plugin/.*"),
    (r"fuse3?[/_.]|fuse_lowlevel\.h", r"fuse/.*"),
    (r"openssl/", r"base/checksum\.cc|(tests/unit/)?net/tls[^/]*"),
    (r"xxh(ash|_x86dispatch)\.h", r"base/checksum\.cc|net/tls[^/]*"),
    (r"libnbd\.h", r"(cli|bench|tests)/.*"),
    (r"(spdlog|fmt)/", r"base/log\.cc"),
    (r"toml\+\+/|toml\.h", r"(storaged|cli)/[^/]+\.cc"),
    (r"CLI/", r"(cli|bench)/.*|storaged/(main|config)[^/]*"),
    (r"boost/(json|url)\b", r"(cli|bench|tests)/.*|(net|storaged)/[^/]+\.cc"),
    (r"boost/system/result\.hpp", r"base/result\.h"),
    (r"boost/unordered/",
     r"(storaged|disk|meta|net|bench|tests)/.*|(dedup|snapshot|ring)/[^/]+\.cc"),
    (r"g(test|mock)/|rapidcheck", r"tests/.*"),
    (r"benchmark/", r"bench/.*"),
]
SYSTEM_HEADER = re.compile(
    r"[a-z_0-9]+$|(sys|linux|netinet|arpa|net|asm|bits|sanitizer)/"
    r"|(unistd|fcntl|dirent|signal|pthread|poll|sched|time|errno|netdb|limits|stdint|stddef|stdlib"
    r"|string|stdio|termios|grp|pwd|dlfcn|libgen|spawn|getopt|glob|ftw|syslog|mntent|endian|malloc"
    r"|fnmatch|regex|sysexits|immintrin|x86intrin|uchar|wchar|ifaddrs|cxxabi|execinfo"
    r"|semaphore)\.h$"
)

# ---- what has a better replacement: (rule, pattern, instead, files that may) ----
_CALL = r"(?<![\w.>:])(?:(?:std)?::)?"
BANNED = [
    ("sleep", _CALL + r"(?:u|nano)?sleep\s*\(|\bthis_thread\s*::\s*sleep_",
     "co_await sleep_for(scheduler, d), or poll with a deadline", ""),
    ("rand", _CALL + r"s?rand\s*\(", "Random of base/random.h, seeded and passed in", ""),
    ("strcpy", _CALL + r"str(?:n?cpy|n?cat)\s*\(", "std::string or std::copy_n", ""),
    ("sprintf", _CALL + r"v?sprintf\s*\(", "std::string, std::to_chars or snprintf", ""),
    ("random_device", r"\brandom_device\b", "system_seed of base/random.h", r"base/random\.cc"),
    ("system", _CALL + r"(?:system|popen)\s*\(", "posix_spawn with an argument list", ""),
    ("assert", r"(?<![\w.])assert\s*\(|#\s*include\s*<(?:cassert|assert\.h)>",
     "VMS_ASSERT, which is always on", ""),
    ("cout", r"\bstd::cout\b", "VMS_LOG: only the command line speaks to people",
     r"(cli|bench)/.*"),
    ("endl", r"\bendl\b", r"'\n'", ""),
    ("clock", r"\b(?:steady|system|high_resolution)_clock::now\b|" + _CALL + r"gettimeofday\s*\(",
     "Scheduler::now or wall_now, so that the simulator owns time",
     r"(base|net|bench|cli|tests|nbd-plugin|fuse)/.*"),
    ("using-namespace", r"\busing\s+namespace\b", "the full name, or using for one name",
     r"base/time\.h"),  # 10ms and 3s, for everybody
]

# Golden files, recorded traces and the built web page may be big.
BIG_FILES = re.compile(r"tests/(format|data|traces)/|tests/fuzz/corpus/|bench/traces/|web/dist/")
BINARY = re.compile(r"\.(png|ico|svg|woff2?|bin|gz|zst|xz|golden)$|^tests/fuzz/corpus/|^web/dist/")

Complaint = namedtuple("Complaint", "path line rule text")


class Tree:
    """Tracked files by path, relative to the root; read when first asked for."""

    def __init__(self, root, paths, sizes=None):
        self.root, self.paths, self.sizes = root, sorted(paths), sizes or {}
        self._texts, self._blanked = {}, {}

    @classmethod
    def of(cls, root):
        listed = subprocess.run(
            ["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True, check=False
        )
        if listed.returncode == 0:
            paths = [p for p in listed.stdout.split("\0") if p]
        else:  # a release archive
            paths = []
            for folder, folders, files in os.walk(root):
                folders[:] = [f for f in folders if f not in {"build", ".git", "node_modules"}]
                paths += [posixpath.relpath(posixpath.join(folder, f), root) for f in files]
        paths = [p for p in paths if os.path.isfile(os.path.join(root, p))]
        return cls(root, paths, {p: os.path.getsize(os.path.join(root, p)) for p in paths})

    @classmethod
    def from_texts(cls, texts):
        tree = cls("", texts, {path: len(text) for path, text in texts.items()})
        tree._texts = dict(texts)
        return tree

    def text(self, path):
        if path not in self._texts:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                self._texts[path] = file.read()
        return self._texts[path]

    def blanked(self, path):
        if path not in self._blanked:
            self._blanked[path] = blank(self.text(path))
        return self._blanked[path]

    def cpp(self):
        return [p for p in self.paths if p.endswith((".h", ".cc"))]

    def sources(self):
        """Everything people wrote in a programming language."""
        named = (".h", ".cc", ".proto", ".py", ".sh", ".cmake", "CMakeLists.txt")
        return [p for p in self.paths if p.endswith(named) or self._is_script(p)]

    def _is_script(self, path):
        in_place = path.startswith(("scripts/", ".ci/", "tools/", "tests/", "packaging/"))
        if not in_place or BINARY.search(path) or "." in posixpath.basename(path):
            return False
        return self.text(path).startswith("#!")


def folder_of(path):
    return path.split("/", 1)[0] if "/" in path else ""


def each_line(tree, paths):
    for path in paths:
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            yield path, number, line


# ---- includes ----

Include = namedtuple("Include", "path line name quoted")


def includes(tree):
    for path in tree.cpp():
        text = tree.text(path)
        for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', text, re.M):
            line = text.count("\n", 0, match.start()) + 1
            yield Include(path, line, match.group(2), match.group(1) == '"')


def check_include_table(tree):
    for inc in includes(tree):
        source, target = folder_of(inc.path), folder_of(inc.name)
        if not inc.quoted:
            continue
        if target not in FOLDERS:
            yield Complaint(inc.path, inc.line, "include",
                            f'"{inc.name}": quotes are for our own files, from the repository root')
        elif source in FOLDERS and target != source and target not in FOLDERS[source]:
            allowed = ", ".join(sorted(FOLDERS[source])) or "nothing"
            yield Complaint(inc.path, inc.line, "include",
                            f"{source} may include {allowed}, not {target}")


def check_third_parties(tree):
    for inc in includes(tree):
        if inc.quoted and not inc.name.endswith(".pb.h"):
            continue
        homes = [home for name, home in THIRD_PARTIES if re.match(name, inc.name)]
        if homes and not re.fullmatch(homes[0], inc.path):
            yield Complaint(inc.path, inc.line, "third-party", f"{inc.name} lives in {homes[0]}")
        elif homes and inc.path.endswith(".h") and not inc.name.endswith(".pb.h"):
            if folder_of(inc.path) in {"wire", "ring", "snapshot", "dedup"}:
                yield Complaint(inc.path, inc.line, "third-party",
                                f"{inc.name}: headers of this folder name no third party")
        elif not homes and not SYSTEM_HEADER.match(inc.name):
            yield Complaint(inc.path, inc.line, "third-party",
                            f"{inc.name} has no home: add it to THIRD_PARTIES of tools/tidy.py")


def check_own_header_first(tree):
    seen = set()
    for inc in includes(tree):
        own = re.sub(r"\.cc$", ".h", inc.path)
        if inc.path.endswith(".cc") and own in tree.paths and inc.path not in seen:
            seen.add(inc.path)
            if inc.name != own:
                yield Complaint(inc.path, inc.line, "own-header", f'include "{own}" first')


def check_cycles(tree):
    edges = {}
    for inc in includes(tree):
        source, target = folder_of(inc.path), folder_of(inc.name)
        if inc.quoted and source != target and {source, target} <= set(FOLDERS) - {"tests"}:
            edges.setdefault(source, {}).setdefault(target, inc)

    def search(folder, trail):
        for target, inc in sorted(edges.get(folder, {}).items()):
            if target in trail:
                ring = trail[trail.index(target):] + [target]
                return Complaint(inc.path, inc.line, "cycle", " -> ".join(ring))
            found = search(target, trail + [target])
            if found:
                return found
        return None

    found = next(filter(None, (search(folder, [folder]) for folder in sorted(edges))), None)
    return [found] if found else []


# ---- shape of files ----


def check_spdx(tree):
    for path in tree.sources():
        lines = tree.text(path).split("\n", 2)
        first = lines[1] if lines[0].startswith("#!") and len(lines) > 1 else lines[0]
        mark = "//" if path.endswith((".h", ".cc", ".proto")) else "#"
        wanted = f"{mark} SPDX-License-Identifier: Apache-2.0"
        if first != wanted:
            yield Complaint(path, 1, "spdx", f"the first line is `{wanted}`")


def check_pragma_once(tree):
    for path in tree.paths:
        if path.endswith(".h") and not re.search(r"^#pragma once$", tree.text(path), re.M):
            yield Complaint(path, 1, "pragma-once", "add `#pragma once` below the head comment")


def check_columns(tree):
    for path, number, line in each_line(tree, tree.sources()):
        if len(line) > MAX_COLUMNS:
            yield Complaint(path, number, "columns", f"{len(line)} columns, at most {MAX_COLUMNS}")


def check_file_lines(tree):
    for path in tree.sources():
        count = tree.text(path).count("\n")
        if count > MAX_FILE_LINES:
            yield Complaint(path, 1, "file-lines", f"{count} lines, at most {MAX_FILE_LINES}")


_SCOPE = re.compile(r"\s*(?:template\b.*?>\s*)?(?:inline\s+|typedef\s+)*"
                    r"(?:namespace|class|struct|union|enum|extern\s*\"\s*\")", re.S)
_SIGNATURE_END = re.compile(r"\)\s*(?:const|noexcept|override|final|->[^)]*|\s)*$")
_VALUE = re.compile(r"(?:[=(,\[]|\breturn)\s*$")
_LANDMARK = re.compile(r"[({};]|\b(?:public|private|protected)\s*:")


def cpp_functions(text):
    """(first line, last line, head) of each function outside any other, by matching braces."""
    text = blank_preprocessor(text)
    partner, lines = matching(text), Lines(text)
    head_start, function = 0, None
    mark = _LANDMARK.search(text)
    while mark:
        at, resume = mark.start(), mark.end()
        head = text[head_start:at]
        if mark.group() == "(":
            resume = partner.get(at, at) + 1
        elif mark.group() != "{" or at not in partner:
            function, head_start = None, resume
        elif _SCOPE.match(head) and not _SIGNATURE_END.search(head):
            function, head_start = None, resume
        else:
            more = function and (not head.strip() or head.lstrip().startswith(","))
            if not more:  # else what went before was an initializer `member_{...}`
                first = lines.number(at - len(head.lstrip()))
                function = (first, head) if "(" in head and not _VALUE.search(head) else None
            if function:
                yield function[0], lines.number(partner[at]), function[1]
            head_start = resume = partner[at] + 1
        mark = _LANDMARK.search(text, resume)


def check_function_lines(tree):
    for path in tree.paths:
        if path.endswith((".h", ".cc")):
            found = cpp_functions(tree.blanked(path))
        elif path.endswith(".py"):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
            nodes = [n for n in ast.walk(ast.parse(tree.text(path))) if isinstance(n, kinds)]
            found = [(n.lineno, n.end_lineno, n.name + "(") for n in nodes]
        else:
            continue
        for first, last, head in found:
            if last - first + 1 > MAX_FUNCTION_LINES:
                name = (re.findall(r"[\w:~]+(?=\s*\()", head) or ["function"])[0]
                yield Complaint(path, first, "function-lines",
                                f"{name}: {last - first + 1} lines, at most {MAX_FUNCTION_LINES}")


# ---- what stands in them ----


def check_banned(tree):
    for path in tree.cpp():
        text, lines = tree.blanked(path), Lines(tree.text(path))
        for name, pattern, instead, may in BANNED:
            if may and re.fullmatch(may, path):
                continue
            for match in re.finditer(pattern, text):
                what = " ".join(match.group().split()).rstrip("( ")
                yield Complaint(path, lines.number(match.start()), name, f"{what} -> {instead}")


def check_words(tree):
    sources = set(tree.sources())
    for path, number, line in each_line(tree, [p for p in tree.paths if not BINARY.search(p)]):
        if re.search(r"(?<![\w.})$*])/(?:work|farm)/", line):
            yield Complaint(path, number, "machine-path", "a path of somebody's machine")
        if path not in sources:
            continue
        word = re.search(r"\b(?:FIX[M]E|NO[C]OMMIT)\b", line)
        if word:
            yield Complaint(path, number, "unfinished", f"{word.group()}: finish it")
        if re.search(r"\bTO[D]O\b(?!\(#\d+\))", line):
            yield Complaint(path, number, "todo", "write TO" "DO(#issue)")


def check_await(tree):
    for path in tree.cpp():
        for line, text in gcc12_await.check_text(tree.text(path)):
            yield Complaint(path, line, "await", text)


# ---- what belongs together ----


def check_dead_files(tree):
    """Every .cc, and every .h of a folder that is built, is named in a CMakeLists.txt above it."""
    words = {}
    for path in tree.paths:
        if posixpath.basename(path) == "CMakeLists.txt":
            words[posixpath.dirname(path)] = set(re.findall(r"[\w.-]+", tree.text(path)))
    for path in tree.cpp():
        if path.endswith(".h") and (folder_of(path) == "tests" or folder_of(path) not in words):
            continue
        above, name = posixpath.dirname(path), posixpath.basename(path)
        stem = name.rsplit(".", 1)[0]
        names = {name, stem} if name.endswith(".cc") else {name}
        while above and not names & words.get(above, set()):
            above = posixpath.dirname(above)
        if not above and not names & words.get("", set()):
            yield Complaint(path, 1, "dead-file", "named in no CMakeLists.txt: add it or delete it")


def check_blobs(tree):
    for path in tree.paths:
        if tree.sizes.get(path, 0) > MAX_BLOB_BYTES and not BIG_FILES.match(path):
            yield Complaint(path, 1, "blob", f"{tree.sizes[path] >> 10} KiB, at most "
                            f"{MAX_BLOB_BYTES >> 10} outside golden files and traces")


def check_format_documents(tree):
    guides = [p for p in tree.paths if p in {"ARCHITECTURE.md", "docs/ARCHITECTURE.md"}]
    linked = set()
    for guide in guides:
        for link in re.findall(r"\]\(([^)#\s]+)", tree.text(guide)):
            linked.add(posixpath.normpath(posixpath.join(posixpath.dirname(guide), link)))
    for path in tree.paths:
        if re.fullmatch(r"docs/format/[^/]+\.md", path) and path not in linked:
            yield Complaint(path, 1, "format-document", "link it from docs/ARCHITECTURE.md")


CHECKS = [
    check_include_table, check_third_parties, check_own_header_first, check_cycles, check_spdx,
    check_pragma_once, check_columns, check_file_lines, check_function_lines, check_banned,
    check_words, check_await, check_dead_files, check_blobs, check_format_documents,
]


def allowed(tree, complaint):
    line = tree.text(complaint.path).split("\n")[complaint.line - 1]
    return re.search(rf"tidy-allow: {complaint.rule} \S+ \S+", line) is not None


def check(tree):
    found = [c for rule in CHECKS for c in rule(tree)]
    return sorted(c for c in found if c.rule == "blob" or not allowed(tree, c))


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(here))
    parser.add_argument("files", nargs="*", help="print only complaints about these")
    options = parser.parse_args(arguments)
    tree = Tree.of(options.root)
    complaints = check(tree)
    if options.files:
        wanted = {posixpath.normpath(f) for f in options.files}
        complaints = [c for c in complaints if c.path in wanted]
    for c in complaints:
        print(f"{c.path}:{c.line}: {c.rule}: {c.text}")
    print(f"tidy: {len(tree.paths)} files, {len(CHECKS)} checks, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
