"""The recorder of a run folder: events, evaluations and checkpoints during meta-training.

A callback is called with the learner and the iteration's metrics; returning False stops the run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from meta_rl import seeds
from meta_rl.config import to_dict
from meta_rl.errors import NOT_FINITE, InputError
from meta_rl.runs.adapting import Results
from meta_rl.runs.learner import MetaLearner, Metrics
from meta_rl.runs.tensorboard import RunWriter
from meta_rl.storage import checkpoint, files, run_folder
from meta_rl.storage.reading import as_path
from meta_rl.types import Task

Tick = Callable[[int, int], None]
KEEP_CHECKPOINTS = 5
LOCK = ".lock"


class RunRecorder:
    """Keeps a run folder: ``config.json``, TensorBoard events and ``checkpoints/``.

    Evaluates on held-out tasks as ``config.eval`` says. Saves at the start, every
    ``config.checkpoint_every`` iterations, before each evaluation, and at the exit, also after an
    error. Only whole iterations are saved, and the newest five checkpoints kept. If a checkpoint or
    an event cannot be written (a full disk), it warns, and training goes on. It locks the folder
    until the exit or the end of its process.

    Args:
        folder: the run's folder; made if it does not exist.
        learner: the learner, at the iteration that recording starts from.

    Raises:
        InputError: if the folder belongs to another run, or cannot be written.
    """

    def __init__(self, folder: str | Path, learner: MetaLearner):
        # Absolute: an environment may change the working directory.
        self.folder, self.learner, self._logs = as_path("folder", folder).absolute(), learner, True
        self._continues()  # before anything is written: the folder may be another run's
        self._lock = lock(self.folder)
        resumed = self._continues()
        config = learner.config
        try:
            run_folder.discard_temporary(self.folder)
            files.write_json(self.folder / "config.json", to_dict(config))
            again_from = learner.iteration + 1 if resumed else None
            self._writer = RunWriter(self.folder, learner.problem.score_name, again_from)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.save()
        self._laid_out = False
        self._held_out = learner.held_out_tasks(config.eval.tasks)
        self._evaluated: tuple[int, Results] | None = None  # the last iteration's

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> None:
        """Record one iteration."""
        config, iteration = learner.config, learner.iteration
        if metrics:
            sizes = learner.step_sizes()
            self._log(lambda: self._writer.scalars(metrics, iteration))
            self._log(lambda: self._writer.step_sizes(sizes, config.inner, iteration))
            if not self._laid_out:
                self._log(self._writer.layout)
                self._laid_out = True
        evaluates = config.eval.every and iteration % config.eval.every == 0
        if evaluates or iteration % config.checkpoint_every == 0:
            self._save_or_warn("Training goes on without this checkpoint.")
        if evaluates:
            self.evaluate()

    def __enter__(self) -> RunRecorder:
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Save the last whole iteration, also after an error, and close the events file."""
        try:
            if kind is None:
                self.save()
            else:  # the error that ended the run is raised, not this one
                self._save_or_warn("The iterations since the last checkpoint are lost.")
            self._log(self._writer.close)
        finally:
            self._lock.release()

    def evaluate(self, tick: Tick | None = None) -> Results:
        """Adapt to the held-out tasks; record and return scores and success rates.

        Args:
            tick: as in :meth:`test`.
        """
        iteration = self.learner.iteration
        if self._evaluated is None or self._evaluated[0] != iteration:
            seed = seeds.derive(self.learner.config.seed, seeds.EVALUATION, 1)
            self._evaluated = iteration, self._record(self._held_out, "eval", seed, tick)
        return self._evaluated[1]

    def test(self, tick: Tick | None = None) -> Results:
        """Save, then adapt to the tasks of the final test; record and return the results.

        Without tasks kept for it (``eval.test_tasks``), this is :meth:`evaluate`.

        Args:
            tick: called with the numbers of batches collected and to collect.
        """
        self.save()
        config = self.learner.config
        if config.eval.test_tasks is None:
            return self.evaluate(tick)
        tasks = self.learner.held_out_tasks(config.eval.test_tasks, final=True)
        return self._record(tasks, "test", seeds.derive(config.seed, seeds.EVALUATION, 2), tick)

    def _record(
        self, tasks: Sequence[Task], tag: str, seed: int, tick: Tick | None = None
    ) -> Results:
        config, iteration = self.learner.config, self.learner.iteration
        steps = max(config.eval.steps, config.inner.steps)  # at least as many as trained
        results = self.learner.results(tasks, steps, seed, tick)
        given = results.scores, tag, iteration, results.success
        self._log(lambda: self._writer.adaptation_curve(*given))
        if config.eval.pictures:
            try:
                drawn = self.learner.pictures(tasks[0], steps, seed)
            except NOT_FINITE as error:
                warnings.warn(f"evaluation: no pictures were drawn: {error}", stacklevel=2)
                return results
            self._log(lambda: self._draw(drawn, tag, iteration))
        return results

    def _draw(self, pictures: dict[str, Any], tag: str, iteration: int) -> None:
        self._writer.rule(self.learner.config.inner, self.learner.meta.rule, iteration)
        for name, picture in pictures.items():
            self._writer.picture(f"{tag}/{name}", picture, iteration)

    def save(self) -> None:
        """Write the last whole iteration's checkpoint if there is none yet; delete the oldest.

        Raises:
            InputError: if the checkpoint cannot be written.
        """
        manifest, tensors = self.learner.state()
        try:
            folder = run_folder.free_place(self.folder, manifest["iteration"])
            if folder is None:
                return
            checkpoint.save(folder, manifest, tensors)
            for old in run_folder.checkpoints(self.folder)[:-KEEP_CHECKPOINTS]:
                run_folder.remove(old)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _save_or_warn(self, consequence: str) -> None:
        try:
            self.save()
        except InputError as error:
            warnings.warn(f"{error} {consequence}", stacklevel=3)

    def _continues(self) -> bool:
        """Return whether the folder holds the run that the learner continues; False if empty.

        Raises:
            InputError: if the folder holds anything else, or cannot be read.
        """
        try:
            there = [p for p in self.folder.glob("*") if not p.name.startswith(".")]
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        if not there:
            return False
        newest, config = run_folder.newest_settings(self.folder)
        same = run_folder.same_settings(config, to_dict(self.learner.config))
        if newest > self.learner.iteration or not same:
            raise InputError(
                f"run folder: {self.folder} holds another run, or one that this learner does not "
                "continue; nothing was overwritten. Continue it with --resume, or give another "
                "--log-dir."
            )
        return True

    def _log(self, write: Callable[[], None]) -> None:
        """Write events; after a failure, write no more until the run is resumed."""
        if not self._logs:
            return
        try:
            write()
        except OSError as error:
            self._logs = False
            warnings.warn(
                f"tensorboard: cannot write {self.folder}: {error}. Training goes on without "
                "curves; --resume writes them again.",
                stacklevel=3,
            )


def lock(folder: Path) -> FileLock:
    """Make a folder and lock it until the lock is released or this process ends.

    Raises:
        InputError: if another process holds the folder, or it cannot be made.
    """
    held = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"run folder: {folder} is in use by another process; nothing was overwritten. Wait for "
            "it to end, or give another --log-dir."
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    return held


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"run folder: cannot write {folder}: {error}.")
