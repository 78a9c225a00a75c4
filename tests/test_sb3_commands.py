"""From stable-baselines3 to meta-training, adapting, and back, by the commands."""

import numpy as np
import pytest
import torch
from meta_rl.agents.sb3 import load_expert
from meta_rl.envs import Navigation2D
from stable_baselines3 import PPO

import meta_rl
from meta_rl.cli import adapt, train
from meta_rl.errors import InputError
from meta_rl.families.registry import make_family

pytestmark = pytest.mark.usefixtures("short_episodes")

SMALL = ["--data.tasks", "2", "--data.episodes", "2", "--eval.tasks", "2", "--device", "cpu"]
SMALL += ["--eval.no-pictures"]
TASK = {"goal": (0.3, -0.2)}


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """An untrained PPO of 2-D navigation, with a standard deviation that suits steps of 0.1."""
    file = tmp_path_factory.mktemp("sb3") / "theirs.zip"
    env, std = Navigation2D().make_env(TASK), {"log_std_init": -4.6}
    PPO("MlpPolicy", env, policy_kwargs=std, seed=5, device="cpu").save(file)
    return file


@pytest.fixture(scope="module")
def trained(zipped, tmp_path_factory):
    """A run that started from it."""
    logs = tmp_path_factory.mktemp("runs")
    options = ["--init-sb3", str(zipped), "--iterations", "1", "--log-dir", str(logs)]
    train.main(["navigation-2d", *options, *SMALL])
    return logs / "navigation-2d_1"


def test_meta_training_starts_at_the_saved_actor(zipped, trained):
    learner = meta_rl.build(meta_rl.preset("navigation-2d"), init_sb3=zipped)
    started = learner.problem.deploy(learner.meta.theta, (), {})
    expert = load_expert(zipped, Navigation2D().make_env(TASK))
    obs = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    for model in (started, expert):
        np.testing.assert_allclose(
            model.predict(obs, deterministic=True)[0],
            PPO.load(zipped, device="cpu").predict(obs, deterministic=True)[0],
            atol=1e-7,
        )
    theta, at_random = meta_rl.load(trained).meta.theta, meta_rl.build(learner.config).meta.theta
    near, far = (
        sum((theta[n] - other[n]).norm() for n in theta)
        for other in (learner.meta.theta, at_random)
    )
    assert (trained / "init_sb3.zip").read_bytes() == zipped.read_bytes()
    assert 0 < near < 0.2 * far  # one outer step away from the zip, and not from random weights


def test_an_adapted_policy_is_exported_for_any_variant(trained, tmp_path, capsys):
    file = tmp_path / "adapted.zip"
    options = ["--task", "goal=0.3,-0.2", "--steps", "1", "--device", "cpu"]
    adapt.main([str(trained), *options, "--export-sb3", str(file)])
    assert f"PPO.load('{file}', env=...)" in capsys.readouterr().out
    policy = meta_rl.load_adapted(trained / "adapted" / "goal=0.3,-0.2")
    obs = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    ours, theirs = (
        m.predict(obs, deterministic=True)[0] for m in (policy, PPO.load(file, device="cpu"))
    )
    np.testing.assert_allclose(theirs, ours, atol=1e-7)
    by_id = ["--env-id", "MetaRL/Navigation2D-v0", "--env-kwargs", '{"goal": [0.1, 0.1]}']
    adapt.main([str(trained), *by_id, *options[2:], "--export-sb3", str(tmp_path / "other.zip")])
    assert (
        PPO.load(tmp_path / "other.zip", device="cpu").action_space == Navigation2D().action_space
    )


def test_what_cannot_be_exported_is_refused_before_adapting(trained, tmp_path):
    train.main(["sinusoid", "--iterations", "1", "--eval.tasks", "2", "--log-dir", str(tmp_path)])
    before = sorted([*tmp_path.rglob("*"), *trained.rglob("*")])
    for run, file, message in (
        (tmp_path / "sinusoid_1", tmp_path / "x.zip", "export_sb3: sinusoid is supervised"),
        (trained, tmp_path / "x.model", "expected a name ending in .zip"),
        (trained, tmp_path / "no" / "x.zip", "expected a folder to write to"),
    ):
        with pytest.raises(InputError, match=message):
            adapt.main([str(run), "--export-sb3", str(file), "--device", "cpu"])
    assert sorted([*tmp_path.rglob("*"), *trained.rglob("*")]) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sinusoid"], "init_sb3: sinusoid is supervised"),
        (["cartpole"], "action space: expected"),
        (["navigation-2d", "--network.hidden", "8"], "Give --network.hidden 64 64 --network.activ"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(zipped, arguments, message, tmp_path):
    logs = ["--log-dir", str(tmp_path), "--device", "cpu"]
    with pytest.raises(InputError, match=message):
        train.main([*arguments, "--init-sb3", str(zipped), *logs])
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_resumes_has_its_start_already(zipped, trained):
    with pytest.raises(InputError, match="resume: a run keeps its own settings"):
        train.main(["--resume", str(trained), "--iterations", "2", "--init-sb3", str(zipped)])


def test_cartpole_crosses_both_ways(tmp_path):
    env = make_family("cartpole").make_env(make_family("cartpole").sample_tasks(1, 0)[0])
    model = PPO("MlpPolicy", env, seed=0, device="cpu")
    model.save(tmp_path / "cartpole.zip")
    learner = meta_rl.build(meta_rl.preset("cartpole"), init_sb3=tmp_path / "cartpole.zip")
    weight = model.policy.state_dict()["action_net.weight"]
    assert torch.equal(learner.meta.theta["logits.4.weight"], weight)
