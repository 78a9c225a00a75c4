"""Families on literal numbers."""

import math
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.envs import FAMILIES, CartPole
from meta_rl.envs.navigation import Navigation2D
from meta_rl.envs.sinusoid import Sinusoid

from meta_rl.errors import InputError
from meta_rl.families.choice import Choice
from meta_rl.families.distributions import Exponential, LogUniform, Normal, Uniform
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.registry import make_family, register

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
    x, y = Sinusoid().draw([{"amplitude": 2.0, "phase": 0.5}], 0, 1000, seed=0, device="cpu")
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
        ("goal=0.3", "task parameter goal: expected 2 numbers, each in"),
        ("goal=0.3,0.9", r"in \[-0\.5, 0\.5\].* got \('0\.3', '0\.9'\)"),
        ("goal=0.3,nan", "task parameter goal"),
        ("gaol=0.3,0.2", "got 'gaol'. Did you mean 'goal'"),
        ("goal", "expected NAME=VALUE"),
        ("goal=0.3,goal=-0.2", "goal: expected one value"),
        ("goal=0.3;0.2", "task parameter goal: expected 2 numbers"),
        ("", "expected NAME=VALUE"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        Navigation2D.space.parse(text)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Uniform(1.0, 0.0), "low <= high"),
        (lambda: Uniform(math.nan, 1.0), "finite bounds"),
        (lambda: Uniform(-1.0, 1.0, power=2.0), "not negative"),
        (lambda: LogUniform(0.0, 1.0), "low > 0"),
        (lambda: Normal(0.0, 0.0), "std > 0"),
        (lambda: Choice(1.0, math.inf), "different words or finite numbers"),
        (lambda: Choice(), "different words or finite numbers"),
        (lambda: Parameter("wind", Uniform(0, 1), size=0), "its size: expected 1 or more"),
        (lambda: Parameter("wind speed", Uniform(0, 1)), "an identifier"),
        (lambda: ParameterSpace(*[Parameter("a", Uniform(0, 1))] * 2), "different names"),
    ],
)
def test_declarations_that_make_no_sense_are_refused(declare, message):
    with pytest.raises(InputError, match=message):
        declare()


@pytest.mark.parametrize(
    ("distribution", "cdf", "inside", "outside"),
    [
        (Uniform(-2.0, 6.0), lambda v: (v + 2) / 8, 6.0, 6.1),
        (Uniform(0.0, 3.0, power=2.0), lambda v: v**2 / 9, 0.0, -0.1),
        (LogUniform(0.1, 10.0), lambda v: (math.log10(v) + 1) / 2, 0.1, 11.0),
        (Normal(1.0, 2.0), lambda v: 0.5 * (1 + math.erf((v - 1) / 2 / 2**0.5)), 100.0, math.nan),
        (Exponential(), lambda v: 1 - math.exp(-v), 50.0, -0.1),
    ],
)
def test_values_follow_their_distribution(distribution, cdf, inside, outside):
    for quantile in (0.01, 0.3, 0.5, 0.999):
        assert cdf(distribution.at(quantile)) == pytest.approx(quantile, abs=1e-12)
    assert math.isfinite(distribution.at(0.0))
    assert distribution.find(inside) == inside
    assert distribution.find(str(inside)) == inside
    assert distribution.find(outside) is None
    assert distribution.find("word") is None


def test_choices_keep_their_type():
    lanes, driver = Choice(2, 3, 4), Choice("calm", "hasty")
    assert [lanes.at(q) for q in (0.0, 0.4, 0.999)] == [2, 3, 4]
    assert (lanes.find("3"), lanes.find(3.0), lanes.find(5)) == (3, 3, None)
    assert isinstance(lanes.find("3"), int)
    assert (driver.find("hasty"), driver.find(3)) == ("hasty", None)


def test_extrapolation_draws_tasks_outside_the_training_range():
    for family in (Navigation2D(), CartPole()):
        tasks = family.sample_tasks(100, seed=0, split="extrapolation")
        assert not any(map(family.space.in_distribution, tasks))
        assert all(map(family.space.in_distribution, family.sample_tasks(100, seed=0)))
        assert [family.check_task(task) for task in tasks] == tasks
        assert tasks[:5] != tasks[5:10]
    with pytest.raises(InputError, match="none of amplitude, phase declares an extrapolation"):
        Sinusoid().sample_tasks(1, seed=0, split="extrapolation")
    with pytest.raises(InputError, match="split: expected one of"):
        Navigation2D().sample_tasks(1, seed=0, split="test")


def test_tasks_survive_json():
    tasks = CartPole().sample_tasks(5, seed=0)
    assert CartPole.space.from_json(CartPole.space.to_json(tasks)) == tasks
    for text, message in (("[", "a JSON list"), ("[3]", "list of objects"), ("[{}]", "missing")):
        with pytest.raises(InputError, match=message):
            CartPole.space.from_json(text)


def test_an_unknown_family_names_the_nearest():
    assert make_family("cartpole") is FAMILIES["cartpole"]
    with pytest.raises(InputError, match="Did you mean 'cartpole'"):
        make_family("cart-pole")


def test_meta_world_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[metaworld\]'"):
        make_family("metaworld-ml1-soccer-v3")


@pytest.mark.parametrize("name", ["bandit-5", "tabular-mdp"])
def test_no_policy_beats_the_optimal_return_and_the_best_one_has_it(name):
    """By brute force over a process whose best actions are plain to see."""
    family = FAMILIES[name]
    if name == "bandit-5":
        task, expected = {"means": (0.1, 0.7, 0.2, 0.3, 0.4)}, 7.0
    else:
        # Action 1 pays 2 everywhere and stays; from state 0 action 0 pays 0 and leads to state 9,
        # where it pays 3: nine steps of 3 are more than ten of 2.
        moves, reward = np.zeros((10, 5, 10)), np.zeros((10, 5))
        moves[:, :, 0] = 1
        moves[:, 1] = np.eye(10)
        reward[:, 1] = 2
        moves[0, 0], moves[9, 0], reward[9, 0] = np.eye(10)[9], np.eye(10)[9], 3
        task = {"transition": tuple(moves.ravel()), "reward": tuple(reward.ravel())}
        expected = 27.0
    assert family.optimal_return(task) == pytest.approx(expected)


def test_going_straight_is_optimal_where_points_are_paid_by_distance():
    """Moves of 0.1 along each axis: distances of a goal at (0.3, -0.2) by hand."""
    by_hand = -(np.hypot(0.2, 0.1) + 0.1 + 0.0)
    found = FAMILIES["navigation-2d"].optimal_return({"goal": (0.3, -0.2)})
    assert found == pytest.approx(by_hand, abs=1e-6)
    semicircle = FAMILIES["navigation-semicircle"].optimal_return({"angle": np.pi / 2})
    assert semicircle == pytest.approx(0.8 + 0.9 + 11 * 1.0, abs=1e-6)
    assert FAMILIES["cartpole"].optimal_return({}) is None


def test_registering_a_class_or_a_known_id_is_refused():
    with pytest.raises(InputError, match=r"got the class; write register\(Navigation2D\(\)\)"):
        register(Navigation2D)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is a 'navigation-2d' already"):
        register(Navigation2D())
    family = Navigation2D()
    family.id = "metaworld-ml1-reach-v3"
    with pytest.raises(InputError, match="a 'metaworld-ml1-reach-v3' already, made on demand"):
        register(family)
    assert register(family, replace=True) is FAMILIES.pop("metaworld-ml1-reach-v3")
