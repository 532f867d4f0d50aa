#!/usr/bin/env python3
"""Makes the parity fixtures: strings and the ids that the `tokenizers` package gives them.

    pip install tokenizers==0.23.3
    python3 tests/unit/tokenize/make_fixture.py --model models/default --out tests/unit/tokenize/fixtures

Writes OUT/default.json for the bundled tokenizer, and for each other shape of tokenizer.json a tiny tokenizer trained
here, OUT/SHAPE/tokenizer.json, with OUT/SHAPE/parity.json. A fixture is a list of [text, ids, ids with special tokens as
text]; ids are three hexadecimal digits each, without the post-processor's tokens; the last is null where it is equal.
"""

import argparse
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

RANGES = [(0x20, 0x7E)] * 6 + [
    (0x30, 0x39), (0x30, 0x39), (0, 0x1F), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF),
    (0x590, 0x5FF), (0x600, 0x6FF), (0x660, 0x669), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x2000, 0x206F),
    (0x2070, 0x209F), (0x2460, 0x24FF), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF),
    (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F6FF), (0x1F900, 0x1F9FF),
    (0x20000, 0x2A6DF)]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r", "\r\n", "\n\n", "\x0b", "\x0c", "\u0085", "\u00a0", "\u180e", "\u2003",
          "\u200b", "\u2028", "\u3000", "\ufeff"]
WORDS = ("the of and hello world don't I'm we'll THEY'RE it's 'S '\u017f 12345 3.14 1e9 foo_bar http://x.y/?q=1 na\u00efve "
         "Stra\u00dfe \ufb01 \u4e2d\u6587 \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 "
         "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0939\u093f\u0928\u094d\u0926\u0940 "
         "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1eb\U0001f1f7 e\u0301 \u00e9 \u2460 \u00bd "
         "\u00b2 \u2167 def __init__(self): #include<a> <|x|> <| |> <|begin_of_text| \u2581 \u2581\u2581 \u0120 \u010a "
         "<0x0A> <unk> <s> </s> A\u030a \u1e9b\u0323 word words").split(" ")
RUNS = SPACES[:8] + ["a", "0", "!", "\u00e9", "\u4e2d", "\U0001f44d", "-", "=", "A"]
TRAINING_TEXT = [
    "The keys and values of a token are written once and read by every later token of the sequence, don't forget it's so.",
    "In 1984, 2 of 3 blocks held 16 tokens each; they'll be evicted in the order in which they were last used.",
    "for i in range(100):\n    print(i, end='')\n\n\tif i % 2 == 0:\r\n\t\tcontinue",
    "Na\u00efve caf\u00e9s, Stra\u00dfe, \u043d\u0430\u0443\u043a\u0430 \u0438 \u0436\u0438\u0437\u043d\u044c, "
    "\u4e2d\u6587\u5b57\u7b26, \U0001f44d\U0001f3fd!", "hello   world      hello\n\n\nthe end of the word, the words of the end"]
QWEN_REGEX = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)"
              r"|\s+")


class Strings:
    """Random and adversarial strings, reproducible by seed."""

    def __init__(self, seed, special):
        self.random = random.Random(seed)
        self.special = special

    def character(self):
        low, high = self.random.choice(RANGES)
        return chr(self.random.randint(low, high))

    def part(self):
        pick = self.random.choice
        kind = self.random.random()
        if kind < 0.30:
            return pick(WORDS)
        if kind < 0.50:
            return pick(SPACES)
        if kind < 0.62:
            return pick(self.special)
        if kind < 0.68:
            text = pick(self.special)
            return text[:self.random.randint(1, len(text))]
        if kind < 0.71:
            return pick(RUNS) * self.random.randint(1, 40)
        if kind < 0.92:
            return "".join(self.character() for _ in range(self.random.randint(1, 5)))
        return "".join(pick("abcdefghijklmnopqrstuvwxyz") for _ in range(self.random.randint(1, 12)))

    def make(self):
        return "".join(self.part() + (" " if self.random.random() < 0.2 else "")
                       for _ in range(self.random.randint(0, 5)))


def encode(tokenizer, text, special_as_text):
    """The ids as three hexadecimal digits each."""
    tokenizer.encode_special_tokens = special_as_text
    return "".join(f"{token:03x}" for token in tokenizer.encode(text, add_special_tokens=False).ids)


def write_parity(tokenizer, path, seed, count):
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    strings = Strings(seed, special)
    rows = []
    for text in sorted({strings.make() for _ in range(count)}):
        parsed, as_text = encode(tokenizer, text, False), encode(tokenizer, text, True)
        rows.append(json.dumps([text, parsed, as_text if as_text != parsed else None], ensure_ascii=False,
                               separators=(",", ":")))
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8", newline="")


def write_tokenizer(tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8", newline="")


def byte_level(pre_tokenizer, normalizer=None, vocab_size=400):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TRAINING_TEXT, trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def gpt2():
    """GPT-2's regex, a prefix space, and added tokens with every option."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.post_processor = processors.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    tokenizer.add_tokens([
        AddedToken("<mask>", lstrip=True), AddedToken("<r>", rstrip=True), AddedToken("word", single_word=True),
        AddedToken("  ", normalized=False), AddedToken("    ", normalized=False), AddedToken("\u2581\u00e9X"),
        AddedToken("<both>", single_word=True, lstrip=True, rstrip=True)])
    return tokenizer


def qwen2():
    """NFC, and added tokens that are looked for in normalized text."""
    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), normalizers.NFC())
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens(["<tool_call>", "e\u0301 e\u0301"])
    return tokenizer


def splits():
    """The other behaviors of Split, a literal pattern, digits."""
    split = pre_tokenizers.Split
    tokenizer = byte_level(pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False), split("e", "merged_with_next"),
        split(Regex(r"[aou]"), "merged_with_previous"), split(Regex(r"\s"), "contiguous"),
        split(Regex(r"[^xy]+"), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    tokenizer.add_special_tokens(["<b>"])
    return tokenizer


def text_level(normalizer, pre_tokenizer, decoder, byte_fallback=True):
    """SentencePiece's kind of BPE: characters, spaces as U+2581, bytes for what has no token."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizer or normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trained.train_from_iterator(TRAINING_TEXT, trainers.BpeTrainer(
        vocab_size=450, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"] + [
            f"<0x{byte:02X}>" for byte in range(256)] * byte_fallback))
    content = json.loads(trained.to_str())
    content["added_tokens"] = [t for t in content["added_tokens"] if not t["content"].startswith("<0x")]
    content["model"].update(byte_fallback=byte_fallback, fuse_unk=True)
    content["normalizer"] = content["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def text_decoder():
    return decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", 1, 0)])


def llama2():
    return text_level(
        normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]), None,
        text_decoder())


def mistral():
    return text_level(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=True), text_decoder())


def unknown():
    """No byte fallback: runs of characters without a token become one <unk>."""
    return text_level(normalizers.Replace(" ", "\u2581"), None, decoders.Replace("\u2581", " "), byte_fallback=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bundled = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    write_parity(bundled, args.out / "default.json", seed=1, count=1800)
    for seed, make in enumerate((gpt2, qwen2, splits, llama2, mistral, unknown), start=2):
        tokenizer = make()
        write_tokenizer(tokenizer, args.out / make.__name__)
        write_parity(tokenizer, args.out / make.__name__ / "parity.json", seed, count=120)


if __name__ == "__main__":
    main()
