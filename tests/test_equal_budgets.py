"""Runs at equal budgets: where training ends, how adapting is counted, and their table."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import equal_tables, reproduce
from benchmarks.equal_budgets import EQUAL, arms, scratch
from benchmarks.reproduce_list import RUNS, Protocol
from benchmarks.reproduce_results import is_done, read, results_file
from meta_rl.errors import InputError
from meta_rl.families import make_family

TINY = {"data.tasks": 2, "data.episodes": 2}
PROTOCOLS = (Protocol(tasks=3, steps=2),)
HOUR = 3600


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    """The bandit by three algorithms, 150 environment steps each, and by PPO from scratch."""
    folder = tmp_path_factory.mktemp("queue")
    command = reproduce.Reproduce(folder=folder / "work", results=folder / "results")
    hidden = {"network.hidden": (4,)}
    few = {
        "maml": {**TINY, **hidden},
        "pretrain": {"data.tasks": 4, "data.episodes": 2, **hidden},
        "rl2": {**TINY, **hidden},
    }
    trained = [
        replace(run, changes=few[run.algorithm])
        for run in arms("bandit-5", (*few,), 150, (1.0, 1.0), PROTOCOLS, count=1)
    ]
    rivals = [replace(run, changes={"data.episodes": 7}) for run in scratch("bandit-5", 1.0, 1)]
    runs = [*trained, *(replace(run, protocols=PROTOCOLS) for run in rivals)]
    reproduce.work(command, runs)
    return command, runs


def test_training_ends_in_the_iteration_that_reaches_the_steps(queue):
    command, runs = queue
    lines = read(results_file(command.results, runs[0]))
    assert [line["algorithm"] for line in lines] == ["maml", "pretrain", "rl2", "ppo-from-scratch"]
    assert all(is_done(command.results, run) for run in runs)
    for line in lines[:3]:
        *_, before, last = line["curve"]["samples"]
        assert before < line["budget"] <= last == line["samples"]
        assert line["iterations"] == line["curve"]["iteration"][-1]


def test_a_finished_run_that_was_not_scored_is_trained_no_further(queue):
    command, runs = queue
    path = results_file(command.results, runs[0])
    before = path.read_text()
    path.write_text("".join(before.splitlines(keepends=True)[1:]))
    reproduce.work(command, runs)
    after, once = read(path)[0], before.splitlines()[0]
    assert f'"samples":{after["samples"]},' in once
    assert f'"scores":{after["evaluations"][0]["scores"]}'.replace(" ", "") in once


def test_steps_of_adapting_are_those_of_episodes_or_of_one_trial(queue):
    command, runs = queue
    curves = equal_tables.curves_of(runs[0].preset, command.results, runs)
    horizon = make_family("bandit-5").horizon
    budgets = {curve.name: curve.budget.tolist() for curve in curves}
    assert budgets["maml"] == budgets["pretrain"] == [0, 2 * horizon, 4 * horizon]
    assert budgets["rl2"] == [0, horizon, 2 * horizon]
    assert budgets["ppo-from-scratch"] == [0, 7 * horizon, 14 * horizon]
    assert {curve.name: curve.trained for curve in curves}["ppo-from-scratch"] == 0
    assert all(curve.scores.shape == (3, 1, 3) for curve in curves)
    assert all(np.isfinite(curve.scores).all() for curve in curves)
    told = equal_tables.text("equal-bandit-5", curves)
    assert all(f"| {curve.name} | 1 " in told for curve in curves)
    drawn = equal_tables.figure(curves).axes[0]
    assert drawn.get_xlabel().startswith("environment steps")
    assert {line.get_drawstyle() for line in drawn.lines} == {"steps-post"}


def test_a_contestant_has_one_color_in_all_figures(queue):
    command, runs = queue
    curves = equal_tables.curves_of(runs[0].preset, command.results, runs)

    def colors(shown):
        lines = equal_tables.figure(shown).axes[0].lines
        return {line.get_label(): line.get_color() for line in lines}

    every = colors(curves)
    assert len({*every.values()}) == len(every) == 4
    assert colors(curves[2:]) == {name: every[name] for name in ("rl2", "ppo-from-scratch")}


def test_runs_of_older_settings_have_no_curve(queue):
    command, runs = queue
    newer = [replace(run, changes=run.changes | {"data.gamma": 0.5}) for run in runs[:1]]
    curves = equal_tables.curves_of(runs[0].preset, command.results, [*newer, *runs[1:]])
    assert [curve.name for curve in curves] == ["pretrain", "rl2", "ppo-from-scratch"]
    none = equal_tables.curves_of(runs[0].preset, command.results, newer)
    told = equal_tables.text("equal-bandit-5", none)
    assert told == "bandit-5: not run yet with today's settings."
    told = equal_tables.text("equal-cartpole", curves)
    assert "Not run yet with today's settings: `maml`, `anil`" in told


def test_only_some_runs_are_worked_on(queue, capsys, tmp_path):
    command, runs = queue
    folders = ["--folder", str(tmp_path), "--results", str(command.results), "--status"]
    reproduce.main(["--only", "rl2", *folders], runs)
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 done; about 0.0")
    with pytest.raises(InputError, match="only: expected a part of a run's name, got 'else'"):
        reproduce.main(["--only", "else", *folders], runs)


def test_the_list_gives_every_algorithm_of_a_family_the_same_steps():
    assert len({run.id for run in (*RUNS, *EQUAL)}) == len(RUNS) + len(EQUAL)
    for preset in {run.preset for run in EQUAL}:
        ours = [run for run in EQUAL if run.preset == preset]
        assert len({repr((run.samples, run.protocols)) for run in ours if not run.scratch}) == 1
        assert {run.seed for run in ours} == {0, 1, 2}
        assert all(run.config.family and run.seconds <= HOUR for run in ours)
    assert sum(run.seconds for run in EQUAL) <= 20 * HOUR
