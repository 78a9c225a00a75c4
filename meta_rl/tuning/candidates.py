"""Train any strategy on the same budget, and score it on the same tasks."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meta_rl import assemble, seeds
from meta_rl.config import Config, EpisodesConfig
from meta_rl.evaluation.adapting import adapted
from meta_rl.evaluation.algorithms import Algorithm, Run
from meta_rl.evaluation.curves import Curve
from meta_rl.runs.learner import MetaLearner
from meta_rl.types import Task

Tick = Callable[[int], object]
"""A function to call with the number of new samples."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions that are the same for every strategy."""

    config: Config
    """The default's settings; its ``eval`` and ``data`` determine how strategies are scored."""
    budget: int
    """Environment steps (or labelled examples) of meta-training."""
    device: str

    @property
    def steps(self) -> int:
        """Inner steps after which to compare strategies, however many they trained with."""
        return max(self.config.eval.steps, self.config.inner.steps)

    @property
    def episodes(self) -> int:
        """Episodes (or shots) per inner step when comparing, however many they trained with."""
        data = self.config.data
        return data.episodes if isinstance(data, EpisodesConfig) else data.shots


def build(config: Config, conditions: Conditions) -> MetaLearner:
    """Build a learner whose number of iterations is estimated from the budget.

    The estimate assumes that all iterations are as long as the first. Schedules over the run need
    this number; the run itself ends with the budget.

    Raises:
        InputError: if the settings do not fit the family.
    """
    first = assemble.build(replace(config, iterations=1), conditions.device).learn(1)
    first.problem.close()
    iterations = max(1, math.ceil(conditions.budget / max(1, first.samples)))
    return assemble.build(replace(config, iterations=iterations), conditions.device)


def samples_of_run(config: Config, device: str) -> int:
    """Return the samples of a preset's run, if all iterations are as long as the first."""
    learner = assemble.build(config, device).learn(1)
    learner.problem.close()
    return config.iterations * max(1, learner.samples)


def train(learner: MetaLearner, conditions: Conditions, tick: Tick, share: float = 1.0) -> None:
    """Meta-train until this fraction of the budget is spent; the last iteration is finished."""
    seen = learner.samples

    def until(learner: MetaLearner, _: object) -> bool:
        nonlocal seen
        before, seen = seen, learner.samples
        tick(min(conditions.budget, seen) - min(conditions.budget, before))
        return seen < share * conditions.budget

    if seen < share * conditions.budget:
        learner.learn(sys.maxsize, callbacks=[until])


def curve(
    name: str, learners: Sequence[MetaLearner], tasks: Sequence[Task], conditions: Conditions
) -> Curve:
    """Score a strategy after 0..K inner steps, each on the default's number of episodes.

    Args:
        name: the strategy's name.
        learners: the strategy's S trained learners.
        tasks: the m tasks to score on.
        conditions: the conditions that all strategies share.

    Returns:
        Scores ``(K + 1, S, m)``, infinitely bad if adapting diverged.
    """
    runs = tuple(
        Run(
            path=Path(f"seed-{learner.config.seed}"),
            learner=learner,
            problem=learner.problem.resized(conditions.episodes),
            settings={},
        )
        for learner in learners
    )
    seed = seeds.derive(conditions.config.seed, seeds.EVALUATION, 3)
    algorithm = Algorithm(name, runs)
    return adapted(algorithm, tasks, "held-out", conditions.steps, seed, lambda _: None)
