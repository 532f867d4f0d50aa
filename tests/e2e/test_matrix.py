"""FP8 and BF16, prefix caching on and off: reuse never changes a text."""

import concurrent.futures
import random

import pytest

import workload

NUM_PROMPTS = 50
NUM_LOOKUPS = 10
MAX_TOKENS = 24
CLIENTS = 8


def lookups():
    rng = random.Random(11)
    prompts, answers = [], []
    for _ in range(NUM_LOOKUPS):
        listing, key, answer = workload.lookup(rng, rng.randint(25, 60))
        prompts.append(workload.chat(f"{listing}\n\nWhat is the value of {key}?"))
        answers.append(answer)
    return prompts, answers


def complete_all(daemon, prompts):
    """[(text, cached tokens, prompt tokens)], several at a time."""

    def one(prompt):
        answer = daemon.complete(prompt, max_tokens=MAX_TOKENS)
        usage = answer["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return answer["choices"][0]["text"], cached, usage["prompt_tokens"]

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, prompts))


@pytest.mark.parametrize("dtype", ["fp8", "bfloat16"])
def test_prefix_caching_changes_no_text(start, dtype):
    found, answers = lookups()
    prompts = found + workload.mixed_prompts(NUM_PROMPTS - NUM_LOOKUPS, seed=5)
    texts = {}
    for flag in ["--enable-prefix-caching", "--no-enable-prefix-caching"]:
        with start("--kv-cache-dtype", dtype, flag) as daemon:
            for turn in range(2):
                results = complete_all(daemon, prompts)
                texts[flag, turn] = [text for text, _, _ in results]
                if flag == "--no-enable-prefix-caching":
                    assert not any(cached for _, cached, _ in results)
                elif turn == 1:
                    for text, cached, tokens in results:
                        assert cached == (tokens - 1) // 16 * 16, text
            daemon.assert_idle()
    reference = texts["--no-enable-prefix-caching", 0]
    assert len(set(reference)) > NUM_PROMPTS // 2, "the prompts are too much alike to show anything"
    for run, got in texts.items():
        assert got == reference, run
    # The texts are not only alike: the cache serves the model what it wrote.
    for text, answer in zip(reference[:NUM_LOOKUPS], answers, strict=True):
        assert answer in text
