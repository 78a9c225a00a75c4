"""Settings of an evaluation. Imports nothing heavy, for ``meta-rl evaluate --help``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from meta_rl.errors import InputError, hint, require

BASELINES = {
    "random": "random weights, adapted by the run's own rule",
    "oracle": "the best policy that knows the task, if the family knows its exact return",
    "ppo": "stable-baselines3's PPO from scratch, at the adaptation's environment steps",
    "ppo-10x": "the same PPO, up to 10 times the adaptation's environment steps",
    "ppo-100x": "the same PPO, up to 100 times the adaptation's environment steps",
    "pretrained": "PPO trained on the whole family (--training-steps), then fine-tuned",
    "rl2": "a recurrent policy that adapts in context (--training-steps, --rl2-episodes)",
}
"""Every name that ``--baselines`` takes, with its description."""

SLOW = ("ppo", "ppo-10x", "ppo-100x", "pretrained", "rl2")
"""Baselines that stable-baselines3 trains, on few tasks; only for families of environments."""

USERS = {
    "baseline_tasks": SLOW,
    "baseline_seeds": SLOW,
    "training_steps": ("pretrained", "rl2"),
    "rl2_episodes": ("rl2",),
}
"""Settings that only some baselines use, with these baselines."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Runs, tasks and baselines."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, checkpoints, or pretrained:NAME for models that are shipped. Runs that differ
    only in their seed are pooled."""
    tasks: int = 40
    """Held-out tasks of each split, the same for all runs and baselines."""
    steps: int | None = None
    """Inner steps to adapt for; as in the first run's own evaluations when not given."""
    episodes: int | None = None
    """Episodes (or shots) per inner step; as in meta-training when not given."""
    step_sizes: tuple[float, ...] = ()
    """Step sizes to choose from for runs that did not learn it (pretrain, oracle): the best on
    other tasks than the held-out ones; if none are given, as in their settings."""
    splits: tuple[str, ...] = ()
    """Splits to evaluate on: in-distribution, extrapolation; all of the family's when not
    given."""
    baselines: tuple[str, ...] = ("random", "oracle")
    """Baselines to compare with: random, oracle, or the slow ppo, ppo-10x, ppo-100x, pretrained,
    rl2."""
    baseline_tasks: int = 5
    """Number of the first split's tasks that each slow baseline learns on."""
    baseline_seeds: int = 1
    """Seeds of each slow baseline."""
    training_steps: int = 100_000
    """Environment steps that pretrained and rl2 train on before the held-out tasks."""
    rl2_episodes: int = 5
    """Episodes of one trial of rl2."""
    seed: int = 0
    """Seed of tasks, episodes and the bootstrap."""
    device: str = "auto"
    """auto (CUDA if there is one), cpu or cuda."""
    data: Path | None = None
    """Folder of the runs' training data, if the data were moved."""
    families: Path | None = None
    """A Python file of yours that registers the family or has the network's module, as in
    meta-rl train."""
    out: Path | None = None
    """Folder to make; evaluation_1, evaluation_2, ... in the first run when not given."""

    def check(self) -> None:
        """Refuse wrong settings, as far as nothing has to be loaded.

        Raises:
            InputError: if there are no runs, a number is out of range, or a baseline is unknown.
        """
        if not self.runs:
            raise InputError("evaluate: expected a run folder or several. Try: ls -d runs/*/")
        for name in ("tasks", "episodes", "baseline_tasks", "baseline_seeds", "rl2_episodes"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "1 or more", value)
        require(self.steps is None or self.steps >= 1, "steps", "1 or more", self.steps)
        positive = all(0 < size < math.inf for size in self.step_sizes)
        require(positive, "step_sizes", "numbers above 0", self.step_sizes)
        require(self.seed >= 0, "seed", "0 or more", self.seed)
        for name in self.baselines:
            if name not in BASELINES:
                known, near = ", ".join(BASELINES), hint(name, BASELINES)
                raise InputError(f"baselines: expected some of {known}, got {name!r}.{near}")
        for name, users in USERS.items():
            value = getattr(self, name)
            if value != getattr(EvaluationSettings, name) and not set(users) & set(self.baselines):
                raise InputError(
                    f"{name}: expected it to be left out, since it acts only with --baselines "
                    f"{', '.join(users)}; got {value}, which would have no effect."
                )
