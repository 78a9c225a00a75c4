"""What ``benchmarks.reproduce`` runs, in this order: cheap families first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meta_rl.config import Config, EpisodesConfig, EvalConfig
from presets import algorithm, preset


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a finished run is scored: after 0..K inner steps on each task.

    Args:
        tasks: how many held-out tasks; or the tasks, where a family has no others.
        steps: K.
        episodes: episodes in each inner step; the run's own number if None.
    """

    tasks: int | tuple[Mapping[str, Any], ...] = 40
    steps: int = 3
    episodes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run and how it is scored.

    Args:
        preset: where the settings come from.
        algorithm: one of presets.ALGORITHMS.
        changes: settings that differ from the preset's, such as ``{"inner.steps": 3}``.
        label: what the changes are called in the run's name.
        seed: of everything random.
        iterations: outer steps in all.
        protocols: how it is scored; the first is the one to compare with published numbers.
        seconds: processor seconds an iteration, as measured before the list was made.
        note: why it is shorter, or has fewer seeds, than others.
        optional: whether it needs data or a package that a machine may lack.
    """

    preset: str
    algorithm: str = "maml"
    changes: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    seed: int = 0
    iterations: int
    protocols: tuple[Protocol, ...] = (Protocol(),)
    seconds: float
    note: str = ""
    optional: bool = False

    @property
    def arm(self) -> str:
        """The name that all seeds and lengths share."""
        return "-".join(filter(None, [self.preset, self.algorithm, self.label]))

    @property
    def id(self) -> str:
        """The name of this run alone."""
        return f"{self.arm}-{self.iterations}-seed-{self.seed}"

    @property
    def config(self) -> Config:
        """The settings to train with; nothing is evaluated before the end."""
        config = algorithm(self.algorithm, preset(self.preset))
        for name, value in self.changes.items():
            part, _, key = name.partition(".")
            changed = dataclasses.replace(getattr(config, part), **{key: value})
            config = dataclasses.replace(config, **{part: changed})
        often = 10 if isinstance(config.data, EpisodesConfig) else config.checkpoint_every
        return dataclasses.replace(
            config,
            seed=self.seed,
            iterations=self.iterations,
            checkpoint_every=often,
            eval=EvalConfig(every=0, pictures=False),
        )


def seeds(count: int, first: int = 0, **run: Any) -> list[Run]:
    """The same run with so many seeds."""
    return [Run(seed=seed, **run) for seed in range(first, first + count)]


BOTH_DIRECTIONS = (
    Protocol(tasks=tuple({"direction": sign} for _ in range(20) for sign in (-1.0, 1.0))),
)
"""Families of two tasks are scored on these, as every paper does: there are no held-out ones."""
SHOTS = (Protocol(tasks=600, steps=10),)
THREE_STEPS: dict[str, Any] = {
    "label": "3-steps",
    "changes": {"inner.steps": 3, "inner.per_step": True},
}
"""Three inner steps, each with its own learned step size."""


def cheetah(algorithm: str, count: int, first: int = 0, **changes: Any) -> list[Run]:
    return seeds(
        count,
        first,
        **{
            "preset": "half-cheetah-direction",
            "algorithm": algorithm,
            "iterations": 300,
            "seconds": 3.3,
            "protocols": BOTH_DIRECTIONS,
            **changes,
        },
    )


FIRST: Sequence[Run] = (
    *seeds(3, preset="navigation-2d", iterations=500, seconds=0.84),
    *seeds(3, preset="sinusoid", iterations=70_000, seconds=0.002, protocols=SHOTS),
    *seeds(3, preset="cartpole", iterations=100, seconds=0.7),
    *seeds(3, preset="navigation-2d", iterations=500, seconds=2.0, **THREE_STEPS),
    *cheetah("maml", 3),
)
CHEAP: Sequence[Run] = (
    *seeds(
        3,
        preset="sinusoid",
        iterations=70_000,
        seconds=0.002,
        protocols=SHOTS,
        label="5-shots",
        changes={"data.shots": 5},
    ),
    *seeds(2, 3, preset="cartpole", iterations=100, seconds=0.7),
    *seeds(5, preset="bandit-5", iterations=300, seconds=0.14),
    *seeds(5, preset="tabular-mdp", iterations=300, seconds=0.14),
    *seeds(3, preset="navigation-pearl", iterations=500, seconds=0.24),
    *seeds(3, preset="navigation-semicircle", iterations=500, seconds=0.35),
    *seeds(3, preset="navigation-corner", iterations=500, seconds=0.83),
    *seeds(5, preset="mountain-car-energy", iterations=100, seconds=0.5),
    *seeds(5, preset="pendulum", iterations=100, seconds=0.75),
    *seeds(5, preset="mountain-car-continuous", iterations=100, seconds=1.5),
    *seeds(5, preset="acrobot", iterations=100, seconds=2.0),
    *seeds(3, preset="bandit-10", iterations=100, seconds=0.95),
    *seeds(2, 3, preset="navigation-2d", iterations=500, seconds=0.84),
    *cheetah("promp", 3),
    *cheetah("anil", 3),
    *cheetah("maml", 3, seconds=6.7, **THREE_STEPS),
)
RUNS: Sequence[Run] = (*FIRST, *CHEAP)
