"""What the commands share: errors that a person caused end in one line, not in a traceback."""

from __future__ import annotations

import errno
import os
import re
import runpy
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

from meta_rl.errors import InputError, ProcessLostError

SMALLER = "Ask for fewer tasks, episodes or units, or give --inner.tasks-at-once 1."
NO_MEMORY = (
    *("can't allocate memory", "you tried to allocate", "out of memory", "bad_alloc"),
    *("calculation overflowed", "array is too big"),
)
"""What is said by errors that have no class of their own for it: torch's, C++'s and numpy's."""


def import_families(file: Path | None) -> None:
    """Run a person's own Python file, which registers task families or algorithms.

    Raises:
        InputError: if it is not there or raises.
    """
    if file is None:
        return
    if not os.path.isfile(file):
        raise InputError(f"families: expected a Python file, got {file}.")
    sys.path.insert(0, str(file.resolve().parent))  # for modules of yours beside it
    try:
        runpy.run_path(str(file))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"families: {file} raised {type(error).__name__}: {error}") from error


def with_data_folder(arguments: list[str]) -> list[str]:
    """The arguments with ``--data FOLDER``, as people write it, as ``--data.folder FOLDER``."""
    return [re.sub("^--data(?==|$)", "--data.folder", word) for word in arguments]


def given(arguments: list[str], option: str) -> Path | None:
    """What follows an option that decides on the other options' defaults.

    Raises:
        InputError: if nothing follows.
    """
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option:
            rest = [value] if equals else arguments[position + 1 : position + 2]
            if not rest:
                raise InputError(f"{option.strip('-')}: expected something after {option}.")
            return Path(rest[0])
    return None


def run_command(main: Callable[[list[str]], None]) -> None:
    """Run a command's main; InputError becomes one line on stderr and exit status 2.

    So does memory that is not there. Status 1 where another process of the run was lost.
    """
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    threading.excepthook = _excepthook
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    except ProcessLostError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # piped into head
        sys.stderr.close()
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        if not _is_memory(error):
            raise
        said = [*str(error).splitlines(), "There is none left."][0]
        print(f"error: memory: {said} {SMALLER}", file=sys.stderr)
        raise SystemExit(2) from None


def _is_memory(error: Exception) -> bool:
    """Whether it says that there is not as much memory as was asked for."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(text in said for text in NO_MEMORY)


def _excepthook(failed: threading.ExceptHookArgs) -> None:
    """A thread's error; of TensorBoard's, on a full disk, one line: the recorder tells of it."""
    if failed.exc_type is not None and issubclass(failed.exc_type, OSError):
        print(f"warning: {failed.exc_value}", file=sys.stderr)
    else:
        threading.__excepthook__(failed)
