"""Adapt to a task without gradients: by an evolution strategy, or by hill climbing.

Song et al. 2020, "ES-MAML: Simple Hessian-Free Meta Learning". In each inner step a task tries R
parameters near phi:

    es             phi, phi + sigma eps_q, phi - sigma eps_q           R = 2 Q + 1
                   phi <- rule(phi, -g),  g = 1/(2 Q sigma) sum_q (F_q+ - F_q-) / std(F) eps_q
    hill-climbing  phi, rule(phi, eps_q)                               R = Q + 1
                   phi <- whichever of them scored best

All M x R parameters are tried at once. Hill climbing takes its radius from the rule, so its step
sizes are learned too. The paper has Q = 1 and many steps, its code Q > 1 as well. Unlike there, phi
is tried again in each step, so that one lucky score does not last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from meta_rl import seeds
from meta_rl.config import InnerConfig
from meta_rl.inner.rules import Rule
from meta_rl.problem import Problem
from meta_rl.tasks import expand, over_tasks
from meta_rl.types import MetaParameters, Params, Task


class Probes(NamedTuple):
    """The parameters that one inner step tried, and their fitness; replaces a support batch."""

    noise: Params  # eps, (M, Q, ...)
    fitness: Tensor  # (M, R), higher is better; first phi's own
    batch: Any  # the support batch of phi itself, leaves (M, ...)
    extra_samples: int  # environment steps or examples beyond this batch


@dataclass(frozen=True, kw_only=True)
class GradientFreeLoop:
    """Adapts to tasks without gradients; replaces :class:`meta_rl.inner.core.InnerLoop`.

    It is for outer steps that take no gradient.
    """

    rule: Rule
    config: InnerConfig
    tasks_at_once: int | None = None

    def adapt(
        self,
        meta: MetaParameters,
        supports: Sequence[Probes],
        num_tasks: int,
        *,
        own_meta: bool = False,
    ) -> Params:
        """Return the adapted parameters phi after one inner step on each of the K probes.

        A pure function of its arguments; see :meth:`meta_rl.inner.core.InnerLoop.adapt`.
        """
        if not supports:
            theta = self.rule.starting_point(meta.theta)
            return dict(theta) if own_meta else expand(theta, num_tasks)

        def adapt_one(meta: MetaParameters, supports: Sequence[tuple[Params, Tensor]]) -> Params:
            phi, state = self.rule.starting_point(meta.theta), self.rule.initial_state(meta.theta)
            for k, (noise, fitness) in enumerate(supports):
                if self.config.method == "es":
                    uphill = ascent(noise, fitness, self.config.sigma)
                    descent = {name: -value for name, value in uphill.items()}
                    phi, state = self.rule.step(meta.rule, k, phi, descent, -fitness[0], state)
                else:
                    phi = climb(self.candidates(meta, k, phi, noise), fitness)
            return phi

        walk = over_tasks(adapt_one, (0 if own_meta else None, 0), self.tasks_at_once)
        return walk(meta, [(probes.noise, probes.fitness) for probes in supports])

    def path(
        self,
        meta: MetaParameters,
        supports: Sequence[Probes],
        num_tasks: int,
        *,
        own_meta: bool = False,
    ) -> list[Params]:
        """Return phi after 0..K inner steps, each ``(M, ...)``; arguments as in :meth:`adapt`."""
        return [
            self.adapt(meta, supports[:k], num_tasks, own_meta=own_meta)
            for k in range(len(supports) + 1)
        ]

    def candidates(self, meta: MetaParameters, k: int, phi: Params, noise: Params) -> Params:
        """Return the parameters that one task tries in inner step k, ``(R, ...)``; phi first.

        Args:
            meta: the meta-parameters; the rule has the radius of hill climbing.
            k: index of the inner step, from 0.
            phi: the task's parameters.
            noise: Q directions, ``(Q, ...)``. R is 2 Q + 1 with ``es``, which tries both signs,
                and Q + 1 with ``hill-climbing``.
        """
        if self.config.method == "es":
            sigma = self.config.sigma
            moved = {
                name: torch.cat([phi[name] + sigma * eps, phi[name] - sigma * eps])
                for name, eps in noise.items()
            }
        else:

            def propose(eps: Params) -> Params:
                zero = next(iter(phi.values())).new_zeros(())
                return self.rule.step(meta.rule, k, phi, eps, zero, self.rule.initial_state(phi))[0]

            moved = torch.vmap(propose)(noise)
        count = next(iter(moved.values())).shape[0]
        return {
            name: torch.cat([value[None], moved.get(name, value.expand(count, *value.shape))])
            for name, value in phi.items()
        }

    def probe(
        self,
        problem: Problem,
        meta: MetaParameters,
        tasks: Sequence[Task],
        batches: Sequence[Probes],
        seed: int,
        stand_in: Callable[[Params], Params],
        *,
        own_meta: bool = False,
    ) -> Probes:
        """Try parameters near every task's phi after ``len(batches)`` inner steps.

        ``stand_in`` maps the candidates to those tried: it may replace those of failed tasks.
        """
        k, count = len(batches), len(tasks)
        phi = self.adapt(meta, batches, count, own_meta=own_meta)
        generator = seeds.generator(seeds.derive(seed, seeds.SEARCH, k), problem.device)
        noise = {
            name: torch.randn(
                (count, self.config.queries, *phi[name].shape[1:]),
                generator=generator,
                dtype=phi[name].dtype,
                device=problem.device,
            )
            for name in self.rule.adapts(phi)
        }
        walk = over_tasks(
            lambda meta, phi, noise: self.candidates(meta, k, phi, noise),
            (0 if own_meta else None, 0, 0),
            self.tasks_at_once,
        )
        met = [probes.batch for probes in batches]
        candidates = stand_in(walk(meta, phi, noise))
        return Probes(noise, *problem.probe(tasks, met, candidates, seed))


def ascent(noise: Params, fitness: Tensor, sigma: float) -> Params:
    """Return one task's evolution-strategy gradient of the standardized fitness.

    Standardizing makes a step size independent of the reward's units, as normalized advantages do;
    the paper's code has it as an option.

    Args:
        noise: eps, tensors ``(Q, ...)``.
        fitness: fitness of phi, ``phi + sigma eps`` and ``phi - sigma eps``, ``(2 Q + 1,)``.
        sigma: standard deviation of the perturbations.
    """
    plus, minus = fitness[1:].chunk(2)
    spread = fitness[1:].std(correction=0).clamp(min=1e-8)
    weight = (plus - minus) / (2 * len(plus) * sigma * spread)
    return {name: torch.tensordot(weight.to(eps), eps, 1) for name, eps in noise.items()}


def climb(candidates: Params, fitness: Tensor) -> Params:
    """Return the best of one task's candidates ``(R, ...)``; the first, phi itself, wins a tie.

    A fitness of NaN never wins.
    """
    known = torch.where(fitness.isnan(), -torch.inf, fitness)
    best = known.argmax(0, keepdim=True)
    return {name: value.index_select(0, best)[0] for name, value in candidates.items()}
