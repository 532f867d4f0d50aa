"""kvserve calibrate when it is killed, and --calibrate-on-requests."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import workload
from daemon import BINARY, MODEL_DIR, ROOT, SLOW, environment, run_kvserve

DATASET = MODEL_DIR / "data/calibration.jsonl"
TIMEOUT_S = 600


def calibrate(output, *arguments):
    """The command line, for subprocess."""
    command = [BINARY, "calibrate", MODEL_DIR, "--dataset", DATASET, "--output-dir", output]
    return list(map(str, [*command, *arguments]))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def scales_of(folder):
    """{name: (dtype, shape, bytes)} of the shard of scales."""
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = {shard for name, shard in index["weight_map"].items() if name.endswith("_scale")}
    assert len(shards) == 1
    content = (folder / shards.pop()).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__")
    data = content[8 + length :]
    return {
        name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
        for name, entry in header.items()
    }


def test_killed_in_the_middle_it_goes_on_and_gives_the_same_artifact(tmp_path):
    samples = ["--num-samples", 24 if SLOW else 160, "--max-num-batched-tokens", 512, "--max-seq-len", 512]
    whole = tmp_path / "whole"
    subprocess.run(calibrate(whole, *samples), check=True, capture_output=True, timeout=TIMEOUT_S)

    output = tmp_path / "output"
    progress = tmp_path / "output.progress"
    killed = subprocess.Popen(
        calibrate(output, *samples), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not progress.exists():
        assert killed.poll() is None and time.monotonic() < deadline, "never saved"
        time.sleep(0.01)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not output.exists()
    assert run_kvserve(output, "--port", 0).returncode != 0, "there is nothing to serve"

    resumed = subprocess.run(
        calibrate(output, *samples), capture_output=True, text=True, timeout=TIMEOUT_S, env=environment()
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "going on from" in resumed.stderr
    assert contents(output) == contents(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "whole"]


def test_killed_at_any_moment_it_leaves_all_or_nothing(tmp_path):
    samples = ["--num-samples", 2, "--max-seq-len", 64]
    whole = tmp_path / "whole"
    began = time.monotonic()
    subprocess.run(calibrate(whole, *samples), check=True, capture_output=True, timeout=TIMEOUT_S)
    duration = time.monotonic() - began
    expected = contents(whole)
    output = tmp_path / "output"
    num_killed = 0
    # The directory is written at the very end.
    moments = random.Random(5)
    for _ in range(4 if SLOW else 20):
        process = subprocess.Popen(
            calibrate(output, *samples),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        try:
            process.wait(duration * moments.uniform(0.5, 1.05))
        except subprocess.TimeoutExpired:
            process.kill()
            num_killed += 1
        if process.wait() not in (0, -signal.SIGKILL):
            pytest.fail(f"ended with {process.returncode}")
        if output.exists():
            assert contents(output) == expected
            shutil.rmtree(output)
    assert num_killed > 0


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A model like the bundled one whose keys and values reach far beyond 448."""
    folder = tmp_path_factory.mktemp("models") / "hostile"
    script = ROOT / "tests/support/hostile_model.py"
    subprocess.run([sys.executable, script, MODEL_DIR, folder], check=True)
    return folder


@pytest.mark.parametrize("strategy", ["tensor", "attn_head"])
def test_scales_of_requests_are_those_of_a_dataset_of_the_same_prompts(
    start, hostile, tmp_path, strategy
):
    prompts = workload.mixed_prompts(8, seed=3)
    artifact = tmp_path / "of-requests"
    flags = ["--kv-cache-dtype", "fp8", "--enable-prefix-caching"]
    calibrating = ["--calibrate-on-requests", 8, "--kv-scales-strategy", strategy]
    output = ["--kv-scales-output-dir", artifact]
    with start(hostile, *flags, *calibrating, *output) as daemon:
        info = daemon.get("/server_info").json()
        assert info["kv_cache_dtype"] == "bfloat16"
        assert info["kv_scales"] == "requests_awaited"
        before = info["kv_pool_tokens"]
        assert daemon.metric("kvserve_kv_scales_info", source="requests_awaited") == 1
        for prompt in prompts:
            # One token: nothing but the prompt is ever stored.
            daemon.complete(prompt, max_tokens=1)
        deadline = time.monotonic() + 60
        while not artifact.exists():
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(0.05)
        info = daemon.get("/server_info").json()
        assert info["kv_cache_dtype"] == "fp8_e4m3"
        assert info["kv_scales"] == "requests"
        assert info["kv_pool_tokens"] == 2 * before
        assert daemon.metric("kvserve_kv_scales_info", source="requests") == 1
        assert "scales: requests; the prefix cache is empty" in daemon.log()
        check = run_kvserve("check-cache", daemon.url)
        assert check.returncode == 0, check.stdout
        assert "KV cache fp8_e4m3, scales: requests" in check.stdout
        served = [daemon.complete(prompt, max_tokens=24)["choices"][0]["text"] for prompt in prompts]
        clipped = daemon.metric("kvserve_kv_saturated_values_total")

    dataset = tmp_path / "prompts.jsonl"
    dataset.write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in prompts))
    of_dataset = tmp_path / "of-dataset"
    done = run_kvserve(
        *["calibrate", hostile, "--dataset", dataset, "--strategy", strategy],
        *["--output-dir", of_dataset],
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    assert scales_of(artifact) == scales_of(of_dataset)
    with start(artifact, "--enable-prefix-caching") as daemon:  # auto: the checkpoint asks for FP8
        assert daemon.get("/server_info").json()["kv_scales"] == "checkpoint"
        again = [daemon.complete(prompt, max_tokens=24)["choices"][0]["text"] for prompt in prompts]
    assert again == served
    assert clipped < 1000, "what was seen fits"


def test_requests_in_flight_live_through_the_switch(start, hostile):
    """Long generations that begin in BF16 end in FP8."""
    with start(hostile, "--kv-cache-dtype", "fp8", "--calibrate-on-requests", 2) as daemon:
        client = daemon.openai()
        streams = [
            client.completions.create(
                model=client.models.list().data[0].id,
                prompt=prompt,
                max_tokens=200,
                temperature=0,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            for prompt in workload.mixed_prompts(3, seed=9)
        ]
        for stream in streams:
            next(iter(stream))
        for prompt in workload.mixed_prompts(2, seed=4):
            daemon.complete(prompt, max_tokens=1)
        for stream in streams:
            assert list(stream)[-1].choices[0].finish_reason == "length"
        assert daemon.get("/server_info").json()["kv_cache_dtype"] == "fp8_e4m3"
        assert daemon.metric("vllm:num_preemptions_total") >= 1
