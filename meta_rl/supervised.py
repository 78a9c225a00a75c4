"""Supervised few-shot learning as a source of tasks: a support and a query set for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from meta_rl import seeds
from meta_rl.adapted import AdaptedNetwork
from meta_rl.config import ShotsConfig
from meta_rl.errors import InputError
from meta_rl.tasks import over_tasks
from meta_rl.types import Params, Task


class Examples(NamedTuple):
    """S labelled examples of each of M tasks."""

    x: Tensor  # (M, S, inputs)
    y: Tensor  # (M, S, outputs)


class ExampleFamily(Protocol):
    """A distribution over supervised tasks."""

    id: str
    input_size: int
    output_size: int

    def sample_tasks(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks."""
        ...

    def check_task(self, task: Task) -> Task:
        """The task with its numbers normalized; InputError on an unknown or out-of-range one."""
        ...

    def draw(
        self, tasks: Sequence[Task], shots: int, seed: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Fresh inputs ``(M, S, inputs)`` and labels ``(M, S, outputs)`` of every task."""
        ...


class Supervised:
    """Tasks of a family, learned by regression with the mean squared error.

    Every inner step sees the same support set; scores and the outer loss are taken on the query.

    Args:
        family: where tasks and examples come from.
        network: a module ``(S, inputs) -> (S, outputs)``.
        config: shots and queries.
    """

    maximizes = False
    score_name = "loss"
    exploration_loss = None  # examples do not depend on the parameters

    def __init__(self, family: ExampleFamily, network: nn.Module, config: ShotsConfig):
        self.family, self.network, self.config = family, network, config
        self.device = next(network.parameters()).device

    def initial_parameters(self) -> Params:
        """The network's own parameters."""
        return {name: p.detach().clone() for name, p in self.network.named_parameters()}

    def sample_tasks(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks of the family."""
        return self.family.sample_tasks(n, seed)

    def held_out_tasks(self, n: int, seed: int) -> list[Task]:
        """Draw n tasks of the family."""
        return self.family.sample_tasks(n, seed)

    def loss(self, params: Params, examples: Examples) -> Tensor:
        """Mean squared error of one task."""
        return F.mse_loss(functional_call(self.network, params, (examples.x,)), examples.y)

    def collect(
        self,
        tasks: Sequence[Task],
        batches: Sequence[Examples],
        adapted: Callable[[], Params],
        seed: int,
        query: bool,
    ) -> Examples:
        """The tasks' support set, the same at every inner step, or their query set.

        See :class:`meta_rl.types.Problem`.
        """
        if batches and not query:
            return batches[0]
        shots = self.config.queries if query else self.config.shots
        stream = seeds.derive(seed, seeds.DATA, query)
        return Examples(*self.family.draw(tasks, shots, stream, self.device))

    @torch.no_grad()
    def probe(
        self, tasks: Sequence[Task], batches: Sequence[Examples], candidates: Params, seed: int
    ) -> tuple[Tensor, Examples, int]:
        """Minus the loss of every candidate on its task's one support set; see ``Problem``."""
        support = self.collect(tasks, batches, lambda: candidates, seed, False)
        count = next(iter(candidates.values())).shape[1]
        rows = {name: value.flatten(0, 1) for name, value in candidates.items()}
        met = Examples(*(value.repeat_interleave(count, 0) for value in support))
        losses = over_tasks(self.loss, (0, 0), None)(rows, met)
        return -losses.view(len(tasks), count), support, 0

    def inner_loss(self, params: Params, examples: Examples) -> Tensor:
        """The same as :meth:`loss`."""
        return self.loss(params, examples)

    @torch.no_grad()
    def score(self, batches: Sequence[Examples], k: int, adapted: Callable[[], Params]) -> Tensor:
        """Query loss of each task after k inner steps: ``(M,)``."""
        return over_tasks(self.loss, (0, 0), None)(adapted(), batches[-1])

    def statistics(self, examples: Examples) -> dict[str, Tensor | float]:
        """Nothing about a labelled set changes while training."""
        return {}

    def samples(self, batches: Sequence[Examples]) -> int:
        """Labelled examples in the support set and the query set."""
        different = {id(batch): batch for batch in batches}.values()
        return sum(batch.y[..., 0].numel() for batch in different)

    def variant(self, variant: Any, episodes: int | None) -> tuple[Supervised, Task]:
        """This problem for a task of the family; see ``Problem``."""
        if not isinstance(variant, Mapping):
            raise InputError(
                f"variant: {self.family.id} is a supervised family: expected one of its tasks, as "
                f"{dict(self.sample_tasks(1, 0)[0])}, got an environment."
            )
        config = self.config if episodes is None else replace(self.config, shots=episodes)
        return Supervised(self.family, self.network, config), self.family.check_task(variant)

    def deploy(
        self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]
    ) -> AdaptedNetwork:
        """A network with ``predict``."""
        return AdaptedNetwork(self.network, params, scores, manifest)

    def describe(self) -> dict[str, Any]:
        """Family and sizes."""
        family = self.family
        return {"family": family.id, "inputs": family.input_size, "outputs": family.output_size}

    def close(self) -> None:
        """Nothing is held."""
