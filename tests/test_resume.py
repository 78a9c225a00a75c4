"""Stopped and resumed equals never stopped: every algorithm, every backend, any way of dying."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import meta_rl
from meta_rl import envs
from meta_rl.errors import InputError
from meta_rl.families import GymFamily, Parameter, Uniform
from meta_rl.storage import checkpoint
from tests.extras import needs
from tests.meta_rl.test_checkpoint import assert_resumes_bit_for_bit

ROOT = Path(__file__).parent.parent
OLD = Path(__file__).parent / "data" / "schema-1"


def tiny(name, algorithm="maml", workers=0, **data):
    """A preset of this algorithm, cut to milliseconds."""
    config = meta_rl.algorithm(algorithm, replace(meta_rl.preset(name), iterations=20))
    few = {"tasks": 2, **({"episodes": 2} if hasattr(config.data, "episodes") else {}), **data}
    config = replace(config, data=replace(config.data, **few))
    if config.network.kind != "convolutional":
        config = replace(config, network=replace(config.network, hidden=(8,)))
    else:
        config = replace(config, network=replace(config.network, channels=4))
    # The same bits, and recording takes seconds: see test_recording.
    config = replace(config, speed=replace(config.speed, program="plain", workers=workers))
    sizes = {"es-maml": {"population": 2}, "ga-maml": {"population": 4, "parents": 2}}
    return replace(config, outer=replace(config.outer, **sizes.get(algorithm, {})))


OWN_STATE = ("maml", "maml++", "reptile", "alfa", "es-maml", "ga-maml")  # each keeps another


def cases():
    """Every algorithm on episodes, on few-shot regression and on images."""
    for name in ("cartpole", "sinusoid", "glyphs-5way-1shot"):
        for algorithm in meta_rl.ALGORITHMS:
            alike = name.startswith("glyphs") and algorithm not in OWN_STATE  # as on sinusoids
            yield pytest.param(name, algorithm, marks=[pytest.mark.slow] * alike)


@pytest.mark.usefixtures("short_episodes")
@pytest.mark.parametrize(("name", "algorithm"), list(cases()))
def test_every_algorithm_resumes_bit_for_bit(name, algorithm, few_glyphs, tmp_path):
    supervised, images = name != "cartpole", name.startswith("glyphs")
    if (algorithm == "maml++" and not supervised) or (algorithm == "cavia" and images):
        pytest.skip("refused, with the reason")
    refused = ("promp", "e-maml", "rl2", "varibad", "oracle", *(["pretrain"] if images else []))
    if algorithm in refused and supervised:
        pytest.skip("refused, with the reason")
    few = {"queries": 2, "ways": 2} if images else {}
    assert_resumes_bit_for_bit(tiny(name, algorithm, **few), tmp_path)


@pytest.mark.usefixtures("short_episodes")
@pytest.mark.parametrize("name", ["bandit-5", "tabular-mdp", "pendulum", "half-cheetah-velocity"])
def test_every_backend_resumes_bit_for_bit(name, tmp_path):
    """Tensors, those with random steps too, and MuJoCo's thread pool."""
    if name.startswith("half"):
        needs("mujoco")
    assert_resumes_bit_for_bit(tiny(name), tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_general_backend_resumes_bit_for_bit(workers, monkeypatch, tmp_path):
    def swing():
        return GymFamily("Pendulum-v1", Parameter("g", Uniform(5.0, 15.0)), horizon=20, id="swing")

    monkeypatch.setitem(envs.FAMILIES, "swing", swing())
    whole = assert_resumes_bit_for_bit(tiny("swing", workers=workers), tmp_path)
    whole.problem.close()


@pytest.mark.slow
def test_killed_at_random_moments_a_run_loses_nothing():
    kill("--kills", "4", "--saves", "40")


@pytest.mark.slow
def test_killed_often_a_run_loses_nothing():
    kill("--kills", "15", "--saves", "300", "--seed", "1")


def kill(*options):
    """benchmarks/kills.py; it ends with 1 if a run did not resume, or to other bits."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    counts = json.loads(result.stdout)
    assert counts["training"]["killed"] >= 4
    assert counts["saving"]["killed"] >= 40


@pytest.mark.filterwarnings("ignore:checkpoint. written with:UserWarning")
def test_checkpoints_of_schema_1_are_migrated_and_go_on(monkeypatch):
    """Adam had not counted its steps then, nor did settings and shapes of today exist.

    Baselines of few steps saw observations too.
    """
    monkeypatch.setattr("meta_rl.agents.baselines.ENOUGH", 0)
    raw = json.loads((OLD / "sinusoid-maml/manifest.json").read_text())
    assert (raw["schema"], "ways" in raw["config"]["data"]) == (1, False)
    learner = meta_rl.load(OLD / "sinusoid-maml")
    assert learner.iteration == int(learner.outer.state_dict()["steps"]) == 2
    assert learner.learn(1).iteration == 3
    later = meta_rl.load(OLD / "cartpole-promp-later")
    again = meta_rl.load(OLD / "cartpole-promp").learn(2)
    torch.testing.assert_close(again.meta, later.meta, rtol=1e-3, atol=1e-4)


def test_a_run_of_before_new_settings_existed_is_continued(tmp_path):
    """Its config.json lacks them: they have their defaults."""
    from meta_rl.cli import train

    options = ["--data.tasks", "2", "--eval.test-tasks", "2", "--device", "cpu"]
    options += ["--speed.program", "plain", "--eval.no-pictures"]
    train.main(["sinusoid", "--iterations", "1", *options, "--log-dir", str(tmp_path)])
    settings = tmp_path / "sinusoid_1/config.json"
    older = json.loads(settings.read_text())
    del older["data"]["ways"]
    settings.write_text(json.dumps(older))
    train.main(["--resume", str(settings.parent), "--iterations", "2"])
    assert meta_rl.load(settings.parent).iteration == 2


def test_other_ranges_of_the_familys_parameters_are_said(monkeypatch, tmp_path):
    def swing(low):
        return GymFamily("Pendulum-v1", Parameter("g", Uniform(low, 15.0)), horizon=5, id="swing")

    monkeypatch.setitem(envs.FAMILIES, "swing", swing(5.0))
    path = meta_rl.build(tiny("swing")).save(tmp_path / "c")
    assert "g" in checkpoint.load(path)[0]["problem"]["parameters"]
    monkeypatch.setitem(envs.FAMILIES, "swing", swing(9.0))
    with pytest.warns(UserWarning, match=r"was trained on tasks with .*5.*have .*9"):
        meta_rl.load(path)


@pytest.mark.filterwarnings("ignore:checkpoint. written with:UserWarning")
def test_a_manifest_with_anything_in_it_loads_or_is_refused_in_one_line(tmp_path):
    """Every field is replaced by each kind of value, or removed; checksums are right."""
    path = meta_rl.build(tiny("sinusoid")).learn(1).save(tmp_path / "c")
    manifest = json.loads((path / checkpoint.MANIFEST).read_text())
    manifest.pop("manifest_sha256")
    loaded = refused = 0
    for place in places(manifest):
        for value in (None, -1, "x", [], {}, [[{}]], True, 0.5, KeyError):
            changed = json.loads(json.dumps(manifest))
            replace_at(changed, place, value)
            changed["manifest_sha256"] = checkpoint._digest(changed)
            (path / checkpoint.MANIFEST).write_text(json.dumps(changed))
            try:
                meta_rl.load(path)
                loaded += 1
            except InputError:
                refused += 1
    assert min(loaded, refused) > 50


def places(values, path=()):
    """Paths of all keys of nested objects."""
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def replace_at(values, place, value):
    for key in place[:-1]:
        values = values[key]
    if value is KeyError:
        del values[place[-1]]
    else:
        values[place[-1]] = value
