"""The process: its start, its end, its exit codes, its log, and the commands beside it."""

import json
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import daemon as daemon_module
from daemon import MODEL_DIR, run_kvserve

LONG = {
    "prompt": "Once upon a time",
    "max_tokens": 100 if daemon_module.SLOW else 600,
    "ignore_eos": True,
    "temperature": 0,
}


class Background(threading.Thread):
    """One request on a thread of its own."""

    def __init__(self, daemon, **fields):
        super().__init__()
        self.daemon_under_test, self.fields = daemon, fields
        self.response = self.error = None
        self.start()

    def run(self):
        try:
            self.response = self.daemon_under_test.post("/v1/completions", self.fields)
        except Exception as error:  # the test says which are expected
            self.error = error


def wait_for_running(daemon, count):
    deadline = time.monotonic() + 10
    while daemon.metric("vllm:num_requests_running") < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the end


def test_sigterm_lets_requests_finish(start):
    timeout = daemon_module.STOP_TIMEOUT_S
    with start("--enable-prefix-caching", "--shutdown-timeout", timeout) as daemon:
        alone = daemon.text(**LONG)
        requests = [Background(daemon, **LONG) for _ in range(3)]
        wait_for_running(daemon, 3)
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert daemon.process.poll() is None
        try:
            refused = daemon.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
            assert refused.status_code == 503
            assert daemon.get("/readyz").status_code == 503
        except daemon_module.httpx.TransportError:
            pass  # a closed listener is as good an answer
        for request in requests:
            request.join()
            assert request.error is None, request.error
            assert request.response.json()["choices"][0]["text"] == alone
        daemon.wait(code=0)


def test_a_second_sigterm_aborts(start):
    with start() as daemon:
        requests = [Background(daemon, **{**LONG, "max_tokens": 8000}) for _ in range(2)]
        wait_for_running(daemon, 2)
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert daemon.process.poll() is None
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait(code=0)
        assert time.monotonic() - began < 3
        for request in requests:
            request.join()
            if request.response is not None and request.response.status_code == 200:
                assert request.response.json()["choices"][0]["finish_reason"] == "abort"


def test_the_shutdown_timeout_is_kept(start):
    with start("--shutdown-timeout", "1") as daemon:
        request = Background(daemon, **{**LONG, "max_tokens": 8000})
        wait_for_running(daemon, 1)
        began = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait(code=0)
        assert 0.5 < time.monotonic() - began < 5
        request.join()


def test_sigint_is_sigterm(start):
    with start() as daemon:
        daemon.process.send_signal(signal.SIGINT)
        daemon.wait(code=0)


# --- starts that fail


# A broken model would be 65: the mistake is found before it is read.
@pytest.fixture
def broken_model(tmp_path):
    directory = tmp_path / "broken"
    shutil.copytree(MODEL_DIR, directory)
    for shard in directory.glob("*.safetensors"):
        shard.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!")
    return directory


def test_a_port_in_use_is_found_before_the_model_is_loaded(broken_model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_kvserve("--port", port, "--model", broken_model)
    assert done.returncode == 73, done.stderr
    assert str(port) in done.stderr + done.stdout


def test_a_second_daemon_on_a_port_is_refused(start):
    with start() as daemon:
        done = run_kvserve("--port", daemon.port)
        assert done.returncode == 73
        assert daemon.get("/health").status_code == 200


def test_a_broken_model_is_named(broken_model):
    done = run_kvserve("--port", "0", "--model", broken_model)
    assert done.returncode == 65, done.stderr
    assert "safetensors" in done.stderr + done.stdout


START_FAILURES = [
    (["--model", "/no/such/model"], 66, "/no/such/model"),
    (["--no-such-flag"], 2, "--no-such-flag"),
    (["--kv-cache-dtype", "fp7"], 2, "fp8"),
    (["--block-size", "17"], 2, "64"),
    (["--port", "70000"], 2, "65535"),
    (["--max-model-len", "9000"], 2, "8192"),
    (["--kv-cache-tokens", "64", "--max-model-len", "100"], 2, "64"),
    (["--kv-cache-memory-bytes", "100"], 2, "block"),
    (["--device", "cuda"], 69, "--device"),
    (["--config", "/no/such.yaml"], 78, "/no/such.yaml"),
    (["--api-key-file", "/no/such/keys"], 78, "/no/such/keys"),
    (["--ssl-certfile", "/no/such/cert", "--ssl-keyfile", "/no/such/key"], 78, "/no/such/cert"),
    (["--host", "203.0.113.7"], 73, "203.0.113.7"),
    (["--enable-prefix-cachin"], 2, "--enable-prefix-caching"),
]


@pytest.mark.parametrize("args, code, text", START_FAILURES, ids=lambda v: str(v)[:50])
def test_a_start_that_fails_says_why(args, code, text):
    began = time.monotonic()
    if not any(a in args for a in ("--port", "--host")):
        args = [*args, "--port", "0"]
    done = run_kvserve(*args)
    assert done.returncode == code, done.stderr + done.stdout
    assert text in done.stderr + done.stdout
    assert time.monotonic() - began < 5 or daemon_module.SLOW


def test_a_bad_config_file_names_the_key(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("kv_cache_dtyp: fp8\n")
    done = run_kvserve("--config", config)
    assert done.returncode == 78
    assert "kv_cache_dtyp" in done.stderr and "kv_cache_dtype" in done.stderr


def test_flag_over_environment_over_file(start, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text('kv_cache_dtype: "fp8"\nblock_size: 64\nmax_num_seqs: 7\n')
    env = {"KVSERVE_BLOCK_SIZE": "32", "KVSERVE_MAX_NUM_SEQS": "8"}
    with start("--config", config, "--max-num-seqs", "9", env=env) as daemon:
        log = daemon.log()
        assert "kv_cache_dtype=fp8_e4m3" in log
        assert "block_size=32" in log
        assert "max_num_seqs=9" in log


@pytest.mark.parametrize("config", sorted((daemon_module.ROOT / "configs").glob("*.yaml")))
def test_shipped_configurations_serve(start, config):
    with start("--config", config) as daemon:
        info = daemon.get("/server_info").json()
        if config.name.startswith("fp8"):
            assert info["kv_cache_dtype"] == "fp8_e4m3"
            scales = "random_tokens" if "scales" in config.name else "default_1.0"
            assert info["kv_scales"] == scales
        assert "Rome" in daemon.text("The capital of Italy is", max_tokens=8)


def test_a_warm_start_serves_in_two_seconds(start):
    run_kvserve("--version")  # the executable is in the page cache
    began = time.monotonic()
    with start("--kv-cache-dtype", "fp8", "--enable-prefix-caching") as daemon:
        assert daemon.text("The capital of Italy is", max_tokens=1)
        assert time.monotonic() - began < 2 or daemon_module.SLOW


# --- the log and the metrics


def test_the_log_is_json_off_a_terminal(start):
    with start("--log-level", "debug") as daemon:
        daemon.text("Hello\n\x1b[31m", max_tokens=4)
        daemon.post("/v1/completions", {"prompt": 7})
        daemon.get('/forged"}%0d%0a{"level":"error"')
        objects = daemon.log_objects()
        assert len(objects) > 3
        for entry in objects:
            assert set(entry) >= {"time", "level", "message"}
        assert any("kv_cache_dtype=" in entry["message"] for entry in objects)


def test_metrics_keep_prometheus_conventions(start):
    with start("--enable-prefix-caching", "--kv-cache-dtype", "fp8") as daemon:
        daemon.text("Once upon a time", max_tokens=8)
        text = daemon.get("/metrics").text
    families = dict(
        line.split(" ", 3)[2:] for line in text.splitlines() if line.startswith("# TYPE")
    )
    helped = {line.split(" ", 3)[2] for line in text.splitlines() if line.startswith("# HELP")}
    assert families and helped == set(families)
    for name, kind in families.items():
        assert kind in ("counter", "gauge", "histogram"), name
        assert kind != "counter" or name.endswith("_total"), name
        assert name.startswith(("vllm:", "kvserve_")), name
    for name in daemon_module.parse_metrics(text):
        base = name if name in families else name.rsplit("_", 1)[0]
        assert base in families, name
    # Prometheus' own tool, where it is installed, knows more such rules. It minds two habits of
    # vLLM's names: the colon, and one histogram that is called a total.
    minded = ("metric names should not contain ':'", "vllm:iteration_tokens_total non-counter")
    if shutil.which("promtool"):
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
        )
        problems = (done.stdout + done.stderr).splitlines()
        assert not [p for p in problems if not any(known in p for known in minded)]


EXPECTED_METRICS = """
    vllm:num_requests_running vllm:num_requests_waiting vllm:kv_cache_usage_perc
    vllm:cache_config_info vllm:prefix_cache_queries_total vllm:prefix_cache_hits_total
    vllm:prompt_tokens_total vllm:generation_tokens_total vllm:num_preemptions_total
    vllm:request_success_total vllm:time_to_first_token_seconds_bucket
    vllm:inter_token_latency_seconds_bucket vllm:e2e_request_latency_seconds_bucket
    vllm:request_queue_time_seconds_bucket vllm:request_prompt_tokens_bucket
    vllm:request_generation_tokens_bucket
""".split()


def test_dashboards_find_their_metrics(start):
    with start("--enable-prefix-caching", "--kv-cache-dtype", "fp8") as daemon:
        tokens = daemon.complete("Once upon a time", max_tokens=8, ignore_eos=True)["usage"]
        metrics = daemon.metrics()
        for name in EXPECTED_METRICS:
            assert name in metrics, name
            assert all(labels["model_name"] == "default" for labels, _ in metrics[name]), name
        ((config, one),) = metrics["vllm:cache_config_info"]
        assert one == 1
        assert config["block_size"] == "16"
        assert config["enable_prefix_caching"].lower() == "true"
        assert config["cache_dtype"].startswith("fp8")
        assert daemon.metric("vllm:prompt_tokens_total") == tokens["prompt_tokens"]
        assert daemon.metric("vllm:generation_tokens_total") == 8
        assert daemon.metric("vllm:time_to_first_token_seconds_count") == 1
        assert daemon.metric("vllm:inter_token_latency_seconds_count") == 7


# --- the commands beside the daemon


def test_check_cache_passes_and_fails(start):
    with start("--enable-prefix-caching", "--kv-cache-dtype", "fp8") as daemon:
        for flags in ([], ["--prompt-tokens", "2000"]):
            done = run_kvserve("check-cache", daemon.url, "--json", *flags)
            assert done.returncode == 0, done.stdout + done.stderr
            report = json.loads(done.stdout)
            assert report["verdict"] == "PASS"
            assert report["identical_text"] is True
            assert report["batch_invariant"] is True
            assert report["text_distance"] == {"mean_nats": 0, "gap_nats": 0}
            prompt = report["second"]["prompt_tokens"]
            assert report["second"]["cached_tokens"] == (prompt - 1) // 16 * 16
            assert report["second"]["prefix_cache_hits_growth"] == report["second"]["cached_tokens"]
            assert report["first"]["cached_tokens"] == 0
        text = run_kvserve("check-cache", daemon.url)
        assert text.returncode == 0 and "\nPASS: " in text.stdout
        wrong = run_kvserve("check-cache", daemon.url, "--model", "gpt-4")
        assert wrong.returncode == 66 and "gpt-4" in wrong.stderr
    with start("--no-enable-prefix-caching") as daemon:
        done = run_kvserve("check-cache", daemon.url)
        assert done.returncode == 1
        assert "\nFAIL: " in done.stdout and "--enable-prefix-caching" in done.stdout
    assert run_kvserve("check-cache", daemon.url).returncode == 69


def test_bench_counts_what_the_server_counts(start):
    with start("--enable-prefix-caching", "--kv-cache-dtype", "fp8") as daemon:
        done = run_kvserve(
            "bench", daemon.url, "--num-prompts", 24, "--concurrency", 6, "--prompt-tokens", 200,
            "--output-tokens", 16, "--shared-prefix-tokens", 96, "--num-prefixes", 2, "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["completed"] == 24 and report["errors"] == {}
        assert report["exact_prompts"] is True
        assert report["total_prompt_tokens"] == 24 * 200
        assert report["total_output_tokens"] == 24 * 16
        # All but the first of each prefix reuse its six blocks.
        assert report["total_cached_tokens"] == 22 * 96
        assert daemon.metric("vllm:prompt_tokens_total") == 24 * 200
        assert daemon.metric("vllm:generation_tokens_total") == 24 * 16
        for name in ("time_to_first_token_ms", "inter_token_latency_ms", "end_to_end_ms"):
            times = report[name]
            assert 0 < times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
        assert report["output_throughput"] == pytest.approx(
            report["total_output_tokens"] / report["duration_s"]
        )
        opened = run_kvserve(
            "bench", daemon.url, "--num-prompts", 10, "--request-rate", 50, "--prompt-tokens", 32,
            "--output-tokens", 4, "--seed", 3, "--json",
        )  # fmt: skip
        assert opened.returncode == 0, opened.stderr
        assert json.loads(opened.stdout)["completed"] == 10
        text = run_kvserve("bench", daemon.url, "--num-prompts", 4, "--output-tokens", 4)
        assert "time to first token" in text.stdout
        daemon.assert_idle()


def test_plan_agrees_with_the_daemon(start):
    done = run_kvserve("plan", "--memory", "64M", "--json")
    assert done.returncode == 0, done.stderr
    dtypes = json.loads(done.stdout)["kv_cache_dtypes"]
    fp8, bf16 = dtypes["fp8_e4m3"], dtypes["bfloat16"]
    assert (fp8["bytes_per_token"], bf16["bytes_per_token"]) == (2048, 4096)
    assert fp8["num_tokens"] == 2 * bf16["num_tokens"]
    with start("--kv-cache-dtype", "fp8", "--kv-cache-memory-bytes", "64M") as daemon:
        log = daemon.log()
        assert f"kv_pool_tokens={fp8['num_tokens']}" in log
        assert f"kv_pool_tokens_bf16={bf16['num_tokens']}" in log


def test_a_pool_of_tokens_has_them_in_every_dtype(start):
    seen = {}
    for dtype in ("fp8", "bfloat16"):
        with start("--kv-cache-dtype", dtype, "--kv-cache-tokens", 8192) as daemon:
            info = daemon.get("/server_info").json()
            seen[dtype] = (info["kv_pool_tokens"], info["kv_pool_bytes"])
            assert daemon.metric("kvserve_kv_pool_bytes") == info["kv_pool_bytes"]
            assert daemon.metric("kvserve_kv_bytes_per_token") == info["kv_bytes_per_token"]
    assert seen["fp8"][0] == seen["bfloat16"][0] == 8192
    assert seen["bfloat16"][1] == 2 * seen["fp8"][1]


@pytest.mark.parametrize("args", [["--help"], ["--help-all"], ["--version"], ["bench", "--help"]])
def test_help_is_printed(args):
    done = run_kvserve(*args)
    assert done.returncode == 0 and done.stdout and not done.stderr
