"""An outer step without a meta-gradient: the evolution strategy ES-MAML.

It tries a population of (theta, rule) on the same tasks, after adaptation, and sees nothing but
each member's fitness.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl import seeds
from meta_rl.config import EvolutionConfig
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.outer.population import evaluate, fitness_statistics, gaussian, generator_of, or_worst
from meta_rl.outer.step import (
    Outcome,
    gradient_norms,
    load_optimizer_tensors,
    optimizer_of,
    optimizer_tensors,
)
from meta_rl.types import MetaParameters


class EvolutionStrategy:
    """ES-MAML (Song et al. 2020, "ES-MAML: Simple Hessian-Free Meta Learning", algorithm 3).

        eps_i ~ N(0, I),  i = 1..n, of the size of (theta, rule)
        F_i+, F_i- = mean over tasks of the score after adapting from (theta, rule) +- sigma eps_i
        g = 1 / (2 n sigma) sum_i (F_i+ - F_i-) eps_i
        (theta, rule) <- optimizer ascends g

    Without shaping, g is an unbiased estimate of the gradient of E[F(theta + sigma eps)], however F
    adapts. Step
    sizes are perturbed as they are learned, hence their logarithms by default. Both signs of a pair
    are rolled out with the same random numbers, so that what is luck largely cancels.

    Args:
        config: its settings.
        meta: leaf tensors, changed in place by :meth:`step`.
        members_at_once: members that are tried together; all when None.
    """

    def __init__(
        self, config: EvolutionConfig, meta: MetaParameters, members_at_once: int | None = None
    ):
        self.config, self.meta, self.members_at_once = config, meta, members_at_once
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer]
        rates = config.learning_rate, config.step_size_learning_rate
        self._optimizer = optimizer_of(kind, meta, *rates)

    def iterate(self, batch: MetaBatch) -> Outcome:
        """Try n antithetic pairs on the meta-batch's tasks and ascend their fitness.

        Members whose fitness is not finite count as the worst, and in
        ``train/members_not_finite``; where all are, the step is skipped.
        """
        adaptation = batch.adapt(self.meta, tolerant=True) if batch.scored else None
        config = self.config
        generator = generator_of(self.meta, seeds.derive(batch.seed, seeds.POPULATION, 0))
        noise = gaussian(self.meta, config.population, generator)
        fitness = torch.stack(
            [
                evaluate(
                    batch, perturbed(self.meta, noise, sign * config.sigma), self.members_at_once
                )
                for sign in (1, -1)
            ]
        )
        if not torch.isfinite(fitness).any():
            return Outcome(fitness_statistics(fitness) | {"train/skipped": 1.0}, adaptation)
        gradient = es_gradient(noise, shape(fitness, config.shaping), config.sigma)
        return Outcome(fitness_statistics(fitness) | self.step(gradient), adaptation)

    def step(self, gradient: MetaParameters) -> dict[str, float]:
        """Ascend a gradient of the fitness in place; one that is not finite is skipped and counted.

        Returns:
            Gradient norms, and ``train/skipped`` where it was.
        """
        leaves, values = tree_leaves(self.meta), tree_leaves(gradient)
        metrics = gradient_norms(gradient)
        if not all(bool(torch.isfinite(value).all()) for value in values):
            return metrics | {"train/skipped": 1.0}
        for leaf, value in zip(leaves, values, strict=True):
            leaf.grad = -value
        self._optimizer.step()
        return metrics

    def state_dict(self) -> dict[str, Tensor]:
        """The optimizer's moments, as named tensors; none for SGD."""
        return optimizer_tensors(self._optimizer)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        load_optimizer_tensors(self._optimizer, state)


def es_gradient(noise: MetaParameters, utility: Tensor, sigma: float) -> MetaParameters:
    """The gradient of the expected utility, ``1 / (2 n sigma) sum_i (U_i+ - U_i-) eps_i``.

    Salimans et al. 2017, "Evolution Strategies", section 2.1, with mirrored sampling.

    Args:
        noise: eps, tensors ``(n, ...)``.
        utility: ``(2, n)``, of ``+ sigma eps`` and of ``- sigma eps``.
        sigma: the perturbations' size.
    """
    weight = (utility[0] - utility[1]) / (2 * utility.shape[1] * sigma)
    return tree_map(lambda eps: torch.tensordot(weight.to(eps), eps, 1), noise)


def shape(fitness: Tensor, shaping: str) -> Tensor:
    """Fitness, of any shape, as what the gradient is taken of.

    ``rank``: :func:`centred_ranks`. ``standardize``: mean 0 and standard deviation 1.
    ``none``: as it is. What is not finite counts as the worst of what is.
    """
    if shaping == "rank":
        return centred_ranks(fitness)
    finite = torch.isfinite(fitness)
    fitness = torch.where(finite, fitness, fitness[finite].min())
    if shaping == "standardize":
        return (fitness - fitness.mean()) / fitness.std(correction=0).clamp(min=1e-8)
    return fitness


def centred_ranks(fitness: Tensor) -> Tensor:
    """Ranks scaled to [-0.5, 0.5], of any shape (Salimans et al. 2017, section 2.1).

    Equal values share the mean of their ranks, so that a constant fitness has no gradient. Values
    that are not finite rank last.
    """
    flat = or_worst(fitness).flatten()
    below = (flat[:, None] > flat).sum(1)
    equal = (flat[:, None] == flat).sum(1)
    rank = below + (equal - 1) / 2
    return (rank / max(1, len(flat) - 1) - 0.5).to(fitness).view_as(fitness)


def perturbed(meta: MetaParameters, noise: MetaParameters, scale: float) -> MetaParameters:
    """A population around one MetaParameters: ``meta + scale * noise``."""
    return tree_map(lambda leaf, eps: leaf.detach() + scale * eps, meta, noise)
