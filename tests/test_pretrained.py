"""Models that are shipped: they adapt by their command, and are what their cards say."""

import importlib.util
import json
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from meta_rl.envs import FAMILIES

import meta_rl
from benchmarks import pretrained as shipping
from benchmarks.pretrained_cards import card
from benchmarks.reproduce import Reproduce, work
from benchmarks.reproduce_list import Protocol, seeds
from meta_rl.cli import adapt, envs, evaluate, prune, train
from meta_rl.errors import InputError
from meta_rl.families.locomotion import Locomotion
from meta_rl.storage import checkpoint, pretrained
from tests.extras import needs

QUICK = ["--steps", "1", "--device", "cpu", "--no-pictures"]
ROBOT = "half-cheetah-direction"
TINY = {
    "preset": "navigation-2d",
    "changes": {"data.tasks": 2, "data.episodes": 2},
    "iterations": 1,
    "seconds": 0.1,
    "protocols": (Protocol(tasks=2, steps=1),),
}


def shipped(name):
    """The model's folder, if its robot is here."""
    if isinstance(FAMILIES.get(meta_rl.preset(name).family), Locomotion):
        needs("mujoco")
    return pretrained.HOME / name


def test_models_of_an_installed_package_are_found_beside_any_file(tmp_path):
    home = tmp_path / "meta_rl"
    (home / "storage").mkdir(parents=True)
    (home / "pretrained" / "cartpole").mkdir(parents=True)
    (home / "pretrained" / "cartpole" / "card.md").touch()
    (tmp_path / "pyproject.toml").touch()  # of the user's project
    source = shutil.copy(pretrained.__file__, home / "storage")
    spec = importlib.util.spec_from_file_location("installed", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.names() == ["cartpole"]


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("name", "task", "gain"),
    [
        ("navigation-2d", "goal=0.3,-0.2", 5.0),
        ("sinusoid", "amplitude=3,phase=1", -1.0),
        (ROBOT, "direction=-1", 50.0),
    ],
)
def test_a_shipped_model_adapts_by_its_command(name, task, gain, tmp_path, monkeypatch, capsys):
    """What it leaves lies in the current folder, and the package stays as it is."""
    before = contents(shipped(name))
    monkeypatch.chdir(tmp_path)
    adapt.main([f"pretrained:{name}", "--task", task, *QUICK])
    assert "after 1 inner steps" in capsys.readouterr().out
    [folder] = (tmp_path / "runs" / f"pretrained-{name}" / "adapted").iterdir()
    scores = meta_rl.load_adapted(folder).scores
    assert (scores[1] - scores[0]) / gain > 1  # better by more than that
    assert contents(pretrained.HOME / name) == before


def test_no_model_is_listed_where_none_may_be_read(monkeypatch):
    def refuse(pattern):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pretrained, "HOME", SimpleNamespace(glob=refuse))
    assert pretrained.names() == []
    assert not pretrained.advice(Path("cartpole"))


@pytest.mark.parametrize("name", pretrained.names())
def test_a_shipped_model_is_small_loads_anywhere_and_is_what_its_card_says(name):
    home = shipped(name)
    assert sum(map(len, contents(home).values())) < 200_000
    scores = json.loads((home / "scores.json").read_text())
    assert (home / "card.md").read_text() == card(scores)
    manifest, tensors = checkpoint.load(home)
    assert manifest["training_state"] is False
    assert not [one for one in tensors if one.startswith(("outer.", "sampling."))]
    manifest["versions"] = {"torch": "another"}
    with warnings.catch_warnings(action="error"):
        learner = meta_rl.load(f"pretrained:{name}").restore(manifest, tensors)
    assert (learner.iteration, learner.samples) == (scores["iterations"], scores["samples"])
    assert (learner.config.family, learner.config.seed) == (scores["family"], scores["seed"])
    chosen = next(one for one in scores["candidates"] if one["seed"] == scores["seed"])
    best = max if learner.problem.maximizes else min
    assert chosen["means"][-1] == best(one["means"][-1] for one in scores["candidates"])


def test_models_that_there_are_are_listed(capsys):
    assert {"navigation-2d", "sinusoid", "cartpole", ROBOT} <= set(pretrained.names())
    envs.main([])
    listed = capsys.readouterr().out
    assert all(f"\n  pretrained:{name}\n" in listed for name in pretrained.names())


@pytest.mark.parametrize("name", ["half-cheeta-direction", "", ".", "../pretrained/cartpole"])
def test_an_unknown_model_is_refused_in_a_line_that_lists_all(name):
    listing = r"^pretrained: expected one of .*cartpole, .*got '"
    with pytest.raises(InputError, match=listing) as told:
        meta_rl.load(f"pretrained:{name}")
    assert "\n" not in str(told.value)
    with pytest.raises(InputError, match="expected one of"):
        adapt.main([f"pretrained:{name}"])


def test_a_name_without_its_prefix_is_told_the_prefix():
    with pytest.raises(InputError, match="The shipped model is pretrained:cartpole"):
        meta_rl.load("cartpole")


@pytest.mark.slow
def test_a_shipped_model_is_evaluated_and_pruned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, small = "pretrained:navigation-2d", ["--device", "cpu"]
    quick = ["--tasks", "2", "--steps", "1", "--episodes", "2", "--baselines", "random"]
    evaluate.main([model, *quick, *small])
    prune.main([model, "--iterations", "0", "--tasks", "2", *small])
    assert (tmp_path / "runs/pretrained-navigation-2d/evaluation_1/report.html").exists()
    assert (tmp_path / "runs/pretrained-navigation-2d-pruned_1/keep-0.5/checkpoints").exists()


def test_a_run_starts_from_a_shipped_model_and_does_not_resume_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = "pretrained:navigation-2d"
    options = ["--data.tasks", "2", "--data.episodes", "2", "--eval.no-test", "--iterations", "1"]
    train.main(["navigation-pearl", "--init-run", model, *options, "--device", "cpu"])
    assert f"theta starts from {model}" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"no training state .* --init-run pretrained:navigation"):
        train.main(["--resume", model])


def test_a_shipped_model_trains_further_with_a_fresh_optimizer():
    learner = meta_rl.load("pretrained:sinusoid")
    before = {name: value.clone() for name, value in learner.meta.theta.items()}
    learner.learn(iterations=1)
    assert not all(torch.equal(value, before[n]) for n, value in learner.meta.theta.items())


@pytest.fixture(scope="module")
def queue(tmp_path_factory):
    """Folders of three finished runs that differ in their seed, and the list of the runs."""
    folder = tmp_path_factory.mktemp("queue")
    runs = seeds(3, **TINY)
    work(Reproduce(folder=folder / "work", results=folder / "results"), runs)
    return folder, runs


def arguments(folder, out):
    places = {"--folder": folder / "work", "--results": folder / "results", "--out": out}
    return ["navigation-2d", *(str(word) for pair in places.items() for word in pair)]


def test_the_best_seed_on_validation_tasks_is_shipped_and_twice_the_same(
    queue, tmp_path, monkeypatch, capsys
):
    folder, runs = queue
    monkeypatch.setattr(shipping, "TASKS", 4)
    given = arguments(folder, tmp_path)
    shipping.main(given, runs)
    first = contents(tmp_path)
    scores = json.loads((tmp_path / "navigation-2d/scores.json").read_text())
    found = {one["seed"]: one["means"][-1] for one in scores["candidates"]}
    assert scores["seed"] == max(found, key=found.get)
    assert len(set(found.values())) == 3
    line = json.loads((folder / "results/navigation-2d.jsonl").read_text().splitlines()[0])
    assert len(scores["scores"]) == len(line["evaluations"][0]["scores"])
    shipping.main(given, runs)
    assert contents(tmp_path) == first
    assert "as before" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "navigation-2d")
    shipping.main(given, runs)
    assert contents(tmp_path) == first


def test_a_preset_without_finished_runs_is_refused(queue, tmp_path):
    folder, _ = queue
    with pytest.raises(InputError, match="presets: expected finished runs of navigation-2d by"):
        shipping.main(arguments(folder, tmp_path), seeds(1, **TINY | {"iterations": 2}))


def test_a_model_that_is_too_large_is_refused(queue, tmp_path, monkeypatch):
    folder, runs = queue
    monkeypatch.setattr(shipping, "LARGEST", 1000)
    with pytest.raises(InputError, match="navigation-2d: expected a model of under 200 kB, got"):
        shipping.main(arguments(folder, tmp_path), runs)
    assert not contents(tmp_path)
