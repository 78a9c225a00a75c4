"""Train stable-baselines3's baselines on a few of the held-out tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from meta_rl import agents, seeds
from meta_rl.errors import InputError, require
from meta_rl.evaluation.curves import Curve
from meta_rl.evaluation.progress import progress
from meta_rl.families.row import Row
from meta_rl.tasks import check_sampled
from meta_rl.types import Task, TaskFamily

MULTIPLES = {"ppo": (1,), "ppo-10x": (1, 2, 5, 10), "ppo-100x": (1, 2, 5, 10, 20, 50, 100)}
TRIALS = 10  # trials of rl2 on each task


@dataclass(frozen=True, kw_only=True)
class Arena:
    """The tasks, budgets and seeds that all rivals share."""

    family: TaskFamily
    split: str
    tasks: Sequence[Task]
    budget: Sequence[int]
    """Environment steps of the first algorithm after 0..K inner steps, on one task."""
    episodes: int
    """Episodes that a score averages."""
    training_steps: int
    trial: int
    """Episodes of one trial of RL2."""
    seeds: Sequence[int]
    normalize: bool = False
    """Whether rivals normalize observations, as the first algorithm does."""


def check_rivals(family: TaskFamily, names: Iterable[str], training_steps: int, trial: int) -> None:
    """Refuse rivals that cannot be trained, before anything is computed.

    Raises:
        InputError: if the training steps are fewer than a mini-batch, or than a trial of RL2.
    """
    least = {"pretrained": agents.ppo.BATCH, "rl2": trial * family.horizon}
    for name in names:
        expected = f"{least.get(name, 0)} or more for {name}"
        require(training_steps >= least.get(name, 0), "training_steps", expected, training_steps)


def require_budgets(arena: Arena, names: Iterable[str]) -> None:
    """Refuse baselines by PPO that could not learn on the smallest budget.

    Raises:
        InputError: if adapting took fewer environment steps than a mini-batch of PPO.
    """
    by_ppo = [name for name in names if name in MULTIPLES or name == "pretrained"]
    least = min((steps for steps in arena.budget if steps > 0), default=agents.ppo.BATCH)
    if by_ppo and least < agents.ppo.BATCH:
        raise InputError(
            f"baselines: {' and '.join(by_ppo)} learn on {agents.ppo.BATCH} environment steps or "
            f"more, and the first run adapts on {least}. Leave them out, or raise --episodes."
        )


def rivals(arena: Arena, names: Sequence[str]) -> list[Curve]:
    """Return learning curves of the named baselines; PPO's three budgets make one curve."""
    found = []
    longest = max((MULTIPLES[name] for name in names if name in MULTIPLES), key=max, default=None)
    if longest:
        found.append(_scratch(arena, longest))
    if "pretrained" in names:
        found.append(_pretrained(arena))
    if "rl2" in names:
        found.append(_rl2(arena))
    return found


def _scratch(arena: Arena, multiples: Sequence[int]) -> Curve:
    budgets = sorted({*arena.budget, *(m * arena.budget[-1] for m in multiples)})
    return _learned(
        arena,
        "PPO from scratch",
        budgets,
        lambda make, seed, tick: agents.ppo.from_scratch(
            make,
            budgets,
            episodes=arena.episodes,
            seed=seed,
            normalize=arena.normalize,
            callback=tick,
        ),
        "stable-baselines3's PPO with its default settings, but rollouts that go into the smallest "
        "budget; one for each task and seed",
        trained=0,
    )


def _pretrained(arena: Arena) -> Curve:
    budgets, bar = sorted({*arena.budget}), _bar(arena, "PPO on the whole family")
    tick = _ticking(bar)
    given = _draw(arena), arena.training_steps
    options = {"normalize": arena.normalize, "callback": tick}
    trained = {seed: agents.ppo.pretrain(*given, seed=seed, **options) for seed in arena.seeds}
    bar.close()
    return _learned(
        arena,
        "PPO pretrained, fine-tuned",
        budgets,
        lambda make, seed, tick: agents.ppo.fine_tune(
            trained[seed], make, budgets, episodes=arena.episodes, seed=seed, callback=tick
        ),
        f"pretrained on random tasks for {arena.training_steps:,} environment steps",
        trained=arena.training_steps,
    )


def _rl2(arena: Arena) -> Curve:
    bar, scores, rollout = _bar(arena, "RL2 on the whole family"), [], arena.trial
    rollout *= arena.family.horizon
    tick = _ticking(bar)
    for seed in arena.seeds:
        model = agents.rl2.train_rl2(
            _draw(arena), arena.trial, arena.training_steps,
            rollout=rollout, seed=seed, normalize=arena.normalize, callback=tick,
        )  # fmt: skip
        of_tasks = [
            agents.rl2.in_context_returns(
                model, lambda _, make=make: make(), arena.trial, range(TRIALS)
            )
            for make in _makers(arena)
        ]
        scores.append(np.mean(of_tasks, 1).T)  # (episodes, m)
    bar.close()
    points = np.arange(arena.trial)
    return Curve(
        name="RL2",
        kind="rival",
        split=arena.split,
        members=tuple(f"seed {seed}" for seed in arena.seeds),
        steps=(None,) * arena.trial,
        budget=points * float(arena.family.horizon),
        scores=np.stack(scores, 1),
        trained=arena.training_steps,
        note=f"recurrent, trained on trials of {arena.trial} episodes for {arena.training_steps:,} "
        f"environment steps; its points are the episodes of a trial, mean of {TRIALS} trials, "
        "their steps counted as if none ended early",
    )


Learning = Callable[[Callable[[], gym.Env], int, Callable[..., bool]], list[float]]
"""A function of an environment's maker, a seed and a callback that returns scores per budget."""


def _learned(
    arena: Arena, name: str, budgets: Sequence[int], learn: Learning, note: str, trained: int
) -> Curve:
    bar = progress(budgets[-1] * len(arena.tasks) * len(arena.seeds), name, "step")
    tick = _ticking(bar)
    scores = [[learn(make, seed, tick) for make in _makers(arena)] for seed in arena.seeds]
    bar.close()
    counterpart = {budget: k for k, budget in enumerate(arena.budget)}
    return Curve(
        name=name,
        kind="rival",
        split=arena.split,
        members=tuple(f"seed {seed}" for seed in arena.seeds),
        steps=tuple(counterpart.get(budget) for budget in budgets),
        budget=np.array(budgets, float),
        scores=np.array(scores).transpose(2, 0, 1),
        trained=trained,
        note=note,
    )


def _makers(arena: Arena) -> list[Callable[[], gym.Env]]:
    return [lambda task=task: Row(arena.family.make_env(task), task) for task in arena.tasks]


def _draw(arena: Arena) -> Callable[[int], gym.Env]:
    """Return a function that draws environments of training tasks, never the held-out tasks."""
    family = arena.family

    def draw(seed: int) -> gym.Env:
        drawn = family.sample_tasks(1, seeds.derive(seed, seeds.TASKS))
        task = check_sampled(family, drawn, 1)[0]
        return Row(family.make_env(task), task)

    return draw


def _bar(arena: Arena, what: str) -> tqdm:
    return progress(arena.training_steps * len(arena.seeds), what, "step")


def _ticking(bar: tqdm) -> Callable[..., bool]:
    """Return a stable-baselines3 callback that advances the bar by one environment step."""

    def tick(*_: object) -> bool:
        bar.update()
        return True

    return tick
