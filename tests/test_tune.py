"""Tuning as a person does it: the report, the file to train with, death, company, refusals."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest

import meta_rl
from meta_rl.cli import train, tune
from meta_rl.config import from_dict, to_dict
from meta_rl.errors import DivergedError, InputError
from meta_rl.evaluation.curves import Curve
from meta_rl.tuning import protocol, record
from meta_rl.tuning.protocol import Comparison
from meta_rl.tuning.settings import TuningSettings
from meta_rl.tuning.space import SPACES, Space, fitting
from meta_rl.tuning.study import Claim
from tests.extras import posix

ROOT = Path(__file__).parent.parent
SMALL = ["--data.tasks", "4", "--eval.tasks", "3", "--eval.test-tasks", "4", "--eval.steps", "1",
         "--device", "cpu", "--speed.program", "plain"]  # fmt: skip
# A default that hardly learns: Reptile, which has a rate of its own, is chosen.
SINUSOID = ["sinusoid", *SMALL, "--outer.learning-rate", "1e-6", "--budget", "3200",
            "--trials", "3", "--search", "greedy", "--seeds", "2"]  # fmt: skip
BANDIT = ["bandit-5", *SMALL, "--data.episodes", "3", "--budget", "500", "--trials", "2",
          "--search", "random", "--seeds", "1", "--algorithms", "maml", "fomaml"]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A study of few-shot regression, where lower is better."""
    folder = tmp_path_factory.mktemp("tuned") / "study"
    tune.main([*SINUSOID, "--out", str(folder)])
    return folder


def read(folder):
    return json.loads((folder / "tuning.json").read_text())


def default(folder):
    """The strategy that was compared with, as it was given."""
    kept = folder / "comparison" / "default" / "seed-1" / "manifest.json"
    return replace(from_dict(json.loads(kept.read_text())["config"]), seed=0)


def optuna_trials(folder):
    study = optuna.load_study(study_name="strategies", storage=f"sqlite:///{folder / 'study.db'}")
    found = study.get_trials()
    study._storage._backend.engine.dispose()
    return found


def test_the_chosen_trial_has_the_least_loss_of_those_trained_to_the_end(tuned):
    content = read(tuned)
    assert not content["higher_is_better"]
    whole = [trial for trial in content["trials"] if trial["state"] == "complete"]
    best = min(whole, key=lambda trial: trial["score"])
    assert content["chosen"]["trial"] == best["number"]
    assert all(trial["samples"] >= 3200 for trial in whole)
    assert {trial["state"] for trial in content["trials"]} == {"complete", "pruned"}
    ended = [trial for trial in content["trials"] if trial["state"] == "pruned"]
    assert all(trial["score"] is None for trial in ended)
    assert all(trial["ended"] and trial["samples"] < 3200 for trial in ended)


def test_every_trial_and_every_score_of_the_comparison_is_in_the_tables(tuned):
    content = read(tuned)
    with (tuned / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == [t["number"] for t in content["trials"]]
    assert [row["algorithm"] for row in rows][:3] == ["maml", "fomaml", "reptile"]
    with (tuned / "comparison.csv").open() as file:
        scores = [row for row in csv.DictReader(file) if row["inner_steps"] == "1"]
    assert len(scores) == 2 * 2 * 4  # strategies, seeds, tasks
    means = {
        name: np.mean([float(row["score"]) for row in scores if row["strategy"] == name])
        for name in content["comparison"]["arms"]
    }
    chosen = f"trial-{content['chosen']['trial']}"
    gain, low, high = content["comparison"]["gain"]
    assert gain == pytest.approx(means["default"] - means[chosen]), "a lower loss is a gain"
    assert low <= gain <= high


def test_the_comparison_is_on_tasks_and_seeds_that_had_no_part_in_the_choice(tuned):
    settings = TuningSettings(config=default(tuned), budget=3200)
    space = fitting(SPACES["examples"], settings.config)
    planned = protocol.plan("sinusoid", settings, space)
    validation, test = ({repr(t) for t in tasks} for tasks in (planned.validation, planned.test))
    assert not validation & test
    seeds = {Path(p).name for p in (tuned / "comparison").glob("*/seed-*")}
    assert seeds == {"seed-1", "seed-2"}, "trials had seed 0"
    with (tuned / "comparison.csv").open() as file:
        met = {tuple(json.loads(row["parameters"]).items()) for row in csv.DictReader(file)}
    assert met == {tuple(task.items()) for task in planned.test}


def test_the_page_needs_no_other_file_and_says_what_came_out(tuned):
    text, content = (tuned / "report.html").read_text(), read(tuned)
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    said = (content["chosen"]["strategy"], f"{content['budget']:,} labelled examples")
    for words in ("Every trial", "Importance", "is too good", "Successive halving", *said):
        assert words in text


def test_the_chosen_settings_go_into_train(tuned, tmp_path, capsys):
    file = tuned / "chosen.json"
    chosen = from_dict(json.loads(file.read_text()))
    train.main(["--config", str(file), "--iterations", "2", "--device", "cpu",
                "--log-dir", str(tmp_path)])  # fmt: skip
    trained = meta_rl.load(tmp_path / "sinusoid_1")
    assert trained.iteration == 2
    assert trained.config.inner == chosen.inner
    assert trained.config.outer == chosen.outer
    best = read(tuned)["trials"][read(tuned)["chosen"]["trial"]]
    assert chosen.iterations == best["iterations"]
    assert str(tmp_path / "sinusoid_1") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sinusoid", "--config", "{file}"], "says what to train and how; leave out the preset"),
        (["--config", "{file}", "--algorithm", "lslr"], "leave out the preset, --algorithm"),
        (["--config", "nowhere.json"], "expected a JSON file of settings, got nowhere.json"),
        (["--config", "{page}"], "expected a JSON file of settings"),
        (["--config", "{other}"], "expected type Config, got None"),
    ],
)
def test_train_refuses_settings_that_it_cannot_follow(tuned, arguments, message):
    files = {"file": "chosen.json", "page": "report.html", "other": "tuning.json"}
    paths = {name: tuned / file for name, file in files.items()}
    with pytest.raises(InputError, match=message):
        train.main([argument.format(**paths) for argument in arguments])


def test_the_same_command_again_trains_nothing(tuned, capsys):
    before = read(tuned)
    tune.main([*SINUSOID, "--out", str(tuned)])
    assert "trial" not in capsys.readouterr().out.split("chosen:")[0]
    assert read(tuned)["trials"] == before["trials"]
    assert read(tuned)["comparison"] == before["comparison"]


def command(folder):
    return subprocess.Popen(
        [sys.executable, "-m", "meta_rl", "tune", *BANDIT, "--out", str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def left_by_the_killed(tmp_path):
    """A folder whose process was ended by SIGKILL in the middle of trial 1."""
    folder = tmp_path / "study"
    with command(folder) as killed:
        while not (folder / "locks" / "trial-1").exists():
            assert killed.poll() is None, killed.communicate()
            time.sleep(0.005)
        killed.send_signal(signal.SIGKILL)
    left = [trial.state.name for trial in optuna_trials(folder)]
    assert left == ["COMPLETE", "RUNNING"]
    return folder


def check_finished(folder):
    content, after = read(folder), optuna_trials(folder)
    assert after[1].state.name == "FAIL"
    assert content["lost"] == [1]
    assert len(content["trials"]) == 2
    settings = [json.dumps(t.user_attrs["config"]) for t in after if t.state.name != "FAIL"]
    assert len(set(settings)) == len(settings), "nothing is trained twice"


@posix
def test_the_same_command_continues_a_killed_study(left_by_the_killed):
    tune.main([*BANDIT, "--out", str(left_by_the_killed)])
    check_finished(left_by_the_killed)


@pytest.mark.slow
@posix
def test_two_processes_share_what_a_killed_one_left(left_by_the_killed):
    with command(left_by_the_killed) as other:
        tune.main([*BANDIT, "--out", str(left_by_the_killed)])
        _, errors = other.communicate(timeout=300)
        assert other.returncode == 0, errors
    check_finished(left_by_the_killed)


def test_a_default_that_nothing_beats_stays(tmp_path, capsys):
    folder = tmp_path / "study"
    tune.main([*BANDIT, "--trials", "1", "--out", str(folder)])
    assert "the default stays" in capsys.readouterr().out
    assert read(folder)["comparison"] == {}
    assert from_dict(json.loads((folder / "chosen.json").read_text())).inner.form == "scalar"


@pytest.mark.parametrize("algorithm", ["maml", "fomaml"])
def test_a_trial_that_falls_behind_ends_unless_it_is_the_default(tuned, algorithm, monkeypatch):
    """With several workers the default is not the first to come to a rung."""
    settings = TuningSettings(config=default(tuned), budget=3200)
    planned = protocol.plan("sinusoid", settings, Space(algorithms=("maml",)))
    config = meta_rl.algorithm(algorithm, planned.default)
    trial = SimpleNamespace(set_user_attr=lambda *_: None, report=lambda *_: None,
                            should_prune=lambda: True)  # fmt: skip
    study = SimpleNamespace(rungs=lambda: [0.5, 1.0], settings=settings)
    monkeypatch.setattr(protocol, "train", lambda *_: None)
    monkeypatch.setattr(protocol, "_score", lambda *_: 2.0)
    claim = Claim(trial, config, None)
    score, reason = protocol._climbed(
        planned, study, claim, meta_rl.build(config), SimpleNamespace(update=None)
    )
    if algorithm == "maml":
        assert (score, reason) == (2.0, "")
    else:
        assert score is None
        assert reason == "behind others at 0.5 of the budget: loss 2"


def test_a_space_of_ones_own_is_searched(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from meta_rl.tuning.space import SPACES, Space, one_of\n"
        "SPACES['mine'] = Space(algorithms=('lslr',),"
        " choices={'long': one_of('inner.steps', 2)})\n"
    )
    folder = tmp_path / "study"
    tune.main([*SINUSOID, "--families", str(file), "--space", "mine", "--out", str(folder)])
    del SPACES["mine"]
    content = read(folder)
    assert [t["params"] for t in content["trials"]] == [
        {"algorithm": "lslr", "long": "preset"}, {"algorithm": "lslr", "long": "2"}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sinusoid", "--trials", "0"], "trials: expected 1 or more, got 0"),
        (["sinusoid", "--budget", "0"], "budget: expected 1 or more, got 0"),
        (["sinusoid", "--seeds", "0"], "seeds: expected 1 or more, got 0"),
        (["sinusoid", "--halving", "0"], "halving: expected 1 or more, got 0"),
        (["sinusoid", "--search", "evolution", "--halving", "3"], "halving: expected 1 with"),
        (["sinusoid", "--space", "example"], "Did you mean 'examples'"),
        (["sinusoid", "--algorithms", "promp"], "ProMP needs a policy"),
        (["sinusoid", "--algorithms", "mmal"], "Did you mean 'maml'"),
        (["sinusoidal"], "Did you mean 'sinusoid'"),
        (["folder"], "data: folder needs a folder"),
        (["folder", "--data", "nowhere"], "nowhere"),
        (["sinusoid", "--device", "tpu"], "device: expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_input_is_refused_before_work_starts(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        tune.main([*arguments, "--out", str(tmp_path / "study")])
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("gain", "words"),
    [(1.0, "chosen strategy beats"), (0.0, "hard to beat"), (-1.0, "default beats the chosen")],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_verdict_follows_the_interval(tuned, gain, words, sign):
    settings = TuningSettings(config=default(tuned), budget=3200)
    space = Space(algorithms=("maml",))
    planned = protocol.plan("sinusoid", settings, space)
    planned.problem.maximizes = sign > 0
    noise = np.random.default_rng(0).normal(0, 0.2, (2, 3, 40))
    curves = tuple(
        Curve(name=name, kind="algorithm", split="test", members=("a", "b", "c"), steps=(1,),
              budget=np.zeros(1), scores=scores[None])
        for name, scores in (("default", noise[0]), ("trial-3", noise[1] + sign * gain))
    )  # fmt: skip
    said = record.verdict(planned, Comparison(None, settings.config, curves))
    assert words in said
    assert ("lower is better" in said) == (sign < 0)
    settings = replace(settings, seeds=1)
    one = tuple(replace(curve, scores=curve.scores[:, :1], members=("a",)) for curve in curves)
    told = Comparison(None, settings.config, one, ("Training of trial-3 diverged.",))
    said = record.verdict(replace(planned, settings=settings), told)
    assert "One seed cannot tell" in said
    assert words not in said
    assert said.endswith("Training of trial-3 diverged.")


def test_the_verdict_says_that_a_chosen_oracle_sees_the_task():
    preset = meta_rl.preset("bandit-5")
    planned = protocol.plan("bandit-5", TuningSettings(config=preset), Space(algorithms=("maml",)))
    seeing = meta_rl.algorithm("oracle", preset)
    scores = np.random.default_rng(0).normal(size=(2, 1, 3, 40))
    curves = tuple(
        Curve(name=name, kind="algorithm", split="test", members=("a", "b", "c"), steps=(1,),
              budget=np.zeros(1), scores=each)
        for name, each in zip(("default", "trial-1"), scores, strict=True)
    )  # fmt: skip
    assert "sees the parameters of each task" in record.verdict(
        planned, Comparison(None, seeing, curves)
    )
    assert "sees" not in record.verdict(planned, Comparison(None, preset, curves))


@pytest.mark.parametrize("error", [DivergedError, InputError])
def test_only_a_run_that_diverges_is_kept_for_the_comparison(tmp_path, monkeypatch, error):
    settings = TuningSettings(config=meta_rl.preset("sinusoid"), budget=3200, out=tmp_path)
    planned = protocol.plan("sinusoid", settings, Space(algorithms=("maml",)))
    (tmp_path / "locks").mkdir()
    folder, bar = tmp_path / "comparison" / "default" / "seed-1", SimpleNamespace(update=int)
    first = replace(settings.config, seed=1)

    def broken(learner, *_):
        learner.learn(1)
        raise error("environment: connection lost.")

    monkeypatch.setattr(protocol, "train", broken)
    if error is InputError:
        with pytest.raises(InputError, match="connection lost"):
            protocol._trained(planned, folder, first, 0, bar)
        assert not folder.exists()
    else:
        with pytest.warns(UserWarning, match="It is scored as it was then"):
            protocol._trained(planned, folder, first, 0, bar)
        study = SimpleNamespace(
            best=SimpleNamespace(
                number=3,
                user_attrs={
                    "config": to_dict(replace(settings.config, seed=7)), "iterations": 5
                },
            )
        )  # fmt: skip
        with pytest.warns(UserWarning, match="scored as it was then"):
            found = protocol.compare(replace(planned, test=planned.test[:2]), study)
        assert len(found.cut) == 6
        assert found.cut[0].startswith("Training of default diverged with seed 1 after ")
