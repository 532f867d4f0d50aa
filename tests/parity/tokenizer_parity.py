#!/usr/bin/env python3
"""Compares kvserve's tokenizer with the `tokenizers` package, in results and in speed.

    build/venv/bin/python tests/parity/tokenizer_parity.py --probe build/release/tests/tokenizer_probe
    ... --speed                    also measures encoding on one core, both in this run
    ... --tokenizer FILE.json      a tokenizer.json of your own instead of those made here

For each type of tokenizer, trained here on the text of this repository and of Python's library: 20,000
random and adversarial strings, and 2 MB of prose and code, are encoded (special tokens parsed, and as
text), decoded (with and without special tokens), and decoded token by token. Any difference is printed
and makes the exit code 1.

Not compared: characters that Unicode assigned after version 14 (the one that PCRE2 and utf8proc of Debian
12 know; their classes and normal forms cannot agree), and ids that spell bytes which are no UTF-8 in a
vocabulary with byte fallback, where `tokenizers` replaces every byte of the run and kvserve each maximal
invalid part, so that text which streams does not change afterwards.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,  # noqa: E402
                        pre_tokenizers, processors, trainers)

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/unit/tokenize"))
from make_fixture import Strings  # noqa: E402

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


# --- texts


def library_text(suffixes, folders, limit):
    """Text of files, in an order that does not depend on the file system."""
    parts, size = [], 0
    paths = sorted(path for folder in folders for path in folder.rglob("*")
                   if path.suffix in suffixes and path.is_file())
    random.Random(7).shuffle(paths)
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="ignore")
        parts.append(text[:40_000])
        size += len(parts[-1])
        if size > limit:
            break
    return parts


def documents(limit):
    """Prose (this project's pages, the docstrings and text files of Python), code, and other scripts."""
    stdlib = pathlib.Path(sysconfig.get_paths()["stdlib"])
    code = library_text({".py", ".cc", ".h"}, [stdlib, ROOT / "src"], limit // 2)
    prose = library_text({".md", ".txt", ".rst", ".1"}, [ROOT / "docs", ROOT / "models", stdlib], limit // 4)
    sys.path.insert(0, str(ROOT / "scripts/default_model"))
    from make_corpus import render, training_documents
    stories, size = [], 0
    for document in training_documents("tokenizer", 0.01, 8000):
        stories.append(render(document))
        size += len(stories[-1])
        if size > limit // 4:
            break
    return [text for text in code + prose + stories if text]


def random_strings(count, special, seed):
    strings = Strings(seed, special)
    found = []
    while len(found) < count:
        text = strings.make()
        if strings.random.random() < 0.02:
            text *= strings.random.randint(2, 200)
        if not any(is_newer(c) for c in text):
            found.append(text)
    return found


def is_newer(character):
    """Assigned by this Python's Unicode, which may be newer than 14, in a range that was empty then."""
    c = ord(character)
    return unicodedata.unidata_version > "14.0.0" and any(low <= c <= high for low, high in NEWER)


# What versions 15 and 16 added in the ranges that the strings are made of.
NEWER = [(0x0CF3, 0x0CF3), (0x0ECE, 0x0ECE), (0x1FADA, 0x1FADC), (0x1F6DC, 0x1F6DC), (0x1F774, 0x1F776),
         (0x1F77B, 0x1F77F), (0x1F7D9, 0x1F7D9), (0x2FFC, 0x2FFF), (0xA7CB, 0xA7CD), (0xA7DA, 0xA7DC),
         (0x1C89, 0x1C8A), (0x31EF, 0x31EF)]


# --- tokenizers


def byte_level(texts, pattern, size, normalizer=None, ignore_merges=False, prefix_space=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pattern:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def text_level(texts, size, normalizer, pre_tokenizer):
    """Llama-2's kind: characters, U+2581 for spaces, bytes for what has no token."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trained.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, show_progress=False, limit_alphabet=300,
        special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]))
    content = json.loads(trained.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if not t["content"].startswith("<0x")]
    content["model"].update(byte_fallback=True, fuse_unk=True)
    content["normalizer"] = content["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(),
                                           decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def make_tokenizers(texts, size):
    gpt2 = byte_level(texts, None, size)
    yield "gpt2", gpt2
    yield "llama3", byte_level(texts, LLAMA3, size, ignore_merges=True)
    qwen = byte_level(texts, QWEN2, size, normalizers.NFC())
    qwen.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("</think>", normalized=False)])
    yield "qwen2", qwen
    yield "llama2", text_level(texts, size, normalizers.Sequence([
        normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None)
    yield "mistral", text_level(texts, size, None,
                                pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
    rules = byte_level(texts, None, 2000, prefix_space=True)
    rules.add_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<r>", rstrip=True),
                      AddedToken("word", single_word=True), AddedToken("  ", normalized=False),
                      AddedToken("<both>", single_word=True, lstrip=True, rstrip=True)])
    yield "rules", rules


# --- comparison


def records(values):
    out = bytearray()
    for value in values:
        data = value.encode() if isinstance(value, str) else struct.pack(f"{len(value)}I", *value)
        out += struct.pack("I", len(data) if isinstance(value, str) else len(value)) + data
    return bytes(out)


def probe(args, folder, what, values, ids):
    """What the probe makes of the values: lists of ids, or texts."""
    done = subprocess.run([args.probe, folder, what], input=records(values), capture_output=True,
                          check=True)
    results, at = [], 0
    while at < len(done.stdout):
        (count,) = struct.unpack_from("I", done.stdout, at)
        at += 4
        if ids:
            results.append(list(struct.unpack_from(f"{count}I", done.stdout, at)))
        else:
            results.append(done.stdout[at:at + count].decode())
        at += 4 * count if ids else count
    assert len(results) == len(values)
    return results


class Comparison:
    def __init__(self, name):
        self.name, self.compared, self.differences = name, 0, 0

    def check(self, what, inputs, got, expected):
        for given, mine, theirs in zip(inputs, got, expected, strict=True):
            self.compared += 1
            if mine == theirs:
                continue
            self.differences += 1
            if self.differences <= 5:
                at = next((i for i, (a, b) in enumerate(zip(mine, theirs)) if a != b),
                          min(len(mine), len(theirs)))
                print(f"{self.name}: {what} differs at {at}: {mine[at:at + 8]!r} is not "
                      f"{theirs[at:at + 8]!r} for {given[:200]!r}")


def spells_utf8(tokenizer, ids):
    """Whether every run of byte tokens is UTF-8."""
    run = b""
    for token in [tokenizer.id_to_token(id) or "" for id in ids] + [""]:
        if len(token) == 6 and token.startswith("<0x"):
            run += bytes([int(token[3:5], 16)])
            continue
        try:
            run.decode()
        except UnicodeDecodeError:
            return False
        run = b""
    return True


def compare(args, name, tokenizer, folder, texts):
    result = Comparison(name)
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    strings = random_strings(args.strings, special, seed=len(name)) + texts
    for what, as_text in (("encode", False), ("as-text", True)):
        tokenizer.encode_special_tokens = as_text
        expected = [each.ids for each in tokenizer.encode_batch(strings, add_special_tokens=False)]
        result.check(what, strings, probe(args, folder, what, strings, ids=True), expected)
        if not as_text:
            sequences = expected
    generator = random.Random(len(name))
    size = tokenizer.get_vocab_size()
    for _ in range(args.strings // 4):
        ids = [generator.randrange(size) for _ in range(generator.randint(1, 12))]
        if spells_utf8(tokenizer, ids):
            sequences.append(ids)
    for what, skip in (("decode", False), ("skip", True), ("stream", False)):
        expected = tokenizer.decode_batch(sequences, skip_special_tokens=skip)
        got = probe(args, folder, what, sequences, ids=False)
        if what == "stream" and name in ("llama2", "mistral"):  # where the text begins is not known
            got = [text.removeprefix(" ") for text in got]
        result.check(what, sequences, got, expected)
    print(f"{name}: {result.compared} comparisons, {result.differences} differences")
    return result.differences


def measure(args, name, tokenizer, folder, texts):
    """Megabytes a second on one core, the two in turns."""
    size = sum(len(text.encode()) for text in texts) / 1e6
    mine, theirs = [], []
    for _ in range(args.repeats):
        timed = subprocess.run([args.probe, folder, "time", "3"], input=records(texts),
                               capture_output=True, check=True).stdout.split()
        mine.append(min(map(float, timed[::2])))
        best = None
        for _ in range(3):
            start = time.perf_counter()
            encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            seconds = time.perf_counter() - start
            best = min(best or seconds, seconds)
        theirs.append(best)
        assert sum(len(each.ids) for each in encodings) == int(timed[1])
    mine, theirs = statistics.median(mine), statistics.median(theirs)
    print(f"{name}: kvserve {size / mine:.1f} MB/s, tokenizers {size / theirs:.1f} MB/s, "
          f"ratio {theirs / mine:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", required=True, type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--only", help="one type alone")
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--strings", type=int, default=20_000)
    parser.add_argument("--megabytes", type=float, default=2.0)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    texts = documents(int(args.megabytes * 3e6))
    generator = random.Random(3)
    generator.shuffle(texts)
    test, size = [], 0
    while size < args.megabytes * 1e6:
        text = texts.pop()
        test.append("".join(c for c in text if not is_newer(c)))
        size += len(test[-1].encode())
    if args.tokenizer:
        made = [(args.tokenizer.parent.name, Tokenizer.from_file(str(args.tokenizer)))]
    else:
        made = make_tokenizers(texts, args.vocab)
    differences = 0
    for name, tokenizer in made:
        if args.only and name != args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save(folder + "/tokenizer.json")
            differences += compare(args, name, tokenizer, folder, test)
            tokenizer.encode_special_tokens = False
            if args.speed:
                measure(args, name, tokenizer, folder, test)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
