"""Scales from calibration to serving: a model that FP8 breaks without them, and the matrix with them."""

import json
import shutil
import subprocess
import sys

import pytest

import workload
from daemon import MODEL_DIR, ROOT, run_kvserve

TEXT = MODEL_DIR / "data/eval_text.jsonl"
TIMEOUT_S = 600


def run(*arguments):
    done = run_kvserve(*arguments, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A model like the bundled one whose keys and values reach far beyond 448."""
    folder = tmp_path_factory.mktemp("models") / "hostile"
    script = ROOT / "tests/support/hostile_model.py"
    subprocess.run([sys.executable, script, MODEL_DIR, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def calibrated(hostile):
    """The hostile model with scales per tensor and per head."""
    folders = {}
    for strategy in ["tensor", "attn_head"]:
        folders[strategy] = hostile.parent / strategy
        run(
            *["calibrate", hostile, "--dataset", MODEL_DIR / "data/calibration.jsonl"],
            *["--num-samples", 24, "--strategy", strategy, "--output-dir", folders[strategy]],
        )
    return folders


def test_calibration_restores_what_scale_one_breaks(hostile, calibrated):
    asked = ["--text", TEXT, "--num-samples", 4, "--json"]
    sets = ["none", "random", calibrated["tensor"], calibrated["attn_head"]]
    reference, raw, *restored = json.loads(run("eval", hostile, *asked, "--scales", *sets))[
        "variants"
    ]
    own = json.loads(run("eval", *asked, "--kv-cache-dtype", "bfloat16"))["variants"][0]
    assert reference["text"] == own["text"], "the rewrite keeps the function, bit for bit"
    assert raw["num_clipped"] > 100_000
    assert raw["text"]["perplexity"] > 1.05 * reference["text"]["perplexity"]
    worst = max(layer["k"]["relative_error"] for layer in raw["layers"])
    assert worst > 0.3
    for variant in restored:
        change = variant["text"]["perplexity"] / reference["text"]["perplexity"] - 1
        assert abs(change) < 0.002, variant["name"]
        assert variant["text"]["kl_divergence"] < 1e-3, variant["name"]


@pytest.mark.parametrize("strategy", ["tensor", "attn_head"])
def test_prefix_hits_change_no_text_with_calibrated_scales(start, calibrated, strategy):
    prompts = workload.mixed_prompts(12, seed=7)
    texts = {}
    for flag in ["--enable-prefix-caching", "--no-enable-prefix-caching"]:
        with start(calibrated[strategy], flag) as daemon:  # auto: the checkpoint asks for FP8
            info = daemon.get("/server_info").json()
            assert info["kv_cache_dtype"] == "fp8_e4m3"
            assert info["kv_scales"] == "checkpoint"
            assert daemon.metric("kvserve_kv_scales_info", source="checkpoint") == 1
            for turn in range(2):
                answers = [daemon.complete(prompt, max_tokens=16) for prompt in prompts]
                texts[flag, turn] = [answer["choices"][0]["text"] for answer in answers]
            check = run_kvserve("check-cache", daemon.url)
            assert "KV cache fp8_e4m3, scales: checkpoint" in check.stdout
            assert (check.returncode == 0) == (flag == "--enable-prefix-caching"), check.stdout
    assert len(set(map(tuple, texts.values()))) == 1


def test_an_artifact_that_lost_a_scale_does_not_start(calibrated, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(calibrated["tensor"], broken)
    index = broken / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"]["model.layers.3.self_attn.v_scale"]
    index.write_text(json.dumps(content))
    done = run_kvserve(broken, "--port", 0)
    assert done.returncode == 65
    assert "layer 3: there is 'model.layers.3.self_attn.k_scale' but no scale for V" in done.stderr


def test_required_scales_that_are_not_there_do_not_start():
    done = run_kvserve("--kv-cache-dtype", "fp8", "--require-kv-scales", "--port", 0)
    assert done.returncode == 65
    assert "--require-kv-scales" in done.stderr
    assert "kvserve calibrate" in done.stderr
