"""meta-rl prune, as a person runs it: what it leaves behind, and what goes on with that."""

import json
import math
import shutil
import signal

import numpy as np
import pytest
from stable_baselines3 import PPO

import meta_rl
from meta_rl.cli import adapt, evaluate, prune, train
from meta_rl.errors import DivergedError, InputError
from meta_rl.evaluation.algorithms import load_algorithms
from meta_rl.pruning import smaller
from meta_rl.pruning.measure import Measured, change, table
from tests.extras import needs
from tests.short import short_episodes

pytestmark = pytest.mark.usefixtures("once")
CPU = ["--device", "cpu"]
SMALL = ["--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2", *CPU]
SMALL += ["--eval.no-pictures"]


@pytest.fixture(scope="module")
def once():
    """Latencies of one round, and short episodes: neither speed nor scores are asked for here."""
    with pytest.MonkeyPatch.context() as patch, short_episodes():
        patch.setattr("meta_rl.pruning.measure.ROUNDS", 1)
        patch.setattr("meta_rl.pruning.measure.CALLS", {"predict": 2, "adapt": 1})
        yield


@pytest.fixture(scope="module")
def trained(once, tmp_path_factory):
    """A run of two iterations with two layers of 8 units."""
    logs = tmp_path_factory.mktemp("runs")
    options = ["--iterations", "2", "--network.hidden", "8", "8", "--log-dir", str(logs)]
    train.main(["navigation-2d", *options, *SMALL])
    return logs / "navigation-2d_1"


@pytest.fixture(scope="module")
def pruned(once, trained):
    """Two prunings of it."""
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    options = ["--rounds", "2", "--iterations", "1", "--tasks", "2", "--log-dir"]
    prune.main([str(trained), "--keep", "1", "0.5", *options, str(trained.parent), *CPU])
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before
    return trained.parent / "navigation-2d_1-pruned_1"


def test_the_curve_tells_sizes_scores_and_latencies_before_and_after(pruned):
    content = json.loads((pruned / "pruning.json").read_text())
    before, whole, half = content["measured"]
    assert [m["name"] for m in (before, whole, half)] == ["before", "keep 1", "keep 0.5"]
    assert [m["units"] for m in (before, whole, half)] == [[8, 8], [8, 8], [4, 4]]
    assert [m["parameters"] for m in (before, half)] == [116, 44]
    assert [m["iteration"] for m in (before, whole, half)] == [2, 4, 4]
    for m in (before, whole, half):
        assert len(m["scores"]) == len(m["margins"]) == 4
        assert np.isfinite([*m["scores"], *m["margins"]]).all()
        assert 0 < m["predict"] < math.inf
        assert 0 < m["adapt"] < math.inf
    assert (pruned / "pruning.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_pruned_is_another_algorithm_with_the_same_start(trained, pruned, tmp_path):
    how = {"by": "saliency", "keep": 0.5, "rounds": 2, "iterations": 1, "after": 2}
    assert json.loads((pruned / "keep-0.5" / "pruned.json").read_text()) == [how]
    warm = tmp_path / "warm_1"
    shutil.copytree(pruned / "keep-0.5", warm)
    (warm / "init_run.json").write_text("{}")
    (warm / "init_experts").mkdir()
    (warm / "init_experts" / "experts.json").write_text("[]")
    options = ["--by", "magnitude", "--iterations", "0", "--tasks", "2", "--log-dir", str(tmp_path)]
    prune.main([str(warm), *options, *CPU])
    home = tmp_path / "warm_1-pruned_1" / "keep-0.5"
    last = {"by": "magnitude", "keep": 0.5, "rounds": 1, "iterations": 0, "after": 4}
    assert json.loads((home / "pruned.json").read_text()) == [how, last]
    assert (home / "init_run.json").read_text() == "{}"
    assert (home / "init_experts" / "experts.json").read_text() == "[]"
    names = [a.name for a in load_algorithms([trained, home], "cpu")]
    assert len(set(names)) == 2


def test_a_change_is_told_task_by_task():
    given = {"units": [8], "parameters": 1, "iteration": 0, "scores": [], "margins": []}
    first, other = (Measured(name="", last=last, **given) for last in ([-1.0, -3.0], [-1.2, -3.1]))
    assert change(other, first) == pytest.approx((-7.5, 4.9))  # -10 and -5 percent of 2
    assert change(first, first) == (0, 0)
    nothing = Measured(name="", last=[0.0, 0.0], **given | {"scores": [0.0], "margins": [0.0]})
    assert "%" not in table([nothing, nothing], "return")


def test_no_iterations_are_none_even_before_meta_training(trained, tmp_path, capsys):
    start = trained / "checkpoints" / "000000000"
    options = ["--iterations", "0", "--tasks", "2", "--log-dir", str(tmp_path), *CPU]
    prune.main([str(start), *options])
    pruned = tmp_path / "navigation-2d_1-pruned_1" / "keep-0.5"
    assert f"adapt it: meta-rl adapt {pruned}\n" in capsys.readouterr().out
    assert meta_rl.load(pruned).iteration == 0


@pytest.mark.parametrize("how", ["fails", "diverges", "is stopped"])
def test_a_share_that_does_not_come_to_its_end_costs_nothing_of_the_others(
    how, trained, tmp_path, monkeypatch
):
    pruned, seen = smaller.prune, []

    def breaking(learner, keep, *others):
        seen.append(keep)
        cut = pruned(learner, keep, *others)
        if keep == [4, 4]:
            if how == "fails":
                raise InputError("training: an environment raised.")
            if how == "diverges":
                raise DivergedError("training: gradients are not finite.")
            signal.raise_signal(signal.SIGINT)
        return cut

    monkeypatch.setattr(smaller, "prune", breaking)
    options = ["--iterations", "2", "--tasks", "2", "--log-dir", str(tmp_path), *CPU]
    with pytest.warns(UserWarning, match=r"keep 0.5 is left out: (training: |it was st)"):
        prune.main([str(trained), "--keep", "0.75", "0.5", "0.25", *options])
    content = json.loads((tmp_path / "navigation-2d_1-pruned_1" / "pruning.json").read_text())
    after = [] if how == "is stopped" else ["keep 0.25"]
    assert [m["name"] for m in content["measured"]] == ["before", "keep 0.75", *after]
    assert [2, 2] in seen or not after


def test_every_command_goes_on_with_a_pruned_run(pruned, tmp_path, capsys):
    run, task = pruned / "keep-0.5", ["--task", "goal=0.3,-0.2", "--steps", "1"]
    train.main(["--resume", str(run), "--iterations", "5", *CPU])
    learner = meta_rl.load(run)
    assert (learner.iteration, learner.config.network.hidden) == (5, (4, 4))
    file = tmp_path / "small.zip"
    adapt.main([str(run), *task, "--export-sb3", str(file), "--no-pictures", *CPU])
    policy = meta_rl.load_adapted(run / "adapted" / "goal=0.3,-0.2")
    ppo, obs = PPO.load(file, device="cpu"), np.array([0.1, -0.2], np.float32)
    assert ppo.policy.state_dict()["mlp_extractor.policy_net.0.weight"].shape == (4, 2)
    np.testing.assert_allclose(
        ppo.predict(obs, deterministic=True)[0],
        policy.predict(obs, deterministic=True)[0],
        atol=1e-7,
    )
    evaluate.main([str(run), "--tasks", "2", "--baselines", "random", *CPU])
    assert "return" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["policy", "network"])
def test_adapting_writes_an_onnx_file_that_predicts_the_same(kind, pruned, tmp_path, capsys):
    ort, file = needs("onnxscript", "onnxruntime"), tmp_path / "model.onnx"
    run, task = pruned / "keep-0.5", "goal=0.3,-0.2"
    if kind == "network":
        few = ["--data.tasks", "2", "--eval.tasks", "2", "--eval.test-tasks", "2", *CPU]
        train.main(["sinusoid", "--iterations", "1", *few, "--log-dir", str(tmp_path)])
        run, task = tmp_path / "sinusoid_1", "amplitude=1,phase=1"
    options = ["--task", task, "--steps", "2", "--no-pictures", *CPU]
    adapt.main([str(run), *options, "--export-onnx", str(file)])
    assert f"onnxruntime.InferenceSession('{file}')" in capsys.readouterr().out
    (folder, *_) = sorted((run / "adapted").iterdir(), key=lambda p: p.stat().st_mtime)[::-1]
    model = meta_rl.load_adapted(folder)
    inputs = np.random.default_rng(0).normal(size=(9, 2 if kind == "policy" else 1))
    inputs = inputs.astype(np.float32)
    own = (
        model.predict(inputs, deterministic=True)[0] if kind == "policy" else model.predict(inputs)
    )
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: inputs})
    np.testing.assert_allclose(got, own, rtol=1e-5, atol=1e-5)


def test_channels_are_pruned_before_meta_training_too(few_glyphs, tmp_path, capsys):
    tiny = ["--data.tasks", "2", "--data.queries", "2", "--network.channels", "4", "4", "3", "2"]
    tiny += ["--eval.tasks", "2", "--eval.test-tasks", "2", "--log-dir", str(tmp_path), *CPU]
    train.main(["glyphs-5way-1shot", "--iterations", "1", *tiny])
    start = tmp_path / "glyphs-5way-1shot_1" / "checkpoints" / "000000000"
    prune.main([str(start), "--iterations", "1", "--log-dir", str(tmp_path), *CPU])
    run = tmp_path / "glyphs-5way-1shot_1-pruned_1" / "keep-0.5"
    learner = meta_rl.load(run)
    assert (learner.iteration, learner.config.network.channels) == (1, (2, 2, 2, 1))
    assert learner.config.iterations == 1
    assert "accuracy after 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "0"], "keep: expected a fraction above 0, at most 1, got 0.0"),
        (["--keep", "0.5", "0.5"], "keep: expected different fractions"),
        (["--rounds", "0"], "rounds: expected 1 or more, got 0"),
        (["--iterations", "-1"], "iterations: expected 0 or more, got -1"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    trained, options, message, tmp_path
):
    with pytest.raises(InputError, match=message):
        prune.main([str(trained), *options, "--log-dir", str(tmp_path), *CPU])
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_hidden_units_is_refused(tmp_path):
    logs = ["--log-dir", str(tmp_path / "runs")]
    train.main(["navigation-2d", "--iterations", "1", "--network.hidden", *SMALL, *logs])
    with pytest.raises(InputError, match="expected a hidden layer of a perceptron"):
        prune.main([str(tmp_path / "runs" / "navigation-2d_1"), "--log-dir", str(tmp_path / "p")])
    assert not (tmp_path / "p").exists()
