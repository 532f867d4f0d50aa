#!/usr/bin/env python3
"""Mixed load for minutes or hours: does the daemon leak memory, blocks or descriptors?

    python tests/e2e/soak.py --minutes 30

Clients send prompts of all kinds, streamed and not; one request in ten is left in the middle and
one in twenty is malformed. Prints a line every ten seconds and a report at the end; the exit code
is 1 when a limit was passed:

    idle RSS            <= mapped weights + pool + 64 MiB, before any request
    RSS slope           < 1 MiB an hour after warm-up, in runs of 20 minutes and more
    descriptors         as many as before the load
    leaked blocks       none: usage is zero and the prefix cache can be reset
    failures            none among well-formed requests
"""

import argparse
import collections
import itertools
import json
import random
import sys
import tempfile
import threading
import time

import httpx

import workload
from daemon import LIMITS, MODEL_DIR, TIMEOUT_S, Daemon

MIB = 1 << 20
IDLE_MARGIN_BYTES = 64 * MIB
SLOPE_MAX_MIB_PER_HOUR = 1.0
SLOPE_MINUTES = 20  # a slope over less says nothing
WARM_UP_SHARE = 0.25
SAMPLE_S = 1.0
REPORT_S = 10.0

MALFORMED = [
    b"{",
    b'{"prompt": 7}',
    b'{"prompt": "a", "max_tokens": -1}',
    b'{"prompt": "a", "temperature": 9}',
    b'{"prompt": [99999999]}',
    b'{"prompt": "a", "model": "gpt-4"}',
    b"\xff\xfe",
]


class Load:
    """The clients and what came of their requests."""

    def __init__(self, url, clients, seed):
        self.url = url
        self.stop = threading.Event()
        self.counts = collections.Counter()
        self.failures = []
        self.lock = threading.Lock()
        self.prefixes = [workload.words(random.Random(seed + i), 20 * (i + 1)) for i in range(5)]
        self.threads = [
            threading.Thread(target=self.run, args=(random.Random(seed * 1000 + i),))
            for i in range(clients)
        ]
        for thread in self.threads:
            thread.start()

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def run(self, rng):
        with httpx.Client(
            base_url=self.url, timeout=TIMEOUT_S, trust_env=False, limits=LIMITS
        ) as client:
            while not self.stop.is_set():
                draw = rng.random()
                kind = "malformed" if draw < 0.05 else "aborted" if draw < 0.15 else "complete"
                try:
                    getattr(self, kind)(client, rng)
                except Exception as error:
                    self.note("failed", f"{kind}: {error!r}")
                else:
                    self.note(kind)

    def note(self, kind, failure=None):
        with self.lock:
            self.counts[kind] += 1
            if failure:
                self.failures.append(failure)

    def body(self, rng):
        prompt = rng.choice(
            [
                workload.story(rng),
                rng.choice(workload.FACTS),
                workload.words(rng, rng.randint(1, 250)),
                rng.choice(self.prefixes) + workload.words(rng, rng.randint(1, 40)),
            ]
        )
        body = {"prompt": prompt, "max_tokens": rng.randint(1, 64), "stream": rng.random() < 0.5}
        if rng.random() < 0.5:
            body.update(temperature=rng.uniform(0, 1.5), top_p=0.9, seed=rng.randrange(1 << 30))
        if rng.random() < 0.1:
            body.update(n=2, logprobs=3)
        if rng.random() < 0.1:
            body.update(stop=[" the", "."])
        if rng.random() < 0.1:
            body.update(cache_salt=f"tenant {rng.randrange(10)}")
        return body

    def complete(self, client, rng):
        response = client.post("/v1/completions", json=self.body(rng))
        assert response.status_code == 200, response.text
        if response.headers["content-type"].startswith("text/event-stream"):
            assert response.text.endswith("data: [DONE]\n\n"), response.text[-200:]
            assert '"error"' not in response.text
        else:
            assert response.json()["choices"][0]["finish_reason"] in ("stop", "length")

    def aborted(self, client, rng):
        body = {**self.body(rng), "max_tokens": 2000, "ignore_eos": True, "stream": True}
        if rng.random() < 0.5:
            with client.stream("POST", "/v1/completions", json=body) as response:
                for _ in itertools.islice(response.iter_lines(), rng.randint(0, 20)):
                    pass
            return
        try:
            client.post(
                "/v1/completions", json={**body, "stream": False}, timeout=rng.uniform(0.01, 0.5)
            )
        except httpx.TimeoutException:
            pass

    def malformed(self, client, rng):
        response = client.post("/v1/completions", content=rng.choice(MALFORMED))
        assert 400 <= response.status_code < 500, response.status_code
        assert response.json()["error"]["message"]


def slope_mib_per_hour(samples):
    """Least squares over (seconds, bytes)."""
    n = len(samples)
    mean_t = sum(t for t, _ in samples) / n
    mean_b = sum(b for _, b in samples) / n
    spread = sum((t - mean_t) ** 2 for t, _ in samples)
    together = sum((t - mean_t) * (b - mean_b) for t, b in samples)
    return together / spread * 3600 / MIB if spread else 0.0


def watch(daemon, load, minutes):
    """[(seconds, RSS)] until the time is over."""
    samples, began, reported = [], time.monotonic(), 0.0
    while (now := time.monotonic() - began) < minutes * 60:
        assert daemon.process.poll() is None, daemon.log()[-4000:]
        samples.append((now, daemon.rss_bytes()))
        if now - reported >= REPORT_S:
            reported = now
            counts = " ".join(f"{k}={v}" for k, v in sorted(load.counts.items()))
            print(f"{now:7.0f} s  RSS {samples[-1][1] / MIB:8.1f} MiB  {counts}", flush=True)
        time.sleep(SAMPLE_S)
    return samples


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("flags", nargs="*", help="flags of kvserve, after --")
    options = parser.parse_args()
    flags = options.flags or [
        "--kv-cache-dtype", "fp8", "--enable-prefix-caching", "--kv-cache-tokens", "8192",
        "--log-level", "warning",
    ]  # fmt: skip
    problems = []
    with Daemon(*flags, log_dir=tempfile.mkdtemp(prefix="kvserve-soak-")) as daemon:
        weights = sum(f.stat().st_size for f in MODEL_DIR.glob("*.safetensors"))
        pool = daemon.metric("kvserve_kv_pool_bytes")
        idle_rss, idle_fds = daemon.rss_bytes(), daemon.num_fds()
        limit = weights + pool + IDLE_MARGIN_BYTES
        print(f"idle RSS {idle_rss / MIB:.1f} MiB, limit {limit / MIB:.1f} MiB "
              f"(weights {weights / MIB:.1f}, pool {pool / MIB:.1f}, 64 more)")  # fmt: skip
        if idle_rss > limit:
            problems.append("idle RSS is over its limit")

        load = Load(daemon.url, options.clients, options.seed)
        try:
            samples = watch(daemon, load, options.minutes)
        finally:
            load.finish()
        daemon.assert_idle()
        if daemon.post("/reset_prefix_cache").status_code != 200:
            problems.append("blocks are still held after the load")
        time.sleep(5)  # idle connections are closed meanwhile
        fds = daemon.num_fds()

        warm = [s for s in samples if s[0] >= WARM_UP_SHARE * options.minutes * 60]
        slope = slope_mib_per_hour(warm)
        print(json.dumps({"requests": dict(load.counts), "rss_idle_mib": idle_rss / MIB,
                          "rss_end_mib": samples[-1][1] / MIB, "slope_mib_per_hour": slope,
                          "fds_idle": idle_fds, "fds_end": fds}, indent=2))  # fmt: skip
        if options.minutes >= SLOPE_MINUTES and slope >= SLOPE_MAX_MIB_PER_HOUR:
            problems.append(f"RSS grows by {slope:.2f} MiB an hour")
        if fds > idle_fds:
            problems.append(f"{fds - idle_fds} descriptors are left over")
        if load.failures:
            problems.append(f"{len(load.failures)} requests failed, first: {load.failures[0]}")
        for kind in ("complete", "aborted", "malformed"):
            if not load.counts[kind]:
                problems.append(f"no {kind} request was made")
    for problem in problems:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
