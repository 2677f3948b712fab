# SPDX-License-Identifier: Apache-2.0
"""Each rule of tools/tidy.py and tools/gcc12_await.py fails once here, and passes once."""

import os
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import gcc12_await  # noqa: E402
import tidy  # noqa: E402

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"


def complaints(texts):
    return [(c.path, c.line, c.rule) for c in tidy.check(tidy.Tree.from_texts(texts))]


def rules(path, text, **others):
    """The rules that one file breaks in a tree where everything else is in order."""
    texts = {path: text, "CMakeLists.txt": "# " + SPDX[3:] + os.path.basename(path)}
    texts.update(others)
    return [rule for found, _, rule in complaints(texts) if found == path]


def code(body):
    return SPDX + body


class Includes(unittest.TestCase):
    def test_folder_outside_the_table_row_is_refused(self):
        self.assertEqual(rules("ring/a.cc", code('#include "meta/schema.h"\n')), ["include"])
        self.assertEqual(rules("ring/a.cc", code('#include "base/ids.h"\n')), [])

    def test_programs_are_included_by_tests_only(self):
        text = code('#include "storaged/journal.h"\n')
        self.assertEqual(rules("disk/a.cc", text), ["include"])
        self.assertEqual(rules("tests/unit/storaged/a.cc", text), [])

    def test_path_not_from_the_root_is_refused(self):
        self.assertEqual(rules("ring/a.cc", code('#include "ring.h"\n')), ["include"])

    def test_commented_out_include_counts_not(self):
        self.assertEqual(rules("ring/a.cc", code('// #include "meta/schema.h"\n')), [])

    def test_cycle_is_refused_even_where_the_table_allows_it(self):
        texts = {
            "ring/a.cc": code('#include "wire/b.h"\n'),
            "wire/b.cc": code('#include "ring/a.h"\n'),
            "CMakeLists.txt": "# " + SPDX[3:] + "a.cc b.cc",
        }
        found = list(tidy.check_cycles(tidy.Tree.from_texts(texts)))
        self.assertEqual([c.text for c in found], ["ring -> wire -> ring"])

    def test_table_has_no_cycle(self):
        seen = set()
        while len(seen) < len(tidy.FOLDERS):
            ready = {f for f, below in tidy.FOLDERS.items() if below - {f} <= seen} - seen
            self.assertTrue(ready)
            seen |= ready

    def test_own_header_comes_first(self):
        header = code("#pragma once\n")
        late = code('#include <string>\n#include "ring/a.h"\n')
        first = code('#include "ring/a.h"\n#include <string>\n')
        self.assertEqual(rules("ring/a.cc", late, **{"ring/a.h": header}), ["own-header"])
        self.assertEqual(rules("ring/a.cc", first, **{"ring/a.h": header}), [])

    def test_third_party_outside_its_home_is_refused(self):
        for header, path, home in [
            ("boost/asio/post.hpp", "disk/disk.cc", "net/listener.cc"),
            ("boost/asio/post.hpp", "net/listener.h", "net/asio_thread.h"),
            ("boost/asio/post.hpp", "storaged/service_read.cc", "storaged/http.cc"),
            ("rocksdb/db.h", "meta/rocks_store.h", "meta/rocks_store.cc"),
            ("rocksdb/db.h", "dedup/manifest.cc", "dedup/sparse_index.cc"),
            ("wire/vmstore.pb.h", "ring/ring.cc", "disk/disk.cc"),
            ("nbdkit-plugin.h", "disk/disk.cc", "nbd-plugin/plugin.cc"),
            ("fuse_lowlevel.h", "disk/disk.cc", "fuse/mount.cc"),
            ("openssl/evp.h", "wire/frame.cc", "base/checksum.cc"),
            ("xxhash.h", "snapshot/page.cc", "base/checksum.cc"),
            ("gtest/gtest.h", "base/ids.cc", "tests/unit/base/ids_test.cc"),
        ]:
            with self.subTest(header=header, path=path):
                self.assertIn("third-party", rules(path, code(f"#include <{header}>\n")))
                self.assertNotIn("third-party", rules(home, code(f"#include <{header}>\n")))

    def test_headers_of_pure_folders_name_no_third_party(self):
        text = code("#pragma once\n#include <boost/unordered/unordered_flat_map.hpp>\n")
        self.assertEqual(rules("dedup/a.h", text), ["third-party"])

    def test_unknown_third_party_is_refused(self):
        self.assertEqual(rules("disk/a.cc", code("#include <zstd.h>\n")), ["third-party"])
        self.assertEqual(rules("disk/a.cc", code("#include <sys/uio.h>\n#include <map>\n")), [])


class Shape(unittest.TestCase):
    def test_license_line_comes_first(self):
        self.assertEqual(rules("ring/a.cc", "// Rings.\n"), ["spdx"])
        self.assertEqual(rules("scripts/a", "#!/bin/sh\necho\n"), ["spdx"])
        self.assertEqual(rules("scripts/a", "#!/bin/sh\n# " + SPDX[3:]), [])

    def test_header_without_pragma_once_is_refused(self):
        self.assertEqual(rules("ring/a.h", SPDX), ["pragma-once"])

    def test_line_over_100_columns_is_refused(self):
        self.assertEqual(rules("ring/a.cc", code("//" + "x" * 99 + "\n")), ["columns"])
        self.assertEqual(rules("ring/a.cc", code("//" + "x" * 98 + "\n")), [])

    def test_file_over_800_lines_is_refused(self):
        self.assertEqual(rules("ring/a.cc", code("\n" * 800)), ["file-lines"])
        self.assertEqual(rules("ring/a.cc", code("\n" * 799)), [])

    def test_function_over_70_lines_is_refused(self):
        for head in [
            "int f(int x) {", "TEST(A, B) {", "template <class T>\nvoid C<T>::f() const noexcept {",
            "C::C(int x) : a_(x), b_{x}, c_{1} {", "auto f = [](int x) -> int {",
            "namespace a {\nclass [[nodiscard]] B : public D<int> {\n public:\n  int f() {",
        ]:
            with self.subTest(head=head):
                text = head + "\n" + "  g();\n" * 69 + "}\n};\n}\n"
                self.assertIn("function-lines", rules("ring/a.cc", code(text)))

    def test_short_functions_in_a_long_class_pass(self):
        body = "  int f() { return 1; }\n" * 80
        for head in ["class A {", "struct alignas(64) A {", "namespace a {", 'extern "C" {']:
            self.assertEqual(rules("ring/a.cc", code(f"{head}\n{body}}};\n")), [])

    def test_long_table_is_no_function(self):
        self.assertEqual(rules("ring/a.cc", code("int k[] = {\n" + "  1,\n" * 80 + "};\n")), [])

    def test_braces_in_literals_and_comments_count_not(self):
        text = "int f() { return '{' + g(\"{\", R\"x({\")x\", 1'000); }  // {\n" + "int a;\n" * 80
        self.assertEqual(rules("ring/a.cc", code(text)), [])

    def test_long_python_function_is_refused(self):
        text = "# " + SPDX[3:] + "def f():\n" + "    g()\n" * 70
        self.assertEqual(rules("tools/a.py", text), ["function-lines"])


class Words(unittest.TestCase):
    def test_banned_calls_are_refused(self):
        for text, rule in [
            ("sleep(1);", "sleep"), ("::usleep(1);", "sleep"),
            ("std::this_thread::sleep_for(d);", "sleep"),
            ("std::rand();", "rand"), ("strcpy(a, b);", "strcpy"), ("sprintf(a, b);", "sprintf"),
            ("std::random_device d;", "random_device"), ("system(c);", "system"),
            ("assert(x);", "assert"), ("std::cout << x;", "cout"), ("s << std::endl;", "endl"),
            ("std::chrono::steady_clock::now();", "clock"),
            ("using namespace std;", "using-namespace"),
        ]:
            with self.subTest(text=text):
                self.assertEqual(rules("disk/a.cc", code(f"void f() {{ {text} }}\n")), [rule])

    def test_look_alikes_pass(self):
        for text in [
            "sleep_for(scheduler, d);", "x.sleep(1);", "static_assert(true);", "snprintf(a, 1);",
            "VMS_ASSERT(x);", "boost::system::error_code e;", 'f("sleep(1)");', "// rand()",
            "operand(1);", "using std::string;",
        ]:
            with self.subTest(text=text):
                self.assertEqual(rules("disk/a.cc", code(f"void f() {{ {text}\n}}\n")), [])

    def test_homes_of_banned_names_may_use_them(self):
        self.assertEqual(rules("base/random.cc", code("std::random_device d;\n")), [])
        self.assertEqual(rules("cli/main.cc", code("void f() { std::cout << 1; }\n")), [])

    def test_reply_names_the_replacement(self):
        tree = tidy.Tree.from_texts({"ring/a.cc": code("void f() { assert(1); }\n")})
        self.assertEqual([c.text for c in tidy.check_banned(tree)],
                         ["assert -> VMS_ASSERT, which is always on"])

    def test_unfinished_work_is_refused(self):
        self.assertEqual(rules("ring/a.cc", code("// FIX" "ME later\n")), ["unfinished"])
        self.assertEqual(rules("ring/a.cc", code("// NO" "COMMIT\n")), ["unfinished"])
        self.assertEqual(rules("ring/a.cc", code("// TO" "DO later\n")), ["todo"])
        self.assertEqual(rules("ring/a.cc", code("// TO" "DO(#12) later\n")), [])

    def test_path_of_a_machine_is_refused_in_any_file(self):
        for place in ["work", "farm"]:
            self.assertEqual(rules("README.md", f"see /{place}/main\n"), ["machine-path"])
        self.assertEqual(rules("README.md", "see home/work/main\n"), [])

    def test_exception_needs_a_reason(self):
        text = "void f() { sleep(1); }  // tidy-allow: sleep"
        self.assertEqual(rules("ring/a.cc", code(text + "\n")), ["sleep"])
        self.assertEqual(rules("ring/a.cc", code(text + " waits for the kernel\n")), [])


class Together(unittest.TestCase):
    def test_source_named_in_no_cmakelists_is_refused(self):
        texts = {"ring/a.cc": SPDX, "ring/b.cc": SPDX, "ring/b.h": code("#pragma once\n"),
                 "ring/CMakeLists.txt": "# " + SPDX[3:] +
                 "add_vmstore_library(ring SOURCES a.cc)\n"}
        self.assertEqual([c[0] for c in complaints(texts)], ["ring/b.cc", "ring/b.h"])

    def test_big_file_is_refused(self):
        big = "x" * (257 << 10)
        self.assertEqual(rules("docs/picture.png", big), ["blob"])
        self.assertEqual(rules("tests/format/golden.bin", big), [])

    def test_format_document_nobody_links_is_refused(self):
        guide = {"docs/ARCHITECTURE.md": "[pages](format/page.md)\n"}
        self.assertEqual(rules("docs/format/log.md", "# Log\n", **guide), ["format-document"])
        self.assertEqual(rules("docs/format/page.md", "# Page\n", **guide), [])

    def test_files_outside_git_are_found_too(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "ring"))
            with open(os.path.join(folder, "ring", "a.h"), "w", encoding="utf-8") as file:
                file.write(SPDX)
            found = tidy.check(tidy.Tree.of(folder))
            self.assertEqual([c.rule for c in found], ["pragma-once"])


def awaits(statement):
    return [text for _, text in gcc12_await.check_text(f"Task<void> f() {{\n  {statement}\n}}\n")]


class Await(unittest.TestCase):
    def test_braces_are_refused(self):
        for text in [
            "co_await g(Opts{.name = s});", "auto r = co_await g({a, b});",
            "VMS_CO_TRY(auto x, co_await g(X{1}));", "k(X{1}, co_await g());",
            "if (auto r = co_await g({1}); r) { h(); }", "for (auto& x : co_await g({a})) h(x);",
            "while (!co_await g({a})) { h(); }", "switch (x) { case A: { co_await g({a}); } }",
            "auto l = [&]() -> Task<int> { co_return co_await g({1, 2}); };",
        ]:
            with self.subTest(text=text):
                self.assertEqual(awaits(text), [gcc12_await.BRACES])

    def test_await_inside_an_initializer_is_refused(self):
        for text in ["Opts o{.name = co_await g()};", "auto o = Opts{.name = co_await g()};",
                     "co_return X{co_await g()};"]:
            with self.subTest(text=text):
                self.assertEqual(awaits(text)[0], gcc12_await.INSIDE)

    def test_value_captures_are_refused(self):
        for text in [
            "co_await g([s] { return s; });", "co_await g([=]() mutable { return 1; });",
            "co_await g([x = std::move(y)] { h(); });", "co_await g([this, n] { return n; });",
            "co_await co_spawn(ex, [s]() -> awaitable<void> { co_return; }, use_awaitable);",
        ]:
            with self.subTest(text=text):
                self.assertEqual(awaits(text), [gcc12_await.CAPTURE])

    def test_conditional_operators_are_refused(self):
        for text in [
            "const auto r = c ? co_await g() : co_await h();", "x = c ? co_await g() : X{1};",
        ]:
            with self.subTest(text=text):
                self.assertEqual(awaits(text), [gcc12_await.CONDITIONAL])

    def test_safe_forms_pass(self):
        for text in [
            "co_await g(Opts{});", "co_await g([&] { return S{1}; });", "co_await g(Opts(1, 2));",
            "co_await g([this, &x]() -> Task<void> { co_await h(); });",
            "const Opts o{.name = s}; co_await g(o);", 'co_await g("{a}"); /* {b} */',
            "auto l = [s]() -> Task<void> { co_await h(); }; co_await l();",
            "if (co_await g()) { X x{1}; h(x); } else { co_await k(); }",
            "for (const auto& x : {1, 2}) { co_await g(x); }", "co_await g(m[i], n[j]);",
            "do { co_await g(); } while (h(X{1}));", "if (x) co_await g(); Y y{2};",
            "switch (co_await g()) { case 1: h(X{1}); }",
        ]:
            with self.subTest(text=text):
                self.assertEqual(awaits(text), [])

    def test_line_of_the_complaint_is_right(self):
        text = "Task<void> f() {\n  co_await g(a,\n             {b});\n}\n"
        self.assertEqual(gcc12_await.check_text(text), [(3, gcc12_await.BRACES)])

    def test_tidy_runs_the_lint(self):
        found = rules("disk/a.cc", code("Task<void> f() { co_await g({a}); }\n"))
        self.assertEqual(found, ["await"])


if __name__ == "__main__":
    unittest.main()
