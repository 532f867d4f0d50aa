#!/usr/bin/env python3
"""Attention of PyTorch (cuDNN and FlashAttention) in the shapes of gpu_bench, for a comparison on
the same machine: run both in one session. Contiguous BF16 K and V, no pages.

    scripts/bench_gpu_peers.py
"""
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}


def milliseconds(run, launches=4, rounds=9):
    """Median of graph replays, per launch."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(launches):
            run()
    times = []
    for _ in range(rounds + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / launches)
    return statistics.median(times[2:])


def prefill(tokens, backend):
    def random(heads):
        return torch.randn(1, heads, tokens, HEAD_DIM, dtype=torch.bfloat16, device="cuda")

    q, k, v = random(HEADS), random(KV_HEADS), random(KV_HEADS)
    with sdpa_kernel(backend):
        return milliseconds(lambda: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=True))


def main():
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, causal prefill, BF16")
    print(f"{'tokens':>7} " + " ".join(f"{name + ' ms':>9} {'TFLOP/s':>8}" for name in BACKENDS))
    for tokens in (1024, 8192, 32768):
        operations = 4 * HEAD_DIM * HEADS * tokens * (tokens + 1) / 2
        cells = []
        for backend in BACKENDS.values():
            try:
                ms = prefill(tokens, backend)
                cells.append(f"{ms:9.3f} {operations / ms / 1e9:8.0f}")
            except RuntimeError as error:
                cells.append(f"{str(error).splitlines()[0][:18]:>18}")
        print(f"{tokens:7d} " + " ".join(cells))


if __name__ == "__main__":
    main()
