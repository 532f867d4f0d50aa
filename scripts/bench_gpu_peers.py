#!/usr/bin/env python3
"""Attention of PyTorch (cuDNN and FlashAttention) and, where it is installed, of FlashInfer, in the
shapes of gpu_bench, for a comparison on the same machine: run both in one session.

Prefill: contiguous BF16 K and V, no pages. Decode: FlashInfer's paged cache in pages of 16 tokens
in no order, BF16 and FP8 E4M3 with BF16 queries, its FA2 kernels (tensor cores) and XQA. As in
gpu_bench, a time is the median of graph replays over layers that together exceed the cache.

    scripts/bench_gpu_peers.py [prefill] [decode]
"""
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, KV_HEADS, HEAD_DIM, PAGE = 32, 8, 128, 16
BACKENDS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
DECODE_SIZES = [(1, 1024), (1, 8192), (1, 32768), (8, 1024), (8, 8192), (8, 32768), (32, 8192),
                (64, 1024), (64, 4096), (128, 1024), (256, 1024)]


def milliseconds(runs, rounds=9):
    """Median of graph replays of all `runs`, per run."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for run in runs:
            run()
    times = []
    for _ in range(rounds + 2):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / len(runs))
    return statistics.median(times[2:])


def prefill(tokens, backend):
    def random(heads):
        return torch.randn(1, heads, tokens, HEAD_DIM, dtype=torch.bfloat16, device="cuda")

    q, k, v = random(HEADS), random(KV_HEADS), random(KV_HEADS)
    with sdpa_kernel(backend):
        return milliseconds([lambda: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=True)] * 4)


def print_prefill():
    print(f"\n{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, causal prefill, BF16")
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
        print(f"{tokens:7d} " + " ".join(cells), flush=True)


class DecodeProblem:
    """One step of `seqs` sequences over several layers' caches: [pages, 2, heads, PAGE, dim]."""

    def __init__(self, seqs, tokens, dtype):
        self.seqs, self.tokens, self.dtype = seqs, tokens, dtype
        self.pages = tokens // PAGE
        shape = (seqs * self.pages + 1, 2, KV_HEADS, PAGE, HEAD_DIM)
        layer_bytes = torch.Size(shape).numel() * dtype.itemsize
        layers = min(32, (400 << 20) // layer_bytes + 2)
        self.caches = [torch.empty(shape, dtype=torch.bfloat16, device="cuda").normal_().to(dtype)
                       for _ in range(layers)]
        order = torch.randperm(seqs * self.pages, device="cuda").to(torch.int32) + 1
        self.table = order.view(seqs, self.pages)
        self.q = torch.randn(seqs, HEADS, HEAD_DIM, dtype=torch.bfloat16, device="cuda")
        self.out = torch.empty_like(self.q)

    def microseconds(self, run):
        count = max(20, len(self.caches))
        runs = [lambda cache=self.caches[i % len(self.caches)]: run(cache) for i in range(count)]
        return 1e3 * milliseconds(runs)

    def fa2(self, flashinfer, workspace):
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            workspace, "HND", use_tensor_cores=True, backend="fa2")
        starts = torch.arange(self.seqs + 1, dtype=torch.int32, device="cuda") * self.pages
        last = torch.full((self.seqs,), PAGE, dtype=torch.int32, device="cuda")
        wrapper.plan(starts, self.table.flatten(), last, HEADS, KV_HEADS, HEAD_DIM, PAGE,
                     q_data_type=torch.bfloat16, kv_data_type=self.dtype)
        return self.microseconds(
            lambda cache: wrapper.run(self.q, cache, out=self.out, enable_pdl=True))

    def xqa(self, flashinfer, workspace):
        workspace.zero_()
        lengths = torch.full((self.seqs,), self.tokens, dtype=torch.int32, device="cuda")
        return self.microseconds(lambda cache: flashinfer.decode.xqa_batch_decode_with_kv_cache(
            self.q, cache, workspace, self.table, lengths, self.tokens,
            bmm1_scale=HEAD_DIM**-0.5, out=self.out, kv_layout="HND", enable_pdl=True))


def print_decode():
    try:
        import flashinfer
    except ImportError as error:
        print(f"\nno decode table: {error}")
        return
    print(f"\nFlashInfer {flashinfer.__version__}, decode, microseconds a layer")
    kinds = [(name, dtype) for name in ("fa2", "xqa")
             for dtype in (torch.bfloat16, torch.float8_e4m3fn)]
    print(" seqs tokens " + " ".join(
        f"{name + (' BF16' if dtype.itemsize == 2 else ' FP8'):>9}" for name, dtype in kinds))
    workspace = torch.zeros(512 << 20, dtype=torch.uint8, device="cuda")
    for seqs, tokens in DECODE_SIZES:
        cells = []
        for name, dtype in kinds:
            try:
                problem = DecodeProblem(seqs, tokens, dtype)
                cells.append(f"{getattr(problem, name)(flashinfer, workspace):9.2f}")
            except Exception as error:  # a peer's own failure is a cell, not the end
                cells.append(f"{type(error).__name__[:9]:>9}")
                print(error, file=sys.stderr)
        print(f"{seqs:5d} {tokens:6d} " + " ".join(cells), flush=True)


def main():
    for name in sys.argv[1:] or ("prefill", "decode"):
        {"prefill": print_prefill, "decode": print_decode}[name]()


if __name__ == "__main__":
    main()
