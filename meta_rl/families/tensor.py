"""The tensor backend: step analytic environments by a few tensor operations on any device."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from meta_rl.errors import InputError, require
from meta_rl.families.typed import Kind, as_dataclass
from meta_rl.types import Step, Task


class TensorEnv(ABC):
    """Steps M tasks x B episodes of an analytic environment in lockstep.

    A subclass turns tasks into tensors, draws initial states and advances the state. ``state``
    ``(M, B, S)`` holds every row's physics; it may be set between steps.

    Args:
        num_tasks: M, the number of tasks.
        episodes: B, the number of episodes per task.
        horizon: steps after which every row is truncated.
        device: the device of all tensors.
        dtype: the type of states, observations and rewards.
    """

    occupies_cores = False
    state: Tensor
    generator: torch.Generator  # for dynamics that draw random numbers; seeded by reset

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        *,
        horizon: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ):
        self.rows = (num_tasks, episodes)
        self.horizon, self.device, self.dtype = horizon, torch.device(device), dtype
        self._running = torch.zeros(self.rows, dtype=torch.bool, device=device)
        self._over = torch.ones(self.rows, dtype=torch.bool, device=device)
        self._time = 0

    def reset(self, tasks: Sequence[Task], seed: int) -> Tensor:
        """Start every row's episode; return observations ``(M, B, O)``.

        Raises:
            InputError: unless there are M tasks.
        """
        require(len(tasks) == self.rows[0], "tasks", f"{self.rows[0]} of them", len(tasks))
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.set_tasks(tasks)
        self._time = 0
        self.state = self.initial_state(self.generator)
        return self.observe()

    def step(self, action: Tensor) -> Step:
        """Advance every row by one step."""
        if not hasattr(self, "state"):
            raise InputError("environment: step() before reset(); call reset(tasks, seed) first.")
        self._time += 1
        return self._timed(*self.moved(action))

    def moved(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Advance every row; return observations, rewards, terminations and success."""
        reward, terminated = self.advance(action)
        return self.observe(), reward, terminated, self.succeeded()

    def counted(
        self, obs: Tensor, reward: Tensor, terminated: Tensor, success: Tensor | None
    ) -> Step:
        """Return a step that :meth:`moved` took, and count it towards the horizon."""
        self._time += 1
        return self._timed(obs, reward, terminated, success)

    def _timed(
        self, obs: Tensor, reward: Tensor, terminated: Tensor, success: Tensor | None
    ) -> Step:
        truncated = self._over if self._time >= self.horizon else self._running
        return Step(obs, reward, terminated, truncated, success)

    @property
    def divided(self) -> bool:
        """Whether :meth:`step` is :meth:`moved` and the clock alone, in a subclass too."""
        return type(self).step is TensorEnv.step

    def held(self) -> dict[str, Tensor]:
        """Return the tensors that a step may read or replace, by their attributes' names.

        Those of a dataclass in an attribute have names with a dot.
        """
        found: dict[str, Tensor] = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                found[name] = value
            elif dataclasses.is_dataclass(value):
                fields = {f"{name}.{key}": each for key, each in vars(value).items()}
                found |= {key: each for key, each in fields.items() if isinstance(each, Tensor)}
        return found

    def hold(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace some of the tensors of :meth:`held`."""
        for name, value in tensors.items():
            home, _, key = name.partition(".")
            whole = dataclasses.replace(getattr(self, home), **{key: value}) if key else value
            setattr(self, home, whole)

    def uniform(self, low: float, high: float, size: int, generator: torch.Generator) -> Tensor:
        """Draw random numbers in [low, high): ``(M, B, size)``."""
        shape = (*self.rows, size)
        unit = torch.rand(shape, generator=generator, dtype=self.dtype, device=self.device)
        return low + (high - low) * unit

    def close(self) -> None:  # noqa: B027 - not abstract: nothing to do is the usual case
        """Do nothing: tensors need no closing."""

    def observe(self) -> Tensor:
        """Return observations ``(M, B, O)``; the state itself unless overridden."""
        return self.state

    def succeeded(self) -> Tensor | None:
        """Return where the state is the task's aim, ``(M, B)``: 1.0 or 0.0; None by default.

        Override it if the single environment tells success in its info.
        """
        return None

    def column(self, tasks: Sequence[Task], name: str) -> Tensor:
        """Return one parameter of every task: ``(M, 1)``, or ``(M, 1, size)`` for a vector."""
        values = torch.tensor([task[name] for task in tasks], dtype=self.dtype, device=self.device)
        return values.unsqueeze(1)

    def columns(self, tasks: Sequence[Task], kind: type[Kind]) -> Kind:
        """Return a dataclass with the :meth:`column` of every parameter.

        Args:
            tasks: the M tasks to read.
            kind: a dataclass with a field of type ``Tensor`` for each parameter.

        Raises:
            InputError: if the fields' names differ from the parameters'.
        """
        return as_dataclass(kind, {name: self.column(tasks, name) for name in tasks[0]})

    @abstractmethod
    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks' parameters as tensors."""

    @abstractmethod
    def initial_state(self, generator: torch.Generator) -> Tensor:
        """Draw the initial states ``(M, B, S)``."""

    @abstractmethod
    def advance(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Replace ``state`` by the next; return rewards and terminations, each ``(M, B)``."""
