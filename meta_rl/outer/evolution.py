"""Outer steps without a meta-gradient: an evolution strategy and a genetic algorithm.

Both try a population of (theta, rule) on the same tasks, after adaptation, and see nothing but
each member's fitness. A population is a Meta whose tensors have a leading P.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl import seeds
from meta_rl.config import EvolutionConfig, GeneticConfig
from meta_rl.inner.trial import Trial
from meta_rl.naming import under
from meta_rl.outer.step import (
    gradient_norms,
    load_optimizer_tensors,
    optimizer_of,
    optimizer_tensors,
)
from meta_rl.storage import checkpoint
from meta_rl.tasks import num_tasks, select
from meta_rl.types import Meta


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
    """

    def __init__(self, config: EvolutionConfig, meta: Meta, members_at_once: int | None = None):
        self.config, self.meta, self.members_at_once = config, meta, members_at_once
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer]
        rates = config.learning_rate, config.step_size_learning_rate
        self._optimizer = optimizer_of(kind, meta, *rates)

    def iterate(self, trial: Trial) -> dict[str, Any]:
        """Try n antithetic pairs on the trial's tasks and ascend what they say.

        Members whose fitness is not finite count as the worst, and in
        ``train/members_not_finite``; where all are, the step is skipped.
        """
        trial.watch(self.meta)
        config = self.config
        generator = _generator(self.meta, seeds.derive(trial.seed, seeds.POPULATION, 0))
        noise = gaussian(self.meta, config.population, generator)
        fitness = torch.stack(
            [
                evaluate(
                    trial, perturbed(self.meta, noise, sign * config.sigma), self.members_at_once
                )
                for sign in (1, -1)
            ]
        )
        if not torch.isfinite(fitness).any():
            return _statistics(fitness) | {"train/skipped": 1.0}
        gradient = es_gradient(noise, shape(fitness, config.shaping), config.sigma)
        return _statistics(fitness) | self.step(gradient)

    def step(self, gradient: Meta) -> dict[str, float]:
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


class GeneticAlgorithm:
    """A genetic algorithm over (theta, rule).

    Such et al. 2017, "Deep Neuroevolution", algorithm 1, with the textbook's crossover and
    tournaments (Eiben and Smith, "Introduction to Evolutionary Computing", chapters 4 and 5).

        F_i = mean over this iteration's tasks of the score after adapting from member i
        meta = the member with the highest F
        next population = the best few as they are, and children: mutate(crossover(select, select))

    Fitness is noisy and tasks are new each generation, so the elite is evaluated anew with the
    others and stays only while it stays best.

    Args:
        config: its settings.
        meta: leaf tensors; the best member is written into them in each generation.
        seed: of the first population: ``meta`` itself and mutated copies of it.
    """

    def __init__(
        self, config: GeneticConfig, meta: Meta, seed: int, members_at_once: int | None = None
    ):
        self.config, self.meta, self.members_at_once = config, meta, members_at_once
        copies = tree_map(lambda leaf: leaf.detach().expand(config.population, *leaf.shape), meta)
        generator = _generator(meta, seeds.derive(seed, seeds.POPULATION, 0))
        mutants = mutate(copies, config.sigma, generator)
        self.population = tree_map(
            lambda leaf, mutant: torch.cat([leaf.detach()[None], mutant[1:]]), meta, mutants
        )

    @torch.no_grad()
    def iterate(self, trial: Trial) -> dict[str, Any]:
        """Try every member on the trial's tasks, keep the best as ``meta``, and breed.

        Members whose fitness is not finite count as the worst, and in
        ``train/members_not_finite``; where all are, the step is skipped.
        """
        trial.watch(self.meta)
        fitness = evaluate(trial, self.population, self.members_at_once)
        metrics = {
            **_statistics(fitness),
            "train/population_diversity": float(diversity(self.population)),
        }
        if not torch.isfinite(fitness).any():
            return metrics | {"train/skipped": 1.0}
        best = int(or_worst(fitness).argmax())
        for leaf, member in zip(
            tree_leaves(self.meta), tree_leaves(select(self.population, best)), strict=True
        ):
            leaf.copy_(member)
        generator = _generator(self.meta, seeds.derive(trial.seed, seeds.POPULATION, 0))
        self.population = breed(self.population, fitness, self.config, generator)
        return metrics

    def state_dict(self) -> dict[str, Tensor]:
        """The population, as named tensors with a leading P."""
        return under("theta", self.population.theta) | under("rule", self.population.rule)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave.

        Raises:
            InputError: if it is of another population or network.
        """
        own = self.state_dict()
        checkpoint.match_tensors(own, state)
        for name, value in own.items():
            value.copy_(state[name])


def evaluate(trial: Trial, population: Meta, members_at_once: int | None) -> Tensor:
    """Each member's fitness, the mean over tasks: ``(P,)``.

    Walks ``members_at_once`` members at a time, so that memory is bounded by them.
    """
    total = num_tasks(population)
    size = members_at_once or total
    parts = [select(population, slice(start, start + size)) for start in range(0, total, size)]
    return torch.cat([trial.fitness(part, num_tasks(part)).mean(1) for part in parts])


def es_gradient(noise: Meta, utility: Tensor, sigma: float) -> Meta:
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


def or_worst(fitness: Tensor) -> Tensor:
    """Fitness with minus infinity where it is not finite: that member adapted to nonsense."""
    return torch.where(torch.isfinite(fitness), fitness, -torch.inf)


def breed(population: Meta, fitness: Tensor, config: GeneticConfig, generator: Generator) -> Meta:
    """The next generation, as many as before: the elites unchanged, then children."""
    fitness = or_worst(fitness)
    elites = fitness.argsort(descending=True, stable=True)[: config.elites]
    children = len(fitness) - config.elites
    if config.selection == "truncation":
        parents = truncation(fitness, config.parents, 2 * children, generator)
    else:
        parents = tournament(fitness, config.tournament, 2 * children, generator)
    one, other = (tree_map(lambda leaf, who=who: leaf[who], population) for who in parents.chunk(2))
    born = mutate(crossover(one, other, config.crossover, generator), config.sigma, generator)
    return tree_map(lambda leaf, child: torch.cat([leaf[elites], child]), population, born)


def truncation(fitness: Tensor, parents: int, count: int, generator: Generator) -> Tensor:
    """Indices ``(count,)``, each drawn evenly from the best ``parents`` (Such et al. 2017)."""
    best = fitness.argsort(descending=True, stable=True)[:parents]
    drawn = torch.randint(len(best), (count,), generator=generator, device=generator.device)
    return best[drawn.to(best.device)]


def tournament(fitness: Tensor, size: int, count: int, generator: Generator) -> Tensor:
    """Indices ``(count,)``, each the best of ``size`` drawn evenly with replacement."""
    entrants = torch.randint(
        len(fitness), (count, size), generator=generator, device=generator.device
    ).to(fitness.device)
    return entrants.gather(1, fitness[entrants].argmax(1, keepdim=True))[:, 0]


def crossover(one: Meta, other: Meta, rate: float, generator: Generator) -> Meta:
    """Uniform crossover: a child takes each number from either parent with even odds.

    Args:
        one: parents, tensors ``(children, ...)``.
        other: the other parents.
        rate: probability that a child has two parents; otherwise it is a copy of ``one``.
        generator: where randomness comes from.
    """

    def random(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=generator.device)

    both = random(num_tasks(one)) < rate

    def mix(left: Tensor, right: Tensor) -> Tensor:
        swap = both.view(-1, *(1,) * (left.ndim - 1)) & (random(*left.shape) < 0.5)
        return torch.where(swap, right, left)

    return tree_map(mix, one, other)


def mutate(population: Meta, sigma: float, generator: Generator) -> Meta:
    """Every number plus Gaussian noise; step sizes in the form in which they are learned."""
    member, members = select(population, 0), num_tasks(population)
    noise = gaussian(member, members, generator)
    return tree_map(lambda leaf, eps: leaf + sigma * eps, population, noise)


def perturbed(meta: Meta, noise: Meta, scale: float) -> Meta:
    """A population around one Meta: ``meta + scale * noise``."""
    return tree_map(lambda leaf, eps: leaf.detach() + scale * eps, meta, noise)


def gaussian(meta: Meta, members: int, generator: Generator) -> Meta:
    """Standard normal noise, ``(members, ...)`` for every tensor."""

    def draw(leaf: Tensor) -> Tensor:
        return torch.randn(
            (members, *leaf.shape), generator=generator, dtype=leaf.dtype, device=leaf.device
        )

    return tree_map(draw, meta)


def diversity(population: Meta) -> Tensor:
    """Root mean square distance of the members' numbers from the population's mean."""
    leaves = tree_leaves(population)
    flat = torch.cat([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)
    return flat.var(0, correction=0).mean().sqrt()


def _generator(meta: Meta, seed: int) -> Generator:
    return seeds.generator(seed, tree_leaves(meta)[0].device)


def _statistics(fitness: Tensor) -> dict[str, float]:
    finite = fitness[torch.isfinite(fitness)]
    known = finite if len(finite) else fitness.new_full((1,), torch.nan)
    return {
        "train/fitness_mean": float(known.mean()),
        "train/fitness_best": float(known.max()),
        "train/fitness_std": float(known.std(correction=0)),
        "train/members_not_finite": float(fitness.numel() - len(finite)),
    }
