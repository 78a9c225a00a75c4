"""Callbacks for :meth:`MetaLearner.learn`, named as in stable-baselines3.

They count iterations where stable-baselines3 counts environment steps. Any function of the learner
and the metrics is a callback; returning False stops the run.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from meta_rl.errors import InputError, require, require_whole
from meta_rl.naming import LONGEST
from meta_rl.runs.learner import MetaLearner, Metrics
from meta_rl.storage import checkpoint, run_folder
from meta_rl.storage.files import make_folder, unwritable
from meta_rl.types import Task

Callback = Callable[[MetaLearner, Metrics], Any]


class EvalCallback:
    """Adapts to fixed tasks every ``eval_freq`` iterations and keeps the best learner.

    Its two child callbacks get two more metrics: ``eval/mean_reward``, the mean return after the
    last inner step, and ``eval/best_mean_reward``. Supervised families have ``..._loss`` instead,
    where lower is better. If the environment tells success, there is ``eval/success_rate`` too. The
    run stops if a child returns False.

    Args:
        tasks: tasks to evaluate on, such as ``learner.held_out_tasks(40)``.
        eval_freq: iterations between evaluations.
        steps: inner steps; as in meta-training when None.
        seed: seed of the episodes.
        best_model_save_path: folder for ``best_model``, a checkpoint of the best learner so far,
            for ``meta_rl.load``. The first evaluation replaces one that is there, as in
            stable-baselines3. To go on with a training, set ``best_mean_reward`` to its best.
        callback_on_new_best: called after a new best.
        callback_after_eval: called after every evaluation.

    Raises:
        InputError: if a number is out of range, or the folder cannot be written; after the first
            iteration, if a task is not one of the learner's family.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        eval_freq: int = 25,
        steps: int | None = None,
        seed: int = 0,
        best_model_save_path: str | Path | None = None,
        callback_on_new_best: Callback | None = None,
        callback_after_eval: Callback | None = None,
    ):
        listed = isinstance(tasks, Sequence) and not isinstance(tasks, str)
        require(listed, "tasks", "a list of tasks", tasks)
        require(len(tasks) > 0, "tasks", "1 or more", list(tasks))
        require_whole("eval_freq", eval_freq, 1)
        require_whole("seed", seed, 0)
        if steps is not None:
            require_whole("steps", steps, 0)
        self.tasks, self.eval_freq, self.steps, self.seed = list(tasks), eval_freq, steps, seed
        self._unchecked = True  # only the learner knows its family's tasks
        self._path = None if best_model_save_path is None else _places(best_model_save_path)
        self._on_new_best, self._after_eval = callback_on_new_best, callback_after_eval
        self.best_mean_reward: float | None = None
        self.last_mean_reward: float | None = None
        self.evaluations: list[tuple[int, Tensor]] = []
        """Each evaluation's iteration, and its scores ``(steps + 1, tasks)``."""

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """Evaluate if it is time, and return whether to go on."""
        if self._unchecked:  # at the first iteration, not as late as the first evaluation
            self.tasks, self._unchecked = learner.problem.check_tasks(self.tasks), False
        if learner.iteration % self.eval_freq:
            return True
        steps = learner.config.inner.steps if self.steps is None else self.steps
        scores, success = learner.results(self.tasks, steps, self.seed)
        self.evaluations.append((learner.iteration, scores))
        last = self.last_mean_reward = scores[-1].mean().item()
        sign, best = 1 if learner.problem.maximizes else -1, self.best_mean_reward
        children = [self._after_eval]
        last = last if math.isfinite(last) else -sign * math.inf  # adapting diverged on a task
        if best is None or sign * last > sign * best:
            self.best_mean_reward = last
            children = [self._on_new_best, self._after_eval]
            if self._path:
                _replace(self._path, learner)
        name = "reward" if learner.problem.maximizes else "loss"  # as stable-baselines3 names it
        found = {f"eval/mean_{name}": last, f"eval/best_mean_{name}": self.best_mean_reward}
        if success is not None:
            found["eval/success_rate"] = success[-1].mean().item()
        answers = [child(learner, {**metrics, **found}) for child in children if child]
        return not any(answer is False for answer in answers)


class CheckpointCallback:
    """Saves a checkpoint every ``save_freq`` iterations: ``SAVE_PATH/PREFIX_25_iterations``.

    Args:
        save_freq: iterations between checkpoints.
        save_path: folder to write the checkpoints in.
        name_prefix: start of every checkpoint's name.

    Raises:
        InputError: if save_freq is below 1, no file name can start with the prefix, or the folder
            cannot be written; later, if the checkpoint exists already.
    """

    def __init__(self, save_freq: int, save_path: str | Path, name_prefix: str = "meta"):
        require_whole("save_freq", save_freq, 1)
        plain = isinstance(name_prefix, str) and not {"/", "\\", "\0"} & {*name_prefix}
        require(plain, "name_prefix", "the beginning of a file name", name_prefix)
        short = len(os.fsencode(name_prefix)) <= LONGEST
        require(short, "name_prefix", f"{LONGEST} bytes at most", name_prefix)
        self.save_freq, self.name_prefix = save_freq, name_prefix
        self.save_path = make_folder(save_path)

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> None:
        """Save if it is time."""
        if learner.iteration % self.save_freq == 0:
            learner.save(self.save_path / f"{self.name_prefix}_{learner.iteration}_iterations")


class StopTrainingOnRewardThreshold:
    """Stops the run once the best mean return of an :class:`EvalCallback` reaches a threshold.

    Pass it to the EvalCallback as ``callback_on_new_best`` or ``callback_after_eval``.

    Args:
        reward_threshold: the value of ``eval/best_mean_reward`` to stop at.
    """

    def __init__(self, reward_threshold: float):
        self.reward_threshold = reward_threshold

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """Return whether to go on.

        Raises:
            InputError: if the metrics hold no evaluation of rewards.
        """
        if "eval/best_mean_reward" not in metrics:
            raise InputError(
                "StopTrainingOnRewardThreshold: expected to be the callback_on_new_best of an "
                "EvalCallback on a family of environments, got metrics without an evaluation."
            )
        return metrics["eval/best_mean_reward"] < self.reward_threshold


def _places(path: str | Path) -> tuple[Path, Path, Path]:
    """Return the folders of the best model, of its replacement, and of the model replaced.

    Raises:
        InputError: if one of them holds something else, or the parent cannot be written.
    """
    home = make_folder(path)
    places = home / "best_model", home / "best_model.new", home / "best_model.old"
    for place in places:
        with suppress(OSError):  # not empty, for example after a kill
            place.rmdir()
        if os.path.lexists(place) and not run_folder.holds_a_save_alone(place):
            raise InputError(
                f"best_model_save_path: expected {place} to be free or a checkpoint alone, got "
                "something else, which would be lost. Move it, or give another folder."
            )
    return places


def _replace(places: tuple[Path, Path, Path], learner: MetaLearner) -> None:
    """Replace the best model's checkpoint; at every moment the old or the new one is complete."""
    folder, new, old = places
    checkpoint.discard(new)
    learner.save(new)
    try:
        _clear(old)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        _clear(old)
    except OSError as error:
        raise unwritable(folder, error) from error


def _clear(old: Path) -> None:
    """Remove a model that was replaced; files that others have put beside it stay, elsewhere."""
    checkpoint.discard(old)
    if old.exists():
        kept = old.with_name(f"{old.name}-{time.time_ns()}")
        old.rename(kept)
        warnings.warn(
            f"best_model: other files in the replaced model are now in {kept}.", stacklevel=2
        )
