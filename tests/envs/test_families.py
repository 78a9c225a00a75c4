"""Families on literal numbers."""

import math

import gymnasium as gym
import pytest
import torch

from envs import FAMILIES, make_family
from envs.cartpole import CartPole
from envs.navigation import Navigation2D
from envs.parameters import Parameter
from envs.sinusoid import Sinusoid
from meta_rl.errors import InputError

CPU = {"device": "cpu", "dtype": torch.float32}


def test_navigation_moves_by_the_clipped_action_and_pays_the_distance():
    env = Navigation2D().make_vec(1, 2, **CPU)
    obs = env.reset([{"goal": (0.3, -0.4)}], seed=0)
    assert torch.equal(obs, torch.zeros(1, 2, 2))
    step = env.step(torch.tensor([[[0.05, -0.02], [7.0, -7.0]]]))
    torch.testing.assert_close(step.obs, torch.tensor([[[0.05, -0.02], [0.1, -0.1]]]))
    expected = torch.tensor([[math.hypot(0.25, 0.38), math.hypot(0.2, 0.3)]])
    torch.testing.assert_close(step.reward, -expected)


def test_navigation_ends_only_when_both_axes_are_near():
    env = Navigation2D().make_vec(1, 3, **CPU)
    env.reset([{"goal": (0.05, 0.05)}], seed=0)
    step = env.step(torch.tensor([[[0.05, 0.05], [0.05, 0.03], [0.0585, 0.0415]]]))
    assert step.terminated.tolist() == [[True, False, True]]
    assert not step.truncated.any()


def test_navigation_is_registered_with_its_time_limit():
    env = gym.make("MetaRL/Navigation2D-v0", goal=(0.5, 0.5))
    env.reset(seed=0)
    flags = [env.step(env.action_space.low)[2:4] for _ in range(100)]
    assert flags[-1] == (False, True)
    assert flags[:-1] == [(False, False)] * 99


def test_cartpole_applies_the_pole_length_everywhere_it_enters():
    task = {"gravity": 9.8, "length": 1.2, "force": 10.0, "direction": 1.0}
    cart = CartPole().make_env(task).unwrapped
    assert cart.polemass_length == pytest.approx(cart.masspole * 1.2)


def test_cartpole_with_gymnasiums_numbers_is_gymnasiums_cartpole():
    task = {"gravity": 9.8, "length": 0.5, "force": 10.0, "direction": 1.0}
    ours, theirs = CartPole().make_env(task), gym.make("CartPole-v1")
    ours.reset(seed=4)
    theirs.reset(seed=4)
    for _ in range(10):
        assert (ours.step(1)[0] == theirs.step(1)[0]).all()


def test_a_cart_that_fell_long_ago_stays_finite():
    env = CartPole().make_vec(20, 2, **CPU)
    env.reset(CartPole().sample_tasks(20, 0), seed=0)
    for _ in range(2000):
        step = env.step(torch.ones(20, 2, dtype=torch.int64))
    assert torch.isfinite(step.obs).all()


def test_sinusoid_is_the_papers():
    x, y = Sinusoid().draw([{"amplitude": 2.0, "phase": 0.5}], 1000, seed=0, device="cpu")
    assert x.shape == y.shape == (1, 1000, 1)
    assert -5 <= x.min() < -4.9
    assert 4.9 < x.max() <= 5
    torch.testing.assert_close(y, 2 * torch.sin(x - 0.5))
    tasks = Sinusoid().sample_tasks(2000, seed=0)
    amplitudes, phases = zip(*(task.values() for task in tasks), strict=True)
    assert 0.1 <= min(amplitudes) < 0.2
    assert 4.9 < max(amplitudes) <= 5
    assert 0 <= min(phases) < 0.1
    assert 3.1 < max(phases) <= math.pi


def test_tasks_are_parsed_from_the_command_line():
    assert Navigation2D.space.parse("goal=0.3,-0.2") == {"goal": (0.3, -0.2)}
    parsed = CartPole.space.parse("gravity=9.8, length=0.7,force=10,direction=-1")
    assert parsed == {"gravity": 9.8, "length": 0.7, "force": 10.0, "direction": -1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("goal=0.3", "task parameter goal: expected 2 numbers in"),
        ("goal=0.3,0.9", r"in \[-0\.5, 0\.5\], got \(0\.3, 0\.9\)"),
        ("goal=0.3,nan", "task parameter goal"),
        ("gaol=0.3,0.2", "got 'gaol'. Did you mean 'goal'"),
        ("goal", "expected NAME=NUMBER"),
        ("goal=0.3,goal=-0.2", "goal: expected one value"),
        ("goal=0.3;0.2", "expected NAME=NUMBER"),
        ("", "expected NAME=NUMBER"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        Navigation2D.space.parse(text)


@pytest.mark.parametrize(
    "declared",
    [
        {"low": 1.0, "high": 0.0},
        {"low": float("nan"), "high": 1.0},
        {"choices": (1.0, float("inf"))},
        {"high": 1.0, "size": 0},
    ],
)
def test_parameters_that_make_no_sense_are_refused(declared):
    with pytest.raises(InputError, match="parameter wind: expected"):
        Parameter(name="wind", **declared)


def test_an_unknown_family_names_the_nearest():
    assert make_family("cartpole") is FAMILIES["cartpole"]
    with pytest.raises(InputError, match="Did you mean 'cartpole'"):
        make_family("cart-pole")
