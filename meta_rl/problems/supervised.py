"""The supervised few-shot problem: a support set and a query set for each task."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from meta_rl import seeds
from meta_rl.animation import Animation
from meta_rl.config import ShotsConfig
from meta_rl.errors import InputError, shown
from meta_rl.inner.adaptable import check_adaptable
from meta_rl.plots.pictures import episode_figure, regression_figure
from meta_rl.problem import Kind
from meta_rl.problems.adapted import AdaptedNetwork
from meta_rl.problems.examples import Drawn, ExampleFamily, Examples, OwnExamples, check_drawn
from meta_rl.problems.modules import trainable
from meta_rl.tasks import check_sampled, check_tasks, over_tasks, select, space_of
from meta_rl.types import Params, Task, TaskSpace

AHEAD, LARGE = 100, 2**24
"""The most iterations whose examples are drawn together, and the most numbers in these."""


class Supervised:
    """Tasks of a family: regression by squared error, classification by cross-entropy.

    Every inner step sees the same support set. Scores and the outer loss are taken on the query
    set, which has none of the support's examples. The score is the mean squared error, or the
    accuracy.

    Args:
        family: the family of tasks and examples.
        network: a module ``(S, *input_shape) -> (S, outputs)``.
        config: the numbers of shots and queries.
        tasks_at_once: number of tasks whose queries are scored in one vmap, as in
            :func:`meta_rl.tasks.over_tasks`.
    """

    exploration_loss: Callable[..., Tensor] | None = None  # examples do not depend on phi
    environments = None
    evaluated_at_once: int | None = 25  # at any size of the meta-batch

    def __init__(
        self,
        family: ExampleFamily,
        network: nn.Module,
        config: ShotsConfig,
        tasks_at_once: int | None = None,
    ):
        self.family, self.network, self.config = family, network, config
        self.tasks_at_once = tasks_at_once
        if not isinstance(network, nn.Module):
            raise InputError(f"network: expected a torch.nn.Module, got {shown(network)}.")
        if not hasattr(family, "fewest"):
            raise InputError(
                f"family: expected a family of examples, as meta_rl.envs.Sinusoid(), got "
                f"{shown(family)}."
            )
        wanted = config.shots + config.queries
        if family.fewest is not None and wanted > family.fewest:
            smallest = getattr(family, "smallest", "some class (or task)")
            raise InputError(
                f"data: expected shots and queries of at most {family.fewest} together, got "
                f"{config.shots} and {config.queries}: {smallest} of {family.id} has no more "
                "examples. Ask for fewer, or leave the small ones out."
            )
        check_adaptable(network)
        parameter = next(network.parameters())
        inputs = parameter.new_zeros(2, *family.input_shape)
        check_adaptable(network, inputs, tasks_at_once=tasks_at_once)
        self.device, self._dtype = parameter.device, parameter.dtype
        with torch.no_grad():
            shape, wanted = tuple(network(inputs).shape), (2, family.output_size)
        if shape != wanted:
            raise InputError(
                f"network: expected outputs {wanted} for two examples of {family.id}, got {shape}. "
                f"Give its last layer {family.output_size} outputs."
            )
        self.kind: Kind = family.kind
        self.maximizes = self._classifies = family.kind == "classification"
        self.score_name = "accuracy" if self._classifies else "loss"

    @property
    def task_space(self) -> TaskSpace | None:
        """The family's parameters; see ``TaskSource``."""
        return space_of(self.family, self.family.splits[0])

    @property
    def held_out_splits(self) -> tuple[str, ...]:
        """The family's last split, for the final test."""
        return self.family.splits[2:]

    def initial_parameters(self) -> Params:
        """Return the network's parameters, except frozen ones (``requires_grad=False``)."""
        return trainable(self.network)

    def sample_tasks(self, n: int, seed: int, split: str | None = None) -> list[Task]:
        """Draw n tasks of a split; of the family's first split when None."""
        drawn = self.family.sample_tasks(n, seed, split or self.family.splits[0])
        return check_sampled(self.family, drawn, n)

    def held_out_tasks(self, n: int, seed: int, final: bool = False) -> list[Task]:
        """Draw n tasks of the split for evaluation while training, or for the final test."""
        return self.sample_tasks(n, seed, self.family.splits[2 if final else 1])

    def check_tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """Return the tasks with each value as the family writes it; see ``TaskSource``."""
        return check_tasks(self.family, tasks)

    def made_up_batch(self, params: Params) -> Examples:
        """Return two examples of each of two tasks; see ``Losses``."""
        parameter = next(iter(params.values()))
        x = parameter.new_zeros(2, 2, *self.family.input_shape)
        kind = torch.int64 if self._classifies else parameter.dtype
        shape = (2, 2) if self._classifies else (2, 2, self.family.output_size)
        return Examples(x, torch.zeros(shape, dtype=kind, device=x.device))

    def loss(self, params: Params, batch: Examples) -> Tensor:
        """Return one task's mean squared error, or its cross-entropy in nats."""
        output = functional_call(self.network, params, (batch.x,))
        if self._classifies:
            return F.cross_entropy(output, batch.y)
        return F.mse_loss(output, batch.y)

    inner_loss = loss

    def collect(
        self,
        tasks: Sequence[Task],
        batches: Sequence[Examples],
        adapted: Callable[[], Params],
        seed: int,
        query: bool,
    ) -> Examples:
        """Return the tasks' support sets, the same at every inner step, or their query sets.

        See :class:`meta_rl.problem.TaskSource`.
        """
        if batches and not query:
            return batches[0]
        if isinstance(tasks, Drawn):
            return tasks.query if query else tasks.support
        shots, queries = self.config.shots, self.config.queries
        first, count = (shots, queries) if query else (0, shots)
        stream = seeds.derive(seed, seeds.DATA)
        drawn = self.family.draw(tasks, first, count, stream, self.device)
        if not type(self.family).__module__.startswith("meta_rl."):  # a user's own
            check_drawn(self.family, drawn, len(tasks), count)
        x, y = drawn
        return Examples(x.to(self._dtype), y if self._classifies else y.to(self._dtype))

    def ahead(self, tasks: int) -> int:
        """Return the number of iterations to draw examples for at once; fewer if they are large.

        0 if the family does not declare ``draws_ahead`` itself, or the class is a user's own.
        """
        if type(self) is not Supervised or "draws_ahead" not in vars(type(self.family)):
            return 0
        examples = tasks * (self.config.shots + self.config.queries)
        size = math.prod(self.family.input_shape) + self.family.output_size
        return max(1, min(AHEAD, LARGE // (examples * size)))

    def draw_ahead(self, iterations: int, tasks: int, seed: int) -> list[Sequence[Task]]:
        """Draw the tasks and examples of several iterations together.

        Returns:
            The tasks of each iteration, for :meth:`collect`, which then ignores its seed.
        """
        # Without a space, the family draws tasks in its own way.
        count, table = iterations * tasks, getattr(self.task_space, "table", None)
        every = table(count, seed) if table else self.sample_tasks(count, seed)
        support, query = (self.collect(every, [], dict, seed, query) for query in (False, True))
        whole = Drawn(every, support, query)
        return [whole[start : start + tasks] for start in range(0, count, tasks)]

    @torch.no_grad()
    def probe(
        self, tasks: Sequence[Task], batches: Sequence[Examples], candidates: Params, seed: int
    ) -> tuple[Tensor, Examples, int]:
        """Return minus every candidate's loss on its task's support set; see ``TaskSource``."""
        support = self.collect(tasks, batches, lambda: candidates, seed, False)
        count = next(iter(candidates.values())).shape[1]
        rows = {name: value.flatten(0, 1) for name, value in candidates.items()}
        met = Examples(*(value.repeat_interleave(count, 0) for value in support))
        losses = over_tasks(self.loss, (0, 0), self.tasks_at_once)(rows, met)
        return -losses.view(len(tasks), count), support, 0

    @torch.no_grad()
    def score(self, batches: Sequence[Examples], k: int, adapted: Callable[[], Params]) -> Tensor:
        """Return each task's query accuracy (or loss) after k inner steps: ``(M,)``."""
        return over_tasks(self._score, (0, 0), self.tasks_at_once)(adapted(), batches[-1])

    def _score(self, params: Params, examples: Examples) -> Tensor:
        if not self._classifies:
            return self.loss(params, examples)
        output = functional_call(self.network, params, (examples.x,))
        return (output.argmax(-1) == examples.y).float().mean()

    def potential(self, query: Examples, scores: Tensor) -> Tensor:
        """Return each task's loss, or its fraction of errors; see ``Losses``."""
        return 1 - scores if self.maximizes else scores

    def success(self, batches: Sequence[Examples], k: int) -> None:
        """Return None: no success but the score."""

    def statistics(self, batch: Examples) -> dict[str, Tensor | float]:
        """Return no statistics: labelled examples do not change while training."""
        return {}

    def learn(self, blocks: Sequence[tuple[int, Sequence[Examples]]]) -> None:
        """Do nothing: the network is all that learns."""

    def learned(self) -> Params:
        """Return no tensors; see ``TaskSource``."""
        return {}

    def samples(self, batches: Sequence[Examples]) -> int:
        """Return the number of labelled examples in the support sets and the query sets."""
        different = {id(batch): batch for batch in batches}.values()
        return sum(batch.y.shape[0] * batch.y.shape[1] for batch in different)

    @torch.no_grad()
    def pictures(
        self, task: Task, batches: Sequence[Examples], path: Sequence[Params]
    ) -> dict[str, Figure | Animation]:
        """Draw ``task``: the support, and the query as predicted before and after adaptation.

        Only for classes of images, and regression from one number to one; see ``Deployment``.
        """
        support, query = (select(batch, 0) for batch in (batches[0], batches[-1]))
        if not self._classifies:
            if self.family.input_shape != (1,) or self.family.output_size != 1:
                return {}
            return {"task": self._regression(support, query, path)}
        if len(self.family.input_shape) != 3:
            return {}
        predicted = [
            functional_call(self.network, select(phi, 0), (query.x,)).argmax(-1)
            for phi in (path[0], path[-1])
        ]
        return {"task": episode_figure(support, query, *predicted)}

    def _regression(self, support: Examples, query: Examples, path: Sequence[Params]) -> Figure:
        ends = torch.cat([support.x, query.x])
        x = torch.linspace(float(ends.min()), float(ends.max()), 200).to(ends)[:, None]
        curves = [
            functional_call(self.network, select(phi, 0), (x,)) for phi in (path[0], path[-1])
        ]
        return regression_figure(support, query, x, *curves)

    def resized(self, episodes: int | None) -> Supervised:
        """Return the problem with another number of shots; see ``TaskSource``."""
        config = self.config if episodes is None else replace(self.config, shots=episodes)
        return Supervised(self.family, self.network, config, self.tasks_at_once)

    def variant(self, variant: Any) -> tuple[Supervised, Task]:
        """Return the problem and the task of a variant: a task, or a user's own examples.

        Args:
            variant: a task of the family, or :class:`Examples` of one task, without a leading M.
                The examples are the support set, and scores are taken on them too.

        Raises:
            InputError: if the variant is neither, or the examples' shapes or classes do not fit.
        """
        if isinstance(variant, Examples):
            family = OwnExamples(self.family, variant)
            return Supervised(family, self.network, self.config, self.tasks_at_once), {}
        if not isinstance(variant, Mapping):
            raise InputError(
                f"variant: {self.family.id} is a supervised family: expected one of its tasks, as "
                f"{dict(self.held_out_tasks(1, 0)[0])}, or Examples, got {type(variant).__name__}."
            )
        return self, self.check_tasks([variant])[0]

    def deploy(
        self, params: Params, scores: tuple[float, ...], manifest: dict[str, Any]
    ) -> AdaptedNetwork:
        """Return an adapted network, with ``predict`` and ``save``."""
        shape = self.family.input_shape
        return AdaptedNetwork(self.network, params, scores, manifest, shape, self._classifies)

    def describe(self) -> dict[str, Any]:
        """Return the family, the kind and names of labels and inputs, and the shapes, for JSON."""
        family = self.family
        labels = getattr(family, "labels", ())  # only where they are the same in all tasks
        columns = getattr(family, "columns", ())  # only of files with names
        return {
            "family": family.id,
            "kind": family.kind,
            "inputs": list(family.input_shape),
            "outputs": family.output_size,
            **({"labels": list(labels)} if labels else {}),
            **({"columns": list(columns)} if columns else {}),
        }

    def close(self) -> None:
        """Do nothing: there is nothing to free."""
