"""Commands whose output goes nowhere, whose disk is full, or whose own code says sys.exit."""

import os
import subprocess
import sys
import threading
import warnings

import gymnasium as gym
import pytest
import torch

from meta_rl.cli import adapt, evaluate, prune, train
from meta_rl.cli.command import Ended, import_families, run_command
from meta_rl.cli.parsing import parse, parse_beginning
from meta_rl.cli.runners import prune as runner
from meta_rl.errors import InputError
from meta_rl.evaluation import record
from meta_rl.families import GymFamily
from meta_rl.families.general import GymVec
from meta_rl.pruning.measure import Measured
from meta_rl.storage import checkpoint, run_folder
from tests.meta_rl.test_console import gone_reader
from tests.test_faults import files_no_longer_than
from tests.test_resume import ROOT

SMALL = ["--iterations", "2", "--data.tasks", "2", "--eval.tasks", "2", "--device", "cpu"]
SMALL += ["--speed.program", "plain", "--network.hidden", "8", "--eval.no-pictures"]
SMALL += ["--eval.test-tasks", "2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two iterations."""
    logs = tmp_path_factory.mktemp("runs")
    train.main(["sinusoid", *SMALL, "--log-dir", str(logs)])
    return logs / "sinusoid_1"


@pytest.fixture
def command(monkeypatch):
    """Runs main as a command does; returns its exit status."""
    for module, name in ((warnings, "showwarning"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))  # which run_command sets

    def run(main, *words):
        monkeypatch.setattr("sys.argv", ["command", *map(str, words)])
        try:
            run_command(main)
        except SystemExit as stop:
            return stop.code
        return 0

    return run


def start(words, redirected, **streams):
    line = f'exec "$0" "$@" {redirected}'
    return subprocess.Popen(["sh", "-c", line, sys.executable, *words], cwd=ROOT, **streams)


def test_work_whose_output_nobody_can_write_is_done_to_its_end(tmp_path):
    """And where output is all there is, a full disk is an error and a gone reader is none."""
    options = ["train.py", "sinusoid", *SMALL, "--log-dir"]
    nobody = gone_reader()
    trainings = {
        "full, closed": start([*options, str(tmp_path / "full, closed")], ">/dev/full 2>&-"),
        "head": start([*options, str(tmp_path / "head")], "", stdout=nobody, stderr=nobody),
    }
    listing, usage = ["-m", "meta_rl", "envs", "bandit-5"], ["-m", "meta_rl", "--help"]
    full = start(listing, ">/dev/full", stderr=subprocess.PIPE, text=True)
    head = start(usage, "", stdout=nobody, stderr=subprocess.PIPE, text=True)
    os.close(nobody)
    told = [process.communicate()[1] for process in (full, head)]
    ended = {name: process.wait() for name, process in trainings.items()}
    assert told == ["error: output: cannot be written: No space left on device.\n", ""]
    assert (full.returncode, head.returncode) == (2, 0)
    assert set(ended.values()) == {0}, ended
    for name in trainings:
        assert run_folder.newest_iteration(tmp_path / name / "sinusoid_1") == 2


class Quits(gym.Env):
    """Ends the process where it says."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, where="step"):
        self.where = where
        self.quit_at("init")

    def quit_at(self, where):
        if self.where == where:
            sys.exit(0)

    def reset(self, *, seed=None, options=None):
        self.quit_at("reset")
        return self.observation_space.low, {}

    def step(self, action):
        self.quit_at("step")
        return self.observation_space.low, 0.0, False, False, {}


@pytest.mark.parametrize("where", ["init", "reset", "step"])
def test_an_environment_that_calls_sys_exit_is_an_error(where):
    vector = GymVec(lambda task: Quits(where), 1, 1, device="cpu", dtype=torch.float32)
    with pytest.raises(InputError, match=r"environment: .*SystemExit: 0"):  # noqa: PT012
        vector.reset([{}], 0)
        vector.step(torch.zeros(1, 1, 1))
    with pytest.raises(InputError, match=r"environment: .*SystemExit: 0"):
        GymFamily(Quits, settings={"where": "init"}, horizon=3)


def test_sys_exit_in_ones_own_code_is_no_success(command, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("import sys\nsys.exit()\n")
    assert command(lambda words: import_families(file)) == 2
    assert f"error: families: {file} raised SystemExit" in capsys.readouterr().err
    assert command(lambda words: exit(0)) == 2
    assert f"error: sys.exit(0) in {__file__}, line" in capsys.readouterr().err


def test_of_an_option_given_twice_the_last_counts_everywhere():
    words = ["--algorithm", "reptile", "--seed", "1", "--algorithm=promp"]
    assert parse_beginning(train.Origin, words).algorithm == "promp"


def test_help_and_unknown_options_are_answers(command, capsys):
    with pytest.raises(Ended, match="0"):
        parse(train.Train, ["--help"])
    assert "usage:" in capsys.readouterr().out
    assert command(train.main, "--nothing") == 2


def test_a_full_disk_wherever_is_one_line(command, capsys):
    def main(words):
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    assert command(main) == 2
    assert capsys.readouterr().err.startswith("error: disk: [Errno 28] No space left on device")

    def study(words):
        raise RuntimeError("storage") from ValueError("database or disk is full")

    assert command(study) == 2
    assert capsys.readouterr().err == (
        "error: disk: storage. Make room, then give the same command again.\n"
    )


def test_a_table_is_printed_and_nothing_half_written_before_a_full_disk_ends_evaluate(
    trained, command, tmp_path, monkeypatch, capsys
):
    words = [trained, "--tasks", 2, "--baselines", "random", "--out", tmp_path / "out", "--device"]
    with files_no_longer_than(3000):  # refused before anything is computed
        assert command(evaluate.main, *words, "cpu") == 2
    first = capsys.readouterr()
    assert first.err.startswith("error: file: cannot write")
    assert "sinusoid" not in first.out
    with monkeypatch.context() as patch:
        patch.setattr(record.files, "check_folder", lambda folder: None)  # full only later
        with files_no_longer_than(3000):
            assert command(evaluate.main, *words, "cpu") == 2
    later = capsys.readouterr()
    assert "error: file: cannot write" in later.err.splitlines()[-1]
    assert "sinusoid" in later.out
    assert [p for p in (tmp_path / "out").iterdir() if p.stat().st_size in (0, 3000)] == []
    (tmp_path / "out" / "evaluation.json").write_text("")  # as older versions left it
    (tmp_path / "out" / ".0123456789abcdef.tmp").write_text("hal")
    assert command(evaluate.main, *words, "cpu") == 0
    names = {p.name.split(".")[0] for p in (tmp_path / "out").iterdir()}
    assert names == {"evaluation", "report", "events"}
    assert command(evaluate.main, *words, "cpu") == 2  # what is whole stays
    assert "which holds something" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_that_cannot_be_written_leave_no_half_file(tmp_path):
    from meta_rl.runs.tensorboard import events

    with files_no_longer_than(100), pytest.raises(InputError, match=r"cannot write .*events"):  # noqa: SIM117
        with events(tmp_path, "loss") as writer:
            writer.adaptation_curve(torch.zeros(2, 3), "adapt", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_never_evaluated_into(trained, command, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "evaluation.json").write_text("")
    assert command(evaluate.main, trained, "--out", tmp_path, "--device", "cpu") == 2
    assert "which holds something" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"mine.txt", "evaluation.json"}


def test_a_full_disk_costs_adapt_neither_scores_nor_exports(trained, command, tmp_path, capsys):
    run = tmp_path / "run"
    checkpoint.files.copy(trained, run)
    exported = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "meta_rl.cli.runners.adapt._exports", lambda *given: [(exported.append, "exported")]
        )
        with files_no_longer_than(300):
            words = [run, "--task", "amplitude=2,phase=1", "--steps", 1, "--device", "cpu"]
            assert command(adapt.main, *words) == 2
    told = capsys.readouterr()
    assert "after 1 inner steps" in told.out
    assert told.err.startswith("error: checkpoint: cannot write")
    assert len(exported) == 1
    assert list((run / "adapted").rglob("*")) == []
    assert command(adapt.main, *words) == 0


def test_a_full_disk_costs_prune_no_table(tmp_path, capsys):
    given = {"units": [8], "parameters": 1, "iteration": 0, "scores": [-1.0], "margins": [0.1]}
    measured = Measured(name="before", last=[-1.0, -3.0], **given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("meta_rl.cli.runners.prune.time_in_turns", lambda *given: None)

        class Learner:
            held_out_tasks = staticmethod(lambda *given, **named: [])

            class problem:  # noqa: N801
                score_name, close = "return", staticmethod(lambda: None)

        with files_no_longer_than(100), pytest.raises(InputError, match=r"pruning\.json"):
            runner._tell([(Learner, measured)], tmp_path, prune.Prune(run=tmp_path), 2)
    assert "return after 0" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_command_whose_training_diverges_ends_in_one_line(command, tmp_path, capsys):
    words = ("--outer.learning-rate", "1e30", "--iterations", "20", "--eval.every", "0")
    ended = command(train.main, "sinusoid", *words, "--device", "cpu", "--log-dir", tmp_path)
    told = capsys.readouterr().err.splitlines()
    assert ended == 2
    assert "10 outer steps in a row had gradients" in told[-1]
    assert not any("Traceback" in line for line in told)
