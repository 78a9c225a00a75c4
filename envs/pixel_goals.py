"""A little world seen from above as pixels, whose coloured squares hide which one is the goal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from meta_rl.families.choice import Choice
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.types import Task

CELLS, PIXELS = 3, 2  # cells along a side, and pixels along a side of a cell
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0)}
WHITE = (255, 255, 255)  # the agent, drawn over a square below it
MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))
PALETTE = np.array([*COLOURS.values(), WHITE], np.uint8)


class PixelGoalsEnv(gym.Env[np.ndarray, np.int64]):
    """An agent that moves between cells; the reward is the cells by which it nears its goal.

    Reaching a square of any colour ends the episode. The agent and a square of each colour start in
    different random cells.

    Args:
        goal: the goal's colour.
    """

    env_id, horizon = "MetaRL/PixelGoals-v0", 5

    def __init__(self, goal: str = "red"):
        self.observation_space = gym.spaces.Box(
            0, 255, (CELLS * PIXELS, CELLS * PIXELS, 3), np.uint8
        )
        self.action_space = gym.spaces.Discrete(len(MOVES))
        self.goal = list(COLOURS).index(goal)
        self.state = np.zeros(2 * len(PALETTE))  # x, y of each square, and of the agent

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Put the squares and the agent into different cells."""
        super().reset(seed=seed)
        cells = self.np_random.permutation(CELLS**2)[: len(PALETTE)]
        self.state = np.stack([cells // CELLS, cells % CELLS], -1).flatten().astype(np.float64)
        return self.picture(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move by one cell, or stay at a wall."""
        before = self.distance()
        self.state[-2:] = (self.state[-2:] + MOVES[action]).clip(0, CELLS - 1)
        reward, reached = before - self.distance(), self.distance() == 0
        squares, agent = self.state.reshape(-1, 2)[:-1], self.state[-2:]
        over = bool((squares == agent).all(-1).any())
        return self.picture(), float(reward), over, False, {"is_success": reached}

    def distance(self) -> float:
        """Return the number of moves to the goal."""
        goal = self.state[2 * self.goal : 2 * self.goal + 2]
        return float(np.abs(self.state[-2:] - goal).sum())

    def picture(self) -> np.ndarray:
        """Draw the cells as pixels ``(H, W, 3)``."""
        cells = np.zeros((CELLS, CELLS, 3), np.uint8)
        for (x, y), colour in zip(self.state.reshape(-1, 2).astype(int), PALETTE, strict=True):
            cells[x, y] = colour
        return cells.repeat(PIXELS, 0).repeat(PIXELS, 1)


class PixelGoalsTensorEnv(TensorEnv):
    """:class:`PixelGoalsEnv` for M x B worlds at once; states ``(M, B, 8)``."""

    goal: Tensor  # (M, 1, 2), the goal's places in the state

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep where the state has the tasks' goals."""
        first = [2 * [*COLOURS].index(str(task["goal"])) for task in tasks]
        self.goal = torch.tensor([[[i, i + 1]] for i in first], device=self.device)

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Put the squares and the agents into different cells."""
        cells = self.uniform(0.0, 1.0, CELLS**2, generator).argsort(-1)[..., : len(PALETTE)]
        return torch.stack([cells // CELLS, cells % CELLS], -1).flatten(2).to(self.dtype)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Move by one cell, or stay at a wall."""
        before = self.distance()
        moves = torch.tensor(MOVES, dtype=self.dtype, device=self.device)
        moved = (self.state[..., -2:] + moves[action]).clamp(0, CELLS - 1)
        self.state = torch.cat([self.state[..., :-2], moved], -1)
        squares = self.state[..., :-2].unflatten(-1, (-1, 2))
        over = (squares == moved.unsqueeze(-2)).all(-1).any(-1)
        return before - self.distance(), over

    def succeeded(self) -> Tensor:
        """Return 1.0 where the agent is at its goal."""
        return (self.distance() == 0).to(self.dtype)

    def distance(self) -> Tensor:
        """Return the numbers of moves to the goals, ``(M, B)``."""
        goal = self.state.gather(-1, self.goal.expand(*self.rows, 2))
        return (self.state[..., -2:] - goal).abs().sum(-1)

    def observe(self) -> Tensor:
        """Draw the cells as flat pixels, ``(M, B, O)`` bytes."""
        places = self.state.long().unflatten(-1, (-1, 2))
        number = places[..., 0] * CELLS + places[..., 1]  # (M, B, squares and agent)
        cells = torch.zeros(*self.rows, CELLS**2, 3, dtype=torch.uint8, device=self.device)
        for one, colour in enumerate(torch.from_numpy(PALETTE).to(self.device)):
            where = number[..., one, None, None].expand(*self.rows, 1, 3)
            cells = cells.scatter(2, where, colour.expand(*self.rows, 1, 3))
        image = cells.unflatten(2, (CELLS, CELLS))
        return image.repeat_interleave(PIXELS, 2).repeat_interleave(PIXELS, 3).flatten(2)


class PixelGoals(Family):
    """The goal is the red or the green square; observations are 6 x 6 pixels.

    Nothing in a picture tells the goal: only rewards do. Squares lie elsewhere in every episode, so
    a policy has to see them.
    """

    id = "pixel-goals"
    source = "this project"
    horizon = PixelGoalsEnv.horizon
    observation_space = PixelGoalsEnv().observation_space
    action_space = PixelGoalsEnv().action_space
    space = ParameterSpace(Parameter("goal", Choice(*COLOURS)))
    tensor_env = PixelGoalsTensorEnv

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard environment with the task's goal and its time limit."""
        return gym.make(PixelGoalsEnv.env_id, goal=self.check_task(task)["goal"])

    def optimal_return(self, task: Task) -> float:
        """Return the mean number of moves between two cells; a way round a square costs nothing."""
        apart = [abs(a - b) for a in range(CELLS) for b in range(CELLS)]
        return 2 * CELLS**2 * sum(apart) / (CELLS**2 * (CELLS**2 - 1))


if PixelGoalsEnv.env_id not in gym.registry:
    entry_point = f"{PixelGoalsEnv.__module__}:{PixelGoalsEnv.__name__}"
    gym.register(PixelGoalsEnv.env_id, entry_point, max_episode_steps=PixelGoalsEnv.horizon)
