#!/usr/bin/env python3
"""Writes the seeds of the fuzzers of this folder into corpus/: small files that are in order, from
which libFuzzer starts. Inputs that once crashed something stand beside them, named after the fault.

    tests/fuzz/coverage/make_corpus.py
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def write(target, name, content):
    path = HERE / "corpus" / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def safetensors(tensors, metadata=None):
    """{name: (dtype, shape, bytes)} as a file."""
    header, data = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = compact(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make_safetensors():
    write("safetensors", "one", safetensors({"w": ("BF16", [2, 2], bytes(8))}))
    write("safetensors", "empty", safetensors({}))
    write("safetensors", "several", safetensors({
        "model.embed_tokens.weight": ("F32", [2, 3], bytes(24)),
        "scalar": ("F16", [], bytes(2)),
        "none": ("U8", [0, 7], b""),
        "model.layers.0.self_attn.k_scale": ("F8_E4M3", [4], bytes(4)),
    }, {"format": "pt"}))


def make_configs():
    llama = json.loads((ROOT / "models/default/config.json").read_text())
    write("config_json", "llama", compact(llama))
    write("config_json", "llama3_rope", compact({
        **llama, "head_dim": 64, "eos_token_id": [1, 2],
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}))
    write("config_json", "qwen2_yarn", compact({
        **llama, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
        "use_sliding_window": False, "sliding_window": None,
        "rope_scaling": {"type": "yarn", "factor": 4.0,
                         "original_max_position_embeddings": 8192}}))
    write("config_json", "mixtral", compact({
        **llama, "architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
        "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64}))
    write("config_json", "fp8", compact({
        **llama, "quantization_config": {"quant_method": "compressed-tensors",
                                         "format": "float-quantized",
                                         "kv_cache_scheme": {"num_bits": 8, "type": "float"},
                                         "config_groups": {}, "ignore": ["lm_head"]}}))


BYTE_CHARS = [chr(b) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or b >= 0xAE else None
              for b in range(256)]
BYTE_CHARS = [c or chr(256 + sum(x is None for x in BYTE_CHARS[:b]))
              for b, c in enumerate(BYTE_CHARS)]

LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]"
                r"+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def added(id, content, **rules):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **rules}


def make_tokenizers():
    vocab = {c: i for i, c in enumerate(BYTE_CHARS)}
    for merged in ("he", "ll", "hell", "Ġt", "Ġthe"):
        vocab[merged] = len(vocab)
    byte_level = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [added(300, "<|end|>"), added(301, "<a>", lstrip=True, special=False),
                         added(302, "<b>", rstrip=True, single_word=True)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}]},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}},
                                      {"Sequence": {"id": "A", "type_id": 0}}],
                           "pair": [],
                           "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [300],
                                                          "tokens": ["<|end|>"]}}},
        "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": True, "vocab": vocab,
                  "merges": [["h", "e"], ["l", "l"], ["he", "ll"], ["Ġ", "t"], ["Ġt", "he"]]},
    }
    text = "hello the <a> world<|end|>\n\n 123456 'LL <b>x \u0130\u00e9"
    write("tokenizer_json", "byte_level", compact(byte_level) + "\0" + text)
    byte_level["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True}
    byte_level["post_processor"] = {"type": "ByteLevel"}
    write("tokenizer_json", "gpt2", compact(byte_level) + "\0" + text)

    vocab = {"<unk>": 0, "<s>": 1, **{f"<0x{b:02X}>": b + 2 for b in range(256)}}
    for token in ("▁", "h", "e", "l", "o", "he", "ll", "▁he"):
        vocab[token] = len(vocab)
    spm = {
        "version": "1.0",
        "added_tokens": [added(0, "<unk>"), added(1, "<s>", normalized=True)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                  "vocab": vocab, "merges": ["h e", "l l", "▁ he"]},
    }
    write("tokenizer_json", "prepend", compact(spm) + "\0hello <s> w\u00f6rld")
    spm["normalizer"] = None
    spm["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                            "split": True}
    spm["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first",
                      "split": True}
    write("tokenizer_json", "metaspace", compact(spm) + "\0hello  he <s>he")


if __name__ == "__main__":
    make_safetensors()
    make_configs()
    make_tokenizers()
