#!/usr/bin/env python3
"""Measures the CPU backend and prints one report, each figure beside what the machine was just measured to do.

    scripts/bench_cpu.py                                    # kernels, prefix match, HTTP, server
    scripts/bench_cpu.py --only server --model DIR          # real weights in place of random ones
    scripts/bench_cpu.py --llama-bench BIN --gguf FILE      # llama.cpp on the same shape, in turn

Needs a release build with benchmarks (cmake --preset release && cmake --build --preset release). Without --model the
server serves random weights of a 1B Llama's shape (2.5 GB of memory). Use an idle machine.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/release"
KVSERVE = BUILD / "src/kvserve"
SHAPE = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}
PROMPT, OUTPUT = 512, 32
PREFIX = 4096


def program(name):
    """Output of a benchmark program of the build."""
    done = subprocess.run([BUILD / "tests/bench" / name], capture_output=True, text=True, check=True)
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Daemon:
    """A kvserve on loopback, for one block."""

    def __init__(self, *flags):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([KVSERVE, *flags, "--port", str(port), "--log-format", "text"],
                                        stderr=self.log, env={**os.environ})

    def __enter__(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                urllib.request.urlopen(self.url + "/health").read()
                return self
            except OSError:
                time.sleep(0.05)
        self.log.seek(0)
        sys.exit("the daemon did not start:\n" + self.log.read())

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def weight_bytes(self):
        self.log.seek(0)
        return int(re.search(r"weights: (\d+) bytes", self.log.read())[1])

    def command(self, name, *flags):
        done = subprocess.run([KVSERVE, name, self.url, "--json", *map(str, flags)], capture_output=True, text=True)
        return json.loads(done.stdout)


def shape_folder(folder):
    """A model directory of the shape alone; the tokenizer is the bundled model's."""
    folder = pathlib.Path(folder)
    (folder / "config.json").write_text(json.dumps(SHAPE))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "models/default" / name, folder / name)
    return ["--model", folder, "--load-format", "dummy"]


def llama_bench(arguments):
    """Tokens per second of llama.cpp: (prefill, decode)."""
    done = subprocess.run([arguments.llama_bench, "-m", arguments.gguf, "-t", str(arguments.threads), "-p", str(PROMPT),
                           "-n", str(OUTPUT), "-r", "1", "-o", "json"], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    return tuple(next(r["avg_ts"] for r in rows if r[key] > 0) for key in ("n_prompt", "n_gen"))


def row(name, figure, share=""):
    print(f"| {name} | {figure} | {share} |", flush=True)


def measure_speed(daemon, arguments):
    """Prefill and decode at batch 1, in turn with llama.cpp when it is given: lists of tokens per second."""
    ours, theirs = [], []
    for _ in range(arguments.repeats):
        figures = daemon.command("bench", "--num-prompts", 2, "--concurrency", 1, "--prompt-tokens", PROMPT,
                                 "--output-tokens", OUTPUT, "--seed", len(ours))
        ours.append((PROMPT / figures["time_to_first_token_ms"]["p50"] * 1e3, 1e3 / figures["inter_token_latency_ms"]["p50"]))
        if arguments.llama_bench:
            theirs.append(llama_bench(arguments))
    medians = lambda runs: [statistics.median(column) for column in zip(*runs)]
    return medians(ours), medians(theirs) if theirs else None


def server(arguments, bandwidth, peak):
    with tempfile.TemporaryDirectory() as folder:
        model = ["--model", arguments.model] if arguments.model else shape_folder(folder)
        flags = [*model, "--served-model-name", "bench", "--threads", str(arguments.threads), "--max-model-len", "8192",
                 "--kv-cache-tokens", "16384", "--enable-prefix-caching"]
        print("\n| server, 1B shape, batch 1 | figure | of what was measured in this run |\n|---|---|---|")
        with Daemon(*flags, "--kv-cache-dtype", "bfloat16") as daemon:
            (prefill, decode), peer = measure_speed(daemon, arguments)
            weights = daemon.weight_bytes()
            row(f"decode after {PROMPT} tokens", f"{decode:.2f} tok/s", f"{decode * weights / bandwidth:.2f} of read bandwidth")
            config = json.loads((pathlib.Path(model[1]) / "config.json").read_text())
            # A multiply and an add for each 2-byte weight; the output layer computes the last token alone.
            flops = prefill * (weights - 2 * config["vocab_size"] * config["hidden_size"])
            row(f"prefill of {PROMPT} tokens", f"{prefill:.1f} tok/s", f"{flops / peak:.2f} of BF16 peak")
            if peer:
                row("llama.cpp, the same shape, dtype and threads: decode", f"{peer[1]:.2f} tok/s", f"kvserve is {decode / peer[1]:.2f} of it")
                row("llama.cpp: prefill", f"{peer[0]:.1f} tok/s", f"kvserve is {prefill / peer[0]:.2f} of it")
        for dtype in ("bfloat16", "fp8"):
            with Daemon(*flags, "--kv-cache-dtype", dtype) as daemon:
                report = daemon.command("check-cache", "--prompt-tokens", PREFIX, "--max-tokens", 4)
                cold, warm = (report[name]["time_to_first_token_ms"] for name in ("first", "second"))
                row(f"TTFT of a prefix of {PREFIX} tokens, {dtype}: cold, warm", f"{cold:.0f} ms, {warm:.1f} ms",
                    f"warm is 1/{cold / warm:.0f}; {report['verdict']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["kernels", "prefix", "http", "server"])
    parser.add_argument("--model", help="directory with weights; default: random weights of a 1B Llama's shape")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--llama-bench", help="llama.cpp's llama-bench")
    parser.add_argument("--gguf", help="the same shape in BF16, for llama-bench")
    arguments = parser.parse_args()
    wanted = lambda name: arguments.only in (None, name)
    ceilings = program("kernel_bench") if arguments.only in (None, "kernels") else None
    if wanted("kernels"):
        print(ceilings)
    if wanted("prefix"):
        print(program("prefix_bench"))
    if wanted("http"):
        print(program("http_bench"))
    if wanted("server"):
        limits = subprocess.run([BUILD / "tests/bench/kernel_bench", "peaks"], capture_output=True, text=True, check=True).stdout
        print(limits)
        bandwidth, peak = (float(x) * 1e9 for x in re.search(r"read bandwidth ([\d.]+) GB/s, vdpbf16ps peak ([\d.]+)", limits).groups())
        server(arguments, bandwidth, peak)


if __name__ == "__main__":
    main()
