"""What happens around meta-training: events, evaluation, checkpoints, progress, stopping.

A callback is called with the learner and the iteration's metrics; returning False stops the run.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from meta_rl import seeds
from meta_rl.config import to_dict
from meta_rl.console import on_terminal
from meta_rl.errors import InputError
from meta_rl.runs.learner import MetaLearner, Metrics
from meta_rl.runs.tensorboard import RunWriter
from meta_rl.storage import checkpoint, files
from meta_rl.storage.reading import as_path
from meta_rl.types import Task

Tick = Callable[[int, int], None]
KEEP_CHECKPOINTS = 5
LOCK = ".lock"


class RunRecorder:
    """Keeps a run folder: ``config.json``, TensorBoard events and ``checkpoints/``.

    Evaluates on held-out tasks as ``config.eval`` says; saves at the start, every
    ``config.checkpoint_every`` iterations, before each evaluation, and when left, for whatever
    reason, keeping the newest five. Only whole iterations are saved. A save or an event that cannot
    be written (a full disk) is warned of, and training goes on. The folder is this recorder's alone
    until it is left, or its process has ended in whatever way.

    Args:
        folder: the run's; made if it is new.
        learner: at the iteration where recording starts.

    Raises:
        InputError: if the folder belongs to another run, or cannot be written.
    """

    def __init__(self, folder: str | Path, learner: MetaLearner):
        # Absolute: an environment may change the working directory.
        self.folder, self.learner, self._logs = as_path("folder", folder).absolute(), learner, True
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
        evaluates = config.eval.every and iteration % config.eval.every == 0
        if evaluates or iteration % config.checkpoint_every == 0:
            self._save_or_warn("Training goes on without this one.")
        if evaluates:
            self.evaluate()

    def __enter__(self) -> RunRecorder:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Save the last whole iteration, whatever was raised, and close the events file."""
        try:
            if kind is None:
                self.save()
            else:  # which is what people are to be told of in the end
                self._save_or_warn("Its last whole iterations are lost.")
            self._log(self._writer.close)
        finally:
            self._lock.release()

    def evaluate(self, tick: Tick | None = None) -> Tensor:
        """Adapt to the held-out tasks; records and returns scores ``(steps + 1, tasks)``.

        Args:
            tick: as in :meth:`test`.
        """
        iteration = self.learner.iteration
        if self._evaluated is None or self._evaluated[0] != iteration:
            seed = seeds.derive(self.learner.config.seed, seeds.EVALUATION, 1)
            self._evaluated = iteration, self._record(self._held_out, "eval", seed, tick)
        return self._evaluated[1]

    def test(self, tick: Tick | None = None) -> Tensor:
        """The same on the tasks kept for the end, if the settings keep any; saves before.

        Args:
            tick: called with the number of batches collected, and how many there will be.
        """
        self.save()
        config = self.learner.config
        if config.eval.test_tasks is None:
            return self.evaluate(tick)
        tasks = self.learner.held_out_tasks(config.eval.test_tasks, final=True)
        return self._record(tasks, "test", seeds.derive(config.seed, seeds.EVALUATION, 2), tick)

    def _record(
        self, tasks: Sequence[Task], tag: str, seed: int, tick: Tick | None = None
    ) -> Tensor:
        config, iteration = self.learner.config, self.learner.iteration
        steps = max(config.eval.steps, config.inner.steps)  # never fewer than were trained
        scores = self.learner.evaluate(tasks, steps, seed, tick)
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
        """Write a checkpoint of the last whole iteration unless there is one; drop the oldest.

        Raises:
            InputError: if it cannot be written.
        """
        manifest, tensors = self.learner.state()
        try:
            folder = checkpoint.free_place(self.folder, manifest["iteration"])
            if folder is None:
                return
            checkpoint.save(folder, manifest, tensors)
            for old in checkpoint.checkpoints(self.folder)[:-KEEP_CHECKPOINTS]:
                checkpoint.remove(old)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _save_or_warn(self, consequence: str) -> None:
        try:
            self.save()
        except InputError as error:
            warnings.warn(f"{error} {consequence}", stacklevel=3)

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
        newest, config = checkpoint.newest_settings(self.folder)
        same = checkpoint.same_settings(config, to_dict(self.learner.config))
        if newest > self.learner.iteration or not same:
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


class ProgressBar:
    """A bar on a terminal, plain lines elsewhere: rate, time left, score before and after.

    Args:
        learner: at the iteration where progress starts.
    """

    LINES = 20

    def __init__(self, learner: MetaLearner):
        total, start = learner.config.iterations, learner.iteration
        self._plain = not on_terminal()
        self._every = max(1, total // self.LINES)
        self._bar = _bar(total, start, self._plain)
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


class EvaluationProgress:
    """A bar on a terminal, plain lines elsewhere, of the batches that an evaluation collects."""

    def __init__(self):
        self._plain = not on_terminal()
        self._bar = _bar(None, 0, self._plain, "final test", "batch")
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        """Show that so many of so many batches are collected."""
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        part = done * ProgressBar.LINES // total
        if self._plain and part > self._shown:
            self._shown = part
            print(self._bar, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def _bar(
    total: int | None, done: int, plain: bool, title: str | None = None, unit: str = "it"
) -> tqdm:
    return tqdm(
        total=total, initial=done, desc=title, unit=unit, dynamic_ncols=True, disable=False,
        file=_Nowhere() if plain else sys.stderr, mininterval=0.2,
    )  # fmt: skip


class Stopped(KeyboardInterrupt):
    """A signal came while nothing had to be ended first.

    Args:
        number: the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopOnSignal:
    """Stops at the end of the iteration on Ctrl-C, SIGTERM, SIGHUP (a lost terminal) or SIGUSR1.

    Slurm warns with SIGUSR1. A second Ctrl-C stops at once. A SIGHUP that is ignored, as by nohup,
    stays so. Use as a context manager; the handlers that were there before come back.

    ``number`` is the signal that came, or None.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    """Windows does not have all of them."""

    def __init__(self):
        self.number: int | None = None
        self._at_once = False

    @property
    def stopped(self) -> bool:
        """Whether a signal has come."""
        return self.number is not None

    def __enter__(self) -> StopOnSignal:
        """Listen."""
        numbers = [getattr(signal, name) for name in self.NAMES if hasattr(signal, name)]
        nohup = getattr(signal, "SIGHUP", None)
        self._before = {
            number: signal.signal(number, self._stop)
            for number in numbers
            if number != nohup or signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """False once a signal has come."""
        return not self.stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While entered, a signal raises Stopped wherever the process is; it must be no harm.

        Raises:
            Stopped: also if one has come before.
        """
        self._at_once = True
        try:
            if self.number is not None:
                raise Stopped(self.number)
            yield
        finally:
            self._at_once = False

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if self._at_once:
            raise Stopped(number)
        # Not by print: the signal may have come in the middle of one.
        with suppress(OSError):  # the terminal is gone
            os.write(2, b"stopping after this iteration; its state will be saved\n")


class _Nowhere:
    """Takes a bar's drawing where there is no terminal to draw on."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
