"""Read foreign files; turn any fault of a file into one line that names the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from meta_rl.errors import InputError

LARGEST = 2**32
"""The most bytes that are read from one file."""


@contextmanager
def reading(what: str, advice: str = "") -> Iterator[None]:
    """Turn any exception of a reader into one InputError that begins with the file read.

    Wrap the reader alone, so that faults of other code stay visible. An InputError passes.

    Args:
        what: the kind of thing that is read, and its path.
        advice: what to do, as a sentence.

    Raises:
        InputError: if the reader raises an ``Exception``.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # readers may raise anything at damaged or hostile data
        advice = advice and f" {advice}"
        raise InputError(f"{what}: cannot be read ({reason(error)}).{advice}") from error


def reason(error: Exception, longest: int = 200) -> str:
    """Return an error's text in one line of limited length."""
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    else:
        said = shortened(error, longest)
    plain = isinstance(error, OSError | ValueError) and said
    return said if plain else ": ".join(filter(None, (type(error).__name__, said)))


def named(error: BaseException, longest: int = 400) -> str:
    """Return an error's type and text in one line of limited length."""
    return f"{type(error).__name__}: {shortened(error, longest)}"


def shortened(value: Any, longest: int = 200) -> str:
    """Return a value's text in one line of limited length, for an error message."""
    try:
        text = str(value)
    except Exception:  # str() of a foreign object may fail
        text = f"a {type(value).__name__}"
    line = " ".join(text[: 4 * longest].split())
    return line if len(line) <= longest else f"{line[:longest]}..."


def as_path(what: str, path: Any) -> Path:
    """Return a path that a user gave, as a ``Path``.

    Args:
        what: the path's name in the error.
        path: a ``str`` or ``Path``.

    Raises:
        InputError: if the path is neither.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{what}: expected a path, got {shortened(path)}.")
    return Path(path)


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading bytes.

    Anything else is refused unread: a named pipe would wait for ever, and a device may not end.

    Raises:
        OSError: if the file cannot be opened, or is a folder.
        InputError: if it is a named pipe or a device.
    """
    return open(path, "rb", opener=_open_regular)


def read_file(path: str | Path, largest: int = LARGEST) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        OSError: if the file cannot be read.
        InputError: if the path is not a regular file, or the file has more bytes than ``largest``.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise InputError(f"{path}: expected at most {largest:,} bytes, got {size:,}.")
        return file.read()


def _open_regular(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe that nobody writes to would not return.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # open() itself refuses a folder
        return descriptor
    os.close(descriptor)
    got = "a named pipe" if stat.S_ISFIFO(mode) else "a device"
    raise InputError(f"{path}: expected a file, got {got}.")
