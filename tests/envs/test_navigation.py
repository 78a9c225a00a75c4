"""Navigation on literal numbers."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.envs import Navigation2D, NavigationCorner, NavigationPEARL, NavigationSemicircle

from meta_rl.types import Trajectory

CPU = {"device": "cpu", "dtype": torch.float32}


def paid(family, task, start, action):
    """The reward of one step from a chosen place, the same in both environments."""
    tensor = family.make_vec(1, 1, **CPU)
    tensor.reset([task], seed=0)
    tensor.state = torch.tensor([[start]])
    step = tensor.step(torch.tensor([[action]]))
    single = family.make_env(task)
    single.reset(seed=0)
    single.unwrapped.position = np.array(start)
    obs, reward, terminated, _, _ = single.step(np.array(action, np.float32))
    np.testing.assert_allclose(step.obs[0, 0], obs, atol=1e-6)
    assert step.reward.item() == pytest.approx(reward, abs=1e-6)
    assert step.terminated.item() == terminated is False
    return step.reward.item()


@pytest.mark.parametrize(
    ("start", "action", "reward"),
    [
        ([0.4, 0.4], [5.0, 0.1], math.hypot(1.6, 1.6) - math.hypot(1.4, 1.5)),  # clipped to 0.2
        ([2.0, 2.0], [0.0, 0.2], -0.2),  # beyond the goal, away from it
        ([0.3, 0.1], [0.05, 0.0], 0.0),  # |x| + |y| = 0.45 is too near the origin
        ([0.3, 0.1], [0.15, 0.0], math.hypot(1.7, 1.9) - math.hypot(1.55, 1.9)),  # 0.55 is not
        ([-1.0, 1.0], [0.2, 0.2], 0.0),  # another corner is nearer
        ([-0.1, 1.0], [0.2, 0.0], math.hypot(2.1, 1.0) - math.hypot(1.9, 1.0)),  # crossing over
        ([-0.2, 1.0], [0.2, 0.0], math.hypot(2.2, 1.0) - math.hypot(2.0, 1.0)),  # equally near
    ],
)
def test_the_corner_pays_progress_where_the_goal_is_the_nearest_corner(start, action, reward):
    goal = {"goal": (2.0, 2.0)}
    assert paid(NavigationCorner(), goal, start, action) == pytest.approx(reward, abs=1e-6)


def test_the_corner_starts_near_the_origin_and_is_one_of_four():
    env = NavigationCorner().make_vec(1, 1000, **CPU)
    start = env.reset([{"goal": (2.0, 2.0)}], seed=0)
    assert -0.2 <= start.min() < -0.19
    assert 0.19 < start.max() <= 0.2
    goals = [task["goal"] for task in NavigationCorner().sample_tasks(4000, seed=0)]
    counts = [goals.count((x, y)) for x in (-2.0, 2.0) for y in (-2.0, 2.0)]
    assert sum(counts) == 4000
    assert all(abs(count - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5 for count in counts)


@pytest.mark.parametrize(
    ("start", "action", "reward"),
    [
        ([0.0, 0.75], [0.0, 0.1], 0.85),
        ([0.0, 0.95], [0.0, 7.0], 0.95),  # clipped to 0.1: 0.05 beyond the goal
        ([0.0, 0.7], [0.0, 0.09], 0.0),
        ([0.0, 0.701], [0.0, 0.1], 0.801),
        ([0.1, 1.0], [0.05, 0.0], 0.85),
        ([0.0, -0.95], [0.0, -0.05], 0.0),  # the other half of the circle
    ],
)
def test_the_semicircle_pays_only_within_a_fifth_of_the_goal(start, action, reward):
    up = {"angle": math.pi / 2}
    assert paid(NavigationSemicircle(), up, start, action) == pytest.approx(reward, abs=1e-6)


def test_the_semicircle_starts_at_the_origin_and_places_the_goal_by_its_angle():
    env = NavigationSemicircle().make_vec(2, 1, **CPU)
    assert not env.reset([{"angle": 0.0}, {"angle": math.pi / 6}], seed=0).any()
    expected = torch.tensor([[[1.0, 0.0]], [[math.cos(math.pi / 6), 0.5]]])
    torch.testing.assert_close(env.goal, expected)


@pytest.mark.parametrize(
    ("start", "action", "reward"),
    [
        ([0.0, 0.0], [0.1, 0.0], -0.5),
        ([0.5, 0.3], [-0.3, 5.0], -0.0),  # clipped to the goal itself, which does not end it
    ],
)
def test_pearls_points_pay_minus_the_distance_and_go_on_at_the_goal(start, action, reward):
    assert paid(NavigationPEARL(), {"goal": (0.4, 0.4)}, start, action) == pytest.approx(reward)


def test_pearls_points_start_anywhere():
    start = NavigationPEARL().make_vec(1, 4000, **CPU).reset([{"goal": (0.0, 0.0)}], seed=0)
    assert -1.0 <= start.min() < -0.99
    assert 0.99 < start.max() <= 1.0
    assert start.std() == pytest.approx(3**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("name", "kwargs", "horizon"),
    [
        ("PEARL", {"goal": (0.0, 1.0)}, 20),
        ("Corner", {"goal": (-2.0, 2.0)}, 100),
        ("Semicircle", {"angle": 1.0}, 20),
    ],
)
def test_navigation_is_registered_with_its_time_limit(name, kwargs, horizon):
    env = gym.make(f"MetaRL/Navigation{name}-v0", **kwargs)
    env.reset(seed=0)
    flags = [env.step(env.action_space.low)[2:4] for _ in range(horizon)]
    assert flags == [(False, False)] * (horizon - 1) + [(False, True)]


@pytest.mark.parametrize(
    "family", [Navigation2D(), NavigationPEARL(), NavigationCorner(), NavigationSemicircle()]
)
def test_a_picture_shows_the_goal_and_ends_where_the_episode_did(family):
    task = family.sample_tasks(1, seed=0)[0]
    env = family.make_env(task)
    walks = []
    for seed in range(2):
        obs, _ = env.reset(seed=seed)
        action = np.full((3, 2), 5.0, np.float32)  # beyond the reach
        positions = [obs, *(env.step(a)[0] for a in action)]
        walks.append((Trajectory(np.array(positions[:-1]), action), positions))
    figure = family.picture(task, [walks[0][0]], [walks[1][0]])
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(lines["goal"][0], env.unwrapped.goal)
    for label, (_, positions) in zip(("before", "after"), walks, strict=True):
        np.testing.assert_allclose(lines[f"{label} adapting"], positions, atol=1e-6)


LATTICE = [
    # family, task, where from, and moves, the last of which is paid
    (NavigationSemicircle(), {"angle": math.pi / 2}, [0.0, 0.0], [[0.0, 0.1]] * 8),
    (NavigationSemicircle(), {"angle": 0.0}, [0.0, 0.0], [[0.1, 0.0]] * 8),
    (NavigationSemicircle(), {"angle": math.pi}, [0.0, 0.0], [[-0.1, 0.0]] * 8),
    (NavigationCorner(), {"goal": (2.0, 2.0)}, [-0.2, 1.0], [[0.2, 0.0]]),
    (NavigationCorner(), {"goal": (2.0, 2.0)}, [0.2, 1.0], [[-0.2, 0.0]]),
    (NavigationCorner(), {"goal": (-2.0, 2.0)}, [-0.6, 0.8], [[0.2, 0.0]] * 3),
    (NavigationCorner(), {"goal": (2.0, -2.0)}, [0.1, 0.0], [[0.2, -0.2]]),
    (NavigationCorner(), {"goal": (2.0, 2.0)}, [0.1, 0.2], [[0.2, 0.0]]),
    (NavigationCorner(), {"goal": (2.0, 2.0)}, [0.0, 0.1], [[0.2, 0.0]] * 2),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("family", "task", "start", "moves"), LATTICE)
def test_moves_that_meet_a_limit_exactly_are_decided_alike_by_all_routes(
    family, task, start, moves, dtype
):
    tensor = family.make_vec(1, 1, device="cpu", dtype=dtype)
    tensor.reset([task], seed=0)
    tensor.state = torch.tensor([[start]], dtype=dtype)
    single = family.make_env(task)
    single.reset(seed=0)
    single.unwrapped.position = np.array(start)
    for move in moves:
        step = tensor.step(torch.tensor([[move]], dtype=dtype))
        _, reward, *_ = single.step(np.array(move, np.float32))
    assert step.reward.item() == pytest.approx(reward, abs=1e-5)
    assert abs(reward) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("goal", [(0.31, 0.2), (0.21, 0.0), (0.0, 0.41), (-0.11, 0.3)])
def test_goals_at_the_limit_of_reaching_end_no_episode_on_any_route(goal, dtype):
    family, task = Navigation2D(), {"goal": goal}
    tensor, single = family.make_vec(1, 1, device="cpu", dtype=dtype), family.make_env(task)
    tensor.reset([task], seed=0)
    single.reset(seed=0)
    for _ in range(4):  # to the last tenth before the goal, 0.01 away
        away = np.round(np.array(goal) - single.unwrapped.position, 6)
        move = 0.1 * np.sign(away) * (np.abs(away) > 0.05)
        step = tensor.step(torch.tensor([[move.tolist()]], dtype=dtype))
        *_, terminated, _, _ = single.step(move.astype(np.float32))
    assert step.terminated.item() == terminated is False
