#!/usr/bin/env python3
"""Measures how fast weights are loaded on the CPU, beside a plain parallel read of the same files in the same run.

    scripts/bench_load.py                    # a 1B Llama's shape, 2.5 GB, written to a temporary folder
    scripts/bench_load.py --dir FOLDER       # keep the files there, or take those that are there
    scripts/bench_load.py --cold             # drop the files from the page cache before each load (the disk's speed)
    scripts/bench_load.py --kvserve A --kvserve B    # compare two builds, in turn

Each round reads the files with one thread per processor, into buffers and into new memory of their size, then lets
kvserve load them, and dummy weights of the same shape. Ratios are to the read into new memory: what is loaded needs
memory too, and clearing it is what the kernel spends most on. The page cache is warm unless --cold is given. Use an
idle machine.
"""

import argparse
import json
import mmap
import os
import pathlib
import random
import re
import socket
import statistics
import struct
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "hidden_act": "silu", "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}
PIECE = 8 << 20


def tensors():
    """name -> shape, of the whole network."""
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    keys = CONFIG["num_key_value_heads"] * CONFIG["head_dim"]
    shapes = {"model.embed_tokens.weight": [CONFIG["vocab_size"], hidden], "model.norm.weight": [hidden]}
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows, cols in (("self_attn.q_proj", hidden, hidden), ("self_attn.k_proj", keys, hidden),
                                 ("self_attn.v_proj", keys, hidden), ("self_attn.o_proj", hidden, hidden),
                                 ("mlp.gate_proj", inner, hidden), ("mlp.up_proj", inner, hidden),
                                 ("mlp.down_proj", hidden, inner)):
            shapes[f"{at}{name}.weight"] = [rows, cols]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}{norm}.weight"] = [hidden]
    return shapes


def write_checkpoint(folder):
    """Weights that are small numbers, the same ones again and again."""
    folder.mkdir(parents=True, exist_ok=True)
    header, end = {}, 0
    for name, shape in tensors().items():
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    rng = random.Random(3)
    piece = struct.pack(f"<{PIECE // 2}H", *(0x3C00 | rng.getrandbits(9) | rng.getrandbits(1) << 15
                                             for _ in range(PIECE // 2)))
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for at in range(0, end, PIECE):
            file.write(piece[:min(PIECE, end - at)])
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((ROOT / "models/default" / name).read_bytes())


def drop_from_cache(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_read(path, num_threads, keep):
    """(seconds, CPU seconds) to read the file, by threads that take pieces in turn: into memory of its size that nobody has used
    before (keep), as loading has to, or into buffers that are used again."""
    size, pieces = path.stat().st_size, iter(range(0, path.stat().st_size, PIECE))
    lock, done = threading.Lock(), []

    def work(fd):
        buffer = memoryview(bytearray(PIECE))
        while True:
            with lock:
                at = next(pieces, None)
            if at is None:
                return
            done.append(os.preadv(fd, [view[at:at + PIECE] if keep else buffer], at))

    with open(path, "rb") as file:
        threads = [threading.Thread(target=work, args=(file.fileno(),)) for _ in range(num_threads)]
        start, used = time.perf_counter(), time.process_time()
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if keep else None
        view = None
        if keep:
            memory.madvise(mmap.MADV_HUGEPAGE)
            view = memoryview(memory)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - start, time.process_time() - used
    assert sum(done) == size
    return seconds


def cpu_seconds(pid):
    """Of all its threads, in user and kernel."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(kvserve, folder, *flags):
    """(seconds, CPU seconds) that kvserve's weights took."""
    with socket.socket() as probe, tempfile.TemporaryFile("w+") as log:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        process = subprocess.Popen([kvserve, str(folder), "--port", str(port), "--kv-cache-memory-bytes", "64M",
                                    "--log-format", "text", *flags], stdout=log, stderr=log)
        try:
            while True:
                log.seek(0)
                text = log.read()
                said = re.search(r"weights: \d+ bytes as \w+ in ([\d.]+) s", text)
                if said:
                    return float(said[1]), cpu_seconds(process.pid)
                assert process.poll() is None, text
                time.sleep(0.05)
        finally:
            process.terminate()
            process.wait()


def line(what, num_bytes, rounds, against=None):
    wall, cpu = (statistics.median(values) for values in zip(*rounds))
    ratios = ""
    if against:
        ratios = "".join(f"{statistics.median(values) / mine:8.2f}" for values, mine in zip(zip(*against), (wall, cpu)))
    print(f"{what:40}{wall:8.2f} s{num_bytes / wall / 1e9:7.2f} GB/s{cpu:8.2f} CPU s{ratios}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path)
    parser.add_argument("--kvserve", type=pathlib.Path, action="append")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    builds = args.kvserve or [ROOT / "build/release/src/kvserve"]
    num_threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.dir or pathlib.Path(temporary)
        path = folder / "model.safetensors"
        if not path.exists():
            write_checkpoint(folder)
        size = path.stat().st_size
        reads, keeps, loads, dummies = [], [], {b: [] for b in builds}, {b: [] for b in builds}
        prepare = drop_from_cache if args.cold else lambda path: plain_read(path, num_threads, keep=False)
        for _ in range(args.rounds):
            prepare(path)
            reads.append(plain_read(path, num_threads, keep=False))
            prepare(path)
            keeps.append(plain_read(path, num_threads, keep=True))
            for build in builds:
                prepare(path)
                loads[build].append(load(build, folder))
                dummies[build].append(load(build, folder, "--load-format", "dummy"))
    print(f"{size} bytes, {num_threads} threads, page cache {'cold' if args.cold else 'warm'}; "
          "medians, and the ratios (wall, CPU) to the read into new memory")
    line("plain parallel read into buffers", size, reads)
    line("plain parallel read into new memory", size, keeps)
    for build in builds:
        line(f"load, {build.name}", size, loads[build], keeps)
        line(f"dummy weights, {build.name}", size, dummies[build], keeps)


if __name__ == "__main__":
    main()
