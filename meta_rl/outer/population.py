"""Fitness and random numbers for outer steps with a population.

A population is a MetaParameters of P members: its tensors have a leading P.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_leaves, tree_map

from meta_rl import seeds
from meta_rl.inner.meta_batch import MetaBatch
from meta_rl.tasks import num_tasks, select
from meta_rl.types import MetaParameters


def evaluate(batch: MetaBatch, population: MetaParameters, members_at_once: int | None) -> Tensor:
    """Return each member's fitness, averaged over tasks: ``(P,)``.

    Evaluates ``members_at_once`` members at a time, which bounds memory.
    """
    total = num_tasks(population)
    size = members_at_once or total
    parts = [select(population, slice(start, start + size)) for start in range(0, total, size)]
    return torch.cat([batch.fitness(part, num_tasks(part)).mean(1) for part in parts])


def or_worst(fitness: Tensor) -> Tensor:
    """Return the fitness, with minus infinity for values that are not finite."""
    return torch.where(torch.isfinite(fitness), fitness, -torch.inf)


def gaussian(meta: MetaParameters, members: int, generator: Generator) -> MetaParameters:
    """Return standard normal noise, ``(members, ...)`` for every tensor."""

    def draw(leaf: Tensor) -> Tensor:
        return torch.randn(
            (members, *leaf.shape), generator=generator, dtype=leaf.dtype, device=leaf.device
        )

    return tree_map(draw, meta)


def generator_of(meta: MetaParameters, seed: int) -> Generator:
    """Return a generator on the device of ``meta``."""
    return seeds.generator(seed, tree_leaves(meta)[0].device)


def fitness_statistics(fitness: Tensor) -> dict[str, float]:
    """Return the metrics of a population's fitness."""
    finite = fitness[torch.isfinite(fitness)]
    known = finite if len(finite) else fitness.new_full((1,), torch.nan)
    return {
        "train/fitness_mean": float(known.mean()),
        "train/fitness_best": float(known.max()),
        "train/fitness_std": float(known.std(correction=0)),
        "train/members_not_finite": float(fitness.numel() - len(finite)),
    }
