"""kvserve doctor: what it finds in a whole machine, in servers that are made to fail, and what the
daemon's start does with it."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

import daemon as daemon_module
from daemon import BINARY, MODEL_DIR, environment, run_kvserve

PAIR = ["--kv-cache-dtype", "fp8", "--enable-prefix-caching"]
RDNA3 = ["--simulate-architecture", "gfx1100"]
TIMEOUT_S = 900 if daemon_module.SLOW else 300


class Machine:
    """State and temporary files of their own."""

    def __init__(self, path):
        self.state = path / "state"
        self.tmp = path / "tmp"
        self.tmp.mkdir(parents=True)
        self.env = {"XDG_STATE_HOME": str(self.state), "TMPDIR": str(self.tmp)}

    def doctor(self, *args):
        """(exit code, report)"""
        done = run_kvserve(
            "doctor", "--device", "cpu", "--port", "0", "--json", *args,
            timeout=TIMEOUT_S, **self.env,
        )
        assert not self.processes(), "the doctor left a process behind"
        return done.returncode, json.loads(done.stdout)

    def processes(self):
        """Processes that carry this machine's TMPDIR."""
        mark = f"TMPDIR={self.tmp}\0".encode()
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # gone, or another user's
                continue
        return found

    def records(self):
        return sorted(self.state.rglob("isolation_*.json"))


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def outcomes(report):
    return {check["name"]: check["outcome"] for check in report["checks"]}


def failures(report):
    return {
        cell["cell"]: cell["failure"]
        for cell in report["matrix"]["cells"]
        if cell["outcome"] == "FAIL"
    }


def test_a_sound_machine_passes(machine):
    code, report = machine.doctor()
    assert code == 0
    assert report["outcome"] == "WARN"  # the bundled model has no KV scales
    assert outcomes(report) == {
        "model files": "OK",
        "tokenizer": "OK",
        "chat template": "OK",
        "KV scales": "WARN",
        "device": "OK",
        "driver": "OK",
        "FP8 fp8_e4m3": "OK",
        "FP8 fp8_e5m2": "OK",
        "memory": "OK",
        "port": "OK",
        "reference": "OK",
        "cell 1": "OK",
        "cell 2": "OK",
        "cell 3": "OK",
        "cell 4": "OK",
        "matrix": "OK",
        "record": "OK",
    }
    assert report["device"]["kind"] == "cpu"
    matrix = report["matrix"]
    assert matrix["reading"] == "pass" and matrix["fix"] is None
    assert matrix["rules"]["with_and_without_prefix_caching"] == "bit for bit"
    assert [c["enable_prefix_caching"] for c in matrix["cells"]] == [False, False, True, True]
    assert [c["kv_cache_dtype"] for c in matrix["cells"]] == [
        "bfloat16", "fp8_e4m3", "bfloat16", "fp8_e4m3",
    ]
    assert all(c["requests_answered"] == 12 for c in [matrix["reference"], *matrix["cells"]])
    # Against other code, FP8 against 16 bits, and twice the same numbers whatever the cache holds.
    far, fp8, *same = [c["distance"] for c in matrix["cells"]]
    assert 0 < far["mean_nats"] < 0.1 and 0 < fp8["mean_nats"] < 0.4
    assert same == [{"mean_nats": 0, "gap_nats": 0}] * 2
    record = json.loads(pathlib.Path(report["record"]).read_text())
    assert record["passed"] is True
    assert record["architecture"] == report["device"]["architecture"]
    assert not list(machine.tmp.iterdir()), "logs of a passed run were left"


@pytest.mark.parametrize(
    "faults, reading, failed, said",
    [
        (["4:crash"], "interaction bug", {4: "crash"}, "killed by SIGSEGV"),
        (["4:crash-on-hit"], "interaction bug", {4: "crash"}, "during 'text 1, repeated'"),
        (["4:wrong-text"], "interaction bug", {4: "wrong text"}, "differs from that of the reference"),
        (["4:no-hit"], "interaction bug", {4: "missing hit"}, "found 0 cached tokens"),
        (["2:crash"], "FP8 alone", {2: "crash"}, "killed by SIGSEGV"),
        (["2:crash", "4:crash"], "FP8 alone", {2: "crash", 4: "crash"}, "SIGSEGV"),
        (["3:hang"], "prefix alone", {3: "hang"}, "did nothing for 20 s during 'text 1, cold'"),
        (["2:wrong-text", "3:crash-on-hit"], "each alone", {2: "wrong text", 3: "crash"}, "SIGSEGV"),
        (["1:wrong-text"], "unsteady", {1: "wrong text"}, "differs from that of the reference"),
        (
            ["1:wrong-text", "2:wrong-text", "3:wrong-text", "4:wrong-text"],
            "everything",
            dict.fromkeys([1, 2, 3, 4], "wrong text"),
            "differs from that of the reference",
        ),
        (
            ["1:crash", "2:crash", "3:crash", "4:crash"],
            "everything",
            dict.fromkeys([1, 2, 3, 4], "crash"),
            "SIGSEGV",
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_a_fault_is_named_rightly(machine, faults, reading, failed, said):
    timeout = ["--timeout", "20"] if "3:hang" in faults else []
    code, report = machine.doctor("--inject-fault", *faults, *timeout)
    assert code == 1
    assert report["outcome"] == "FAIL"
    matrix = report["matrix"]
    assert matrix["reading"] == reading
    assert matrix["fix"]
    assert failures(report) == failed
    broken = matrix["cells"][max(failed) - 1]
    assert said in broken["what"]
    # The log is kept, and shows that the fault was made.
    assert "--inject-fault" in pathlib.Path(broken["log"]).read_text()
    assert outcomes(report)[f"cell {max(failed)}"] == "FAIL"
    # A fault of a test's says nothing about this machine.
    assert report["record"] is None and not machine.records()


def test_every_line_of_the_text_has_an_outcome(machine):
    done = run_kvserve(
        "doctor", "--device", "cpu", "--port", "0", "--inject-fault", "4:crash",
        timeout=TIMEOUT_S, **machine.env,
    )
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for line in lines[:-1]:
        match = re.fullmatch(r"(OK|WARN|FAIL) +(\S.*)", line)
        assert match, line
        assert (" -> " in line) == (match[1] != "OK"), line
    assert lines[-1] == "FAIL"
    assert any(re.match(r"FAIL +cell 4 +both: crash: .*SIGSEGV", line) for line in lines)
    assert any(re.match(r"FAIL +matrix +interaction bug: ", line) for line in lines)


def test_without_the_matrix_nothing_is_recorded(machine):
    code, report = machine.doctor("--no-matrix")
    assert code == 0
    assert report["matrix"] is None and report["record"] is None
    assert not machine.records()


def test_a_model_that_is_damaged_is_one_line_and_no_matrix(machine, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    for file in MODEL_DIR.iterdir():
        if file.is_file() and file.name != "tokenizer.json":
            (model / file.name).write_bytes(file.read_bytes())
    code, report = machine.doctor("--model", model)
    assert code == 1
    found = outcomes(report)
    assert found["tokenizer"] == "FAIL" and found["matrix"] == "FAIL"
    assert found["device"] == "OK" and found["FP8 fp8_e4m3"] == "OK"
    assert report["matrix"] is None


def test_a_device_that_is_not_there_is_named_with_the_fix(machine):
    done = run_kvserve(
        "doctor", "--device", "hip", "--json", "--device-index", "63",
        timeout=TIMEOUT_S, **machine.env,
    )
    assert done.returncode == 1
    report = json.loads(done.stdout)
    (check,) = [c for c in report["checks"] if c["name"] == "device"]
    assert check["outcome"] == "FAIL"
    assert "--device hip" in check["finding"] and "--device cpu" in check["fix"]
    assert report["device"] is None and report["matrix"] is None


def start_hanging_doctor(machine):
    """A doctor whose first server hangs, once that server is there."""
    process = subprocess.Popen(
        [str(BINARY), "doctor", "--device", "cpu", "--port", "0", "--inject-fault", "1:hang"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(**machine.env),
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not any(b"ready: " in log.read_bytes() for log in machine.tmp.rglob("cell1.log")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    assert len(machine.processes()) == 2
    return process


def wait_until_alone(machine):
    deadline = time.monotonic() + 30
    while machine.processes():
        assert time.monotonic() < deadline, "a child outlived the doctor"
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_doctor_cleans_up(machine, sent):
    process = start_hanging_doctor(machine)
    process.send_signal(sent)
    assert process.wait(TIMEOUT_S) == 128 + sent
    wait_until_alone(machine)
    assert not list(machine.tmp.iterdir())


def test_a_killed_doctor_takes_its_servers_along(machine):
    process = start_hanging_doctor(machine)
    process.kill()
    process.wait(TIMEOUT_S)
    wait_until_alone(machine)


def refusal(machine, *args):
    """The message with which the daemon does not start."""
    done = run_kvserve("--device", "cpu", "--port", "0", *args, timeout=TIMEOUT_S, **machine.env)
    assert done.returncode == 69, done.stderr
    return json.loads(done.stderr.splitlines()[-1])["message"]


def test_the_pair_on_rdna3_is_refused_until_the_doctor_has_passed(machine, start):
    said = refusal(machine, *RDNA3, *PAIR)
    assert "simulated gfx1100" in said and "--skip-isolation-check" in said
    assert "`kvserve doctor --device cpu`" in said
    # Either flag alone is no question.
    for alone in (PAIR[:2], PAIR[2:]):
        with start("--device", "cpu", *RDNA3, *alone, env=machine.env):
            pass

    # A doctor that finds the fault of this pair keeps it shut.
    code, report = machine.doctor(*RDNA3, "--inject-fault", "4:crash-on-hit")
    assert code == 1 and report["matrix"]["reading"] == "interaction bug"
    assert len(machine.records()) == 1
    assert "it failed here on" in refusal(machine, *RDNA3, *PAIR)

    # One that passes opens it, for this device and type alone.
    code, report = machine.doctor(*RDNA3)
    assert code == 0 and report["matrix"]["reading"] == "pass"
    assert pathlib.Path(report["record"]) in machine.records()
    with start("--device", "cpu", *RDNA3, *PAIR, env=machine.env) as daemon:
        assert daemon.text("The capital of Italy is", max_tokens=4)
    refusal(machine, "--simulate-architecture", "gfx1101", *PAIR)
    refusal(machine, *RDNA3, "--kv-cache-dtype", "fp8_e5m2", "--enable-prefix-caching")


def test_the_check_can_be_skipped_and_the_log_says_so(machine, start):
    with start(
        "--device", "cpu", *RDNA3, *PAIR, "--skip-isolation-check", env=machine.env
    ) as daemon:
        warnings = [e["message"] for e in daemon.log_objects() if e["level"] == "warning"]
        assert any("--skip-isolation-check" in message for message in warnings)


def test_a_device_that_is_not_affected_is_not_asked(machine, start):
    with start("--device", "cpu", *PAIR, env={**machine.env, "XDG_STATE_HOME": "/nowhere"}):
        pass
    assert not os.path.exists("/nowhere")
