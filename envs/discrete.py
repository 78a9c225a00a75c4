"""Bandits and tabular MDPs of the RL2 paper (Duan et al. 2016, sections 3.1 and 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from meta_rl.errors import require
from meta_rl.families.distributions import Exponential, Normal, Uniform
from meta_rl.families.family import Family
from meta_rl.families.parameters import Parameter, ParameterSpace
from meta_rl.families.tensor import TensorEnv
from meta_rl.types import Task

STATES, ACTIONS = 10, 5  # the tabular MDP's


class BanditEnv(gym.Env[np.ndarray, np.int64]):
    """Bernoulli arms: each pays 1 with a probability of its own, else 0. Nothing is observed.

    Args:
        means: the probability of each arm.
    """

    def __init__(self, means: Sequence[float] = (0.2, 0.8)):
        self.observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(len(means))
        self.means = np.asarray(means, dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the constant observation."""
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pull an arm; the reward is 1 or 0."""
        reward = float(self.np_random.random() < self.means[action])
        return np.ones(1, np.float32), reward, False, False, {}


class BanditTensorEnv(TensorEnv):
    """:class:`BanditEnv` for M x B bandits at once; the state is the constant observation."""

    means: Tensor  # (M, 1, arms)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' arms."""
        self.means = self.column(tasks, "means")

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Return ones: the constant observation."""
        return torch.ones(*self.rows, 1, dtype=self.dtype, device=self.device)

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Pull arms ``(M, B)``."""
        mean = self.means.squeeze(1).gather(1, action)
        pays = self.uniform(0.0, 1.0, 1, self.generator).squeeze(-1) < mean
        return pays.to(self.dtype), torch.zeros_like(pays)


class Bandit(Family):
    """Arms' probabilities uniform in [0, 1]; an episode is ``horizon`` pulls.

    Args:
        arms: the number of arms.
        horizon: pulls in an episode; the paper has 10, 100 and 500.
    """

    source = "Duan et al. 2016 (RL2), section 3.1"
    observation_space = BanditEnv().observation_space
    tensor_env = BanditTensorEnv
    stochastic = True

    def __init__(self, arms: int = 5, horizon: int = 10):
        self.id, self.horizon = f"bandit-{arms}", horizon
        self.action_space = gym.spaces.Discrete(arms)
        self.space = ParameterSpace(Parameter("means", Uniform(0.0, 1.0), size=arms))

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard environment with the task's arms and the number of pulls as limit."""
        means = self.check_task(task)["means"]
        return gym.make("MetaRL/Bandit-v0", means=means, max_episode_steps=self.horizon)

    def optimal_return(self, task: Task) -> float:
        """Return the expected return of pulling the best arm every time."""
        means: Any = self.check_task(task)["means"]
        return self.horizon * float(np.max(means))


class TabularMDPEnv(gym.Env[np.ndarray, np.int64]):
    """Ten states, five actions, random transitions and Gaussian rewards of variance 1.

    Args:
        transition: the weight of each (state, action, next state), in that order, flat; any scale.
        reward: the mean reward of each (state, action), flat.
    """

    def __init__(
        self,
        transition: Sequence[float] = (1.0,) * (STATES * ACTIONS * STATES),
        reward: Sequence[float] = (1.0,) * (STATES * ACTIONS),
    ):
        self.observation_space = gym.spaces.Box(0.0, 1.0, (STATES,), np.float32)
        self.action_space = gym.spaces.Discrete(ACTIONS)
        weight = np.reshape(transition, (STATES, ACTIONS, STATES))
        self.transition = weight / weight.sum(-1, keepdims=True)
        self.reward = np.reshape(reward, (STATES, ACTIONS))
        self.place = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Return to state 0."""
        super().reset(seed=seed)
        self.place = 0
        return self.one_hot(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Draw the reward of this state and action, and the next state."""
        reward = self.np_random.normal(self.reward[self.place, action], 1.0)
        chances = self.transition[self.place, action]
        self.place = int(self.np_random.choice(STATES, p=chances))
        return self.one_hot(), float(reward), False, False, {}

    def one_hot(self) -> np.ndarray:
        """Return the observation: 1 at the state's place, else 0."""
        return np.eye(STATES, dtype=np.float32)[self.place]


class TabularMDPTensorEnv(TensorEnv):
    """:class:`TabularMDPEnv` for M x B processes at once; states are one-hot, ``(M, B, 10)``."""

    cumulative: Tensor  # (M, 50, 10), over next states; the last is 1
    mean: Tensor  # (M, 50)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep cumulative transition probabilities and mean rewards."""
        weight = self.column(tasks, "transition").reshape(-1, STATES * ACTIONS, STATES)
        cumulative = weight.cumsum(-1)
        # Divide by the last, so that the last is exactly 1 and above every draw.
        self.cumulative = cumulative / cumulative[..., -1:]
        self.mean = self.column(tasks, "reward").squeeze(1)

    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Return state 0 for every row."""
        state = torch.zeros(*self.rows, STATES, dtype=self.dtype, device=self.device)
        state[..., 0] = 1.0
        return state

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Draw rewards ``(M, B)``, and the next states by inversion."""
        case = ACTIONS * self.state.argmax(-1) + action
        shape, place = self.rows, {"dtype": self.dtype, "device": self.device}
        reward = self.mean.gather(1, case) + torch.randn(shape, generator=self.generator, **place)
        row = self.cumulative.gather(1, case.unsqueeze(-1).expand(-1, -1, STATES))
        following = (row <= self.uniform(0.0, 1.0, 1, self.generator)).sum(-1)
        # one_hot would check the range of the numbers, which synchronizes a GPU.
        self.state = torch.zeros_like(self.state).scatter(-1, following.unsqueeze(-1), 1.0)
        return reward, torch.zeros_like(action, dtype=torch.bool)


class TabularMDP(Family):
    """Transitions ~ Dirichlet(1), mean rewards ~ Normal(1, 1), 10 steps from state 0.

    ``transition`` holds weights. Each row is divided by its sum, which makes exponential weights
    Dirichlet.
    """

    id = "tabular-mdp"
    source = "Duan et al. 2016 (RL2), section 3.2; Osband et al. 2013"
    horizon = 10
    observation_space = TabularMDPEnv().observation_space
    action_space = TabularMDPEnv().action_space
    space = ParameterSpace(
        Parameter("transition", Exponential(), size=STATES * ACTIONS * STATES),
        Parameter("reward", Normal(1.0, 1.0), size=STATES * ACTIONS),
    )
    tensor_env = TabularMDPTensorEnv
    stochastic = True

    def check_task(self, task: Mapping[str, Any]) -> Task:
        """Return the task with its values normalized.

        Raises:
            InputError: if a parameter is unknown, missing or impossible, or if no next state has a
                weight.
        """
        checked: Any = super().check_task(task)
        sums = np.reshape(checked["transition"], (-1, STATES)).sum(1)
        what = f"a weight above 0 in every {STATES} of them"
        require(bool((sums > 0).all()), "task parameter transition", what, sums.min())
        return checked

    def make_env(self, task: Task, render_mode: str | None = None) -> gym.Env:
        """Return a standard environment with the task's tables and its time limit."""
        tables: Any = self.check_task(task)
        return gym.make("MetaRL/TabularMDP-v0", **tables)

    def optimal_return(self, task: Task) -> float:
        """Return the first state's value, by backward induction over the horizon."""
        tables: Any = self.check_task(task)
        env = TabularMDPEnv(**tables)
        value = np.zeros(STATES)
        for _ in range(self.horizon):
            value = (env.reward + env.transition @ value).max(1)
        return float(value[0])


for env_id, env in (("MetaRL/Bandit-v0", BanditEnv), ("MetaRL/TabularMDP-v0", TabularMDPEnv)):
    if env_id not in gym.registry:
        gym.register(env_id, f"{env.__module__}:{env.__name__}", max_episode_steps=10)
