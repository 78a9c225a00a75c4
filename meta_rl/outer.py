"""Outer steps: what each is asked, and which one the settings choose."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from meta_rl.adam import Adam
from meta_rl.config import (
    AdamConfig,
    Config,
    EvolutionConfig,
    ProMPConfig,
    ReptileConfig,
    TRPOConfig,
)
from meta_rl.core import InnerLoop
from meta_rl.evolution import EvolutionStrategy, GeneticAlgorithm
from meta_rl.promp import ProMP
from meta_rl.reptile import Reptile
from meta_rl.trial import Trial
from meta_rl.trpo import TRPO
from meta_rl.types import Meta


class OuterStep(Protocol):
    """Changes the Meta it was made with, in place, once per iteration."""

    def iterate(self, trial: Trial) -> dict[str, Any]:
        """Try the Meta (or others) on the trial's tasks, and step; returns metrics."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What it remembers between steps, as named tensors."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what :meth:`state_dict` gave."""
        ...


def make_outer_step(config: Config, inner: InnerLoop, meta: Meta, problem: Any) -> OuterStep:
    """The outer step of these settings. TRPO and ProMP need a problem with ``distribution``."""
    match config.outer:
        case TRPOConfig() as outer:
            return TRPO(outer, inner, meta, problem.distribution)
        case AdamConfig() as outer:
            return Adam(outer, inner, meta)
        case ProMPConfig() as outer:
            return ProMP(outer, inner, meta, problem.distribution, config.inner.steps)
        case ReptileConfig() as outer:
            return Reptile(outer, inner, meta, config.iterations)
        case EvolutionConfig() as outer:
            return EvolutionStrategy(outer, meta)
        case outer:
            return GeneticAlgorithm(outer, meta, config.seed)
