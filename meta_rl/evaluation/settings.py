"""What to evaluate and against what. Imports nothing heavy, for ``meta-rl evaluate --help``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from meta_rl.errors import InputError, hint, require

BASELINES = {
    "random": "random weights, adapted by the run's own rule",
    "oracle": "the best policy that knows the task, where a family knows its return exactly",
    "ppo": "stable-baselines3's PPO from scratch, at the adaptation's environment steps",
    "ppo-10x": "the same PPO, up to 10 times the adaptation's environment steps",
    "ppo-100x": "the same PPO, up to 100 times the adaptation's environment steps",
    "pretrained": "PPO trained on the whole family (--training-steps), then fine-tuned",
    "rl2": "a recurrent policy that adapts in context (--training-steps, --rl2-episodes)",
}
"""Every name that ``--baselines`` takes, and what it is."""

SLOW = ("ppo", "ppo-10x", "ppo-100x", "pretrained", "rl2")
"""Those that stable-baselines3 trains: on few tasks, and for families of environments only."""

USERS = {
    "baseline_tasks": SLOW,
    "baseline_seeds": SLOW,
    "training_steps": ("pretrained", "rl2"),
    "rl2_episodes": ("rl2",),
}
"""EvaluationSettings that only some baselines use, and those that do."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Runs, tasks and baselines."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, or checkpoints; runs that differ in their seed alone are pooled."""
    tasks: int = 40
    """Held-out tasks of each split, the same for all runs and baselines."""
    steps: int | None = None
    """Inner steps K; as in the first run's own evaluations when not given."""
    episodes: int | None = None
    """Episodes (or shots) per inner step; as in meta-training when not given."""
    splits: tuple[str, ...] = ()
    """in-distribution, extrapolation; all that the family has when not given."""
    baselines: tuple[str, ...] = ("random", "oracle")
    """random, oracle, and slow ones: ppo, ppo-10x, ppo-100x, pretrained, rl2."""
    baseline_tasks: int = 5
    """The slow baselines learn on so many of the tasks, of the first split."""
    baseline_seeds: int = 1
    """Seeds of each slow baseline."""
    training_steps: int = 100_000
    """Environment steps that pretrained and rl2 learn on before they meet the tasks."""
    rl2_episodes: int = 5
    """Episodes of one trial of rl2."""
    seed: int = 0
    """Of tasks, episodes and the bootstrap."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu or cuda."""
    data: Path | None = None
    """Where the data that the runs were trained on are now, if they were moved."""
    families: Path | None = None
    """A Python file of yours that registers the family, as in meta-rl train."""
    out: Path | None = None
    """Folder to make; evaluation_1, evaluation_2, ... in the first run when not given."""

    def check(self) -> None:
        """Refuse what can be seen to be wrong without loading anything.

        Raises:
            InputError: if there are no runs, a number is out of range, or a baseline is unknown.
        """
        if not self.runs:
            raise InputError("evaluate: expected a run folder or several. Try: ls -d runs/*/")
        for name in ("tasks", "episodes", "baseline_tasks", "baseline_seeds", "rl2_episodes"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "1 or more", value)
        require(self.steps is None or self.steps >= 1, "steps", "1 or more", self.steps)
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
