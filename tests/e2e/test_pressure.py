"""A pool far too small: requests wait, are preempted and resumed, and no text changes."""

import concurrent.futures
import random

import httpx
import pytest

import workload
from daemon import SLOW

NUM_REQUESTS = 100 if SLOW else 500
CLIENTS = 64
# 1024 tokens for 64 clients that want about 130 each.
POOL = ["--num-gpu-blocks-override", "64", "--max-num-seqs", "64"]


def requests():
    rng = random.Random(23)
    prompts = workload.mixed_prompts(NUM_REQUESTS, seed=29)
    result = []
    for i, prompt in enumerate(prompts):
        fields = {"prompt": prompt, "max_tokens": rng.randint(8, 72), "temperature": 0}
        if i % 3 == 0:
            fields.update(temperature=0.9, top_p=0.95, top_k=50, seed=i)
        if i % 4 != 0:
            fields.update(ignore_eos=True)
        result.append(fields)
    return result


def send_all(daemon, asks, clients):
    limits = httpx.Limits(max_connections=None, keepalive_expiry=2)
    with (
        daemon.http(limits=limits) as client,
        concurrent.futures.ThreadPoolExecutor(clients) as pool,
    ):

        def one(ask):
            response = client.post("/v1/completions", json=ask)
            assert response.status_code == 200, response.text
            choice = response.json()["choices"][0]
            return choice["text"], choice["finish_reason"]

        return list(pool.map(one, asks))


@pytest.mark.parametrize("dtype", ["fp8", "bfloat16"])
def test_texts_under_pressure_are_the_texts_alone(start, dtype):
    asks = requests()
    with start("--kv-cache-dtype", dtype) as daemon:
        alone = send_all(daemon, asks, clients=1)
    with start("--kv-cache-dtype", dtype, "--enable-prefix-caching", *POOL) as daemon:
        together = send_all(daemon, asks, clients=CLIENTS)
        assert daemon.metric("vllm:num_preemptions_total") > 0
        assert daemon.metrics_of_prefix_cache().hits > 0
        daemon.assert_idle()
        assert daemon.post("/reset_prefix_cache").status_code == 200
    different = [i for i in range(NUM_REQUESTS) if alone[i] != together[i]]
    assert not different, (asks[different[0]], alone[different[0]], together[different[0]])
