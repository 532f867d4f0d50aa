"""Many streams at once, some of them cut."""

import asyncio
import json
import random

import httpx

import workload
from daemon import TIMEOUT_S

NUM_STREAMS = 256
NUM_CUT = 26
NUM_PROMPTS = 16
MAX_TOKENS = 40


async def stream(client, prompt, cut_after):
    """The text of one stream and its finish reason; leaves after `cut_after` events if given."""
    body = {
        "prompt": prompt,
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    text, reason, usage, done, events = "", None, None, False, 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        if cut_after == 0:
            return None
        async for line in response.aiter_lines():
            if not line:
                continue
            assert line.startswith("data: "), line
            data = line[len("data: ") :]
            assert not done, "an event after [DONE]"
            if data == "[DONE]":
                done = True
                continue
            event = json.loads(data)
            assert "error" not in event, event
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                text += choice["text"]
                reason = choice["finish_reason"] or reason
            events += 1
            if events == cut_after:
                return None
    assert done
    assert usage["completion_tokens"] == MAX_TOKENS
    return text, reason


async def run_all(url, prompts, cuts):
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=url, limits=limits, timeout=TIMEOUT_S, trust_env=False
    ) as client:
        return await asyncio.gather(
            *(stream(client, prompts[i % NUM_PROMPTS], cuts.get(i)) for i in range(NUM_STREAMS))
        )


def test_cut_streams_disturb_nobody(start):
    rng = random.Random(3)
    prompts = workload.mixed_prompts(NUM_PROMPTS, seed=41)
    cuts = {i: rng.randrange(0, 30) for i in rng.sample(range(NUM_STREAMS), NUM_CUT)}
    with start("--kv-cache-dtype", "fp8", "--enable-prefix-caching") as daemon:
        alone = [daemon.text(prompt, max_tokens=MAX_TOKENS, ignore_eos=True) for prompt in prompts]
        fds = daemon.num_fds()
        results = asyncio.run(run_all(daemon.url, prompts, cuts))
        for i, result in enumerate(results):
            if i in cuts:
                assert result is None
            else:
                assert result == (alone[i % NUM_PROMPTS], "length"), i
        daemon.assert_idle(within_s=10)
        # A block that somebody still held would refuse the reset.
        assert daemon.post("/reset_prefix_cache").status_code == 200
        assert daemon.num_fds() <= fds + 8
        assert daemon.text(prompts[0], max_tokens=MAX_TOKENS, ignore_eos=True) == alone[0]
