"""An outer step without a meta-gradient: a genetic algorithm.

It evaluates a population of (theta, rule) on the same tasks after adaptation, and uses only each
member's fitness.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl import seeds
from meta_rl.config import GeneticConfig
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.naming import under
from meta_rl.outer.population import evaluate, fitness_statistics, gaussian, generator_of, or_worst
from meta_rl.outer.step import Outcome
from meta_rl.storage import checkpoint
from meta_rl.tasks import num_tasks, select
from meta_rl.types import MetaParameters


class GeneticAlgorithm:
    """A genetic algorithm over (theta, rule).

    Such et al. 2017, "Deep Neuroevolution", algorithm 1, with crossover and tournaments as in the
    textbook (Eiben and Smith, "Introduction to Evolutionary Computing", chapters 4 and 5).

        F_i = mean over this iteration's tasks of the score after adapting from member i
        meta = the member with the highest F
        next population = elites unchanged, and children: mutate(crossover(select, select))

    Fitness is noisy and each generation has new tasks, so elites are evaluated again with the
    others, and stay only while they stay best.

    Args:
        config: settings of the outer step.
        meta: the meta-parameters, leaf tensors; each generation's best member is written into them.
        seed: seed of the first population: ``meta`` itself and mutated copies of it.
        members_at_once: number of members evaluated together; all when None.
    """

    def __init__(
        self,
        config: GeneticConfig,
        meta: MetaParameters,
        seed: int,
        members_at_once: int | None = None,
    ):
        self.config, self.meta, self.members_at_once = config, meta, members_at_once
        copies = tree_map(lambda leaf: leaf.detach().expand(config.population, *leaf.shape), meta)
        generator = generator_of(meta, seeds.derive(seed, seeds.POPULATION, 0))
        mutants = mutate(copies, config.sigma, generator)
        self.population = tree_map(
            lambda leaf, mutant: torch.cat([leaf.detach()[None], mutant[1:]]), meta, mutants
        )

    @torch.no_grad()
    def iterate(self, batch: MetaBatch) -> Outcome:
        """Evaluate every member on the meta-batch's tasks, keep the best as ``meta``, and breed.

        A member whose fitness is not finite counts as the worst; ``train/members_not_finite`` is
        the number of such members. The step is skipped if no member's fitness is finite.
        """
        adaptation = batch.adapt(self.meta, tolerant=True) if batch.scored else None
        fitness = evaluate(batch, self.population, self.members_at_once)
        metrics = {
            **fitness_statistics(fitness),
            "train/population_diversity": float(diversity(self.population)),
        }
        if not torch.isfinite(fitness).any():
            return Outcome(metrics | {"train/skipped": 1.0}, adaptation)
        best = int(or_worst(fitness).argmax())
        for leaf, member in zip(
            tree_leaves(self.meta), tree_leaves(select(self.population, best)), strict=True
        ):
            leaf.copy_(member)
        generator = generator_of(self.meta, seeds.derive(batch.seed, seeds.POPULATION, 0))
        self.population = breed(self.population, fitness, self.config, generator)
        return Outcome(metrics, adaptation)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the population, as named tensors with a leading P."""
        return under("theta", self.population.theta) | under("rule", self.population.rule)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the result of :meth:`state_dict`.

        Raises:
            InputError: if ``state`` belongs to another population or network.
        """
        own = self.state_dict()
        checkpoint.match_tensors(own, state)
        for name, value in own.items():
            value.copy_(state[name])


def breed(
    population: MetaParameters, fitness: Tensor, config: GeneticConfig, generator: Generator
) -> MetaParameters:
    """Return the next generation, of the same size: the elites unchanged, then children."""
    finite = int(fitness.isfinite().sum())  # the others neither stay nor breed
    fitness = or_worst(fitness)
    elites = fitness.argsort(descending=True, stable=True)[: min(config.elites, finite)]
    children = len(fitness) - len(elites)
    if config.selection == "truncation":
        parents = truncation(fitness, min(config.parents, finite), 2 * children, generator)
    else:
        parents = tournament(fitness, config.tournament, 2 * children, generator)
    one, other = (tree_map(lambda leaf, who=who: leaf[who], population) for who in parents.chunk(2))
    born = mutate(crossover(one, other, config.crossover, generator), config.sigma, generator)
    return tree_map(lambda leaf, child: torch.cat([leaf[elites], child]), population, born)


def truncation(fitness: Tensor, parents: int, count: int, generator: Generator) -> Tensor:
    """Draw indices ``(count,)`` uniformly from the best ``parents`` members (Such et al. 2017)."""
    best = fitness.argsort(descending=True, stable=True)[:parents]
    drawn = torch.randint(len(best), (count,), generator=generator, device=generator.device)
    return best[drawn.to(best.device)]


def tournament(fitness: Tensor, size: int, count: int, generator: Generator) -> Tensor:
    """Draw indices ``(count,)``, each the best of ``size`` drawn uniformly with replacement.

    Members whose fitness is minus infinity do not enter.
    """
    able = (fitness > -torch.inf).nonzero()[:, 0]
    drawn = torch.randint(len(able), (count, size), generator=generator, device=generator.device)
    entrants = able[drawn.to(able.device)]
    return entrants.gather(1, fitness[entrants].argmax(1, keepdim=True))[:, 0]


def crossover(
    one: MetaParameters, other: MetaParameters, rate: float, generator: Generator
) -> MetaParameters:
    """Return children by uniform crossover: each number comes from either parent, at even odds.

    Args:
        one: the first parents, tensors ``(children, ...)``.
        other: the second parents, tensors ``(children, ...)``.
        rate: probability that a child has two parents; otherwise it is a copy of the first.
        generator: source of the random numbers.
    """

    def random(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=generator.device)

    both = random(num_tasks(one)) < rate

    def mix(left: Tensor, right: Tensor) -> Tensor:
        swap = both.view(-1, *(1,) * (left.ndim - 1)) & (random(*left.shape) < 0.5)
        return torch.where(swap, right, left)

    return tree_map(mix, one, other)


def mutate(population: MetaParameters, sigma: float, generator: Generator) -> MetaParameters:
    """Add Gaussian noise to every number; step sizes in their learned form."""
    member, members = select(population, 0), num_tasks(population)
    noise = gaussian(member, members, generator)
    return tree_map(lambda leaf, eps: leaf + sigma * eps, population, noise)


def diversity(population: MetaParameters) -> Tensor:
    """Return the root mean square distance of the members' numbers from the population's mean."""
    leaves = tree_leaves(population)
    flat = torch.cat([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)
    return flat.var(0, correction=0).mean().sqrt()
