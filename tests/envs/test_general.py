"""The general backend on environments that are not ours."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.agents import LinearFeatureBaseline, make_policy
from meta_rl.envs import CartPole

import meta_rl
from meta_rl import Parameter, Uniform
from meta_rl.config import EpisodesConfig, NetworkConfig
from meta_rl.errors import InputError
from meta_rl.families import GymFamily
from meta_rl.families.row import Row, closing
from meta_rl.presets import PRESETS
from meta_rl.problems.reinforcement import Reinforcement
from meta_rl.tasks import expand
from tests.extras import needs

CPU = {"device": "cpu", "dtype": torch.float64}


class Ragged(gym.Env):
    """Row n ends after its n-th step; fails where told to."""

    observation_space = gym.spaces.Box(-1, 1, (2, 2))
    action_space = gym.spaces.Discrete(2)
    made = 0

    def __init__(self, fails_at=None):
        self.lasts, self.fails_at = Ragged.made % 4 + 1, fails_at
        Ragged.made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32), {}

    def step(self, action):
        self.time += 1
        if self.time == self.fails_at:
            raise RuntimeError("the motor burnt out")
        assert self.time <= self.lasts, "stepped after its end"
        return np.zeros((2, 2), np.float32), 1.0, self.time == self.lasts, False, {}


class Named(Ragged):
    """One of its observations is a text."""

    observation_space = gym.spaces.Dict({"arm": gym.spaces.Text(3)})


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "MetaRL/Navigation2D-v0"])
def test_registered_environments_step_as_they_do_alone(env_id):
    family = GymFamily(env_id)
    env = family.make_vec(1, 2, **CPU)
    obs = env.reset([{}], seed=0)
    single = gym.make(env_id)
    seeds = np.random.SeedSequence(0).generate_state(2)
    expected, _ = single.reset(seed=int(seeds[1]))
    np.testing.assert_allclose(obs[0, 1], expected)
    assert not torch.equal(obs[0, 0], obs[0, 1]) or env_id.startswith("MetaRL")
    family.action_space.seed(0)
    for _ in range(family.horizon):
        action = family.action_space.sample()
        step = env.step(torch.tensor(np.array([[action, action]])))
        expected, reward, terminated, truncated, _ = single.step(action)
        np.testing.assert_allclose(step.obs[0, 1], expected)
        assert step.reward[0, 1] == pytest.approx(reward)
        assert bool(step.terminated[0, 1]) == terminated
        assert bool(step.truncated[0, 1]) == truncated
        if terminated or truncated:
            break
    env.close()


def test_rows_that_ended_stand_still():
    Ragged.made = -2  # the family and the batch each make one to look at first
    env = GymFamily(Ragged, horizon=10, try_parameters=False).make_vec(2, 2, **CPU)
    obs = env.reset([{}, {}], seed=0)
    assert obs.shape == (2, 2, 4)
    steps = [env.step(torch.zeros(2, 2, dtype=torch.int64)) for _ in range(6)]
    assert [[t for t in range(6) if steps[t].terminated.flatten()[n]] for n in range(4)] == [
        [0], [1], [2], [3]
    ]  # fmt: skip
    assert torch.stack([step.reward for step in steps]).sum(0).tolist() == [[1, 2], [3, 4]]
    assert [row.unwrapped.time for row in env.envs] == [1, 2, 3, 4]


def test_environments_are_rebuilt_only_when_tasks_change():
    env = GymFamily("CartPole-v1").make_vec(1, 2, **CPU)
    env.reset([{}], seed=0)
    before = env.envs
    env.reset([{}], seed=1)
    assert all(one is other for one, other in zip(before, env.envs, strict=True))


def learner():
    return meta_rl.build(dataclasses.replace(PRESETS["cartpole"], data=EpisodesConfig(tasks=2)))


def test_an_environment_given_as_it_is_keeps_what_was_changed_by_hand_and_stays_open():
    mine = gym.make("CartPole-v1")
    mine.unwrapped.gravity, closed = 77.0, []
    mine.close = lambda: closed.append(True)
    policy = learner().adapt(mine, steps=1, episodes=3)
    assert policy.scores[0] > 5
    assert mine.unwrapped.gravity == 77.0
    assert mine.unwrapped.state is not None  # it was this one that stepped
    assert not closed


def test_an_environment_that_cannot_be_copied_runs_its_episodes_one_after_another():
    class Robot(Ragged):
        """Its n-th episode has n steps."""

        def __deepcopy__(self, memo):
            raise TypeError("holds a socket")

        def reset(self, *, seed=None, options=None):
            self.lasts = getattr(self, "episode", 0) + 1
            self.episode = self.lasts
            return super().reset(seed=seed, options=options)

    config = EpisodesConfig(tasks=2, episodes=3)
    family = GymFamily(Robot(), horizon=10)
    spaces = (family.observation_space, family.action_space)
    policy = make_policy(*spaces, NetworkConfig(), torch.Generator())
    problem = Reinforcement(family, policy, LinearFeatureBaseline(), config, GymFamily)
    phi = expand(problem.initial_parameters(), 1)
    episodes = problem.collect([{}], [], lambda: phi, seed=0, query=False)
    assert episodes.mask.sum(-1).tolist() == [[1, 2, 3]]
    assert episodes.reward.sum(-1).tolist() == [[1, 2, 3]]
    assert torch.isfinite(episodes.behaviour.entropy()).all()
    with pytest.raises(InputError, match="a new environment for each of 2 rows"):
        family.make_vec(1, 2, **CPU).reset([{}], seed=0)


def test_a_mujoco_environment_is_used_with_its_edited_model():
    needs("mujoco")
    mine = gym.make("InvertedPendulum-v5")
    mine.unwrapped.model.opt.gravity[2] = -3.0
    family = GymFamily(mine)
    env = family.make_vec(1, 1, **CPU)
    env.reset([{}], seed=0)
    assert env.envs[0].unwrapped is mine.unwrapped
    assert env.envs[0].unwrapped.model.opt.gravity[2] == -3.0


def test_a_function_that_returns_one_environment_twice_is_refused():
    shared = gym.make("CartPole-v1")
    with pytest.raises(InputError, match="a new environment for each of 3 rows"):
        GymFamily(lambda: shared).make_vec(1, 3, **CPU).reset([{}], seed=0)


def test_a_time_limit_is_found_without_a_spec():
    wrapped = gym.wrappers.TransformReward(gym.wrappers.TimeLimit(Ragged(), 7), lambda r: r)
    assert GymFamily(wrapped).horizon == 7


def test_another_number_of_tasks_than_rows_is_refused():
    for env in (GymFamily("CartPole-v1").make_vec(2, 1, **CPU), CartPole().make_vec(2, 1, **CPU)):
        with pytest.raises(InputError, match="tasks: expected 2 of them, got 1"):
            env.reset([{}], seed=0)


def test_an_environment_that_raises_is_named_with_task_seed_and_step():
    env = GymFamily(lambda: Ragged(fails_at=1), horizon=10).make_vec(1, 1, **CPU)
    env.reset([{}], seed=0)
    with pytest.raises(InputError, match=r"RuntimeError: the motor burnt out, at step 1 .*seed \d"):
        env.step(torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GymFamily("CartPole-v7"), "cannot make 'CartPole-v7'"),
        (lambda: GymFamily("CartPolle-v1"), "Did you mean 'CartPole-v1'"),
        (
            lambda: GymFamily("CartPole-v1", settings={"colour": 1}),
            "no argument, attribute or model field",
        ),
        (lambda: GymFamily(Ragged), "no time limit"),
        (lambda: GymFamily(Named, horizon=5), "observation space: expected Box, Discrete"),
        (lambda: GymFamily(3), "expected a Gymnasium id, a gymnasium.Env or a function, got 3"),
    ],
)
def test_environments_that_cannot_be_used_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


class Far(gym.Env):
    """Observes what 32 bits cannot hold, though its space does."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2), {}

    def step(self, action):
        return np.array([0, -1e39]), 0.0, False, False, {}


def test_an_observation_beyond_the_range_of_floats_is_named():
    env = GymFamily(Far, horizon=3).make_vec(1, 1, device="cpu", dtype=torch.float32)
    env.reset([{}], seed=0)
    with pytest.raises(
        InputError, match=r"observation with 1e\+39, expected at most 3\.4e\+38, at st"
    ):
        env.step(torch.zeros(1, 1))


class Sticky(gym.Wrapper):
    """Cannot be closed."""

    def close(self):
        raise KeyError("no such handle")


@pytest.mark.parametrize("parameters", [(), (Parameter("length", Uniform(0.3, 0.9)),)])
def test_an_environment_that_cannot_be_closed_is_refused_at_every_door(parameters):
    told = "raised KeyError: 'no such handle', when it was closed"
    with pytest.raises(InputError, match=told):
        GymFamily("CartPole-v1", *parameters, wrappers=[Sticky])
    with pytest.raises(InputError, match=told):
        GymFamily(lambda: Sticky(gym.make("CartPole-v1")))
    family = GymFamily("CartPole-v1")
    vec = family.make_vec(1, 1, device="cpu", dtype=torch.float32)
    vec.reset([{}], seed=0)
    vec.envs[0].env = Sticky(vec.envs[0].env)
    with pytest.raises(InputError, match=told):
        vec.close()


def test_what_an_environment_raised_comes_before_what_its_close_raises():
    class Broken(Sticky):
        def reset(self, **options):
            raise ValueError("the fault itself")

    with (
        pytest.raises(InputError, match="the fault itself"),
        closing(Broken(gym.make("CartPole-v1"))) as env,
    ):
        Row(env, {}).start(0)
