"""What clients of the API may rely on, seen through the openai package."""

import random
import threading

import openai
import pytest

import workload
from daemon import Daemon

PROMPT = "The capital of Italy is"
FIELDS = {"max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def server(log_dir):
    with Daemon("--kv-cache-dtype", "fp8", "--enable-prefix-caching", log_dir=log_dir) as daemon:
        yield daemon


@pytest.fixture
def client(server):
    return server.openai()


def create(client, prompt=PROMPT, **fields):
    """completions.create; what the package has no name for goes into the body."""
    known = {
        "max_tokens", "temperature", "n", "echo", "logprobs", "stop", "seed", "logit_bias", "top_p",
        "presence_penalty", "frequency_penalty", "stream", "stream_options", "user",
    }  # fmt: skip
    extra = {k: v for k, v in fields.items() if k not in known}
    named = {**FIELDS, **{k: v for k, v in fields.items() if k in known}}
    return client.completions.create(model="default", prompt=prompt, extra_body=extra, **named)


def tokenize(server, text, **fields):
    response = server.post("/tokenize", {"prompt": text, **fields})
    assert response.status_code == 200, response.text
    return response.json()["tokens"]


# --- the shape of an answer


def test_an_answer_has_every_field(client):
    answer = create(client)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.model == "default"
    assert answer.created > 1_600_000_000
    (choice,) = answer.choices
    assert choice.index == 0
    assert "Rome" in choice.text
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 3
    assert 1 <= usage.completion_tokens <= 8
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens >= 0


def test_max_tokens_is_exact_and_named(client):
    answer = create(client, max_tokens=5, ignore_eos=True)
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"


# --- prompts


def test_the_four_forms_of_a_prompt_agree(server, client):
    ids = tokenize(server, PROMPT)
    text = create(client).choices[0].text
    assert create(client, [PROMPT]).choices[0].text == text
    assert create(client, ids).choices[0].text == text
    assert create(client, [ids]).choices[0].text == text


def test_several_prompts_make_several_choices(server, client):
    prompts = ["The capital of Italy is", "Once upon a time there was", "The opposite of hot is"]
    answer = create(client, prompts)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.text for choice in answer.choices] == [server.text(p, **FIELDS) for p in prompts]
    alone = [create(client, p).usage.prompt_tokens for p in prompts]
    assert answer.usage.prompt_tokens == sum(alone)
    ids = [tokenize(server, p) for p in prompts]
    assert [c.text for c in create(client, ids).choices] == [c.text for c in answer.choices]


def test_n_makes_n_choices_for_each_prompt(client):
    answer = create(client, ["Once upon a time", "One day"], n=3, temperature=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert len({choice.text for choice in answer.choices[:3]}) > 1
    again = create(client, ["Once upon a time", "One day"], n=3, temperature=1.0, seed=1)
    assert [c.text for c in again.choices] == [c.text for c in answer.choices]


def test_echo_repeats_the_prompt(client):
    plain = create(client).choices[0].text
    assert create(client, echo=True).choices[0].text == PROMPT + plain


# --- log probabilities


def test_logprobs_describe_each_token(client):
    choice = create(client, max_tokens=4, logprobs=3, ignore_eos=True).choices[0]
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == 4
    assert "".join(logprobs.tokens) == choice.text
    assert logprobs.text_offset == [
        sum(len(t) for t in logprobs.tokens[:i]) for i in range(len(logprobs.tokens))
    ]
    assert len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 4
    for token, value, top in zip(
        logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True
    ):
        assert value <= 0
        assert 3 <= len(top) <= 4
        assert max(top.values()) == top[token]  # greedy: the most likely one was taken
        assert top[token] == value


def test_echo_with_logprobs_scores_the_prompt(server, client):
    answer = create(client, max_tokens=1, echo=True, logprobs=2)
    choice, logprobs = answer.choices[0], answer.choices[0].logprobs
    assert len(logprobs.tokens) == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in logprobs.token_logprobs[1:])
    assert choice.text.startswith(PROMPT)
    # Without generation: the same scores for the prompt alone.
    scored = create(client, max_tokens=0, echo=True, logprobs=2)
    assert scored.usage.completion_tokens == 0
    assert scored.choices[0].text == PROMPT
    count = answer.usage.prompt_tokens
    assert scored.choices[0].logprobs.token_logprobs == logprobs.token_logprobs[:count]
    # The score of what greedy decoding wrote is what greedy decoding said.
    written = create(client, max_tokens=3, logprobs=0, ignore_eos=True)
    ids = tokenize(server, PROMPT)
    full = create(client, ids + tokenize(server, written.choices[0].text, add_special_tokens=False),
                  max_tokens=0, echo=True, logprobs=0)  # fmt: skip
    tail = full.choices[0].logprobs.token_logprobs[len(ids) :]
    assert tail == pytest.approx(written.choices[0].logprobs.token_logprobs, abs=1e-4)


# --- sampling


def test_a_seed_repeats_a_text(client):
    texts = [
        create(client, "Once upon a time", temperature=1.0, seed=seed, max_tokens=16)
        .choices[0]
        .text
        for seed in (7, 7, 8)
    ]
    assert texts[0] == texts[1] != texts[2]


def test_without_a_seed_texts_vary(client):
    texts = {
        create(client, "Once upon a time", temperature=1.5, max_tokens=16).choices[0].text
        for _ in range(4)
    }
    assert len(texts) > 1


def test_narrow_sampling_is_greedy(client):
    greedy = create(client).choices[0].text
    for fields in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        assert create(client, temperature=1.0, seed=3, **fields).choices[0].text == greedy, fields


def test_logit_bias_forces_and_forbids(server, client):
    (forced,) = tokenize(server, " river", add_special_tokens=False)[:1]
    piece = server.post("/detokenize", {"tokens": [forced]}).json()["prompt"]
    answer = create(client, max_tokens=3, logit_bias={str(forced): 100})
    assert answer.choices[0].text == piece * 3
    (usual,) = tokenize(server, " Rome", add_special_tokens=False)[:1]
    assert "Rome" not in create(client, max_tokens=1, logit_bias={str(usual): -100}).choices[0].text


def test_penalties_stop_repetition(client):
    prompt = "one one one one one one one one one one one one"
    plain = create(client, prompt, max_tokens=24, ignore_eos=True).choices[0].text
    for fields in (
        {"frequency_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"repetition_penalty": 5.0},
    ):
        other = create(client, prompt, max_tokens=24, ignore_eos=True, **fields).choices[0].text
        assert other != plain, fields


# --- stopping


def test_stop_strings_are_cut_off(client):
    story = create(client, "Once upon a time there was", max_tokens=40).choices[0].text
    stop = story[20:24]
    for given in (stop, [stop], ["never in the text", stop]):
        choice = create(client, "Once upon a time there was", max_tokens=40, stop=given).choices[0]
        assert choice.text == story[: story.index(stop)]
        assert choice.finish_reason == "stop"


def test_stop_strings_hold_back_in_a_stream(client):
    story = create(client, "Once upon a time there was", max_tokens=40).choices[0].text
    stop = story[20:24]
    stream = create(client, "Once upon a time there was", max_tokens=40, stop=stop, stream=True)
    choices = [event.choices[0] for event in stream if event.choices]
    assert "".join(choice.text for choice in choices) == story[: story.index(stop)]
    assert choices[-1].finish_reason == "stop"


def test_stop_token_ids_end_a_text(server, client):
    text = create(client).choices[0].text
    second = tokenize(server, text, add_special_tokens=False)[1]
    answer = create(client, stop_token_ids=[second])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 2
    assert text.startswith(answer.choices[0].text)


def test_min_tokens_outlasts_the_end_of_the_text(client):
    prompt = workload.chat("What is the capital of France?")
    short = create(client, prompt, max_tokens=64)
    assert short.choices[0].finish_reason == "stop"
    assert short.usage.completion_tokens < 40
    longer = create(client, prompt, max_tokens=64, min_tokens=40)
    assert longer.usage.completion_tokens >= 40


# --- streams


def test_a_stream_is_the_same_text_in_pieces(client):
    whole = create(client, "Once upon a time there was", max_tokens=24)
    events = list(
        create(
            client,
            "Once upon a time there was",
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )  # fmt: skip
    )
    assert "".join(e.choices[0].text for e in events if e.choices) == whole.choices[0].text
    assert [e.usage is not None for e in events] == [False] * (len(events) - 1) + [True]
    assert events[-1].choices == []
    assert events[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert events[-1].usage.prompt_tokens_details.cached_tokens >= 0
    assert len({e.id for e in events}) == 1
    reasons = [e.choices[0].finish_reason for e in events if e.choices]
    assert reasons[-1] == whole.choices[0].finish_reason
    assert not any(reasons[:-1])


def test_a_stream_without_usage_has_none(client):
    events = list(create(client, stream=True))
    assert all(event.choices and event.usage is None for event in events)


def test_streams_of_several_choices_keep_their_index(server, client):
    prompts = ["The capital of Italy is", "Once upon a time there was"]
    texts = {0: "", 1: ""}
    for event in create(client, prompts, stream=True):
        for choice in event.choices:
            texts[choice.index] += choice.text
    assert list(texts.values()) == [server.text(p, **FIELDS) for p in prompts]


def test_no_character_is_cut_in_a_stream(client):
    seen = ""
    for seed in range(6):  # so hot that tokens which are parts of a character come up
        fields = {"temperature": 2.0, "seed": seed, "max_tokens": 120, "ignore_eos": True}
        whole = create(client, "é ☃ 🎉", **fields).choices[0].text
        pieces = [e.choices[0].text for e in create(client, "é ☃ 🎉", stream=True, **fields)]
        assert "".join(pieces) == whole
        seen += whole
    assert any(ord(c) > 127 and c != "\ufffd" for c in seen), "no such character came up"


# --- other routes


def test_models(server, client):
    (model,) = client.models.list().data
    assert (model.id, model.object) == ("default", "model")
    assert model.max_model_len == 8192
    assert client.models.retrieve("default").id == "default"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="gpt-4", prompt="a")


@pytest.mark.parametrize("text", ["", "Hello, world!", "  two  blanks\n\n", "é☃🎉", "a" * 500])
def test_tokenize_and_back(server, text):
    answer = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()
    assert answer["count"] == len(answer["tokens"])
    assert answer["max_model_len"] == 8192
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json()["prompt"] == text


def test_health_routes(server):
    for path in ("/health", "/livez", "/readyz"):
        assert server.get(path).status_code == 200, path
    assert server.get("/version").json()["version"]


def test_reset_prefix_cache(server):
    prompt = workload.words(random.Random(1), 60)
    assert cached_tokens(server, prompt) == 0
    assert cached_tokens(server, prompt) > 0
    server.assert_idle()
    assert server.post("/reset_prefix_cache").status_code == 200
    assert cached_tokens(server, prompt) == 0


def test_reset_while_blocks_are_in_use_says_so(server):
    stream = create(server.openai(), max_tokens=2000, ignore_eos=True, stream=True)
    next(iter(stream))
    response = server.post("/reset_prefix_cache")
    stream.close()
    assert response.status_code != 200, response.text
    server.assert_idle()
    assert server.post("/reset_prefix_cache").status_code == 200


# --- errors

BAD_REQUESTS = [
    ({"prompt": 7}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": ["a", 7]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [999999]}, "prompt"),
    ({"prompt": [1.5]}, "prompt"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": "8"}, "max_tokens"),
    ({"max_tokens": 1e30}, "max_tokens"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 0}, "top_p"),
    ({"top_p": 1.1}, "top_p"),
    ({"top_k": -2}, "top_k"),
    ({"min_p": 1.5}, "min_p"),
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -2.5}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"n": 0}, "n"),
    ({"n": 100000}, "n"),
    ({"logprobs": 100}, "logprobs"),
    ({"logprobs": -1}, "logprobs"),
    ({"stop": 7}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"),
    ({"min_tokens": 9}, "min_tokens"),
    ({"seed": "x"}, "seed"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"cache_salt": ""}, "cache_salt"),
    ({"cache_salt": 7}, "cache_salt"),
    ({"stop_token_ids": [-5]}, "stop_token_ids"),
    ({"model": 7}, "model"),
]


@pytest.mark.parametrize("fields, param", BAD_REQUESTS, ids=lambda v: str(v)[:40])
def test_a_bad_field_is_named(server, fields, param):
    response = server.post("/v1/completions", {"prompt": "a", **FIELDS, **fields})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] and "code" in error
    assert error["param"] == param, error
    assert param in error["message"]


def test_a_prompt_too_long_names_the_bound(server):
    response = server.post("/v1/completions", {"prompt": "word " * 9000, "max_tokens": 1})
    assert response.status_code == 400
    assert "8192" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"prompt": "\xff"}', b"[" * 100_000, b'{"prompt": "a"} x']
)
def test_a_body_that_is_no_request(server, body):
    with server.http() as client:
        response = client.post("/v1/completions", content=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]


def test_routes_that_are_not_there(server):
    assert server.get("/nowhere").status_code == 404
    assert server.get("/nowhere").json()["error"]["message"]
    assert server.get("/v1/completions").status_code in (404, 405)


def test_a_body_too_long_is_refused(server):
    response = server.post("/v1/completions", {"prompt": "x" * (9 << 20)})
    assert response.status_code == 413


# --- the prefix cache between clients


def cached_tokens(daemon, prompt, **fields):
    usage = daemon.complete(prompt, max_tokens=1, **fields)["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"]


def fresh_prompt(count=150):
    return workload.words(random.Random(), count)


def test_salts_do_not_share_blocks(server):
    prompt = fresh_prompt()
    assert cached_tokens(server, prompt, cache_salt="a") == 0
    assert cached_tokens(server, prompt, cache_salt="b") == 0
    assert cached_tokens(server, prompt) == 0
    for fields in ({"cache_salt": "a"}, {"cache_salt": "b"}, {}):
        assert cached_tokens(server, prompt, **fields) > 100


def test_generated_tokens_are_cached_too(server):
    # Prose like the model's own: its text gives the same tokens when it comes back as a prompt.
    prompt = "Once upon a time there was a little girl who lived near the forest."
    answer = server.complete(prompt, max_tokens=64, ignore_eos=True)
    prompt_tokens = answer["usage"]["prompt_tokens"]
    assert cached_tokens(server, prompt + answer["choices"][0]["text"]) > prompt_tokens


@pytest.mark.parametrize("count", [2, 6])
def test_requests_that_arrive_together_compute_a_prefix_once(server, count):
    prompt = fresh_prompt(700)
    tokens = len(tokenize(server, prompt))
    barrier = threading.Barrier(count)
    results = []

    def one():
        with server.http() as client:
            barrier.wait()
            usage = client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 4}).json()[
                "usage"
            ]
        results.append(usage["prompt_tokens_details"]["cached_tokens"])

    before = server.metrics_of_prefix_cache()
    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reusable = (tokens - 1) // 16 * 16
    assert sorted(results) == [0] + [reusable] * (count - 1)
    after = server.metrics_of_prefix_cache()
    assert after.hits - before.hits == reusable * (count - 1)
    assert after.queries - before.queries == tokens * count
