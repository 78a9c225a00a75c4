"""End the general backend's worker processes, and make the error when one fails."""

from __future__ import annotations

import contextlib
import multiprocessing
import time

from gymnasium.vector import AsyncVectorEnv

from meta_rl.errors import InputError
from meta_rl.storage.reading import named

CLOSING = 1.0
"""Seconds allowed to all workers together for closing their environments."""


def end_workers(vector: AsyncVectorEnv) -> list[int]:
    """Close or kill the workers; return the exit codes of the ones that had died.

    ``AsyncVectorEnv.close`` waits for ever for a hanging worker, and fails for a dead one.
    """
    for process in vector.processes:
        process.join(0.05)  # let a dying worker end
    died = [p.exitcode for p in vector.processes if p.exitcode is not None]
    for pipe in filter(None, vector.parent_pipes):
        with contextlib.suppress(OSError):  # the worker has died
            pipe.send(("close", None))
    end = time.monotonic() + CLOSING
    for process in vector.processes:
        process.join(max(0.0, end - time.monotonic()))
        process.kill()  # ends a hanging worker; does nothing to one that has ended
        process.join()
    # Only now: a worker whose pipe closes while it reads prints a traceback.
    for pipe in filter(None, vector.parent_pipes):
        pipe.close()
    vector.closed = True
    return died


def worker_fault(error: BaseException, method: str, died: list[int], timeout: float) -> InputError:
    """Return the error to raise for a call that workers did not answer.

    Args:
        error: the error that the call raised.
        method: ``reset`` or ``step``.
        died: the exit codes of the workers that died.
        timeout: the seconds that were allowed to the workers.
    """
    if isinstance(error, InputError):
        return error
    if isinstance(error, multiprocessing.TimeoutError):
        what = (
            f"workers gave no answer to {method} for {timeout:g} s and were killed. "
            "Fix the environment, or set the family's worker_timeout"
        )
    elif isinstance(error, EOFError | OSError):
        what = (
            f"a worker died in {method}, with exit codes {died}. Step in this process to see why: "
            "workers=0 (--speed.workers 0)"
        )
    else:
        what = f"a worker failed: {named(error)}"
    return InputError(f"environment: {what}.")
