#!/usr/bin/env python3
"""Rewrites a Llama checkpoint so that it computes the same, but its keys and values carry outliers.

    hostile_model.py MODEL_DIR OUTPUT_DIR [--k-octaves 9] [--v-octaves 10]

In every layer and KV head some rotary pairs of the key projection are multiplied by 2^k-octaves and the same pairs
of the query heads that read them divided by it: every product of a query and a key stays what it was. Some rows of
the value projection are multiplied by 2^v-octaves and the columns of the output projection that read them divided
by it. Powers of two are exact in bfloat16, so a 16-bit cache gives the same bits.
"""
import argparse
import json
import pathlib
import shutil
import struct

PAIRS_PER_HEAD = 16  # of keys
ROWS_PER_HEAD = 32   # of values


class Checkpoint:
    """The bfloat16 tensors of a directory of safetensors files, changed in memory."""

    def __init__(self, folder):
        self.files = {path: bytearray(path.read_bytes()) for path in folder.glob("*.safetensors")}
        self.tensors = {}
        for path, content in self.files.items():
            (length,) = struct.unpack_from("<Q", content)
            for name, entry in json.loads(content[8:8 + length]).items():
                if name != "__metadata__":
                    self.tensors[name] = (path, 8 + length + entry["data_offsets"][0], entry)

    def scale(self, name, octaves, rows=None, columns=None):
        """Multiply the rows or the columns of a matrix by a power of two."""
        path, begin, entry = self.tensors[name]
        assert entry["dtype"] == "BF16", f"{name} is {entry['dtype']}"
        content = self.files[path]
        num_rows, num_columns = entry["shape"]
        for row in range(num_rows) if rows is None else rows:
            for column in range(num_columns) if columns is None else columns:
                at = begin + 2 * (row * num_columns + column)
                (bits,) = struct.unpack_from("<H", content, at)
                exponent = bits >> 7 & 0xff
                if exponent == 0:
                    continue  # zero, or too small to matter
                assert 0 < exponent + octaves < 255, f"{name}: out of range"
                struct.pack_into("<H", content, at, bits + (octaves << 7))


def rewrite_layer(checkpoint, config, layer, k_octaves, v_octaves):
    """Give one layer its outliers."""
    at = f"model.layers.{layer}.self_attn."
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    half, group = head_dim // 2, heads // kv_heads
    # The slow half of the pairs: they turn little, so that a pair's outlier stays in its channel.
    pairs = [half - 1 - i for i in range(PAIRS_PER_HEAD)]
    dims = pairs + [pair + half for pair in pairs]
    value_rows = [(2 * i + layer) % head_dim for i in range(ROWS_PER_HEAD)]
    for head in range(kv_heads):
        checkpoint.scale(at + "k_proj.weight", k_octaves, rows=[head * head_dim + dim for dim in dims])
        checkpoint.scale(at + "v_proj.weight", v_octaves, rows=[head * head_dim + row for row in value_rows])
        for query in range(head * group, (head + 1) * group):
            checkpoint.scale(at + "q_proj.weight", -k_octaves, rows=[query * head_dim + dim for dim in dims])
            checkpoint.scale(at + "o_proj.weight", -v_octaves,
                             columns=[query * head_dim + row for row in value_rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("output_dir", type=pathlib.Path)
    parser.add_argument("--k-octaves", type=int, default=9)
    parser.add_argument("--v-octaves", type=int, default=10)
    args = parser.parse_args()
    config = json.loads((args.model_dir / "config.json").read_text(encoding="utf-8"))
    checkpoint = Checkpoint(args.model_dir)
    for layer in range(config["num_hidden_layers"]):
        rewrite_layer(checkpoint, config, layer, args.k_octaves, args.v_octaves)
    args.output_dir.mkdir(parents=True)
    for path in args.model_dir.iterdir():
        if path.is_file() and path not in checkpoint.files:
            shutil.copy(path, args.output_dir)
    for path, content in checkpoint.files.items():
        (args.output_dir / path.name).write_bytes(content)


if __name__ == "__main__":
    main()
