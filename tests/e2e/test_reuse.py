"""The two-request reuse test that users run, and the checks around it."""

import pathlib
import re
import socket
import subprocess
import sys

import pytest

import daemon as daemon_module

SCRIPT = pathlib.Path(__file__).with_name("reuse_test.py")
BLOCK_SIZE = 16


def port_of_the_script():
    """8000, as the script says; another when somebody listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8000))
            return 8000
        except OSError:
            return daemon_module.free_port()


def run_script(port, tmp_path):
    text = SCRIPT.read_text()
    assert text.count("localhost:8000") == 1
    script = tmp_path / "reuse_test.py"
    script.write_text(text.replace("localhost:8000", f"localhost:{port}"))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=daemon_module.TIMEOUT_S,
        env=daemon_module.environment(),
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^Request (\d): ([\d.]+)s — (.*)$", done.stdout, re.MULTILINE)
    assert [line[0] for line in lines] == ["1", "2"], done.stdout
    return [(float(seconds), text) for _, seconds, text in lines]


def script_prompt():
    scope = {}
    source = SCRIPT.read_text()
    exec(source[source.index("SHARED_PREFIX") : source.index("for i in range")], scope)
    return scope["SHARED_PREFIX"]


def grep(pattern, path):
    done = subprocess.run(["grep", "-i", pattern, path], capture_output=True, text=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize("dtype", ["fp8", "auto"])
def test_second_request_reuses_the_prefix(start, tmp_path, dtype):
    flags = ["--kv-cache-dtype", dtype, "--enable-prefix-caching", "--log-level", "debug"]
    port = port_of_the_script()
    with start(*flags, port=port) as daemon:
        prompt = script_prompt()
        tokens = daemon.post("/tokenize", {"prompt": prompt}).json()["count"]
        reusable = (tokens - 1) // BLOCK_SIZE * BLOCK_SIZE
        assert reusable > 1000

        daemon.complete("Warm up the threads.", max_tokens=2)
        before = daemon.metrics_of_prefix_cache()
        (cold_s, cold_text), (warm_s, warm_text) = run_script(port, tmp_path)
        after = daemon.metrics_of_prefix_cache()
        assert "100 degrees" in cold_text and warm_text == cold_text
        assert warm_s < cold_s or daemon_module.SLOW
        assert after.hits - before.hits == reusable
        assert after.queries - before.queries == 2 * tokens

        response = daemon.openai().completions.create(
            model="default", prompt=prompt, max_tokens=64, temperature=0.0
        )
        cached = response.usage.prompt_tokens_details.cached_tokens
        assert cached == reusable
        assert daemon.metrics_of_prefix_cache().hits - after.hits == cached
        assert response.choices[0].text.strip()[:80] == cold_text

        log = daemon.log_path
        lookups = grep(r"prefix\|cache_hit\|cached_blocks\|hit", log)
        assert sum(f"{reusable}" in line for line in lookups) >= 2, lookups[-5:]
        assert grep(r"kv_cache_dtype\|kv cache dtype", log)
        assert grep(r"prefix_caching\|prefix caching\|enable.prefix", log)
        started = " ".join(grep("kv_cache_dtype=", log))
        assert (
            "kv_cache_dtype=fp8_e4m3" if dtype == "fp8" else "kv_cache_dtype=bfloat16"
        ) in started
        assert "enable_prefix_caching=true" in started


def test_without_the_flag_nothing_is_reused(start):
    with start("--kv-cache-dtype", "fp8") as daemon:
        prompt = script_prompt()
        for _ in range(2):
            usage = daemon.complete(prompt, max_tokens=4)["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] == 0
        assert daemon.metrics_of_prefix_cache().hits == 0
        assert "enable_prefix_caching=false" in daemon.log()
