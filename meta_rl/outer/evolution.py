"""An outer step without a meta-gradient: the evolution strategy ES-MAML.

It evaluates a population of (theta, rule) on the same tasks after adaptation, and uses only each
member's fitness.
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

        eps_i ~ N(0, I),  i = 1..n, shaped like (theta, rule)
        F_i+, F_i- = mean over tasks of the score after adapting from (theta, rule) +- sigma eps_i
        g = 1 / (2 n sigma) sum_i (F_i+ - F_i-) eps_i
        (theta, rule) <- optimizer ascends g

    Without shaping, g is an unbiased estimate of the gradient of E[F(theta + sigma eps)], however F
    adapts. Step sizes are perturbed in their learned form, by default the logarithm. Both members
    of a pair use the same random numbers, so that most of the noise cancels.

    Args:
        config: settings of the outer step.
        meta: the meta-parameters, leaf tensors; :meth:`step` changes them in place.
        members_at_once: number of members evaluated together; all when None.
    """

    def __init__(
        self, config: EvolutionConfig, meta: MetaParameters, members_at_once: int | None = None
    ):
        self.config, self.meta, self.members_at_once = config, meta, members_at_once
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer]
        rates = config.learning_rate, config.step_size_learning_rate
        self._optimizer = optimizer_of(kind, meta, *rates)

    def iterate(self, batch: MetaBatch) -> Outcome:
        """Evaluate n antithetic pairs on the meta-batch's tasks and ascend their fitness.

        A member whose fitness is not finite counts as the worst; ``train/members_not_finite`` is
        the number of such members. The step is skipped if no member's fitness is finite.
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
        """Ascend the fitness in place along its gradient; skip and count one that is not finite.

        Returns:
            Gradient norms, and ``train/skipped`` if the step was skipped.
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
        """Return the optimizer's moments, as named tensors; none for SGD."""
        return optimizer_tensors(self._optimizer)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`."""
        load_optimizer_tensors(self._optimizer, state)


def es_gradient(noise: MetaParameters, utility: Tensor, sigma: float) -> MetaParameters:
    """Return the gradient of the expected utility, ``1 / (2 n sigma) sum_i (U_i+ - U_i-) eps_i``.

    Salimans et al. 2017, "Evolution Strategies", section 2.1, with mirrored sampling.

    Args:
        noise: eps, tensors ``(n, ...)``.
        utility: utility of ``meta + sigma eps`` and of ``meta - sigma eps``, ``(2, n)``.
        sigma: standard deviation of the perturbations.
    """
    weight = (utility[0] - utility[1]) / (2 * utility.shape[1] * sigma)
    return tree_map(lambda eps: torch.tensordot(weight.to(eps), eps, 1), noise)


def shape(fitness: Tensor, shaping: str) -> Tensor:
    """Return the utility of a fitness of any shape.

    ``rank``: :func:`centred_ranks`. ``standardize``: mean 0 and standard deviation 1.
    ``none``: the fitness itself. Values that are not finite count as the worst finite value.
    """
    if shaping == "rank":
        return centred_ranks(fitness)
    finite = torch.isfinite(fitness)
    fitness = torch.where(finite, fitness, fitness[finite].min())
    if shaping == "standardize":
        return (fitness - fitness.mean()) / fitness.std(correction=0).clamp(min=1e-8)
    return fitness


def centred_ranks(fitness: Tensor) -> Tensor:
    """Return ranks scaled to [-0.5, 0.5], of any shape (Salimans et al. 2017, section 2.1).

    Equal values share the mean of their ranks, so that a constant fitness has no gradient. Values
    that are not finite rank last.
    """
    flat = or_worst(fitness).flatten()
    below = (flat[:, None] > flat).sum(1)
    equal = (flat[:, None] == flat).sum(1)
    rank = below + (equal - 1) / 2
    return (rank / max(1, len(flat) - 1) - 0.5).to(fitness).view_as(fitness)


def perturbed(meta: MetaParameters, noise: MetaParameters, scale: float) -> MetaParameters:
    """Return the population ``meta + scale * noise``."""
    return tree_map(lambda leaf, eps: leaf.detach() + scale * eps, meta, noise)
