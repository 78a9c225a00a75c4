"""``make gpu``: its order, budgets and results, with stand-ins for what needs a GPU."""

import json
import os
import select
import signal
import subprocess
import sys

import pytest
import torch

from benchmarks import few_shot, gpu, provenance, report
from benchmarks.gpu import GRACE, LIMIT, Step, run, run_one, steps, told
from benchmarks.speed import scaling
from tests.extras import posix

NAMES = ["tests", "W1", "W2", "W3", "W4", "W5", "W6"]


def test_the_steps_come_in_order_and_fit_into_the_limit(tmp_path):
    every = steps(tmp_path / "tests.xml")
    assert [step.name for step in every] == NAMES
    assert sum(step.seconds for step in every) + 15 <= LIMIT  # to start, and to write


def test_a_step_may_use_what_those_before_it_left(monkeypatch):
    now, given, rows = [100.0], [], []

    def takes(arguments, seconds):
        given.append(seconds)
        now[0] += float(arguments[0])
        return "done"

    monkeypatch.setattr(gpu, "run_one", takes)
    every = [Step("one", 10, ["4"]), Step("two", 10, ["19"], "two-cuda"), Step("three", 5, ["1"])]
    run(every, rows.append, lambda: now[0])
    assert given == [10 - GRACE, 16 - GRACE, 2 - GRACE]  # two overran: three may not make it up
    assert [row["seconds"] for row in rows] == [4, 19, 1]
    assert [row.get("result") for row in rows] == [None, "two-cuda", None]
    monkeypatch.setattr(gpu, "run_one", lambda *given: "stopped after 1 s")
    run(every[1:2], rows.append)
    assert "result" not in rows[-1]
    assert rows[-1]["outcome"] == "stopped after 1 s"


@posix
def test_a_step_ends_done_or_failed_or_stopped_or_is_not_begun(capfd):
    assert run_one(["-c", "print('worked')"], 60) == "done"
    failed = run_one(["-c", "raise SystemExit('error: MuJoCo is missing')"], 60)
    assert failed == "failed with status 1: error: MuJoCo is missing"
    assert run_one(["-c", "raise SystemExit(3)"], 60) == (
        "failed with status 3: it said nothing more"
    )
    assert run_one(["-c", "import time; time.sleep(60)"], 0.01) == "stopped after 0.0 s"
    assert run_one(["-c", "print('never')"], 0.0).startswith("not begun")
    out, error = capfd.readouterr()
    assert out == "worked\n"
    assert "MuJoCo is missing" in error


@posix
def test_a_process_that_ignores_interrupts_is_killed_with_those_it_started(monkeypatch):
    monkeypatch.setattr(gpu, "GRACE", 0.05)
    code = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    options = {"stdout": subprocess.PIPE, "bufsize": 0, "start_new_session": True}
    with subprocess.Popen(command, **options) as process:
        grandchild = int(process.stdout.readline())
        gpu.stop(process)
        assert process.returncode == -signal.SIGKILL
        # The grandchild holds the pipe open while it lives.
        ended, _, _ = select.select([process.stdout], [], [], 10)
        if not ended:
            os.kill(grandchild, signal.SIGKILL)
        assert ended


def test_the_report_of_the_tests_is_told(tmp_path):
    file = tmp_path / "test_few.py"
    file.write_text(
        "import pytest\n"
        "def test_measured(record_property): record_property('sinusoid, maml', 1.23456e-5)\n"
        "def test_wrong(): assert 1 == 2, 'off by one'\n"
        "@pytest.mark.skip\n"
        "def test_not_here(): pass\n"
    )
    path = tmp_path / "tests.xml"
    assert told(path) == {}
    options = "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", f"--junitxml={path}"
    assert pytest_of(file, *options) == 1
    found = told(path)
    assert found["tests"] == {"passed": 1, "skipped": 1, "failed": 1}
    assert found["errors"] == {"sinusoid, maml": 1.2e-5}
    assert "off by one" in found["failures"]["test_wrong"]


def pytest_of(file, *options):
    command = [sys.executable, "-m", "pytest", str(file), "-c", "/dev/null", *options]
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    place = {"cwd": file.parent, "env": alone}
    return subprocess.run(command, capture_output=True, check=False, **place).returncode


def test_without_a_gpu_it_ends_in_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"^gpu: expected a GPU .* NVIDIA GPU\.$") as ended:
        gpu.main()
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("status", [0, 1])
def test_the_result_is_written_after_every_step(monkeypatch, tmp_path, status):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a stand-in")
    monkeypatch.setattr(provenance, "RESULTS", tmp_path)
    monkeypatch.setattr(provenance, "_commit", lambda: "1a2b3c4")
    written = []

    def ends(arguments, seconds):
        path = tmp_path / "gpu.json"
        written.append(path.exists() and len(json.loads(path.read_text())["steps"]))
        return "done" if not status or len(written) < 7 else "stopped after 1 s"

    monkeypatch.setattr(gpu, "run_one", ends)
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == status
    assert written == [False, 1, 2, 3, 4, 5, 6]
    found = provenance.read("gpu")
    assert [row["step"] for row in found["steps"]] == NAMES
    assert found["provenance"]["gpu"] == "a stand-in"
    assert found["provenance"]["commit"] == "1a2b3c4"
    assert found["seed"] == 0


def test_a_copy_without_git_is_told_its_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "nowhere")
    monkeypatch.setenv("COMMIT", "1a2b3c4")
    assert provenance._commit() == "1a2b3c4"
    monkeypatch.delenv("COMMIT")
    with pytest.raises(SystemExit, match=r"^commit: expected a git checkout.* Set COMMIT"):
        provenance._commit()


def test_every_result_of_a_gpu_has_a_place_on_the_page_and_a_table(tmp_path):
    page = (report.DOCS / "benchmarks" / "gpu.md").read_text()
    names = ["gpu", *(step.result for step in steps(tmp_path / "x") if step.result)]
    for name in names:
        assert f"<!-- {name} -->" in page
        assert f"<!-- /{name} -->" in page
        assert report.maker(name)


def test_the_table_of_a_run_says_what_was_stopped_and_the_largest_error():
    row = {"step": "W1", "seconds": 3.0, "budget": 50, "outcome": "done", "result": "speed-W1-cuda"}
    late = {"step": "W6", "seconds": 50.0, "budget": 50, "outcome": "stopped after 47.0 s"}
    tests = {"tests": {"passed": 40, "skipped": 2, "failed": 1}, "failures": {"test_a": "no"}}
    errors = {"errors": {"sinusoid, maml": 1e-5, "sinusoid, anil": 2e-3}}
    text = report.maker("gpu")("gpu", {"steps": [row, late], **tests, **errors})
    assert "| W6 | 50 | 50 | stopped after 47.0 s |" in text
    assert "40 passed, 2 skipped, 1 failed: test_a (no)" in text
    assert "at most 0.002 (sinusoid, anil)" in text


def stand_in_memory(monkeypatch, peaks):
    """Memory of tensors on a GPU: 10 MB before, and then these peaks."""
    found = iter(peaks)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 10 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: next(found) * 2**20)


def test_few_shot_on_a_gpu_measures_each_arms_memory_and_seconds(monkeypatch):
    ran = []
    stand_in_memory(monkeypatch, [15, 40])
    monkeypatch.setattr(few_shot, "meta_iteration", lambda arm, *given: lambda: ran.append(arm))
    found = few_shot.timed_on_a_gpu("1 step, second order", ["one", "two"], 2, "cpu")
    assert [arm["peak_mb"] for arm in found.values()] == [5, 30]
    assert [len(arm["seconds"]) for arm in found.values()] == [2, 2]
    assert ran == ["one", "two"] * 4  # for memory, to warm up, and twice


def test_sizes_are_measured_in_one_process_on_a_gpu_and_in_their_own_on_the_cpu(monkeypatch):
    stand_in_memory(monkeypatch, [])
    monkeypatch.setattr(scaling, "measured_point", lambda **point: point)
    monkeypatch.setattr(scaling.subprocess, "run", lambda *given, **options: options["nothing"])
    assert scaling.launch({"device": "cuda", "tasks": 4}) == {"device": "cuda", "tasks": 4}
    with pytest.raises(KeyError):
        scaling.launch({"device": "cpu", "tasks": 4})


def test_few_shot_on_a_gpu_compares_wall_seconds():
    arms = {"loop, autograd": [2.0], "ours, all": [0.5], "the convolutions alone": [0.25]}
    work = {name: {"seconds": values, "peak_mb": 10} for name, values in arms.items()}
    text = report.maker("few-shot-speed-cuda")("few-shot-speed-cuda", {"work": {"1 step": work}})
    assert "| ours, all | 0.5000 | 4.00 | 50% | 10 |" in text
    assert "processor" not in text
