"""Classic control on literal numbers, and against Gymnasium's unchanged environments."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from meta_rl.envs import (
    FAMILIES,
    Acrobot,
    MountainCar,
    MountainCarContinuous,
    MountainCarEnergy,
    Pendulum,
)
from meta_rl.envs.mountain_car import energy

CPU = {"device": "cpu", "dtype": torch.float32}
NEW = [Pendulum(), Acrobot(), MountainCar(), MountainCarEnergy(), MountainCarContinuous()]
GYMNASIUMS = {
    "pendulum": ("Pendulum-v1", {"gravity": 10.0, "mass": 1.0, "length": 1.0}),
    "acrobot": (
        "Acrobot-v1",
        {"length": 1.0, "mass_1": 1.0, "mass_2": 1.0, "centre_1": 0.5, "centre_2": 0.5},
    ),
    "mountain-car": ("MountainCar-v0", {"force": 0.001, "gravity": 0.0025}),
    "mountain-car-continuous": ("MountainCarContinuous-v0", {"power": 0.0015}),
}
CAR = {"force": 0.001, "gravity": 0.0025, "direction": 1.0}
ENGINE = {"power": 0.0015, "direction": 1.0}
SWING = {"gravity": 10.0, "mass": 1.0, "length": 1.0, "direction": 1.0}


def step_from(family, task, state, action):
    """One step of the tensor environment from a chosen state."""
    env = family.make_vec(1, 1, **CPU)
    env.reset([task], seed=0)
    env.state = torch.tensor([[state]])
    return env, env.step(torch.tensor([[action]]))


@pytest.mark.parametrize("name", GYMNASIUMS)
def test_gymnasiums_numbers_give_gymnasiums_environment(name):
    env_id, physics = GYMNASIUMS[name]
    ours = FAMILIES[name].make_env({**physics, "direction": 1.0})
    theirs = gym.make(env_id)
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    ours.reset(seed=4)
    theirs.reset(seed=4)
    ours.action_space.seed(4)
    for _ in range(20):
        action = ours.action_space.sample()
        one, two = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(one[0], two[0], atol=1e-6)
        assert one[1] == pytest.approx(two[1], abs=1e-6)


@pytest.mark.parametrize("name", GYMNASIUMS)
def test_a_motor_wired_the_other_way_round_is_undone_by_the_opposite_action(name):
    _, physics = GYMNASIUMS[name]
    family = FAMILIES[name]
    env = family.make_vec(2, 1, **CPU)
    env.reset([{**physics, "direction": d} for d in (1.0, -1.0)], seed=0)
    env.state = env.state[:1].expand(2, -1, -1).clone()
    continuous = isinstance(family.action_space, gym.spaces.Box)
    push = torch.tensor([[[0.5]], [[-0.5]]] if continuous else [[2], [0]])
    for _ in range(20):
        obs = env.step(push).obs
    torch.testing.assert_close(obs[0], obs[1])


def test_the_pendulum_is_pulled_and_pushed_and_pays_for_where_it_was():
    # Level and at rest: 3 g / (2 l) = 15 and 3 / (m l^2) * 1 = 3 act for 0.05 s.
    env, step = step_from(Pendulum(), SWING, [math.pi / 2, 0.0], [1.0])
    torch.testing.assert_close(env.state, torch.tensor([[[math.pi / 2 + 0.045, 0.9]]]))
    torch.testing.assert_close(step.reward, torch.tensor([[-((math.pi / 2) ** 2) - 0.001]]))
    # Twice the mass and the other direction: half of 3, backwards. Twice the length: 7.5.
    env, _ = step_from(Pendulum(), {**SWING, "mass": 2.0, "direction": -1.0}, [0.0, 0.0], [1.0])
    torch.testing.assert_close(env.state[0, 0, 1], torch.tensor(-0.075))
    env, _ = step_from(Pendulum(), {**SWING, "length": 1.25}, [math.pi / 2, 0.0], [0.0])
    torch.testing.assert_close(env.state[0, 0, 1], torch.tensor(0.6))


def test_the_pendulum_counts_its_angle_from_upright_whatever_the_turns():
    _, once = step_from(Pendulum(), SWING, [0.5, 2.0], [0.0])
    _, thrice = step_from(Pendulum(), SWING, [0.5 + 4 * math.pi, 2.0], [0.0])
    torch.testing.assert_close(once.reward, torch.tensor([[-0.65]]))
    torch.testing.assert_close(thrice.reward, once.reward)
    assert not once.terminated


def test_the_pendulums_torque_and_speed_are_limited():
    env, step = step_from(Pendulum(), SWING, [math.pi / 2, 7.9], [50.0])
    assert env.state[0, 0, 1] == 8.0
    torch.testing.assert_close(step.reward, torch.tensor([[-((math.pi / 2) ** 2) - 6.241 - 0.004]]))


def test_the_acrobot_ends_with_its_tip_a_link_above_the_bar():
    physics = {**GYMNASIUMS["acrobot"][1], "direction": 1.0}
    for first, up in ((math.pi, True), (0.0, False), (math.pi / 2, False)):
        _, step = step_from(Acrobot(), physics, [first, 0.0, 0.0, 0.0], 1)
        assert step.terminated.item() is up
        assert step.reward.item() == (0.0 if up else -1.0)


def test_the_acrobots_speeds_are_limited_and_its_angles_wrapped():
    physics = {**GYMNASIUMS["acrobot"][1], "direction": 1.0}
    env, _ = step_from(Acrobot(), physics, [3.1, -3.1, 12.5, -28.2], 2)
    assert (env.state[..., :2].abs() <= math.pi).all()
    assert env.state[0, 0, 2].abs() <= 4 * math.pi
    assert env.state[0, 0, 3].abs() <= 9 * math.pi


def test_the_mountain_car_is_stopped_by_the_left_wall():
    env, step = step_from(MountainCar(), CAR, [-1.19, -0.05], 0)
    torch.testing.assert_close(env.state, torch.tensor([[[-1.2, 0.0]]]))
    assert (step.reward.item(), step.terminated.item()) == (-1.0, False)
    env, _ = step_from(MountainCarContinuous(), ENGINE, [-1.19, -0.05], [-1.0])
    torch.testing.assert_close(env.state, torch.tensor([[[-1.2, 0.0]]]))


def test_the_mountain_car_rolls_by_engine_and_slope_up_to_its_speed_limit():
    env, _ = step_from(MountainCar(), CAR, [0.0, 0.01], 2)  # slope 0.0025 * cos(0)
    torch.testing.assert_close(env.state, torch.tensor([[[0.0085, 0.0085]]]))
    env, _ = step_from(MountainCar(), {**CAR, "direction": -1.0}, [0.0, 0.01], 2)
    torch.testing.assert_close(env.state, torch.tensor([[[0.0065, 0.0065]]]))
    env, _ = step_from(MountainCar(), CAR, [-math.pi / 3, 0.0699], 2)
    torch.testing.assert_close(env.state[0, 0, 1], torch.tensor(0.07))


def test_the_mountain_cars_end_at_their_flags():
    for position, speed, end in ((0.46, 0.05, True), (0.44, 0.05, False), (0.51, -0.001, True)):
        _, step = step_from(MountainCar(), CAR, [position, speed], 1)
        assert (step.terminated.item(), step.reward.item()) == (end, -1.0)
    for position, action, end, reward in ((0.41, 0.5, True, 99.975), (0.39, -1.0, False, -0.1)):
        _, step = step_from(MountainCarContinuous(), ENGINE, [position, 0.05], [action])
        assert step.terminated.item() is end
        assert step.reward.item() == pytest.approx(reward, abs=1e-5)


def test_chance_never_reaches_the_mountain_cars_flag():
    env = MountainCar().make_vec(40, 50, **CPU)
    env.reset(MountainCar().sample_tasks(40, seed=0), seed=0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(MountainCar.horizon):
        step = env.step(torch.randint(3, (40, 50), generator=generator))
        assert not step.terminated.any()
    assert step.truncated.all()


def test_energy_pays_a_hundred_from_the_foot_of_the_hill_to_its_top():
    _, step = step_from(MountainCarEnergy(), CAR, [0.0, 0.01], 2)  # to 0.0085 at a speed of 0.0085
    gain = math.sin(3 * 0.0085) / 2 + 300 * (0.0085**2 - 0.01**2)
    torch.testing.assert_close(step.reward, torch.tensor([[100 * gain - 1]]))
    foot, top = (energy(math.sin(3 * x), 0.0, 0.0025) for x in (-math.pi / 6, math.pi / 6))
    assert top - foot == pytest.approx(1.0)


def test_energy_adds_up_to_where_the_car_ends_and_leaves_its_motion_alone():
    family, task = MountainCarEnergy(), {**CAR, "gravity": 0.003}
    shaped, plain = family.make_env(task), MountainCar().make_env(task)
    total, (first, _) = 0.0, shaped.reset(seed=1)
    plain.reset(seed=1)
    for t in range(60):
        (obs, reward, *_), (same, *_) = (env.step(2 * (t // 20 % 2)) for env in (shaped, plain))
        np.testing.assert_array_equal(obs, same)
        total += reward + 1
    ends = [energy(math.sin(3 * float(x)), float(v), 0.003) for x, v in (first, obs)]
    assert total == pytest.approx(100 * (ends[1] - ends[0]), abs=1e-3)


@pytest.mark.parametrize("family", NEW, ids=lambda family: family.id)
def test_rows_that_ended_long_ago_stay_finite_and_in_the_observation_space(family):
    tasks = family.sample_tasks(20, seed=0, split="extrapolation")
    env = family.make_vec(20, 2, **CPU)
    env.reset(tasks, seed=0)
    space = family.action_space
    high = space.high if isinstance(space, gym.spaces.Box) else np.array(space.n - 1)
    for _ in range(600):
        obs = env.step(torch.as_tensor(high).expand(20, 2, *high.shape)).obs
    assert all(family.observation_space.contains(row.numpy()) for row in obs.flatten(0, 1))
    assert obs.dtype == torch.float32


@pytest.mark.parametrize("family", NEW, ids=lambda family: family.id)
def test_extrapolation_leaves_the_training_range(family):
    tasks = family.sample_tasks(50, seed=0, split="extrapolation")
    assert not any(map(family.space.in_distribution, tasks))
    for task in tasks[:3]:
        family.make_env(task).close()


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_pushing_the_way_it_rolls_solves_only_the_car_wired_that_way(direction):
    tasks = [{**task, "direction": direction} for task in MountainCar().sample_tasks(30, seed=0)]
    env = MountainCar().make_vec(30, 2, **CPU)
    obs = env.reset(tasks, seed=0)
    solved = torch.zeros(30, 2, dtype=torch.bool)
    for _ in range(MountainCar.horizon):
        step = env.step(torch.where(obs[..., 1] >= 0, 2, 0))
        obs, solved = step.obs, solved | step.terminated
    assert solved.float().mean() > 0.99 if direction > 0 else not solved.any()
