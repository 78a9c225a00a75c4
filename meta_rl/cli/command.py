"""Run commands so that a user's errors end in one line, not in a traceback."""

from __future__ import annotations

import errno
import shlex
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from meta_rl.errors import DivergedError, InputError, ProcessLostError, lacks_memory
from meta_rl.machine import console
from meta_rl.storage.own_code import FAMILIES, run_file
from meta_rl.storage.reading import shortened

SMALLER = "Ask for fewer tasks, episodes or units, or give --speed.tasks-at-once 1."
UNREAD = (errno.EPIPE, errno.EIO)
"""Errors of output without a reader: after ``| head``, and on a closed terminal."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class Ended(SystemExit):
    """A deliberate end of a command: ``--help``, a refused command line, a stopped test."""


def runner(command: str) -> Any:
    """Import and return the module that does a command's work; call once options are read."""
    return import_module(f"meta_rl.cli.runners.{command}")


def work(command: str, *given: Any) -> None:
    """Do a command's work: call ``run`` of its runner with its options."""
    runner(command).run(*given)


def import_families(file: Path | None) -> None:
    """Run a user's Python file, which registers task families or algorithms, or has networks.

    Raises:
        InputError: if the file does not exist or raises.
    """
    if file is not None:
        run_file("families", file, FAMILIES)


def import_network(arguments: list[str], home: Path) -> None:
    """Run the file of ``--network.module FILE.py:Class``, if the arguments have that option.

    A run's own settings may name a file too, but only a file that a user names is run.

    Args:
        arguments: the command line's arguments.
        home: the folder that relative paths start from.

    Raises:
        InputError: if the file does not exist or raises, or has no such class.
    """
    for word, following in pairwise([*arguments, ""]):
        option, joined, value = word.partition("=")
        if option == "--network.module":
            import_module("meta_rl.agents").use_module(value if joined else following, home)


def told(*words: object, families: Path | None = None) -> str:
    """Return a command line that a user can paste into a shell.

    Args:
        words: the command and its arguments, such as ``adapt`` and a run folder.
        families: the user's file that registers the run's family, if there is one.
    """
    further = ["--families", families] if families else []
    return shlex.join(["meta-rl", *(str(word) for word in (*words, *further))])


def run_command(
    main: Callable[[list[str]], None], command: str | None = None, *, prints: bool = False
) -> None:
    """Run a command with the process's arguments; turn InputError into one line and exit status 2.

    Lack of memory, a full disk, and ``sys.exit`` in a user's code also end in one line and status
    2. A lost process of the run ends in status 1. Output that cannot be printed ends no work: see
    :mod:`meta_rl.machine.console`.

    Args:
        main: function of the command line's arguments.
        command: name of the command to put before the arguments, if any.
        prints: whether printing is the command's only purpose.
    """
    arguments = [command, *sys.argv[1:]] if command else sys.argv[1:]
    console.install()
    warnings.showwarning = _showwarning
    threading.excepthook = _excepthook
    try:
        main(arguments)
    except Ended as end:
        _tell_if_lost(prints=not end.code)
        raise SystemExit(end.code) from None
    except SystemExit as stop:
        _end(f"sys.exit({stop.code!r}) in {_place(stop)} ended the work before it was done.")
    except (InputError, DivergedError) as error:
        _end(error)
    except ProcessLostError as error:
        _end(error, status=1)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if lacks_memory(error):
            said = [*str(error).splitlines(), "There is none left."][0]
            _end(f"memory: {said} {SMALLER}")
        if _is_full_disk(error):
            _end(f"disk: {shortened(error)}. Make room, then give the same command again.")
        raise
    _tell_if_lost(prints)


def _end(error: object, status: int = 2) -> NoReturn:
    """Print an error in one line, and end the process."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    raise SystemExit(status) from None


def _tell_if_lost(prints: bool) -> None:
    """Warn that output was lost, such as on a full disk; a missing reader needs no warning.

    If printing is the command's only purpose, end it with an error.
    """
    error = console.lost(sys.stdout)
    if error is None or error.errno in UNREAD:
        return
    if prints:
        _end(f"output: cannot be written: {error.strerror}.")
    why = f"{error.strerror}. Files are written as ever."
    print(f"warning: output: cannot be written: {why}", file=sys.stderr)


def _place(stop: SystemExit) -> str:
    """Return the file and line that called ``exit``."""
    frames = traceback.extract_tb(stop.__traceback__)
    last = [frame for frame in frames if "sitebuiltins" not in frame.filename][-1]
    return f"{last.filename}, line {last.lineno},"


def _showwarning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning in one line, without the colours of Gymnasium's warnings."""
    print(f"warning: {console.STYLE.sub('', str(message))}", file=sys.stderr)


def _is_full_disk(error: Exception) -> bool:
    """Return whether an error says that a disk is full; SQLite and optuna say so in words."""
    if isinstance(error, OSError):
        return error.errno in FULL
    return "disk is full" in shortened(error, 2000) + shortened(error.__cause__, 2000)


def _excepthook(failed: threading.ExceptHookArgs) -> None:
    """Print a thread's error, except TensorBoard's on a full disk: its writer raises that again."""
    tensorboards = type(failed.thread).__name__ == "_AsyncWriterThread"
    if not (tensorboards and isinstance(failed.exc_value, OSError)):
        threading.__excepthook__(failed)
