"""Models from the Hugging Face Hub: a stub speaks its protocol, huggingface_hub shares the cache."""

import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import threading

import pytest

from daemon import BINARY, MODEL_DIR, environment, run_kvserve
from hub_stub import COMMIT, StubHub, StubProxy

REPO = "org/tiny"
NAMES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
         "model.safetensors.index.json", "model-00001-of-00002.safetensors",
         "model-00002-of-00002.safetensors"]
# What must never be fetched.
OTHERS = {"pytorch_model.bin": b"a pickle", "original/params.json": b"{}", "README.md": b"#",
          "../escape.json": b"{}", "consolidated.safetensors": b"the same again"}


@pytest.fixture(scope="module")
def files():
    return {name: (MODEL_DIR / name).read_bytes() for name in NAMES} | OTHERS


@pytest.fixture
def hub(files):
    with StubHub(files) as stub:
        yield stub


def variables(hub, home, **changes):
    return {"HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", **changes}


def snapshot(home):
    return home / "hub/models--org--tiny/snapshots" / COMMIT


def assert_cache_is_whole(home, files):
    for name in NAMES:
        assert (snapshot(home) / name).read_bytes() == files[name], name
    assert sorted(os.listdir(snapshot(home))) == sorted(NAMES)
    blobs = os.listdir(home / "hub/models--org--tiny/blobs")
    assert not [name for name in blobs if len(name) not in (40, 64)], "nothing unfinished is left"


def in_python(home, hub, code, **changes):
    """Runs `code` with huggingface_hub in a process of its own: it reads its variables at import."""
    done = subprocess.run(
        [sys.executable, "-c", f"import huggingface_hub as hf\n{code}"],
        env=environment(**variables(hub, home, HF_HUB_DISABLE_XET="1", **changes)),
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_serves_a_model_of_the_hub(start, hub, files, tmp_path):
    hub.cuts = 3
    with start(REPO, env=variables(hub, tmp_path)) as daemon:
        text = daemon.text("The capital of Italy is", max_tokens=8)
        assert [model["id"] for model in daemon.get("/v1/models").json()["data"]] == [REPO]
    assert_cache_is_whole(tmp_path, files)
    assert hub.ranges, "cut connections were gone on with"
    asked = {pathlib.PurePosixPath(path.split("?")[0]).name for _, path in hub.seen}
    assert not asked & {pathlib.PurePosixPath(name).name for name in OTHERS}
    with start("--revision", COMMIT, "--served-model-name", "one", "two", "--model", REPO,
               env=variables(hub, tmp_path, HF_HUB_OFFLINE="1")) as daemon:
        assert [model["id"] for model in daemon.get("/v1/models").json()["data"]] == ["one", "two"]
        for name in ("one", "two"):
            again = daemon.complete("The capital of Italy is", model=name, max_tokens=8)
            assert again["choices"][0]["text"] == text
            assert again["model"] == "one"
    with start("--enable-prefix-caching") as daemon:  # the bundled model, whose files these are
        assert daemon.text("The capital of Italy is", max_tokens=8) == text


def test_python_reads_what_kvserve_fetched(start, hub, files, tmp_path):
    with start(REPO, env=variables(hub, tmp_path)):
        pass
    for code in (f"print(hf.hf_hub_download('{REPO}', 'model-00001-of-00002.safetensors'))",
                 f"print(hf.snapshot_download('{REPO}') + '/model-00001-of-00002.safetensors')"):
        path = in_python(tmp_path, hub, code, HF_HUB_OFFLINE="1")
        assert pathlib.Path(path).parent == snapshot(tmp_path)
        assert pathlib.Path(path).read_bytes() == files["model-00001-of-00002.safetensors"]
    before = len(hub.seen)
    in_python(tmp_path, hub, f"hf.hf_hub_download('{REPO}', 'tokenizer.json')")
    fetched = [path for method, path in hub.seen[before:] if method == "GET" and "/resolve/" in path]
    assert not fetched, "it found the content here"


def test_kvserve_reads_what_python_fetched(start, hub, files, tmp_path):
    patterns = "['*.safetensors', '*.json']"
    in_python(tmp_path, hub,
              f"hf.snapshot_download('{REPO}', allow_patterns={patterns}, "
              "ignore_patterns=['original/*', 'consolidated*', '*escape*'])")
    before = len(hub.seen)
    with start(REPO, env=variables(hub, tmp_path)) as daemon:
        daemon.text("Once", max_tokens=1)
    assert len(hub.seen) == before
    assert_cache_is_whole(tmp_path, files)


def test_two_downloads_at_once(hub, files, tmp_path):
    """`plan` fetches no weights, so both fetch the same small files."""
    done = []
    threads = [threading.Thread(target=lambda: done.append(
        run_kvserve("plan", REPO, **variables(hub, tmp_path)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.returncode for each in done] == [0] * 4, done[0].stderr
    assert (snapshot(tmp_path) / "tokenizer.json").read_bytes() == files["tokenizer.json"]
    assert not (snapshot(tmp_path) / "model-00001-of-00002.safetensors").exists()
    fetched = [path for method, path in hub.seen if method == "GET" and "/resolve/" in path]
    assert len(fetched) == len(set(fetched)), "each was fetched once"


@pytest.fixture
def certificate(tmp_path):
    made = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-out", made[0], "-keyout", made[1]],
                   check=True, capture_output=True)
    return made


def test_a_proxy_between(hub, files, tmp_path, certificate):
    with StubProxy() as proxy:
        done = run_kvserve("plan", REPO, **variables(hub, tmp_path / "plain", HTTP_PROXY=proxy.url))
        assert done.returncode == 0, done.stderr
        assert proxy.seen and all(path.startswith("http://127.0.0.1:") for _, path in proxy.seen)
        seen = len(proxy.seen)
        done = run_kvserve("plan", REPO, **variables(
            hub, tmp_path / "direct", http_proxy=proxy.url, NO_PROXY="localhost,127.0.0.0/8"))
        assert done.returncode == 0, done.stderr
        assert len(proxy.seen) == seen
        with StubHub(files, token="hf_secret", certificate=certificate) as secure:
            settings = variables(secure, tmp_path / "tls", SSL_CERT_FILE=str(certificate[0]),
                                 HF_TOKEN="hf_secret", ALL_PROXY=proxy.url)
            done = run_kvserve("plan", REPO, **settings)
            assert done.returncode == 0, done.stderr
            assert {method for method, _ in proxy.seen[seen:]} == {"CONNECT"}
            wrong = settings | {"ALL_PROXY": proxy.url.replace("word", "other")}
            done = run_kvserve("plan", REPO, "--revision", COMMIT, **wrong | {"HF_HOME": str(tmp_path)})
            assert done.returncode == 69
            assert "the proxy http://127.0.0.1" in done.stderr and "407" in done.stderr
            assert "other" not in done.stderr and "hf_secret" not in done.stderr


def test_a_bar_for_each_file_on_a_terminal(hub, tmp_path):
    """Redrawn in place while files come, and standing at 100% when they are there."""
    terminal, side = pty.openpty()
    process = subprocess.Popen([str(BINARY), "plan", REPO], stdout=subprocess.DEVNULL, stderr=side,
                               env=environment(**variables(hub, tmp_path)))
    os.close(side)
    text = b""
    try:
        while piece := os.read(terminal, 1 << 16):
            text += piece
    except OSError:  # the other side was closed
        pass
    os.close(terminal)
    assert process.wait(60) == 0, text
    for name in ("config.json", "tokenizer.json", REPO):
        assert re.search(rf"\x1b\[K{re.escape(name)} +\[#{{32}}\] 100% of ", text.decode()), text


def test_tls_and_token(files, tmp_path, certificate):
    with StubHub(files, token="hf_secret", certificate=certificate) as secure:
        settings = variables(secure, tmp_path, SSL_CERT_FILE=str(certificate[0]))
        refused = run_kvserve("plan", REPO, **settings)
        assert refused.returncode == 77
        assert "is gated" in refused.stderr and "HF_TOKEN" in refused.stderr
        (tmp_path / "token").write_text("hf_secret\n")
        accepted = run_kvserve("plan", REPO, **settings)
        assert accepted.returncode == 0, accepted.stderr
        untrusted = run_kvserve("plan", "org/other",
                                **{**settings, "SSL_CERT_FILE": "/etc/ssl/certs/none.pem"})
        assert untrusted.returncode == 69
        assert "does not verify" in untrusted.stderr
        assert "hf_secret" not in refused.stderr + accepted.stderr + untrusted.stderr


def assert_revision_counts(hub, home, *command):
    """`command` fetches the model at the revision that it names, and nothing at one that is none."""
    done = run_kvserve(*command, "--revision", "v9", **variables(hub, home))
    assert done.returncode == 66 and "no branch, tag or commit 'v9'" in done.stderr, done.stderr
    before = len(hub.seen)
    done = run_kvserve(*command, "--revision", COMMIT, **variables(hub, home))
    assert done.returncode == 0, done.stderr
    asked = [path for _, path in hub.seen[before:] if "/api/" in path or "/resolve/" in path]
    assert asked and all(COMMIT in path for path in asked), asked
    return done.stdout


def test_calibrate_at_a_revision(hub, files, tmp_path):
    command = ["calibrate", "--dataset", MODEL_DIR / "data/calibration.jsonl",
               "--num-samples", 1, "--max-seq-len", 64, "--output-dir"]
    assert_revision_counts(hub, tmp_path, *command, tmp_path / "hub-scales", "--model", REPO)
    assert_cache_is_whole(tmp_path, files)
    assert run_kvserve(*command, tmp_path / "scales", "--model", MODEL_DIR).returncode == 0
    for name in ["config.json", "model-kv-scales.safetensors", "model-00001-of-00002.safetensors"]:
        written = tmp_path / "hub-scales" / name
        assert not written.is_symlink(), "it outlives the cache"
        assert written.read_bytes() == (tmp_path / "scales" / name).read_bytes(), name


def test_eval_at_a_revision(hub, files, tmp_path):
    command = ["eval", "--text", MODEL_DIR / "data/eval_text.jsonl", "--num-samples", 1,
               "--max-seq-len", 64, "--json", "--model"]
    of_hub = json.loads(assert_revision_counts(hub, tmp_path, *command, REPO))
    assert_cache_is_whole(tmp_path, files)
    own = json.loads(run_kvserve(*command, MODEL_DIR).stdout)
    assert [each["text"] for each in of_hub["variants"]] == [each["text"] for each in own["variants"]]


@pytest.mark.parametrize("refuse, arguments, changes, code, fragment", [
    ((404, "RepoNotFound"), [], {}, 66, "no model 'org/tiny' on http://127.0.0.1"),
    ((401, "RepoNotFound"), [], {}, 77, "set HF_TOKEN to a token that may read it"),
    ((403, "GatedRepo"), [], {"HF_TOKEN": "hf_x"}, 77, "the token that is set has no access"),
    ((401, ""), [], {"HF_TOKEN": "hf_x"}, 77, "refused the token"),
    (None, ["--revision", "v9"], {}, 66, "no branch, tag or commit 'v9'"),
    (None, [], {"HF_HUB_OFFLINE": "1"}, 66, "HF_HUB_OFFLINE is set, and the cache"),
    (None, [], {"HF_ENDPOINT": "http://127.0.0.1:1"}, 69, "the Hub cannot be reached"),
    (None, [], {"HF_ENDPOINT": "nonsense"}, 78, "HF_ENDPOINT"),
    (None, [], {"HF_TOKEN": "two words"}, 78, "HF_TOKEN"),
])
def test_refusals(hub, tmp_path, refuse, arguments, changes, code, fragment):
    hub.refuse = refuse
    done = run_kvserve("plan", REPO, *arguments, **variables(hub, tmp_path, **changes))
    assert done.returncode == code, done.stderr
    assert fragment in done.stderr
    assert done.stderr.count("\n") == 1, "one sentence"
