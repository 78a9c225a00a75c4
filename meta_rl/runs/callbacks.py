"""Callbacks by the names they have in stable-baselines3, for :meth:`MetaLearner.learn`.

They count iterations where stable-baselines3 counts steps of an environment, and they are given
what every callback here is given, the learner and metrics. Any function of these two is a callback;
one that returns False stops the run.
"""

from __future__ import annotations

import os
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

    The children are called with the metrics ``eval/mean_reward``, its value after the last inner
    step, and ``eval/best_mean_reward`` (``..._loss`` for supervised families, where lower is
    better); the run stops after one returns False.

    Args:
        tasks: evaluated on, such as ``learner.held_out_tasks(40)``.
        eval_freq: iterations between evaluations.
        steps: inner steps; as in meta-training when None.
        seed: of the episodes.
        best_model_save_path: folder whose ``best_model`` is replaced by a checkpoint of each new
            best, for ``meta_rl.load``.
        callback_on_new_best: called after a new best.
        callback_after_eval: called after every evaluation.

    Raises:
        InputError: if a number is out of range, or nothing can be saved in the folder; after the
            first iteration, if a task is none of the learner's family.
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
        self._unchecked = True  # which tasks a family has, its learner knows
        self._path = None if best_model_save_path is None else _places(best_model_save_path)
        self._on_new_best, self._after_eval = callback_on_new_best, callback_after_eval
        self.best_mean_reward: float | None = None
        self.last_mean_reward: float | None = None
        self.evaluations: list[tuple[int, Tensor]] = []
        """Iteration and scores (steps + 1, tasks) of each."""

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """Evaluate if it is time; whether to go on."""
        if self._unchecked:  # at the first iteration, however late the first evaluation is
            self.tasks, self._unchecked = learner.problem.check_tasks(self.tasks), False
        if learner.iteration % self.eval_freq:
            return True
        steps = learner.config.inner.steps if self.steps is None else self.steps
        scores = learner.evaluate(self.tasks, steps, self.seed)
        self.evaluations.append((learner.iteration, scores))
        last = self.last_mean_reward = scores[-1].mean().item()
        sign, best = 1 if learner.problem.maximizes else -1, self.best_mean_reward
        children = [self._after_eval]
        if best is None or sign * last > sign * best:
            self.best_mean_reward = last
            children = [self._on_new_best, self._after_eval]
            if self._path:
                _replace(self._path, learner)
        name = "reward" if learner.problem.maximizes else "loss"  # as stable-baselines3 names it
        found = {f"eval/mean_{name}": last, f"eval/best_mean_{name}": self.best_mean_reward}
        answers = [child(learner, {**metrics, **found}) for child in children if child]
        return not any(answer is False for answer in answers)


class CheckpointCallback:
    """Saves a checkpoint every ``save_freq`` iterations: ``SAVE_PATH/PREFIX_25_iterations``.

    Args:
        save_freq: iterations between checkpoints.
        save_path: folder they are made in.
        name_prefix: of theirs.

    Raises:
        InputError: if save_freq is below 1, the prefix cannot begin a file name, or nothing can be
            saved in the folder; later, if there is such a checkpoint already.
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
    """Stops once an evaluation's best mean return reaches a threshold.

    Args:
        reward_threshold: of ``eval/best_mean_reward``; give this to an :class:`EvalCallback` as
            ``callback_on_new_best`` or ``callback_after_eval``.
    """

    def __init__(self, reward_threshold: float):
        self.reward_threshold = reward_threshold

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """Whether to go on.

        Raises:
            InputError: if no evaluation of rewards called it.
        """
        if "eval/best_mean_reward" not in metrics:
            raise InputError(
                "StopTrainingOnRewardThreshold: expected to be the callback_on_new_best of an "
                "EvalCallback on a family of environments, got metrics without an evaluation."
            )
        return metrics["eval/best_mean_reward"] < self.reward_threshold


def _places(path: str | Path) -> tuple[Path, Path, Path]:
    """Return where a best model is, where it is while it is new, and where while it is old.

    Raises:
        InputError: if something else is there, or the folder cannot be written.
    """
    home = make_folder(path)
    places = home / "best_model", home / "best_model.new", home / "best_model.old"
    for place in places:
        with suppress(OSError):  # where it is not empty, as what a kill left is
            place.rmdir()
        if os.path.lexists(place) and not run_folder.holds_a_save_alone(place):
            raise InputError(
                f"best_model_save_path: expected {place} to be free or a checkpoint alone, got "
                "something else, which would be lost. Move it, or give another folder."
            )
    return places


def _replace(places: tuple[Path, Path, Path], learner: MetaLearner) -> None:
    """Save a checkpoint where there may be one; at every moment one of the two is there whole."""
    folder, new, old = places
    checkpoint.discard(new)
    learner.save(new)
    try:
        checkpoint.discard(old)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        checkpoint.discard(old)
    except OSError as error:
        raise unwritable(folder, error) from error
