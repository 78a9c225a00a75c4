"""The oracle: a policy that sees the task's parameters, on every backend."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

import meta_rl
from meta_rl import envs
from meta_rl.errors import InputError
from meta_rl.families import (
    Choice,
    Family,
    GymFamily,
    Normal,
    Parameter,
    ParameterSpace,
    Uniform,
    make_family,
)
from meta_rl.families.informed import Informed
from tests.extras import needs


def config_of(name, tasks=2, episodes=2, steps=1, workers=0):
    preset = meta_rl.preset(name)
    preset = replace(preset, inner=replace(preset.inner, steps=steps))
    config = meta_rl.algorithm("oracle", preset)
    data = replace(config.data, tasks=tasks, episodes=episodes)
    speed = replace(config.speed, workers=workers)
    return replace(config, data=data, network=replace(config.network, hidden=(6,)), speed=speed)


def swing(**more):
    gravity = Parameter("g", Uniform(5.0, 15.0), extrapolation=Uniform(0.0, 20.0))
    return GymFamily("Pendulum-v1", gravity, horizon=5, id="swing", **more)


class AllKinds(Family):
    """A family with parameters of all kinds."""

    id, horizon = "all-kinds", 5
    observation_space, action_space = gym.spaces.Box(-1, 1, (2,)), gym.spaces.Discrete(2)
    space = ParameterSpace(
        Parameter("g", Uniform(5.0, 15.0), extrapolation=Uniform(0.0, 20.0), size=2),
        Parameter("turned", Choice(-2.0, 2.0, 1.0)),
        Parameter("ground", Choice("ice", "sand", "mud"), extrapolation=Choice("snow")),
        Parameter("wind", Choice(True, False)),
        Parameter("mass", Normal(3.0, 2.0)),
    )

    def make_env(self, task, render_mode=None):
        raise NotImplementedError


def test_numbers_are_scaled_to_their_range_and_words_are_one_hot():
    family = Informed(AllKinds())
    task = {"g": (5.0, 20.0), "turned": 2.0, "ground": "sand", "wind": False, "mass": 3.0}
    told = family.told(family.check_task(task))
    np.testing.assert_allclose(told, [-1, 2, 1, 0, 1, 0, 0, 1, 0], atol=1e-6)
    beyond = family.told(family.check_task({**task, "ground": "snow"}))
    np.testing.assert_array_equal(beyond[3:6], [0, 0, 0])


@pytest.mark.parametrize("name", ["navigation-2d", "swing", "half-cheetah-velocity"])
def test_batched_and_single_environments_tell_the_same(name, monkeypatch):
    if name.startswith("half"):
        needs("mujoco")
    monkeypatch.setitem(envs.FAMILIES, "swing", swing())
    family = Informed(make_family(name))
    tasks = family.sample_tasks(2, 0)
    vec = family.make_vec(2, 3, device="cpu", dtype=torch.float64)
    obs = vec.reset(tasks, 0)
    size = gym.spaces.flatdim(family.observation_space)
    assert obs.shape == (2, 3, size)
    action = torch.as_tensor(family.action_space.sample()).double().expand(2, 3, -1)
    later = vec.step(action).obs
    vec.close()
    plain = family.plain.make_vec(2, 3, device="cpu", dtype=torch.float64)
    seen = plain.reset(tasks, 0), plain.step(action).obs
    plain.close()
    for m, task in enumerate(tasks):
        told = torch.from_numpy(family.told(task)).double()
        env = family.make_env(task)
        one, _ = env.reset(seed=0)
        assert env.observation_space.contains(one)
        flat = gym.spaces.flatten(family.observation_space, one)
        np.testing.assert_array_equal(flat[-len(told) :], family.told(task))
        for ours, theirs in zip((obs, later), seen, strict=True):
            torch.testing.assert_close(ours[m, :, : -len(told)], theirs[m], rtol=0, atol=0)
            assert (ours[m, :, -len(told) :] == told).all()
        env.close()


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_workers_step_it(workers, monkeypatch, tmp_path):
    monkeypatch.setitem(envs.FAMILIES, "swing", swing())
    learner = meta_rl.build(config_of("swing", workers=workers)).learn(1)
    again = meta_rl.load(learner.save(tmp_path / "c"))
    for name, value in learner.meta.theta.items():
        assert torch.equal(value, again.meta.theta[name])
    for one in (learner, again):
        one.problem.close()


def test_images_go_beside_the_task():
    config = config_of("pixel-goals")
    learner = meta_rl.build(config)
    family = learner.problem.environments
    task = family.sample_tasks(1, 0)[0]
    model = learner.adapt(task, steps=1)
    image = family.make_env(task).reset(seed=0)[0]
    other = next(t for t in family.sample_tasks(20, 1) if t != task)
    assert model.told.tolist() != learner.adapt(other, steps=0).told.tolist()
    action, _ = model.predict(image, deterministic=True)
    assert family.action_space.contains(action)
    flat, single = model.flat(image)
    assert single
    assert flat.shape == (1, image.size + len(model.told))


def test_an_adapted_policy_acts_on_plain_observations_in_its_task(tmp_path):
    learner = meta_rl.build(config_of("navigation-2d")).learn(1)
    models = [learner.adapt({"goal": goal}, steps=0) for goal in ((0.5, -0.5), (-0.25, 0.0))]
    obs = np.array([[0.1, 0.2], [0.0, -0.3]], np.float32)
    actions = [model.predict(obs, deterministic=True)[0] for model in models]
    assert np.abs(actions[0] - actions[1]).max() > 1e-6
    told = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    inputs = torch.cat([torch.from_numpy(obs), told], 1)
    policy, theta = learner.problem.policy, learner.meta.theta
    mode = torch.func.functional_call(policy, theta, (inputs,)).mode()
    np.testing.assert_allclose(actions[0], policy.env_action(mode).detach(), rtol=1e-5, atol=1e-7)
    for number, model in enumerate(models):
        again = meta_rl.load_adapted(model.save(tmp_path / str(number)))
        np.testing.assert_array_equal(again.predict(obs, deterministic=True)[0], actions[number])


@pytest.mark.slow
def test_knowing_the_goal_is_worth_it():
    """Without the goal no policy beats staying where it starts, a return of about -38."""
    preset = meta_rl.preset("navigation-2d")
    config = replace(meta_rl.algorithm("oracle", preset), iterations=30)
    learner = meta_rl.build(config).learn()
    assert learner.evaluate(learner.held_out_tasks(20), 0, seed=0).mean() > -20


def test_what_has_no_place_for_the_task_is_refused(monkeypatch):
    learner = meta_rl.build(config_of("navigation-2d"))
    with pytest.raises(InputError, match=r"adapt: expected a task, since .* got an environment"):
        learner.adapt(learner.problem.environments.make_env({"goal": (0.1, 0.1)}))
    with pytest.raises(InputError, match="prune: expected a policy that sees observations alone"):
        meta_rl.prune(learner, 0.5)
    with pytest.raises(InputError, match="oracle trains a policy"):
        meta_rl.algorithm("oracle", meta_rl.preset("sinusoid"))
    monkeypatch.setitem(envs.FAMILIES, "one", GymFamily("Pendulum-v1", id="one"))
    with pytest.raises(InputError, match=r"data.sees_task: expected a family with a space"):
        meta_rl.build(config_of("one"))
    rl2 = meta_rl.algorithm("rl2", meta_rl.preset("cartpole"))
    with pytest.raises(InputError, match=r"data.sees_task.*policies without memory"):
        meta_rl.build(replace(rl2, data=replace(rl2.data, sees_task=True)))
