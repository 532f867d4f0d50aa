"""Keys, TLS, and clients that leave."""

import json
import random
import socket
import ssl
import subprocess
import time

import openai
import pytest

import daemon as daemon_module
import workload

KEYS = ["first-key", "second-key"]
GUARDED = [
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/default", None),
    ("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}),
    ("POST", "/tokenize", {"prompt": "a"}),
    ("POST", "/detokenize", {"tokens": [1]}),
    ("POST", "/reset_prefix_cache", None),
    ("GET", "/metrics", None),
    ("GET", "/version", None),
    ("GET", "/server_info", None),
]
OPEN = ["/health", "/livez", "/readyz"]


def request(daemon, method, path, body, headers):
    with daemon.http(headers=headers) as client:
        return client.request(method, path, json=body)


def test_a_key_guards_every_route_but_health(start, tmp_path):
    key_file = tmp_path / "keys"
    key_file.write_text(f"# team keys\n{KEYS[1]}\n")
    with start("--api-key", KEYS[0], "--api-key-file", key_file, api_key=KEYS[0]) as daemon:
        for path in OPEN:
            assert request(daemon, "GET", path, None, {}).status_code == 200, path
        for method, path, body in GUARDED:
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": "Bearer"},
                {"Authorization": f"Basic {KEYS[0]}"},
                {"Authorization": f"Bearer {KEYS[0]}x"},
            ):
                response = request(daemon, method, path, body, headers)
                assert response.status_code == 401, (path, headers)
                assert response.json()["error"]["message"]
            for key in KEYS:
                response = request(daemon, method, path, body, {"Authorization": f"Bearer {key}"})
                assert response.status_code == 200, (path, response.text)
        assert request(daemon, "GET", "/nowhere", None, {}).status_code == 401
        with pytest.raises(openai.AuthenticationError):
            daemon.openai(api_key="wrong").models.list()
        log = daemon.log()
        assert not any(key in log for key in KEYS)


def test_keys_do_not_share_blocks(start):
    flags = ["--enable-prefix-caching", "--api-key", KEYS[0], "--api-key", KEYS[1]]
    with start(*flags, api_key=KEYS[0]) as daemon:
        prompt = workload.words(random.Random(5), 150)

        def cached(key):
            answer = daemon.openai(api_key=key).completions.create(
                model="default", prompt=prompt, max_tokens=1
            )
            return answer.usage.prompt_tokens_details.cached_tokens

        assert [cached(KEYS[0]), cached(KEYS[1])] == [0, 0]
        assert cached(KEYS[0]) > 100 and cached(KEYS[1]) > 100


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_end_to_end(start, certificate):
    cert, key = certificate
    trusted = ssl.create_default_context(cafile=str(cert))
    flags = ["--enable-prefix-caching", "--ssl-certfile", cert, "--ssl-keyfile", key]
    with start(*flags, tls=True, verify=trusted) as daemon:
        client = daemon.openai()
        whole = client.completions.create(
            model="default", prompt="Once upon a time", max_tokens=16, temperature=0
        )
        events = client.completions.create(
            model="default", prompt="Once upon a time", max_tokens=16, temperature=0, stream=True
        )
        assert "".join(e.choices[0].text for e in events) == whole.choices[0].text

        check = daemon_module.run_kvserve("check-cache", daemon.url, SSL_CERT_FILE=str(cert))
        assert check.returncode == 0, check.stdout + check.stderr
        untrusted = daemon_module.run_kvserve("check-cache", daemon.url)
        assert untrusted.returncode == 69
        assert "SSL_CERT_FILE" in untrusted.stderr

        # A client that speaks no TLS, or leaves in the handshake, disturbs nobody.
        for garbage in (b"GET /health HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b""):
            with socket.create_connection(("127.0.0.1", daemon.port)) as plain:
                plain.sendall(garbage)
        leaves_during(daemon, stream=True, context=trusted)
        assert daemon.get("/health").status_code == 200


# --- clients that leave


def leaves_during(daemon, stream, context=None):
    """Starts a request of several seconds, leaves in the middle, and sees it cancelled."""
    aborted = daemon.metric("vllm:request_success_total", finished_reason="abort")
    body = json.dumps(
        {"prompt": "Once upon a time", "max_tokens": 8000, "ignore_eos": True, "stream": stream}
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    connection = socket.create_connection(("127.0.0.1", daemon.port))
    if context:
        connection = context.wrap_socket(connection, server_hostname="127.0.0.1")
    connection.sendall(head + body)
    if stream:
        assert connection.recv(1)
    deadline = time.monotonic() + 5
    while daemon.metric("vllm:num_requests_running") == 0:
        assert time.monotonic() < deadline, "the request never ran"
        time.sleep(0.01)
    connection.close()
    daemon.assert_idle(within_s=2)
    assert daemon.metric("vllm:request_success_total", finished_reason="abort") == aborted + 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_has_its_request_cancelled(start, stream):
    with start("--enable-prefix-caching") as daemon:
        leaves_during(daemon, stream)
        assert daemon.metric("vllm:generation_tokens_total") < 8000
        assert daemon.text("The capital of Italy is", max_tokens=8)


def test_a_queue_that_is_full_answers_503(start):
    with start("--max-num-seqs", "1", "--max-num-queued-reqs", "1") as daemon:
        busy = []
        for _ in range(8):
            stream = socket.create_connection(("127.0.0.1", daemon.port))
            body = b'{"prompt":"Once","max_tokens":8000,"ignore_eos":true,"stream":true}'
            stream.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body
            )
            busy.append(stream)
            time.sleep(0.05)
        response = daemon.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
        assert response.status_code == 503, response.text
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["message"]
        assert daemon.get("/health").status_code == 200
        for stream in busy:
            stream.close()
        daemon.assert_idle()
        assert daemon.text("The capital of Italy is", max_tokens=8)
