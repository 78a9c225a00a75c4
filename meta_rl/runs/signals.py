"""Stop a run on a signal without losing an iteration."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from meta_rl.runs.learner import MetaLearner
from meta_rl.runs.metrics import Metrics


class Stopped(KeyboardInterrupt):
    """Raised on a signal when there is no iteration to finish.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopOnSignal:
    """Stops at the end of the iteration on Ctrl-C, SIGTERM, SIGHUP (a lost terminal) or SIGUSR1.

    Slurm warns with SIGUSR1. A second Ctrl-C stops at once. A SIGHUP that is ignored already, as
    under nohup, stays ignored. Use as a context manager; leaving it restores the previous handlers.

    ``number`` is the number of the signal received, or None.
    """

    NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    """The signals to listen for; Windows lacks some."""

    def __init__(self):
        self.number: int | None = None
        self._at_once = False

    @property
    def stopped(self) -> bool:
        """Whether a signal was received."""
        return self.number is not None

    def __enter__(self) -> StopOnSignal:
        """Install the handlers."""
        numbers = [getattr(signal, name) for name in self.NAMES if hasattr(signal, name)]
        nohup = getattr(signal, "SIGHUP", None)
        self._before = {
            number: signal.signal(number, self._stop)
            for number in numbers
            if number != nohup or signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *exception: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, learner: MetaLearner, metrics: Metrics) -> bool:
        """Return False once a signal was received."""
        return not self.stopped

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Stopped at any point inside the context; only for code that may be cut off.

        Raises:
            Stopped: on a signal, also one received earlier.
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
        # Not by print: the signal may have interrupted a print.
        with suppress(OSError):  # the terminal is gone
            os.write(2, b"stopping after this iteration; its state will be saved\n")
