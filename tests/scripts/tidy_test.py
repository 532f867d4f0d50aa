#!/usr/bin/env python3
"""tidy.py finds each kind of fault in a small tree, and nothing in one that is in order."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "scripts"))
import tidy  # noqa: E402

HEADER = "// A header.\n#pragma once\n"


class TidyTest(unittest.TestCase):
    def findings(self, files):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            return tidy.find(root)

    def assert_one(self, files, fragment):
        findings = self.findings(files)
        self.assertEqual(len(findings), 1, findings)
        self.assertIn(fragment, findings[0])

    def test_order(self):
        self.assertEqual(self.findings({
            "src/base/log.h": HEADER,
            "src/blocks/pool.h": HEADER + '#include "base/log.h"\n#include "kvserve/ids.h"\n',
            "src/blocks/block_hash.cc": "#include <xxhash.h>\n",
            "src/main.cc": '#include "http/server.h"\n#include "engine/engine.h"\n',
            "include/kvserve/ids.h": HEADER + "#include <cstdint>\n#include <tl/expected.hpp>\n",
            "tests/unit/blocks/pool_test.cc": "#include <nlohmann/json.hpp>\n",
        }), [])

    def test_layers(self):
        self.assert_one({"src/blocks/a.cc": '#include "schedule/sequence.h"\n'},
                        "src/blocks/a.cc:1: blocks may not include schedule/sequence.h")
        self.assert_one({"src/http/a.cc": '#include "engine/engine.h"\n'},
                        "http may include engine/engine_handle.h only")
        self.assert_one({"src/client/a.cc": '#include "engine/engine_handle.h"\n'},
                        "client may not include")
        self.assertEqual(self.findings({"src/client/a.cc": '#include "config/config.h"\n'}), [])
        self.assert_one({"kernels/cpu/a.cc": '#include "model/model.h"\n'}, "kernels may not include")
        self.assert_one({"src/model/a.cc": '#include "cpu/gemm.h"\n'}, "src meets kernels")
        self.assert_one({"include/kvserve/a.h": HEADER + '#include "base/log.h"\n'},
                        "standard types only")

    def test_doors(self):
        for header in ("httplib.h", "spdlog/spdlog.h", "prometheus/counter.h", "xxhash.h",
                       "nlohmann/json.hpp", "CLI/CLI.hpp", "yaml-cpp/yaml.h", "pcre2.h",
                       "utf8proc.h", "openssl/evp.h", "immintrin.h"):
            self.assert_one({"src/sample/a.cc": f"#include <{header}>\n"}, "enters through")

    def test_sizes(self):
        self.assert_one({"src/base/a.h": HEADER + "//\n" * 500}, "502 lines")
        self.assert_one({"src/base/a.h": HEADER + "// " + "x" * 98 + "\n"}, "101 columns")
        body = "".join(f"  x += {i};\n" for i in range(70))
        long_function = f"int Long(int x) {{\n{body}  return x;\n}}\n"
        if tidy.shutil.which("ctags"):
            self.assert_one({"src/base/a.cc": long_function}, "Long has 73 lines")

    def test_words(self):
        for line in ("// TODO: later", "auto* p = getenv(\"HOME\");", "std::regex r;",
                     "using namespace std;", "#include <ranges>"):
            self.assert_one({"src/base/a.cc": line + "\n"}, "a.cc:1")

        self.assertEqual(self.findings({"src/base/a.cc": "// Not std::regex: it recurses.\n"}), [])

    def test_headers(self):
        self.assert_one({"src/base/a.h": "#pragma once\n"}, "opens with a comment")
        self.assert_one({"src/base/a.h": "// A header.\n"}, "#pragma once is missing")

    def test_unnamed(self):
        def sources(first, second):
            return {f"src/base/{name}.cc": f"namespace {{\n{text}\n}}  // namespace\n"
                    for name, text in (("a", first), ("b", second))}
        for text in ("constexpr int kSize = 4;", "int Next(int x) {", "struct Slot {"):
            self.assert_one(sources(text, text), "src/base/b.cc:2: ")
        self.assert_one(sources("constexpr int kSize = 4;", "constexpr char kSize[] = {"), "kSize")
        self.assert_one(sources("using A = int;", "using A = long;"), "A is in an unnamed")
        self.assertEqual(self.findings(sources("using A = int;", "using A = int;")), [])
        self.assertEqual(self.findings(sources("int Next(int x) {", "int Next(long x) {")), [])

    def test_mirrors(self):
        code = "int a;\n" * 120
        self.assert_one({"src/base/a.cc": code}, "tests/unit/base/a_test.cc is missing")
        self.assertEqual(self.findings({"src/base/a.cc": code, "tests/unit/base/a_test.cc": ""}), [])


if __name__ == "__main__":
    unittest.main()
