#!/usr/bin/env python3
"""What kvserve calibrate writes, in the hands of the libraries whose format it is.

    compressed_tensors_parity.py ARTIFACT
        Transformers with compressed-tensors loads the artifact, and has every scale as it is stored.
    compressed_tensors_parity.py ARTIFACT --llm-compressor MODEL DATASET --num-samples N
        llm-compressor calibrates MODEL on the first N rows of DATASET, as kvserve did for ARTIFACT
        with the observer minmax, and its scales are within 2 % of ours.

Needs torch, transformers and compressed-tensors, and llmcompressor for the second: too much for CI.
"""
import argparse
import json
import pathlib
import sys
import tempfile

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 0.02
MAX_TOKENS = 2048  # of a sample, as kvserve's default


def stored_scales(folder):
    """{tensor name: values} of an artifact's safetensors."""
    scales = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                if name.endswith((".k_scale", ".v_scale")):
                    scales[name] = file.get_tensor(name).float().flatten()
    return scales


def check_loaded(folder):
    """The loaded model's scales are those on disk."""
    stored = stored_scales(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype="auto")
    loaded = {name: value.float().flatten() for name, value in model.state_dict().items()
              if name.endswith((".k_scale", ".v_scale"))}
    assert len(stored) == 2 * model.config.num_hidden_layers, f"{len(stored)} scales are stored"
    assert stored.keys() == loaded.keys(), sorted(stored.keys() ^ loaded.keys())
    for name, value in stored.items():
        assert torch.equal(value, loaded[name]), f"{name}: {value} is stored, {loaded[name]} loaded"
    print(f"{len(stored)} scales, {next(iter(stored.values())).numel()} each: all equal when loaded")


def calibrate_with_llm_compressor(model_dir, dataset, num_samples, strategy, output):
    """Writes llm-compressor's artifact of the same samples."""
    from datasets import Dataset
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    rows = [json.loads(line) for line in dataset.read_text().splitlines()[:num_samples]]
    samples = []
    for row in rows:
        if "messages" in row:
            text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
            ids = tokenizer(text, add_special_tokens=False).input_ids
        else:
            ids = tokenizer(row["text"]).input_ids
        samples.append({"input_ids": ids[:MAX_TOKENS], "attention_mask": [1] * len(ids[:MAX_TOKENS])})
    scheme = {"num_bits": 8, "type": "float", "strategy": strategy, "dynamic": False,
              "symmetric": True, "observer": "static_minmax"}
    model = AutoModelForCausalLM.from_pretrained(model_dir, torch_dtype="auto")
    oneshot(model=model, dataset=Dataset.from_list(samples),
            recipe=QuantizationModifier(kv_cache_scheme=scheme),
            num_calibration_samples=len(samples), max_seq_length=MAX_TOKENS)
    model.save_pretrained(output, save_compressed=True)


def check_against(ours, theirs):
    """Largest relative difference of any scale."""
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    worst, where = max(((ours[name] / theirs[name] - 1).abs().max().item(), name) for name in ours)
    print(f"{len(ours)} scales of llm-compressor: at most {worst:.2%} away, at {where}")
    return worst <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=pathlib.Path)
    parser.add_argument("--llm-compressor", nargs=2, type=pathlib.Path, metavar=("MODEL", "DATASET"))
    parser.add_argument("--num-samples", type=int, default=64)
    args = parser.parse_args()
    check_loaded(args.artifact)
    if not args.llm_compressor:
        return 0
    config = json.loads((args.artifact / "config.json").read_text())
    strategy = config["quantization_config"]["kv_cache_scheme"]["strategy"]
    with tempfile.TemporaryDirectory() as output:
        calibrate_with_llm_compressor(*args.llm_compressor, args.num_samples, strategy, output)
        return 0 if check_against(stored_scales(args.artifact), stored_scales(pathlib.Path(output))) else 1


if __name__ == "__main__":
    sys.exit(main())
