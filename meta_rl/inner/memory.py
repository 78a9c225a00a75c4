"""Adapt by memory: the parameters stay, and the policy's state takes in the trial's episodes.

Duan et al. 2016, "RL2: Fast Reinforcement Learning via Slow Reinforcement Learning". The adapted
parameters phi are theta and, once an episode has been played, the memory of the trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meta_rl.inner.core import InnerLoop
from meta_rl.inner.gradient_free import GradientFreeLoop
from meta_rl.inner.rules import Rule
from meta_rl.tasks import expand
from meta_rl.types import MetaParameters, Params

MEMORY = "memory"
"""The name of the memory among the adapted parameters, ``(M, B, S + P)``."""


@dataclass(frozen=True, kw_only=True)
class MemoryLoop:
    """Adapts to tasks by playing; replaces :class:`meta_rl.inner.core.InnerLoop`."""

    rule: Rule

    def adapt(
        self,
        meta: MetaParameters,
        supports: Sequence[Any],
        num_tasks: int,
        *,
        own_meta: bool = False,
    ) -> Params:
        """Return theta, and the memory after the K episodes of each trial."""
        phi = dict(meta.theta) if own_meta else expand(meta.theta, num_tasks)
        return {**phi, MEMORY: supports[-1].memory} if supports else phi

    def path(
        self,
        meta: MetaParameters,
        supports: Sequence[Any],
        num_tasks: int,
        *,
        own_meta: bool = False,
    ) -> list[Params]:
        """Return the results of :meth:`adapt` after 0..K episodes."""
        steps = range(len(supports) + 1)
        return [self.adapt(meta, supports[:k], num_tasks, own_meta=own_meta) for k in steps]


Loop = InnerLoop | GradientFreeLoop | MemoryLoop
"""An inner loop of any kind."""
