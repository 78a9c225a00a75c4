"""Checks of the files that exports write."""

from __future__ import annotations

import os
from pathlib import Path

from meta_rl.errors import InputError
from meta_rl.storage import files


def check_new_file(file: Path, ending: str, what: str) -> None:
    """Refuse a path that cannot become a new file, before work starts.

    Args:
        file: the path to write to.
        ending: the ending that the file's name must have, such as ``.zip``.
        what: the name of the export, which starts the error message.

    Raises:
        InputError: if the name has another ending, the file exists, or its folder cannot be
            written to.
    """
    if file.suffix != ending:
        raise InputError(f"{what}: expected a name ending in {ending}, got {file}.")
    if not os.path.isdir(file.parent):
        raise InputError(f"{what}: expected a folder to write to, got {file.parent}.")
    try:
        file.stat()
    except FileNotFoundError:
        pass
    except OSError as error:  # such as a name that is too long
        raise files.unwritable(file, error) from error
    else:
        raise InputError(f"{what}: {file} exists already; nothing was overwritten.")
    files.check_folder(file.parent)
