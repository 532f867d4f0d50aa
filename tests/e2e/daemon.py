"""The daemon under test: a process on 127.0.0.1, its log, its metrics and its end."""

import collections
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import time

import httpx
import openai

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("KVSERVE_BIN", ROOT / "build/release/src/kvserve"))
MODEL_DIR = ROOT / "models/default"

# A build with sanitizers: tests do less and expect no speed of it.
SLOW = bool(os.environ.get("KVSERVE_E2E_SLOW"))
TIMEOUT_S = 600 if SLOW else 120  # of a request
START_TIMEOUT_S = 300 if SLOW else 60
STOP_TIMEOUT_S = 300 if SLOW else 60
COMMAND_TIMEOUT_S = 300 if SLOW else 60
# Flags that every daemon gets besides a test's own: "--device cuda --batch-invariant" runs these
# tests on a GPU.
EXTRA_ARGS = shlex.split(os.environ.get("KVSERVE_E2E_ARGS", ""))
# Connections are kept for less long than the server keeps them (5 s), so that no request is sent
# on one that is just being closed.
LIMITS = httpx.Limits(keepalive_expiry=2)

# Nothing of this may stand in a log: a failed check, a sanitizer's report, a crash.
FORBIDDEN_IN_LOG = re.compile(
    r"check failed|Sanitizer|runtime error:|Segmentation|terminate called|\"level\": ?\"error\""
)


def environment(**changes):
    """The environment of a child: no proxy, no setting of the developer's own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("KVSERVE_")}
    for name in list(env):
        if name.lower().endswith("_proxy"):
            del env[name]
    env.update(changes)
    return env


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_kvserve(*args, timeout=COMMAND_TIMEOUT_S, **env):
    """Runs a command of kvserve to its end."""
    assert BINARY.exists(), f"{BINARY} is not built; KVSERVE_BIN may name another"
    return subprocess.run(
        [str(BINARY), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(**env),
    )


def parse_metrics(text):
    """{name: [(labels, value), ...]}"""
    samples = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([^\s{]+)(?:\{(.*)\})?\s+(\S+)", line)
        assert match, f"not a sample: {line!r}"
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        samples.setdefault(match[1], []).append((labels, float(match[3])))
    return samples


PrefixCounters = collections.namedtuple("PrefixCounters", "queries hits")


class Daemon:
    """A running kvserve. `with Daemon("--flag", ...) as daemon:` starts it, waits until it is
    ready, and checks on leaving that SIGTERM ends it cleanly."""

    def __init__(
        self, *args, log_dir, env=None, tls=False, api_key="EMPTY", port=None, verify=True
    ):
        self.port = free_port() if port is None else port
        self.args = ["--host", "127.0.0.1", "--port", str(self.port), *EXTRA_ARGS, *map(str, args)]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.api_key = api_key
        self.env = env or {}
        self.verify = verify
        log_dir = pathlib.Path(log_dir)
        log_dir.mkdir(parents=True, exist_ok=True)
        self.log_path = log_dir / f"kvserve-{self.port}.log"
        self.process = None

    def __enter__(self):
        self.launch()
        try:
            self.wait_until_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def __exit__(self, error_type, error, traceback):
        if error_type is None:
            self.stop()
        else:
            self.process.kill()
            self.process.wait()
            print(f"--- last lines of {self.log_path}")
            print("\n".join(self.log().splitlines()[-30:]))

    def launch(self):
        assert BINARY.exists(), f"{BINARY} is not built; KVSERVE_BIN may name another"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [str(BINARY), *self.args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(**self.env),
            )

    def wait_until_ready(self):
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.process.poll() is None, (
                f"kvserve ended with {self.process.returncode}:\n{self.log()}"
            )
            try:
                if (
                    httpx.get(f"{self.url}/health", timeout=5, verify=self.verify).status_code
                    == 200
                ):
                    return
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"not ready in {START_TIMEOUT_S} s:\n{self.log()}"
            time.sleep(0.02)

    def stop(self, code=0):
        """SIGTERM; checks the exit code and the log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.wait(code)

    def wait(self, code=0, timeout=STOP_TIMEOUT_S):
        assert self.process.wait(timeout) == code, self.log()[-4000:]
        found = FORBIDDEN_IN_LOG.search(self.log())
        assert not found, self.log()[max(0, found.start() - 500) :][:4000]

    def log(self):
        return self.log_path.read_text(errors="replace")

    def log_objects(self):
        return [json.loads(line) for line in self.log().splitlines()]

    # --- talking to it

    def headers(self):
        return {"Authorization": f"Bearer {self.api_key}"}

    def http(self, **options):
        options.setdefault("timeout", TIMEOUT_S)
        options.setdefault("headers", self.headers())
        options.setdefault("limits", LIMITS)
        return httpx.Client(base_url=self.url, trust_env=False, verify=self.verify, **options)

    def get(self, path, **options):
        with self.http() as client:
            return client.get(path, **options)

    def post(self, path, body=None, **options):
        with self.http() as client:
            return client.post(path, json=body, **options)

    def openai(self, **options):
        options.setdefault("api_key", self.api_key)
        options.setdefault("max_retries", 0)
        http = httpx.Client(trust_env=False, verify=self.verify, timeout=TIMEOUT_S, limits=LIMITS)
        return openai.OpenAI(base_url=f"{self.url}/v1", http_client=http, **options)

    def complete(self, prompt, **fields):
        """One completion as JSON; asserts that it is one."""
        fields.setdefault("temperature", 0)
        response = self.post("/v1/completions", {"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        return response.json()

    def text(self, prompt, **fields):
        return self.complete(prompt, **fields)["choices"][0]["text"]

    # --- its state

    def metrics(self):
        response = self.get("/metrics")
        assert response.status_code == 200, response.text
        return parse_metrics(response.text)

    def metric(self, name, **labels):
        """Sum of a metric over its label sets that have `labels`; missing is an error."""
        values = [
            value
            for found, value in self.metrics()[name]
            if all(found.get(k) == v for k, v in labels.items())
        ]
        assert values, f"{name} has no sample with {labels}"
        return sum(values)

    def metrics_of_prefix_cache(self):
        metrics = self.metrics()
        return PrefixCounters(
            *(
                sum(v for _, v in metrics[f"vllm:prefix_cache_{name}_total"])
                for name in PrefixCounters._fields
            )
        )

    def assert_idle(self, within_s=10):
        """No request and no held block, soon."""
        names = [
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "kvserve_kv_held_blocks",
            "kvserve_kv_blocks_leaked",
        ]
        deadline = time.monotonic() + within_s
        while True:
            seen = {name: self.metric(name) for name in names}
            if not any(seen.values()):
                break
            assert time.monotonic() < deadline, f"not idle after {within_s} s: {seen}"
            time.sleep(0.05)

    def rss_bytes(self):
        return self._status_kib("VmRSS") * 1024

    def num_fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _status_kib(self, field):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+) kB", status)[1])
