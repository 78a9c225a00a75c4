"""benchmarks.reproduce: its list, killed and repeated, shared among processes, and refusals."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from runpy import run_path

import pytest

import meta_rl
from benchmarks import reproduce
from benchmarks.equal_budgets import EQUAL, from_scratch
from benchmarks.reproduce_list import RUNS, Protocol
from benchmarks.reproduce_results import (
    Curve,
    agree,
    is_done,
    lines,
    read,
    results_file,
    settings,
    thinned,
)
from meta_rl.cli.command import run_command
from meta_rl.config import ProMPConfig
from meta_rl.errors import InputError, NotFiniteError
from tests import queue_kills
from tests.queue_kills import command

ROOT = Path(__file__).parent.parent
HOUR = 3600


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders of one queue that ran through, ``whole``, and one that was killed, ``killed``."""
    folder = tmp_path_factory.mktemp("queue")
    result = python("-m", "tests.queue_kills", str(folder))
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(result.stdout) >= 2
    return folder


def without_times(folder):
    """Every line, but for what the clock says."""
    kept = {}
    for path in sorted((folder / "results").glob("*.jsonl")):
        for line in read(path):
            kept[line["id"]] = line | {
                "seconds": 0,
                "provenance": line["provenance"] | {"date": ""},
            }
    return kept


def test_a_queue_killed_at_random_moments_gives_the_lines_of_one_that_was_not(killed):
    whole = without_times(killed / "whole")
    assert without_times(killed / "killed") == whole
    failed = [id for id, line in whole.items() if "failed" in line]
    assert failed == ["sinusoid_maml_diverges_30_seed-0"]
    assert "not finite" in whole[failed[0]]["failed"]
    assert len(whole) == len(queue_kills.RUNS) - 1


def test_a_finished_queue_touches_no_file(killed, capsys):
    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in killed.rglob("*")}

    before = state()
    reproduce.work(command(killed / "whole"), queue_kills.RUNS)
    assert "folder_maml_1_seed-0: cannot run here: data" in capsys.readouterr().out
    assert state() == before


def failing(error):
    def train(*_):
        raise error

    return train


@pytest.mark.parametrize(
    "error",
    [
        InputError("memory: expected a run that fits."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OSError(28, "No space left on device"),
    ],
)
def test_what_a_machine_lacks_ends_the_queue_and_is_no_result(error, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "train", failing(error))
    with pytest.raises(InputError, match=r"cannot go on here: .*Nothing is lost"):
        reproduce.work(command(tmp_path), queue_kills.RUNS[:1])
    assert not [*tmp_path.rglob("*.jsonl")]


def test_a_run_that_fails_by_itself_is_a_result(tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "train", failing(NotFiniteError("reward: not finite", [0])))
    reproduce.work(command(tmp_path), queue_kills.RUNS[:1])
    (line,) = read(results_file(command(tmp_path).results, queue_kills.RUNS[0]))
    assert line["failed"] == "NotFiniteError: reward: not finite"


def test_a_run_whose_package_is_missing_is_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "build", failing(InputError("mujoco: expected MuJoCo.")))
    reproduce._refusal.cache_clear()
    run = next(run for run in RUNS if run.preset == "half-cheetah-direction")
    reproduce.work(command(tmp_path), [run])
    reproduce._refusal.cache_clear()
    assert capsys.readouterr().out == f"{run.id}: cannot run here: mujoco: expected MuJoCo.\n"
    assert not [*tmp_path.rglob("*.jsonl")]


def test_ppo_from_scratch_stops_before_its_next_task(monkeypatch):
    run = next(run for run in EQUAL if run.scratch)
    monkeypatch.setattr(meta_rl.agents.ppo, "from_scratch", lambda *_, **__: pytest.fail("trained"))
    assert from_scratch(run, lambda: True) is None


def test_the_status_counts_and_estimates(killed, tmp_path):
    said = reproduce.status(command(killed / "killed"), queue_kills.RUNS).splitlines()
    assert said[-1] == "4 done, 1 failed, 1 cannot run here; about 0.0 processor-hours left"
    runs = [replace(queue_kills.RUNS[0], seconds=1200.0)]
    said = reproduce.status(command(tmp_path), runs).splitlines()
    assert said[0].endswith("at iteration 0 of 6, 2.00 h left")
    assert list(tmp_path.iterdir()) == []


def test_a_longer_run_goes_on_where_the_shorter_one_ended(killed):
    """And its curve is of both."""
    log = (killed / "whole.log").read_text()
    assert "bandit-5_promp_tiny_9_seed-0: from iteration 6 of 9" in log
    assert "bandit-5_promp_tiny_9_seed-1: from iteration 0 of 9" in log
    line = without_times(killed / "whole")["bandit-5_promp_tiny_9_seed-0"]
    assert line["curve"]["iteration"] == list(range(1, 10))


def test_a_run_whose_settings_or_scoring_changed_is_not_done(killed):
    run, results = queue_kills.RUNS[0], killed / "whole" / "results"
    assert is_done(results, run)
    assert not is_done(results, replace(run, changes={**run.changes, "inner.step_size": 1.0}))
    assert not is_done(results, replace(run, protocols=(Protocol(tasks=3, steps=1),)))
    assert not is_done(results, replace(run, seed=7))


def test_a_changed_default_is_a_changed_setting_and_a_new_setting_is_none(killed):
    """A line holds all settings; one that it lacks came later, and must have its default."""
    run = queue_kills.RUNS[0]
    [line] = [
        one for one in read(results_file(killed / "whole" / "results", run)) if one["id"] == run.id
    ]
    stored = line["settings"]
    assert stored == settings(run)
    assert stored["outer"]["clip"] == ProMPConfig().clip
    assert not agree({**stored, "outer": {**stored["outer"], "clip": 0.9}}, run.config)
    assert not agree({**stored, "outer": {**stored["outer"], "type": "TRPOConfig"}}, run.config)
    assert not agree({**stored, "outer": None}, run.config)
    assert not agree({**stored, "outer": {"clip": stored["outer"]["clip"]}}, run.config)
    newer = {name: value for name, value in stored["outer"].items() if name != "clip"}
    assert agree({**stored, "outer": newer}, run.config)
    changed = replace(run, changes={**run.changes, "outer.clip": 0.9})
    assert not agree({**stored, "outer": newer}, changed.config)
    assert agree({name: part for name, part in stored.items() if name != "speed"}, run.config)
    assert not agree({**stored, "outer": {**stored["outer"], "no_such": 1}}, run.config)


def test_settings_of_old_runs_are_read_as_a_run_folder_reads_them():
    """Under their old names, and with the values that old runs had without naming them."""
    run = replace(queue_kills.RUNS[0], algorithm="rl2", changes={})
    limited = replace(run, changes={"outer.target_kl": None})
    stored = settings(run)
    old = {name: value for name, value in stored["outer"].items() if name != "target_kl"}
    assert not agree({**stored, "outer": old}, run.config)
    assert agree({**stored, "outer": old}, limited.config)
    assert agree({**stored, "inner": {**stored["inner"], "tasks_at_once": 5}}, run.config)
    assert not agree({**stored, "outer": {**stored["outer"], "members_at_once": 5}}, run.config)


def test_a_new_setting_leaves_a_runs_folder_where_it_is(killed, tmp_path):
    """And a changed default gives it a new one."""
    run, there = queue_kills.RUNS[0], command(killed / "whole")
    source = reproduce.place(there, run)
    moved = replace(there, folder=tmp_path)
    older = tmp_path / f"{run.id}-0"
    (older / "run").mkdir(parents=True)
    config = json.loads((source / "run" / "config.json").read_text())
    del config["outer"]["clip"]
    (older / "run" / "config.json").write_text(json.dumps(config))
    assert reproduce.place(moved, run) == older
    shutil.copytree(source, tmp_path / f"{run.id}-1")  # the same run, further on
    assert reproduce.place(moved, run) == tmp_path / f"{run.id}-1"
    shutil.rmtree(tmp_path / f"{run.id}-1")
    config["outer"]["clip"] = 0.9
    (older / "run" / "config.json").write_text(json.dumps(config))
    assert reproduce.place(moved, run) == tmp_path / source.name


@pytest.mark.parametrize("module", ["curves", "export", "preloaded", "pretrained", "reproduce"])
def test_help_and_wrong_options_end_a_benchmark_as_they_end_a_command(module, monkeypatch, capsys):
    def said(option):
        monkeypatch.setattr(sys, "argv", [module, option])
        with pytest.raises(SystemExit) as end:
            run_command(import_module(f"benchmarks.{module}").main)
        return end.value.code, capsys.readouterr()

    code, shown = said("--help")
    assert (code, shown.err) == (0, "")
    assert shown.out.startswith(f"usage: {module}")
    code, refused = said("--no-such-option")
    assert code == 2
    assert "--no-such-option" in refused.err
    assert "sys.exit" not in refused.err


def test_a_curve_is_cut_where_its_run_resumes_and_thinned(tmp_path):
    points = [{"iteration": i, "samples": i, "scores": [0.0], "step_sizes": {}} for i in range(250)]
    path = tmp_path / "curve.jsonl"
    path.write_bytes(lines(points) + b'{"iteration":25')
    assert Curve.read(path) == points
    thin = thinned(points)["iteration"]
    assert (len(thin), thin[0], thin[-1]) == (100, 0, 249)
    assert thinned(points[:1])["iteration"] == [0]
    assert thinned([])["iteration"] == []


def test_what_the_machine_lacks_is_not_a_failure_of_the_run(tmp_path):
    """Nothing is recorded, and the queue ends."""
    (tmp_path / "file").write_text("")
    there = replace(command(tmp_path), folder=tmp_path / "file" / "work")
    with pytest.raises(InputError, match="cannot write"):
        reproduce.work(there, queue_kills.RUNS[:1])
    assert not (tmp_path / "results").exists()


def test_a_results_file_that_cannot_be_read_is_told_in_one_line(tmp_path):
    path = results_file(tmp_path / "results", queue_kills.RUNS[0])
    path.parent.mkdir()
    for text in ("<<<<<<< HEAD", "[1]", '{"id":"bandit-5"}', "\xff"):
        path.write_bytes(text.encode("latin-1") + b"\n")
        with pytest.raises(InputError, match=r"line 1 of .*bandit-5.jsonl, got") as refused:
            reproduce.work(command(tmp_path), queue_kills.RUNS)
        assert text in str(refused.value) or text == "\xff"


def test_the_list_has_different_runs_whose_settings_fit_its_budget():
    assert len({run.id for run in RUNS}) == len(RUNS)
    hours = {}
    for run in RUNS:
        assert run.config.family
        begins = max([0, *(other.iterations for other in reproduce.shorter(RUNS, run))])
        hours[run.id] = (run.iterations - begins) * run.seconds / HOUR
        assert hours[run.id] <= 3, run.id
    assert sum(hours[run.id] for run in RUNS if not run.optional) <= 30
    few = {run.arm for run in RUNS} - {run.arm for run in RUNS if run.seed == 2}
    assert all(run.note for run in RUNS if run.arm in few)


@pytest.mark.slow
def test_two_workers_give_the_lines_of_one(killed, tmp_path):
    code = (
        "from benchmarks import reproduce\n"
        "from meta_rl.cli.command import run_command\n"
        "from tests.queue_kills import RUNS\n"
        "if __name__ == '__main__':\n"
        "    run_command(lambda arguments: reproduce.main(arguments, RUNS))\n"
    )
    (tmp_path / "both.py").write_text(code)
    folders = ["--folder", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    result = python(str(tmp_path / "both.py"), *folders, "--workers", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert without_times(tmp_path) == without_times(killed / "whole")
    for path in (killed / "whole" / "results").glob("*.jsonl"):
        same = results_file(tmp_path / "results", queue_kills.RUNS[0]).with_name(path.name)
        assert [json.loads(a)["id"] for a in same.read_text().splitlines()] == [
            line["id"] for line in read(path)
        ]


@pytest.mark.parametrize(
    "path", sorted(Path(reproduce.__file__).parent.glob("*.py")), ids=lambda p: p.stem
)
def test_every_benchmark_has_a_help_and_measures_nothing_for_it(path, monkeypatch, capsys):
    if '__name__ == "__main__"' in path.read_text():
        monkeypatch.setattr(sys, "argv", [path.name, "--help"])
        with pytest.raises(SystemExit) as end:
            run_path(str(path), run_name="__main__")
        assert end.value.code == 0
        assert "usage: " in capsys.readouterr().out
