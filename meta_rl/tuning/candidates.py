"""Training one strategy on a budget, and its score on given tasks: alike for all of them."""

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
"""Called with the number of samples seen."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What is the same for every strategy."""

    config: Config
    """The default's, whose ``eval`` and ``data`` say on how much to score."""
    budget: int
    """Environment steps (or labelled examples) of meta-training."""
    device: str

    @property
    def steps(self) -> int:
        """Inner steps after which strategies are compared, however many they trained with."""
        return max(self.config.eval.steps, self.config.inner.steps)

    @property
    def episodes(self) -> int:
        """Episodes (or shots) of each of these inner steps."""
        data = self.config.data
        return data.episodes if isinstance(data, EpisodesConfig) else data.shots


def build(config: Config, conditions: Conditions) -> MetaLearner:
    """A learner whose run is as many iterations as the budget has of its first one's length.

    Schedules over the run need that number; the run itself ends with the budget.

    Raises:
        InputError: if the settings do not fit the family.
    """
    first = assemble.build(replace(config, iterations=1), conditions.device).learn(1)
    first.problem.close()
    iterations = max(1, math.ceil(conditions.budget / max(1, first.samples)))
    return assemble.build(replace(config, iterations=iterations), conditions.device)


def samples_of_run(config: Config, device: str) -> int:
    """What a preset's iterations take, if all are as long as the first."""
    learner = assemble.build(config, device).learn(1)
    learner.problem.close()
    return config.iterations * max(1, learner.samples)


def train(learner: MetaLearner, conditions: Conditions, tick: Tick, share: float = 1.0) -> None:
    """Meta-train until this share of the budget is spent; an iteration that began is finished."""
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
    """Scores after 0..K inner steps, on the default's number of episodes for each.

    Args:
        name: of the strategy.
        learners: S of it.
        tasks: m.
        conditions: the same for all.

    Returns:
        Scores ``(K + 1, S, m)``, infinitely bad where adapting came to no finite end.
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
