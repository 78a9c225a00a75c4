"""What happens around meta-training: events, evaluation, checkpoints, progress, stopping.

A callback is called with the learner and the iteration's metrics; returning False stops the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from meta_rl import checkpoint, files, seeds
from meta_rl.config import from_dict, to_dict
from meta_rl.errors import InputError
from meta_rl.learner import MetaLearner, Metrics
from meta_rl.tensorboard import RunWriter
from meta_rl.types import Task

KEEP_CHECKPOINTS = 5
LOCK = ".lock"


class RunRecorder:
    """Keeps a run folder: ``config.json``, TensorBoard events and ``checkpoints/``.

    Evaluates on held-out tasks as ``config.eval`` says; saves at the start, every
    ``config.checkpoint_every`` iterations, and when left, keeping the newest five. A save or an
    event that cannot be written (a full disk) is warned of, and training goes on. The folder is
    this recorder's alone until it is left, or its process has ended in whatever way.

    Args:
        folder: the run's; made if it is new.
        learner: at the iteration where recording starts.

    Raises:
        InputError: if the folder belongs to another run, or cannot be written.
    """

    def __init__(self, folder: str | Path, learner: MetaLearner):
        self.folder, self.learner, self._logs = Path(folder), learner, True
        self._continues()  # before anything is written into what may be another's
        self._lock = lock(self.folder)
        resumed = self._continues()
        config = learner.config
        try:
            checkpoint.discard_temporary(self.folder)
            files.write_json(self.folder / "config.json", to_dict(config))
            again_from = learner.iteration + 1 if resumed else None
            self._writer = RunWriter(self.folder, learner.problem.score_name, again_from)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.save()
        self._laid_out = False
        self._held_out = learner.held_out_tasks(config.eval.tasks)
        self._evaluated: tuple[int, Tensor] | None = None  # the last iteration, and the scores

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
        if config.eval.every and iteration % config.eval.every == 0:
            self.evaluate()
        if iteration % config.checkpoint_every == 0:
            try:
                self.save()
            except InputError as error:
                warnings.warn(f"{error} Training goes on without this one.", stacklevel=2)

    def __enter__(self) -> RunRecorder:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close the events file, and save unless an iteration was cut off in its middle.

        An InputError comes between iterations: while collecting, before the outer step has
        changed anything (an environment that failed), or once an iteration is whole and counted
        (too many outer steps skipped in a row).
        """
        try:
            self._log(self._writer.close)
            if kind is None or issubclass(kind, InputError):
                self.save()
        finally:
            self._lock.release()

    def evaluate(self) -> Tensor:
        """Adapt to the held-out tasks; records and returns scores ``(steps + 1, tasks)``."""
        iteration = self.learner.iteration
        if self._evaluated is None or self._evaluated[0] != iteration:
            seed = seeds.derive(self.learner.config.seed, seeds.EVALUATION, 1)
            self._evaluated = iteration, self._record(self._held_out, "eval", seed)
        return self._evaluated[1]

    def test(self) -> Tensor:
        """The same on the tasks kept for the end, if the settings keep any."""
        config = self.learner.config
        if config.eval.test_tasks is None:
            return self.evaluate()
        tasks = self.learner.held_out_tasks(config.eval.test_tasks, final=True)
        return self._record(tasks, "test", seeds.derive(config.seed, seeds.EVALUATION, 2))

    def _record(self, tasks: Sequence[Task], tag: str, seed: int) -> Tensor:
        config, iteration = self.learner.config, self.learner.iteration
        steps = max(config.eval.steps, config.inner.steps)  # never fewer than were trained
        scores = self.learner.evaluate(tasks, steps, seed)
        self._log(lambda: self._writer.adaptation_curve(scores, tag, iteration))
        if config.eval.pictures:
            drawn = self.learner.pictures(tasks[0], steps, seed)
            self._log(lambda: self._draw(drawn, tag, iteration))
        return scores

    def _draw(self, pictures: dict[str, Any], tag: str, iteration: int) -> None:
        self._writer.rule(self.learner.config.inner, self.learner.meta.rule, iteration)
        for name, picture in pictures.items():
            self._writer.picture(f"{tag}/{name}", picture, iteration)

    def save(self) -> None:
        """Write a checkpoint of this iteration unless there is a whole one, and drop the oldest."""
        folder = self.folder / "checkpoints" / f"{self.learner.iteration:09d}"
        if folder.exists():
            try:
                checkpoint.load(folder)
                return
            except InputError:  # damaged: kept out of the way, written anew
                folder.rename(folder.with_name(f".{folder.name}.damaged-{time.time_ns()}"))
        self.learner.save(folder)
        for old in checkpoint.checkpoints(self.folder)[:-KEEP_CHECKPOINTS]:
            checkpoint.remove(old)

    def _continues(self) -> bool:
        """Whether the folder holds the run that the learner continues; False if it holds none.

        Raises:
            InputError: if it holds anything else, or cannot be read.
        """
        try:
            there = [p for p in self.folder.glob("*") if not p.name.startswith(".")]
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        if not there:
            return False
        newest = checkpoint.newest_iteration(self.folder)
        if newest > self.learner.iteration or not _same_run(self.folder, self.learner):
            raise InputError(
                f"run folder: {self.folder} holds another run, or one that this learner does not "
                "continue; nothing was overwritten. Continue it with --resume, or give another "
                "--log-dir."
            )
        return True

    def _log(self, write: Callable[[], None]) -> None:
        """Write events; once that has failed there are no more, until the run is resumed."""
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
    """Make a folder and hold it until released, or until this process has ended in whatever way.

    Raises:
        InputError: if another process holds it, or it cannot be made.
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


def _same_run(folder: Path, learner: MetaLearner) -> bool:
    """Whether the folder's settings are the learner's, but for the number of iterations."""
    try:
        there = from_dict(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, RecursionError):
        return False
    one, other = (
        replace(config, iterations=1, blocks=config.blocks or 1)
        for config in (there, learner.config)
    )
    return one == other


class ProgressBar:
    """A bar on a terminal, plain lines elsewhere: rate, time left, score before and after.

    Args:
        learner: at the iteration where progress starts.
    """

    LINES = 20

    def __init__(self, learner: MetaLearner):
        total, start = learner.config.iterations, learner.iteration
        self._plain = not sys.stderr.isatty()
        self._every = max(1, total // self.LINES)
        self._bar = tqdm(
            total=total, initial=start, unit="it", dynamic_ncols=True, disable=False,
            file=_Nowhere() if self._plain else sys.stderr, mininterval=0.2,
        )  # fmt: skip
        self._scores = ""

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> None:
        """Show one iteration."""
        name = learner.problem.score_name
        if metrics:
            pre, post = (metrics[f"meta/{name}_{when}"] for when in ("pre", "post"))
            self._scores = f"{name} {pre:.4g} -> {post:.4g}"
            self._bar.set_description(self._scores, refresh=False)
        self._bar.update()
        last = learner.iteration == learner.config.iterations
        if self._plain and (learner.iteration % self._every == 0 or last):
            print(self._bar, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


class StopOnSignal:
    """Stops at the end of the iteration on Ctrl-C or SIGTERM; a second Ctrl-C stops at once.

    Use as a context manager; the handlers that were there before come back.
    """

    def __init__(self):
        self.stopped = False

    def __enter__(self) -> StopOnSignal:
        """Listen."""
        self._before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """False once a signal has come."""
        return not self.stopped

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not by print: the signal may have come in the middle of one.
        with contextlib.suppress(OSError):  # nobody reads it
            os.write(2, b"stopping after this iteration; its state will be saved\n")


class _Nowhere:
    """Takes a bar's drawing where there is no terminal to draw on."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
