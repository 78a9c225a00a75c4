"""Write files whole or not at all: under a temporary name, flushed to disk, then renamed.

Everything that this project writes goes through here, so that a full disk or a kill leaves the old
file or the new one, never half of one.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from meta_rl.errors import InputError
from meta_rl.naming import csv_cell
from meta_rl.storage.reading import read_file, shortened

TEMPORARY = "." + 16 * "[0-9a-f]" + ".tmp"
"""What files are called until they are whole. A kill can leave one."""

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)
"""Errors of a file system, or of a folder, that cannot flush folders: the file is there anyway."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file durably; at every moment the old content or the new is there, whole.

    Text is UTF-8. What UTF-8 cannot hold (file names of another encoding) is escaped.

    Raises:
        InputError: if it cannot be written; the file is then as it was.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    # No name that anybody could have put a symbolic link at, and none too long for the disk.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        try:
            create(temporary, data)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise unwritable(path, error) from error


def write_json(path: Path, content: Any, *, allow_nan: bool = True) -> None:
    """Write JSON for people, one value a line.

    Args:
        path: of the file.
        content: JSON values.
        allow_nan: False to refuse NaN and infinities, which JSON of others does not have.
    """
    write(path, json.dumps(content, indent=1, allow_nan=allow_nan) + "\n")


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table of comma-separated values; its first row is the head.

    Spreadsheets show its text and compute none of it: see :func:`meta_rl.naming.csv_cell`.
    """
    table = io.StringIO(newline="")
    csv.writer(table).writerows(map(csv_cell, row) for row in rows)
    write(path, table.getvalue())


def copy(source: Path, target: Path) -> None:
    """Copy a file, or all files in a folder.

    Raises:
        InputError: if it cannot be read or written.
    """
    try:
        if source.is_dir():
            target.mkdir(exist_ok=True)
            for entry in source.iterdir():
                copy(entry, target / entry.name)
            return
        content = read_file(source)
    except OSError as error:
        raise InputError(f"file: cannot copy {source} to {target}: {error}.") from error
    write(target, content)


def create(path: Path, data: bytes) -> None:
    """Write a new file and flush it to disk; a file or link that is there is never opened.

    Raises:
        OSError: if there is one, or it cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # either is of one system
    with open(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that names made in it outlive a power cut.

    Raises:
        OSError: if the disk fails.
    """
    if os.name == "nt":  # where folders cannot be opened
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def make_folder(path: str | Path) -> Path:
    """Return the absolute path of a folder to write to, which is made where it is missing.

    Raises:
        InputError: if it cannot be.
    """
    try:
        folder = Path(path).absolute()  # an environment may change the working directory
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, TypeError, ValueError) as error:  # the last two of what is no path
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"folder: cannot make {shortened(path)}: {said}.") from error
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, by trying, before work starts.

    Raises:
        InputError: if it cannot: it may be missing, read-only, or on a full disk.
    """
    trial = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        try:
            create(trial, bytes(4096))
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(path: Path, error: OSError) -> InputError:
    """Return the error to raise for a file or folder that cannot be written."""
    why = error.strerror or str(error)
    return InputError(f"file: cannot write {path}: {why}. Nothing that was there is changed.")
