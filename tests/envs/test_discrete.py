"""Bandits and tabular processes: exactly where nothing is random, else by counting."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.envs import Bandit, TabularMDP

from meta_rl.errors import InputError
from meta_rl.families import GymVec
from meta_rl.families.registry import make_family

FLOAT64 = {"device": "cpu", "dtype": torch.float64}
BACKENDS = {
    "tensor": lambda family, m, b: family.make_vec(m, b, **FLOAT64),
    "single": lambda family, m, b: GymVec(family.make_env, m, b, **FLOAT64),
}
backends = pytest.mark.parametrize("backend", BACKENDS)


def ring():
    """Action a moves a states on; the mean reward is 10 s + a."""
    state, action = np.meshgrid(np.arange(10), np.arange(5), indexing="ij")
    transition = 3.0 * np.eye(10)[(state + action) % 10]  # weights: any scale
    return {"transition": tuple(transition.ravel()), "reward": tuple((10.0 * state + action).flat)}


@pytest.mark.parametrize(("arms", "pulls"), [(5, 10), (10, 100), (50, 500)])
def test_the_papers_bandits_are_listed(arms, pulls):
    family = make_family(f"bandit-{arms}")
    assert (family.action_space.n, family.horizon) == (arms, pulls)
    env = family.make_env(family.sample_tasks(1, seed=0)[0])
    env.reset(seed=0)
    flags = [env.step(0)[2:4] for _ in range(pulls)]
    assert flags == [(False, False)] * (pulls - 1) + [(False, True)]


@backends
def test_arms_that_always_or_never_pay_do_so(backend):
    env = BACKENDS[backend](Bandit(), 1, 5)
    assert (env.reset([{"means": (0.0, 1.0, 0.0, 1.0, 1.0)}], seed=0) == 1).all()
    for _ in range(100):
        step = env.step(torch.arange(5).unsqueeze(0))
        assert step.reward.tolist() == [[0.0, 1.0, 0.0, 1.0, 1.0]]
        assert (step.obs == 1).all()
        if step.truncated.all():
            env.reset([{"means": (0.0, 1.0, 0.0, 1.0, 1.0)}], seed=0)


@backends
def test_an_arm_pays_as_often_as_its_mean(backend):
    means = (0.05, 0.3, 0.5, 0.8, 0.99)
    env = BACKENDS[backend](Bandit(), 2, 1000)
    env.reset([{"means": means}, {"means": means[::-1]}], seed=0)
    arm = torch.arange(1000) % 5
    paid = torch.stack([env.step(arm.expand(2, -1)).reward for _ in range(10)])
    for m, expected in enumerate((means, means[::-1])):
        for k in range(5):
            pulls = paid[:, m, arm == k]  # 2,000: five standard errors
            bound = 5 * (expected[k] * (1 - expected[k]) / pulls.numel()) ** 0.5
            assert abs(pulls.mean() - expected[k]) < bound


@backends
def test_pulls_are_independent_over_rows_and_time(backend):
    env = BACKENDS[backend](Bandit(), 2, 500)
    env.reset([{"means": (0.5,) * 5}] * 2, seed=0)
    paid = torch.stack([env.step(torch.zeros(2, 500).long()).reward for _ in range(10)]).flatten(1)
    signs = 2 * paid - 1  # (10, 1000)
    over_time = (signs @ signs.T / 1000)[~torch.eye(10, dtype=torch.bool)]
    assert over_time.abs().max() < 5 / 1000**0.5
    assert abs(signs.mean(0).var() - 0.1) < 0.1 * 5 * (2 / 1000) ** 0.5


@backends
def test_certain_transitions_are_certain_and_rewards_are_of_state_and_action(backend):
    env = BACKENDS[backend](TabularMDP(), 1, 1000)
    obs = env.reset([ring()], seed=0)
    place, rewards = torch.zeros(1, 1000).long(), []
    for t in range(10):
        assert (obs.argmax(-1) == place).all()
        assert (obs.sum(-1) == 1).all()
        action = (torch.arange(1000) + t).unsqueeze(0) % 5
        step = env.step(action)
        rewards.append(step.reward - (10 * place + action))
        obs, place = step.obs, (place + action) % 10
        assert not step.terminated.any()
    assert step.truncated.all()
    noise = torch.stack(rewards)  # 10,000 draws of N(0, 1), at five standard errors
    assert abs(noise.mean()) < 0.05
    assert abs(noise.var() - 1) < 5 * (2 / 10_000) ** 0.5


@backends
def test_next_states_come_as_often_as_their_weight(backend):
    (task,) = TabularMDP().sample_tasks(1, seed=3)
    weight = np.array(task["transition"]).reshape(10, 5, 10)
    expected = torch.as_tensor(weight / weight.sum(-1, keepdims=True))
    env = BACKENDS[backend](TabularMDP(), 1, 1000)
    action = (torch.arange(1000) % 5).unsqueeze(0)
    place = env.reset([task], seed=0).argmax(-1)
    counts = torch.zeros(10, 5, 10, dtype=torch.float64)
    for _ in range(10):
        following = env.step(action).obs.argmax(-1)
        counts.index_put_((place, action, following), torch.ones(()).double(), accumulate=True)
        place = following
    visits = counts.sum(-1, keepdim=True)
    error = (expected * (1 - expected) / visits) ** 0.5
    # The second term is for next states so rare that counting them is not Gaussian.
    assert ((counts / visits - expected).abs() < 5 * error + 5 / visits).all()
    assert visits.min() > 50


def test_a_next_state_without_weight_is_never_drawn_in_float32():
    """Cumulated weights end at 1 exactly, though 1/3 + 1/3 + 1/3 may not."""
    row = (1.0, 1.0, 1.0) + (0.0,) * 7
    task = {"transition": row * 50, "reward": (0.0,) * 50}
    env = TabularMDP().make_vec(1, 1, device="cpu", dtype=torch.float32)
    env.reset([task], seed=0)
    assert (env.cumulative[..., 2:] == 1).all()


def test_a_state_that_leads_nowhere_is_refused():
    task = ring()
    task["transition"] = (0.0,) * 10 + task["transition"][10:]
    with pytest.raises(InputError, match="a weight above 0 in every 10"):
        TabularMDP().check_task(task)
    with pytest.raises(InputError, match="expected 500 numbers"):
        TabularMDP().check_task({**ring(), "transition": (1.0,) * 10})


def test_tables_are_drawn_as_in_the_paper():
    tasks = TabularMDP().sample_tasks(40, seed=0)
    rewards = np.array([task["reward"] for task in tasks])  # 2,000 of N(1, 1)
    assert abs(rewards.mean() - 1) < 5 / 2000**0.5
    assert abs(rewards.std() - 1) < 5 / 4000**0.5
    weight = np.array([task["transition"] for task in tasks]).reshape(-1, 10)
    largest = (weight / weight.sum(1, keepdims=True)).max(1)
    # The largest of 10 shares of a stick broken at random: (1 + 1/2 + ... + 1/10) / 10.
    assert abs(largest.mean() - 0.2929) < 5 * largest.std() / 2000**0.5


def test_single_environments_are_registered():
    bandit = gym.make("MetaRL/Bandit-v0", means=(0.0, 1.0))
    bandit.reset(seed=0)
    assert [bandit.step(a)[1] for a in (0, 1)] == [0.0, 1.0]
    assert gym.make("MetaRL/TabularMDP-v0").reset(seed=0)[0].tolist() == [1.0] + [0.0] * 9
