"""Worker processes of the general backend: how they end, and what is said when one fails."""

from __future__ import annotations

import contextlib
import multiprocessing
import time

from gymnasium.vector import AsyncVectorEnv

from meta_rl.errors import InputError
from meta_rl.storage.reading import named

CLOSING = 1.0
"""Seconds that workers have for closing their environments, all together."""


def end_workers(vector: AsyncVectorEnv) -> list[int]:
    """Have the workers close, or kill them; which had died, by their exit codes.

    ``AsyncVectorEnv.close`` waits for ever for one that hangs, and fails for one that has died.
    """
    for process in vector.processes:
        process.join(0.05)  # one that is dying
    died = [p.exitcode for p in vector.processes if p.exitcode is not None]
    for pipe in filter(None, vector.parent_pipes):
        with contextlib.suppress(OSError):  # of one that has died
            pipe.send(("close", None))
    end = time.monotonic() + CLOSING
    for process in vector.processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()  # one that hangs; nothing, once it has ended
        process.join()
    # Only now: a worker whose pipe closes while it waits prints a traceback.
    for pipe in filter(None, vector.parent_pipes):
        pipe.close()
    vector.closed = True
    return died


def worker_fault(error: BaseException, method: str, died: list[int], timeout: float) -> InputError:
    """Return the error to raise for a call that workers did not answer.

    Args:
        error: the error that the call raised.
        method: ``reset`` or ``step``.
        died: exit codes of the workers that died.
        timeout: seconds that the workers had.
    """
    if isinstance(error, InputError):
        return error
    if isinstance(error, multiprocessing.TimeoutError):
        what = (
            f"workers gave no answer to {method} for {timeout:g} s and were killed. "
            "Mend the environment, or set the family's worker_timeout"
        )
    elif isinstance(error, EOFError | OSError):
        what = f"a worker died in {method}, with exit codes {died}"
    else:
        what = f"a worker failed: {named(error)}"
    return InputError(f"environment: {what}.")
