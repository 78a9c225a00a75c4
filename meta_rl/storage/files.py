"""Write files whole or not at all: under a temporary name, flushed to disk, then renamed.

All files of this project are written here, so a full disk or a kill leaves the old file or the new
one, never half a file.
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
"""Pattern of the names that files have until they are whole. A kill can leave one."""

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)
"""Errors of file systems and folders that cannot flush folders; the file is there anyway."""


def write(path: Path, content: str | bytes) -> None:
    """Write a file durably; at every moment the whole old content or the whole new one is there.

    Text is written as UTF-8. Characters that UTF-8 cannot hold (file names of another encoding) are
    escaped.

    Raises:
        InputError: if the file cannot be written; then it is as it was.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    # A random name, so nobody can have put a symbolic link there, and short enough for the disk.
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
        path: the file to write.
        content: the JSON values to write.
        allow_nan: False to refuse NaN and infinities, which standard JSON does not have.
    """
    write(path, json.dumps(content, indent=1, allow_nan=allow_nan) + "\n")


def write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table of comma-separated values; the first row holds the column names.

    Cells are escaped so that spreadsheets run no formula: see :func:`meta_rl.naming.csv_cell`.
    """
    table = io.StringIO(newline="")
    csv.writer(table).writerows(map(csv_cell, row) for row in rows)
    write(path, table.getvalue())


def copy(source: Path, target: Path) -> None:
    """Copy a file, or all files in a folder.

    Raises:
        InputError: if a file cannot be read or written.
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
    """Write a new file and flush it to disk; never open an existing file or link.

    Raises:
        OSError: if the path exists or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)  # either may be missing
    with open(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder to disk, so that names made in it outlive a power cut.

    Raises:
        OSError: if the disk fails.
    """
    if os.name == "nt":  # Windows cannot open folders
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
    """Make a folder to write to, if it is missing; return its absolute path.

    Raises:
        InputError: if the folder cannot be made or written to.
    """
    try:
        folder = Path(path).absolute()  # an environment may change the working directory
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, TypeError, ValueError) as error:  # the last two if it is no path
        said = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"folder: cannot make {shortened(path)}: {said}.") from error
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written to, by trying to, before work starts.

    Raises:
        InputError: if writing fails: the folder may be missing, read-only, or on a full disk.
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
