"""Pixel goals: what is drawn, what is hidden, and the best return."""

import itertools

import numpy as np
import torch
from meta_rl.envs import PixelGoals
from meta_rl.envs.pixel_goals import CELLS, COLOURS, MOVES, PIXELS, WHITE

GREEN = {"goal": "green"}


def test_a_picture_has_a_square_of_each_colour_and_the_agent_over_them():
    env = PixelGoals().make_env(GREEN)
    picture, _ = env.reset(seed=0)
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    drawn = {tuple(int(v) for v in c): n for c, n in zip(colours, counts, strict=True)}
    assert all(drawn[colour] == PIXELS**2 for colour in (*COLOURS.values(), WHITE))
    env.unwrapped.state[-2:] = env.unwrapped.state[:2]
    covered = env.unwrapped.picture()
    assert not (covered == COLOURS["red"]).all(-1).any()


def test_the_goal_cannot_be_seen():
    red, green = (PixelGoals().make_env({"goal": goal}) for goal in COLOURS)
    assert np.array_equal(red.reset(seed=3)[0], green.reset(seed=3)[0])


def test_the_other_square_ends_an_episode_without_success():
    env = PixelGoals().make_env(GREEN).unwrapped
    env.reset(seed=0)
    env.state = np.array([0, 0, 2, 2, 1, 0], np.float64)  # red, green, the agent
    _, reward, over, _, info = env.step(np.int64(1))
    assert (reward, over, info["is_success"]) == (-1.0, True, False)


def test_starts_of_the_tensor_backend_are_different_cells_and_all_cells():
    env = PixelGoals().make_vec(1, 500, device="cpu", dtype=torch.float64)
    env.reset([GREEN], seed=0)
    places = env.state.view(500, -1, 2)
    cells = places[..., 0] * CELLS + places[..., 1]
    assert all(len(set(row)) == len(row) for row in cells.tolist())
    assert {cell for row in cells.tolist() for cell in row} == set(range(CELLS**2))


def test_walking_straight_has_the_best_return():
    family, returns = PixelGoals(), []
    env = family.make_env(GREEN).unwrapped
    for agent, goal in itertools.permutations(np.ndindex(CELLS, CELLS), 2):
        env.reset(seed=0)
        env.state = np.array([*agent, *goal, *agent], np.float64)  # red is in nobody's way
        total, reached = 0.0, False
        while not reached:
            nearer = [np.abs(env.state[-2:] + move - goal).sum() for move in MOVES]
            _, reward, reached, _, info = env.step(np.int64(np.argmin(nearer)))
            total += reward
        assert info["is_success"]
        returns.append(total)
    assert np.isclose(np.mean(returns), family.optimal_return(GREEN))
