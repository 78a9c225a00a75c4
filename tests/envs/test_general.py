"""The general backend on environments that are not ours."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from envs import GymFamily
from meta_rl.errors import InputError

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
        assert self.time <= self.lasts, "stepped after its end without a reset"
        return np.zeros((2, 2), np.float32), 1.0, self.time == self.lasts, False, {}


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


def test_rows_that_end_at_different_times_never_step_past_their_end():
    Ragged.made = -1  # the family makes one to look at first
    env = GymFamily(Ragged, horizon=10).make_vec(2, 2, **CPU)
    obs = env.reset([{}, {}], seed=0)
    assert obs.shape == (2, 2, 4)
    ended = [env.step(torch.zeros(2, 2, dtype=torch.int64)).terminated for _ in range(4)]
    assert [int(flags.flatten()[:4][n]) for n, flags in enumerate(ended)] == [1, 1, 1, 1]


def test_environments_are_rebuilt_only_when_tasks_change():
    env = GymFamily("CartPole-v1").make_vec(1, 2, **CPU)
    env.reset([{}], seed=0)
    before = env.envs
    env.reset([{}], seed=1)
    assert all(one is other for one, other in zip(before, env.envs, strict=True))


def test_an_environment_given_as_it_is_is_copied_with_what_was_changed_by_hand():
    mine = gym.make("CartPole-v1")
    mine.unwrapped.gravity = 77.0
    env = GymFamily(mine).make_vec(1, 3, **CPU)
    env.reset([{}], seed=0)
    assert [row.unwrapped.gravity for row in env.envs] == [77.0] * 3
    assert len({id(row.unwrapped) for row in env.envs} | {id(mine.unwrapped)}) == 4


def test_an_environment_that_raises_is_named_with_task_seed_and_step():
    env = GymFamily(lambda: Ragged(fails_at=1), horizon=10).make_vec(1, 1, **CPU)
    env.reset([{}], seed=0)
    with pytest.raises(InputError, match=r"RuntimeError: the motor burnt out at step 1 .*seed \d"):
        env.step(torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GymFamily("CartPole-v7"), "cannot make 'CartPole-v7'"),
        (lambda: GymFamily("CartPolle-v1"), "Did you mean 'CartPole-v1'"),
        (lambda: GymFamily("CartPole-v1", {"colour": 1}), "unexpected keyword argument 'colour'"),
        (lambda: GymFamily(Ragged), "no time limit"),
        (lambda: GymFamily("Blackjack-v1", horizon=5), "expected Box observations"),
        (lambda: GymFamily(3), "expected a Gymnasium id, a gymnasium.Env or a function, got 3"),
    ],
)
def test_environments_that_cannot_be_used_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_an_environment_that_cannot_be_copied_says_to_give_a_function():
    class Uncopyable(Ragged):
        def __deepcopy__(self, memo):
            raise TypeError("holds a socket")

    with pytest.raises(InputError, match=r"holds a socket.*Give a function that makes it"):
        GymFamily(Uncopyable(), horizon=3)
