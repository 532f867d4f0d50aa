#!/usr/bin/env python3
"""Keeps what the compiler does not: who may include whom, one door per library, sizes, words.

    scripts/tidy.py [ROOT]    prints one line per finding; exit code 1 when there is one
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys

# Layer -> the layers it may include besides itself and include/kvserve. The order is the data path.
MAY_INCLUDE = {
    "base": [],
    "config": ["base"],
    "device": ["base"],
    "net": ["base"],
    "hub": ["net", "config", "base"],
    "tokenize": ["base"],
    "template": ["tokenize", "base"],
    "blocks": ["base"],
    "schedule": ["blocks", "base"],
    "model": ["base"],
    "quality": ["model", "hub", "config", "template", "tokenize", "base"],
    "sample": ["base"],
    "stream": ["tokenize", "base"],
    "engine": ["schedule", "blocks", "model", "sample", "stream", "base"],
    "http": ["engine", "stream", "template", "tokenize", "base"],
    "client": ["net", "config", "base"],
    "doctor": ["client", "model", "tokenize", "template", "hub", "net", "device", "config", "base"],
}
# Of another layer, these files alone.
NARROW = {("http", "engine"): {"engine/engine_handle.h"},
          ("template", "tokenize"): {"tokenize/utf8.h"}}

# Header (a prefix of what is included) -> where it may enter.
DOORS = {
    "httplib.h": ["src/http/http1.", "src/net/http_client."],
    "spdlog/": ["src/base/log."],
    "prometheus/": ["src/base/metrics."],
    "xxhash.h": ["src/blocks/block_hash."],
    "nlohmann/": ["src/http/", "src/model/", "src/tokenize/tokenizer_file", "src/client/",
                  "src/hub/", "src/config/plan.", "src/config/server_info.",
                  "src/template/json_value.", "src/quality/dataset.", "src/quality/calibrate_report.",
                  "src/quality/eval_report.", "src/doctor/"],
    "CLI/": ["src/config/command_line."],
    "yaml-cpp/": ["src/config/config_file."],
    "pcre2.h": ["src/tokenize/regex."],
    "utf8proc.h": ["src/tokenize/", "src/template/characters."],
    "dlfcn.h": ["src/device/open_backend.", "kernels/gpu/blas_lt", "kernels/gpu/vendor/hip/rocblas."],
    "openssl/": ["src/base/", "src/http/", "src/hub/digest.", "src/net/tcp_stream."],
    "immintrin.h": ["kernels/"],
    "cuda": ["kernels/gpu/vendor/", "kernels/gpu/hopper/", "kernels/gpu/blas_lt"],
    "hip/": ["kernels/gpu/vendor/"],
    "cublasLt.h": ["kernels/gpu/blas_lt"],
}

UNFINISHED = r"\b(TODO|FIXME|XXX)\b"
# Word -> (what to say, where it is allowed). In code; the first one in comments too.
WORDS = {
    UNFINISHED: ("finish it or leave it out", []),
    r"\b(getenv|secure_getenv|environ)\b": ("the environment is read in config/environment",
                                            ["src/config/environment."]),
    r"\bstd::regex\b": ("pcre2 is the regular expression library", []),
    r"\bstd::format\b": ("fmt is the formatting library", []),
    r"<(ranges|format|regex|iostream)>": ("is not used in this tree", []),
    r"\busing namespace\b": ("names are spelled out", []),
    r"#\s*(if|ifdef|ifndef|elif)\b.*\b(__CUDA|__HIP|KVS_CUDA|KVS_HIP|__gfx)":
        ("CUDA and HIP differ in kernels/gpu/vendor", ["kernels/gpu/gpu.h", "kernels/gpu/vendor/",
                                                       "kernels/gpu/hopper/", "tests/emulator/"]),
    r"\b(rand|srand)\(": ("random numbers come from a seeded generator", []),
}

LINES_MAX = 500
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
MIRRORED_LINES_MIN = 120  # a shorter .cc may be covered by its neighbours' tests
SUFFIXES = {".h", ".cc", ".inl", ".cu", ".cuh"}
FOLDERS = ["include", "src", "kernels", "tests"]

# A .cc whose test stands elsewhere: path -> that test.
TESTED_BY = {
    "src/config/command_line.cc": "tests/unit/config/parse_command_test.cc",
    "src/config/client_flags.cc": "tests/unit/config/flags_test.cc",
    "src/config/help.cc": "tests/unit/config/parse_command_test.cc",
    "src/http/request_fields.cc": "tests/unit/http/openai_parse_test.cc",
    "src/http/route_handlers.cc": "tests/unit/http/routes_test.cc",
    "src/model/kv_scale_artifact.cc": "tests/unit/quality/calibrate_test.cc",
    "src/quality/calibration_state.cc": "tests/unit/quality/calibrate_test.cc",
    "src/quality/eval_report.cc": "tests/unit/quality/eval_test.cc",
    "src/quality/samples.cc": "tests/unit/quality/eval_test.cc",
    "src/quality/score.cc": "tests/unit/quality/eval_test.cc",
    "src/quality/variant.cc": "tests/unit/quality/eval_test.cc",
    "src/config/quality_flags.cc": "tests/unit/config/parse_command_test.cc",
    "src/config/doctor_flags.cc": "tests/unit/config/parse_command_test.cc",
    "src/doctor/doctor.cc": "tests/e2e/test_doctor.py",
    "src/net/tcp_stream.cc": "tests/unit/net/http_fetch_test.cc",
    "src/model/json_file.cc": "tests/unit/model/read_config_test.cc",
}
# One test holds all of these against jinja2, construct by construct.
for stem in ("builtins", "characters", "evaluate", "execute", "expression_parser",
             "filters_sequence", "filters_text", "filters_value", "lexer", "operators", "parser",
             "percent_format", "print", "string_methods", "strings", "value"):
    TESTED_BY[f"src/template/{stem}.cc"] = "tests/unit/template/parity_test.cc"


def layer_of(name):
    parts = name.split("/")
    return parts[1] if parts[0] == "src" and len(parts) > 2 else None


def includes(lines):
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if match:
            yield number, match[1]


def check_includes(name, lines):
    layer = layer_of(name)
    in_product = not name.startswith("tests/")
    for number, target in includes(lines):
        where = f"{name}:{number}"
        top = target.split("/")[0]
        if layer and top in MAY_INCLUDE and "/" in target and top != layer:
            if top not in MAY_INCLUDE[layer]:
                yield f"{where}: {layer} may not include {target}"
            elif target not in NARROW.get((layer, top), {target}):
                allowed = ", ".join(sorted(NARROW[(layer, top)]))
                yield f"{where}: of {top}, {layer} may include {allowed} only"
        if name.startswith("kernels/") and "/" in target and top in MAY_INCLUDE:
            yield f"{where}: kernels may not include {target}"
        if name.startswith("src/") and top in {"cpu", "gpu", "kernels"}:
            yield f"{where}: src meets kernels in include/kvserve only, not in {target}"
        if name.startswith("include/") and "/" in target:
            if top != "kvserve" and target != "tl/expected.hpp" and not target.startswith("sys/"):
                yield f"{where}: include/kvserve holds standard types only, not {target}"
        for header, owners in DOORS.items():
            if in_product and target.startswith(header) and not name.startswith(tuple(owners)):
                yield f"{where}: {header} enters through {', '.join(owners)} only"


def check_lines(name, lines):
    if len(lines) > LINES_MAX:
        yield f"{name}: {len(lines)} lines, at most {LINES_MAX}"
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS_MAX:
            yield f"{name}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"
        for word, (advice, owners) in WORDS.items():
            found = re.search(word, line if word == UNFINISHED else line.split("//")[0])
            if found and not name.startswith(tuple(owners) + ("tests/",)):
                yield f"{name}:{number}: {found[0]}: {advice}"


def check_header(name, lines):
    if not name.endswith((".h", ".cuh")):
        return
    if not lines or not lines[0].startswith("//"):
        yield f"{name}: a header opens with a comment that says what it is for"
    if "#pragma once" not in lines:
        yield f"{name}: #pragma once is missing"


def check_mirror(root, name, lines):
    layer = layer_of(name)
    if layer is None or not name.endswith(".cc") or len(lines) < MIRRORED_LINES_MIN:
        return
    test = TESTED_BY.get(name, f"tests/unit/{layer}/{pathlib.Path(name).stem}_test.cc")
    if not (root / test).is_file():
        yield f"{name}: its test {test} is missing"


def check_functions(root, names):
    ctags = shutil.which("ctags")
    if ctags is None:
        print("tidy: ctags is not installed; lengths of functions are not checked", file=sys.stderr)
        return
    command = [ctags, "--output-format=json", "--fields=+ne", "--kinds-C++=f", "--languages=C++",
               "--langmap=C++:.h.cc.inl.cu.cuh", "-L", "-", "-f", "-"]
    listing = subprocess.run(command, input="\n".join(names), cwd=root, text=True, check=True,
                             capture_output=True).stdout
    for line in listing.splitlines():
        tag = json.loads(line)
        length = tag.get("end", tag["line"]) - tag["line"] + 1
        if length > FUNCTION_LINES_MAX:
            yield (f"{tag['path']}:{tag['line']}: {tag['name']} has {length} lines, at most "
                   f"{FUNCTION_LINES_MAX}")


def unnamed(lines):
    """(line number, what) of the definitions in unnamed namespaces: names, and functions whole."""
    inside = False
    for number, line in enumerate(lines, 1):
        if line in ("namespace {", "}  // namespace"):
            inside = line == "namespace {"
        elif inside and line[:1].strip():
            name = re.match(r"(?:(?:struct|class|enum class) (\w+)[^;]*$"
                            r"|(?:inline |static )*const(?:expr)? [^(]*?\b(k\w+)\b(?! \*))", line)
            if name:
                yield number, name[1] or name[2]
            elif re.match(r"using \w+ = |[\w:<>,&* ]+[ &*]\w+\(.*[{},;(]$", line):
                yield number, line


def check_unnamed(root, names):
    """Sources of a layer may be compiled as one (KVS_JOINED_SOURCES), and names mean one thing in it."""
    seen = {}
    for name in names:
        layer = layer_of(name)
        if not layer or not name.endswith(".cc"):
            continue
        for number, what in unnamed((root / name).read_text(encoding="utf-8").splitlines()):
            alias = re.match(r"using (\w+) = ", what)
            key = (layer, alias[1] if alias else what)
            file, first = seen.setdefault(key, (name, what))
            if file != name and (not alias or first != what):
                yield (f"{name}:{number}: {key[1].rstrip(' {')} is in an unnamed namespace of {file} too")


def find(root):
    names = sorted(path.relative_to(root).as_posix() for folder in FOLDERS
                   for path in (root / folder).rglob("*") if path.suffix in SUFFIXES)
    findings = []
    for name in names:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
        for check in (check_includes, check_lines, check_header):
            findings += check(name, lines)
        findings += check_mirror(root, name, lines)
    product = [name for name in names if not name.startswith("tests/")]
    findings += check_unnamed(root, names)
    return findings + list(check_functions(root, product))


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    findings = find(root)
    print("\n".join(findings) or "tidy")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
