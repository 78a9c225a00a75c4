"""Evaluating: the same held-out tasks for all, a report that stands alone, and what it refuses."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import meta_rl
from meta_rl.cli import adapt, evaluate, train
from meta_rl.errors import InputError
from meta_rl.evaluation.adapting import adapted
from meta_rl.evaluation.algorithms import Algorithm, Run, load_algorithms
from meta_rl.evaluation.curves import Curve, steps_to_reach
from meta_rl.evaluation.rivals import Arena, rivals
from meta_rl.evaluation.tables import unbeaten
from meta_rl.loading import with_step_size
from meta_rl.statistics import mean
from meta_rl.storage import run_folder

ROOT = Path(__file__).parent.parent
SMALL = ["--data.tasks", "2", "--eval.tasks", "2", "--device", "cpu", "--iterations", "1"]
SMALL += ["--eval.no-pictures"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of one bandit, the same with another algorithm, and a sinusoid."""
    logs = tmp_path_factory.mktemp("runs")
    small = [*SMALL, "--log-dir", str(logs)]
    bandit = ["bandit-5", *small, "--data.episodes", "8"]
    train.main([*bandit, "--seed", "0"])
    train.main([*bandit, "--seed", "1"])
    train.main([*bandit, "--algorithm", "fomaml"])
    train.main(["sinusoid", *small])
    return logs


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory):
    """Everything at once: two algorithms, pooled seeds and every baseline."""
    out = tmp_path_factory.mktemp("evaluated") / "report"
    slow = ["ppo", "ppo-10x", "pretrained", "rl2"]
    evaluate.main([
        *(str(runs / name) for name in ("bandit-5_1", "bandit-5_2", "bandit-5-fomaml_1")),
        "--tasks", "3", "--steps", "1", "--baselines", "random", "oracle", *slow,
        "--baseline-tasks", "2", "--training-steps", "64", "--rl2-episodes", "2",
        "--device", "cpu", "--out", str(out),
    ])  # fmt: skip
    return out


def curves(report):
    found = json.loads((report / "evaluation.json").read_text())
    return {(curve["name"], curve["split"]): curve for curve in found["curves"]}


def test_seeds_are_pooled_and_algorithms_and_baselines_stand_side_by_side(report):
    found = curves(report)
    assert {name: np.shape(c["points"][0]["scores"]) for (name, _), c in found.items()} == {
        "bandit-5": (2, 3),
        "bandit-5-fomaml": (1, 3),
        "random weights, rule of bandit-5": (2, 3),
        "random weights, rule of bandit-5-fomaml": (1, 3),
        "oracle": (1, 3),
        "PPO from scratch": (1, 2),
        "PPO pretrained, fine-tuned": (1, 2),
        "RL2": (1, 2),
    }


def test_budgets_are_equal_environment_steps(report):
    """Eight episodes of ten pulls for each inner step, and PPO's multiples of them."""
    found = curves(report)

    def budgets(name):
        points = found[name, "in-distribution"]["points"]
        return [(point["inner_steps"], point["budget"]) for point in points]

    assert budgets("bandit-5") == [(0, 0), (1, 80)]
    assert budgets("PPO pretrained, fine-tuned") == [(0, 0), (1, 80)]
    assert budgets("PPO from scratch")[2:] == [(None, 160), (None, 400), (None, 800)]
    assert budgets("RL2") == [(None, 0), (None, 10)]


def test_the_estimates_are_those_of_the_scores(report):
    for curve in curves(report).values():
        for point in curve["points"]:
            scores = np.array(point["scores"])
            assert point["mean"][0] == pytest.approx(scores.mean())
            assert point["mean"][1] <= point["mean"][0] <= point["mean"][2]


def test_the_csv_has_a_row_for_every_run_task_and_point(report):
    with (report / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = curves(report)
    assert len(rows) == sum(
        np.size(point["scores"]) for curve in found.values() for point in curve["points"]
    )
    first = found["bandit-5", "in-distribution"]
    last = [r for r in rows if r["name"] == "bandit-5" and r["run"] == first["members"][1]][-1]
    assert (last["task"], last["inner_steps"]) == ("2", "1")
    assert float(last["score"]) == first["points"][1]["scores"][1][2]
    scores = np.sort(np.ravel(first["points"][1]["scores"]))
    whole, part = divmod(0.2 * len(scores), 1)
    lowest = scores[: int(whole)].sum() + part * scores[int(whole)]
    assert first["points"][1]["worst"][0] == pytest.approx(lowest / (whole + part))


def test_the_report_needs_no_other_file_and_no_network(report):
    text = (report / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert "@import" not in text
    assert "url(" not in text
    for words in (
        "IQM",
        "worst 20 %",
        "PPO from scratch",
        "stratified-bootstrap",
        "One seed of bandit-5-fomaml",
        "on 64 environment",
    ):
        assert words in text


def test_tensorboard_has_the_figures(report):
    events = EventAccumulator(str(report))
    events.Reload()
    names = {"evaluation/adaptation", "evaluation/budget", "evaluation/tasks"}
    assert names <= set(events.Tags()["images"])
    assert "in-distribution/bandit-5/return_step_1" in events.Tags()["scalars"]


def test_a_run_alone_is_evaluated_into_its_own_folder_and_again(runs, capsys):
    for number in (1, 2):
        evaluate.main([str(runs / "sinusoid_1"), "--tasks", "4", "--device", "cpu"])
        folder = runs / "sinusoid_1" / f"evaluation_{number}"
        content = json.loads((folder / "evaluation.json").read_text())
    assert content["budget_unit"] == "labelled examples"
    assert [p["budget"] for p in content["curves"][0]["points"]][:3] == [0, 10, 10]
    assert any("There is no oracle" in note for note in content["notes"])
    assert "loss, 4 held-out tasks" in capsys.readouterr().out
    first = folder.with_name("evaluation_1") / "evaluation.json"
    assert json.loads(first.read_text())["curves"] == content["curves"]


def test_tasks_do_not_depend_on_the_runs_and_follow_the_seed(runs, tmp_path):
    drawn = []
    for name, seed in (("bandit-5_1", 0), ("bandit-5_2", 0), ("bandit-5_1", 1)):
        out = tmp_path / f"{name}-{seed}"
        options = ["--tasks", "2", "--steps", "1", "--seed", str(seed), "--device", "cpu"]
        evaluate.main([str(runs / name), *options, "--baselines", "oracle", "--out", str(out)])
        drawn.append(json.loads((out / "evaluation.json").read_text())["tasks"])
    assert drawn[0] == drawn[1] != drawn[2]


def test_checkpoints_of_other_iterations_and_other_settings_are_told_apart(runs, tmp_path):
    other = ["bandit-5", *SMALL, "--data.episodes", "4", "--log-dir", str(tmp_path)]
    train.main(other)
    given = [runs / "bandit-5_1" / "checkpoints" / "000000001", tmp_path / "bandit-5_1"]
    algorithms = load_algorithms(given, "cpu")
    assert [a.name for a in algorithms] == ["bandit-5, episodes=8", "bandit-5, episodes=4"]
    assert algorithms[0].runs[0].path == runs / "bandit-5_1"


def test_runs_with_another_start_or_pruning_are_other_algorithms(runs, tmp_path):
    """And seeds of one are pooled: what differs between their files is of a seed or a machine."""
    expert = {"zip": "0.zip", "sha256": "a", "task": {"goal": 1}, "imitation": 0}
    starts = {
        "cold": {},
        "run": {"init_run.json": {"run": "here", "sha256": "a"}},
        "other-run": {"init_run.json": {"run": "here", "sha256": "b"}},
        "experts": {"init_experts/experts.json": [{**expert, "file": "here", "kl": 0.1}]},
        "pruned": {"pruned.json": [{"by": "saliency", "keep": 0.5}]},
        "pruned-otherwise": {"pruned.json": [{"by": "magnitude", "keep": 0.5}]},
    }
    again = {
        "run": {"init_run.json": {"run": "there", "sha256": "a"}},
        "experts": {"init_experts/experts.json": [{**expert, "file": "there", "kl": 0.2}]},
    }
    folders = []
    for seed, made in ((1, starts), (2, again)):
        for name, files in made.items():
            folder = tmp_path / f"{name}_{seed}"
            shutil.copytree(runs / f"bandit-5_{seed}", folder)
            for file, content in files.items():
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_text(json.dumps(content))
            folders.append(folder)
    pooled = {a.name: [run.path.name for run in a.runs] for a in load_algorithms(folders, "cpu")}
    assert pooled == {
        name: [f"{name}_1", f"{name}_2"] if name in again else [f"{name}_1"] for name in starts
    }


def test_random_weights_are_those_before_training(runs):
    """A run before its first iteration is its own baseline."""
    algorithm = load_algorithms([runs / "bandit-5_1"], "cpu")[0]
    learner = algorithm.runs[0].learner
    fresh = meta_rl.build(learner.config)
    learner.meta = learner.meta._replace(theta=fresh.meta.theta)
    tasks = learner.held_out_tasks(2)
    own, random = (
        adapted(algorithm, tasks, "x", 1, 0, lambda n: None, random=random)
        for random in (False, True)
    )
    np.testing.assert_array_equal(own.scores, random.scores)


def test_a_task_that_adapting_loses_counts_as_infinitely_bad(runs):
    algorithm = load_algorithms([runs / "sinusoid_1"], "cpu")[0]
    learner = algorithm.runs[0].learner
    rule = {name: value + 1e3 for name, value in learner.meta.rule.items()}
    learner.meta = learner.meta._replace(rule=rule)
    curve = adapted(algorithm, learner.held_out_tasks(2), "x", 1, 0, lambda n: None)
    assert np.isfinite(curve.scores[0]).all()
    assert (curve.scores[1] == np.inf).all()
    assert curve.gain(1, mean, 0, -1).value == -np.inf


def test_a_checkpoint_is_evaluated_beside_it(runs, tmp_path):
    """Its callback may replace it, and takes no other files for its own."""
    kept = tmp_path / "best_model"
    shutil.copytree(runs / "bandit-5_1" / "checkpoints" / "000000001", kept)
    before = sorted(kept.iterdir())
    options = ["--tasks", "2", "--steps", "1", "--device", "cpu"]
    for number in (1, 2):
        evaluate.main([str(kept), *options])
        assert (tmp_path / f"best_model_evaluation_{number}" / "report.html").is_file()
    assert sorted(kept.iterdir()) == before


def test_a_start_that_was_trained_before_is_told(runs, tmp_path, capsys):
    small = ["bandit-5", *SMALL, "--data.episodes", "8", "--log-dir", str(tmp_path)]
    train.main([*small, "--init-run", str(runs / "bandit-5_1")])
    options = ["--tasks", "2", "--steps", "1", "--device", "cpu"]
    evaluate.main([str(tmp_path / "bandit-5_1"), *options])
    assert "started from weights that were trained before" in capsys.readouterr().out
    evaluate.main([str(runs / "bandit-5_1"), *options, "--out", str(tmp_path / "cold")])
    assert "started from weights" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ppo", "pretrained"])
def test_ppo_is_refused_before_it_trains_on_fewer_steps_than_it_can(
    name, runs, tmp_path, monkeypatch
):
    for work in ("pretrain", "from_scratch"):
        monkeypatch.setattr(meta_rl.agents.ppo, work, lambda *_, **__: pytest.fail("trained"))
    options = ["--tasks", "2", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    told = re.escape(f"baselines: {name} learn on 64 environment steps or more, and the first run")
    with pytest.raises(InputError, match=told):
        evaluate.main([str(runs / "bandit-5_1"), *options, "--episodes", "2", "--baselines", name])


def test_steps_to_reach_is_the_first_budget_that_is_as_good():
    given = {"split": "x", "members": ("a",), "kind": "rival", "steps": (None,) * 3}
    rival = Curve(
        name="rival",
        budget=np.array([0.0, 10.0, 100.0]),
        scores=np.array([[[0.0, 1.0]], [[1.0, 2.0]], [[5.0, 6.0]]]),
        **given,
    )
    level = replace(rival, scores=np.array([[[2.0, 3.0]]]))
    assert steps_to_reach(rival, level, 0, 0, 1) == (100.0, 100.0, 100.0)
    assert steps_to_reach(rival, level, 0, 0, -1) == (0.0, 0.0, 0.0)
    beyond = replace(rival, scores=np.array([[[7.0, 8.0]]]))
    assert steps_to_reach(rival, beyond, 0, 0, 1).value == np.inf


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("score", [0.1, -0.7, 3.3, 1e-12])
def test_equal_scores_averaged_over_more_runs_are_reached(score, sign):
    def curve(runs, budget):
        plain = {"split": "s", "steps": (None,), "members": ("",) * runs}
        scores = np.full((1, runs, 20), score)
        return Curve(name="c", kind="rival", budget=np.array([budget]), scores=scores, **plain)

    one, three = curve(1, 10.0), curve(3, 100.0)
    assert steps_to_reach(three, one, 0, 0, sign) == (100.0, 100.0, 100.0)
    assert steps_to_reach(one, three, 0, 0, sign) == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("algorithm", ["maml", "rl2", "es-maml"])
def test_steps_are_counted_for_each_task(algorithm, tmp_path):
    config = meta_rl.algorithm(algorithm, meta_rl.preset("cartpole"))
    data = replace(config.data, tasks=4, episodes=4 if algorithm == "rl2" else 2)
    learner = meta_rl.build(replace(config, data=data), "cpu")
    run = Run(tmp_path, learner, learner.problem, {})
    tasks = learner.held_out_tasks(4)
    curve = adapted(Algorithm(algorithm, (run,)), tasks, "split", 2, 0, lambda _: None)
    episodes = {"maml": 2, "rl2": 1}.get(algorithm)
    if episodes:  # a step returns 1, so an episode's return is its length
        assert curve.spent[1] == pytest.approx(episodes * curve.scores[0, 0])
    assert curve.budget == pytest.approx(curve.spent.mean(1))
    assert curve.budget[2] > curve.budget[1] > curve.budget[0] == 0
    few = curve.first(2)
    assert few.budget == pytest.approx(curve.spent[:, :2].mean(1))
    assert few.budget[1] != curve.budget[1]


def test_algorithms_of_several_seeds_are_compared(runs, tmp_path, capsys):
    for folder in runs.glob("bandit-5*_?"):
        shutil.copytree(folder, tmp_path / folder.name)
    other = ["--data.episodes", "8", "--algorithm", "fomaml", "--seed", "1"]
    train.main(["bandit-5", *SMALL, *other, "--log-dir", str(tmp_path)])
    options = ["--tasks", "3", "--steps", "1", "--device", "cpu", "--out", str(tmp_path / "out")]
    evaluate.main([*map(str, sorted(tmp_path.glob("bandit-5*_?"))), *options])
    told = "by any other, by number of inner steps: after 0"
    assert told in capsys.readouterr().out
    assert told in (tmp_path / "out" / "report.html").read_text()


def test_a_contestant_is_beaten_where_the_interval_of_the_difference_says_so():
    noise, best = np.random.default_rng(0).normal(0, 0.1, (3, 2, 3, 20)), [0.0, 5.0]
    each = [[0.0, 0.0], best, [0.0, 4.9], [9.0, 9.0]]
    curves = [
        Curve(name=name, kind=kind, split="x", members=("a", "b", "c"), steps=(0, 1),
              budget=np.zeros(2), scores=noise[n % 3] + np.array(means)[:, None, None])
        for n, (name, kind, means) in enumerate(zip(
            ("low", "high", "near", "told"),
            ("algorithm", "algorithm", "rival", "oracle"), each, strict=True,
        ))
    ]  # fmt: skip
    told = "Not clearly beaten by any other, by number of inner steps: "
    told += "after 0: low, high, near; after 1: high, near."
    assert unbeaten(curves, 1) == told
    apart = [curves[0], replace(curves[1], scores=curves[1].scores + 1)]
    assert unbeaten(apart, 1).endswith("after 0, 1: high.")
    down = [replace(curve, scores=-curve.scores) for curve in apart]
    assert unbeaten(down, -1) == unbeaten(apart, 1)
    more = replace(apart[1], scores=apart[1].scores.repeat(2, 1))
    lost = replace(curves[0], scores=curves[0].scores * np.inf)
    for given in ([curves[0], more], [lost, apart[1]]):
        assert unbeaten(given, 1).endswith(": after 0, 1: low, high.")
    one = replace(apart[0], scores=apart[0].scores[:, :1])
    for given in ([one, apart[1]], curves[3:], []):
        assert unbeaten(given, 1) == ""


def test_rivals_learn_on_the_tasks_they_are_given():
    family = meta_rl.build(meta_rl.preset("bandit-5")).problem.family
    tasks = [{"means": (1.0,) * 5}, {"means": (0.0,) * 5}]
    arena = Arena(
        family=family, split="x", tasks=tasks, budget=[0, 64], episodes=2,
        training_steps=64, trial=2, seeds=[3],
    )  # fmt: skip
    scratch, recurrent = rivals(arena, ["ppo", "rl2"])
    np.testing.assert_array_equal(scratch.scores, [[[10.0, 0.0]]] * 2)
    np.testing.assert_array_equal(recurrent.scores, [[[10.0, 0.0]]] * 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "evaluate: expected a run folder or several"),
        (["bandit-5_1", "sinusoid_1"], "runs: expected runs of one family, got bandit-5 in"),
        (["bandit-5_1", "bandit-5_1"], "has the same settings and seed twice"),
        (["nowhere"], "checkpoint: expected a run folder with checkpoints"),
        (["bandit-5_1", "--baselines", "oracel"], "got 'oracel'. Did you mean 'oracle'"),
        (["sinusoid_1", "--baselines", "ppo"], "baselines: ppo learn by reinforcement"),
        (["bandit-5_1", "--splits", "extrapolation"], "splits: expected some of in-distribution"),
        (["bandit-5_1", "--baselines", "rl2", "--training-steps", "9"], "50 or more for rl2"),
        (["bandit-5_1", "--training-steps", "99"], "training_steps: expected it to be left out"),
        (
            ["bandit-5_1", "--baselines", "pretrained", "--rl2-episodes", "2"],
            "only with --baselines rl2",
        ),
        (["bandit-5_1", "--baseline-tasks", "2"], "baseline_tasks: expected it to be left out"),
        (["bandit-5_1", "--baseline-seeds", "2"], "baseline_seeds: expected it to be left out"),
        (["bandit-5_1", "--tasks", "0"], "tasks: expected 1 or more, got 0"),
        (["bandit-5_1", "--out", "."], "out: expected a folder to make"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(runs, arguments, message, monkeypatch):
    monkeypatch.setattr(
        "meta_rl.evaluation.protocol.contest", lambda planned: pytest.fail("worked")
    )
    monkeypatch.chdir(runs)
    before = sorted(runs.rglob("*"))
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate.main([*arguments, "--device", "cpu"])
    assert sorted(runs.rglob("*")) == before


def test_a_folder_whose_name_is_not_utf8_has_all_but_curves(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"r\xff")
    shutil.copytree(runs / "bandit-5_1", name, ignore=shutil.ignore_patterns("evaluation_*"))
    with pytest.warns(UserWarning, match="expected a folder with a name in UTF-8") as told:
        evaluate.main([name, "--tasks", "2", "--device", "cpu"])
    assert len(told) == 1
    assert (tmp_path / name / "evaluation_1" / "report.html").stat().st_size
    with pytest.warns(UserWarning, match="in UTF-8"):
        adapt.main([name, "--device", "cpu"])
    with pytest.warns(UserWarning, match="in UTF-8"):
        train.main(["bandit-5", *SMALL, "--log-dir", name])
    with pytest.warns(UserWarning, match="in UTF-8"):
        train.main(["--resume", name, "--iterations", "3"])
    assert run_folder.load_newest(Path(name))[1]["iteration"] == 3


def test_a_run_may_have_a_name_that_figures_and_spreadsheets_read_otherwise(runs, tmp_path):
    alone = shutil.ignore_patterns("evaluation_*")
    shutil.copytree(runs / "sinusoid_1", tmp_path / "=$x_$<b>", ignore=alone)
    evaluate.main([str(tmp_path / "=$x_$<b>"), "--tasks", "2", "--device", "cpu"])
    (report,) = tmp_path.glob("*/evaluation_1")
    with (report / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["name"] == "'=$x_$<b>"
    assert all(float(row["score"]) >= 0 for row in rows)
    page = (report / "report.html").read_text()
    assert "=$x_$&lt;b&gt;" in page
    assert "<b>" not in page


def test_a_refusal_is_one_line(runs):
    command = [
        sys.executable,
        "-m",
        "meta_rl",
        "evaluate",
        str(runs / "bandit-5_1"),
        "--baselines",
        "x",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: baselines: expected some of random, oracle, ppo")
    assert result.stderr.count("\n") == 1


def test_both_budgets_are_counted_for_every_contestant(runs, report):
    found = curves(report)
    pooled = [meta_rl.load(runs / name).samples for name in ("bandit-5_1", "bandit-5_2")]
    trained = {name: curve["trained"] for (name, _), curve in found.items()}
    assert trained["bandit-5"] == np.mean(pooled)
    assert trained["random weights, rule of bandit-5"] == 0
    assert trained["PPO from scratch"] == 0
    assert trained["RL2"] == trained["PPO pretrained, fine-tuned"] == 64
    assert trained["oracle"] is None


def test_unequal_budgets_of_meta_training_are_told(runs, tmp_path, capsys):
    longer = tmp_path / "bandit-5-fomaml_2"
    shutil.copytree(runs / "bandit-5-fomaml_1", longer)
    options = ["--tasks", "2", "--steps", "1", "--baselines", "random", "--device", "cpu"]
    both = [str(runs / "bandit-5_1"), str(longer), *options]
    evaluate.main([*both, "--out", str(tmp_path / "equal")])
    assert "differ" not in capsys.readouterr().out
    train.main(["--resume", str(longer), "--iterations", "2"])
    evaluate.main([*both, "--out", str(tmp_path / "unequal")])
    told = (
        "budgets differ by more than 5%, in environment steps: bandit-5: 320; bandit-5-fomaml: 640"
    )
    assert told in capsys.readouterr().out
    notes = json.loads((tmp_path / "unequal/evaluation.json").read_text())["notes"]
    assert any(told in note for note in notes)


def test_pretrain_oracle_and_rl2_stand_beside_maml(runs, tmp_path):
    small = ["bandit-5", *SMALL, "--data.episodes", "8", "--log-dir", str(tmp_path)]
    for algorithm in ("pretrain", "oracle", "rl2"):
        hidden = ["--network.hidden", "4"]
        train.main([*small, "--algorithm", algorithm, *hidden])
    names = [f"bandit-5-{name}_1" for name in ("pretrain", "oracle", "rl2")]
    given = [str(runs / "bandit-5_1"), *(str(tmp_path / name) for name in names)]
    options = ["--tasks", "2", "--steps", "2", "--baselines", "oracle", "--device", "cpu"]
    evaluate.main([*given, *options, "--out", str(tmp_path / "out")])
    found = curves(tmp_path / "out")
    budgets = {name: [p["budget"] for p in c["points"]] for (name, _), c in found.items()}
    assert budgets["bandit-5"] == budgets["bandit-5-pretrain"] == [0, 80, 160]
    assert budgets["bandit-5-oracle"] == [0, 80, 160]
    assert budgets["bandit-5-rl2"] == [0, 10, 20]
    notes = json.loads((tmp_path / "out" / "evaluation.json").read_text())["notes"]
    assert [note.split(":")[0] for note in notes if "remembers" in note] == [
        "bandit-5-rl2 takes no inner steps, but remembers"
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert re.search(r"bandit-5-rl2: return [^.]*\..* in a trial&#x27;s first episode", page)
    assert len({repr(c["points"][0]["scores"]) for c in found.values()}) == len(found)


def test_step_sizes_are_chosen_for_runs_that_keep_theirs(runs, tmp_path, monkeypatch):
    small = ["bandit-5", *SMALL, "--data.episodes", "8", "--log-dir", str(tmp_path)]
    train.main([*small, "--algorithm", "pretrain"])
    given = [str(runs / "bandit-5_1"), str(tmp_path / "bandit-5-pretrain_1")]
    options = ["--tasks", "3", "--steps", "1", "--baselines", "oracle", "--device", "cpu"]
    chosen = ["--step-sizes", "1e-9", "2"]
    found = {}
    for name, more in (("as given", []), ("chosen", chosen)):
        evaluate.main([*given, *options, *more, "--out", str(tmp_path / name)])
        found[name] = json.loads((tmp_path / name / "evaluation.json").read_text())
    scores = {
        name: {c["name"]: [p["scores"] for p in c["points"]] for c in content["curves"]}
        for name, content in found.items()
    }
    assert scores["as given"]["bandit-5"] == scores["chosen"]["bandit-5"]
    ours = [scores[name]["bandit-5-pretrain"] for name in ("as given", "chosen")]
    assert ours[0][0] == ours[1][0]
    assert ours[0][1] != ours[1][1]
    told = (
        "bandit-5-pretrain takes inner steps of 2: of 1e-09, 2, the best after 1 inner steps on 3"
    )
    assert any(note.startswith(told) for note in found["chosen"]["notes"])
    with monkeypatch.context() as patch:
        lost = SimpleNamespace(scores=np.full((2, 3), -np.inf))
        patch.setattr("meta_rl.evaluation.step_sizes.adapted", lambda *_: lost)
        with pytest.raises(InputError, match="step_sizes: expected one with which bandit-5-pretr"):
            evaluate.main([given[1], *options, *chosen, "--out", str(tmp_path / "lost")])
    with pytest.raises(InputError, match="step_sizes: expected a run that keeps the step size"):
        evaluate.main([given[0], *options, *chosen, "--out", str(tmp_path / "refused")])
    assert not (tmp_path / "refused").exists()


def test_adapting_takes_another_step_size(runs, tmp_path, capsys):
    small = ["bandit-5", *SMALL, "--data.episodes", "8", "--log-dir", str(tmp_path)]
    train.main([*small, "--algorithm", "pretrain"])
    run = meta_rl.load(tmp_path / "bandit-5-pretrain_1")
    task = run.held_out_tasks(1)[0]
    small_step, same, large = (
        (with_step_size(run, size) if size else run).adapt(task, steps=1).params
        for size in (0.25, None, 1.0)
    )
    assert run.config.inner.step_size == 0.5
    for name, value in run.meta.theta.items():
        moved = same[name] - value
        torch.testing.assert_close(small_step[name] - value, moved / 2, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(large[name] - value, moved * 2, rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match="step_size: expected it to be left out"):
        adapt.main([str(runs / "bandit-5_1"), "--step-size", "1", "--device", "cpu"])
